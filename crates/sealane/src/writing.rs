//! Something on the primary that may write: a statement, a stream, a
//! transaction.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use sea_orm::{DatabaseConnection, DbErr};
use sealane_core::{EndpointId, InFlight, Moment, Session};

use crate::{RoutedConnection, cluster::Cluster, explain};

/// Held while it is running. Dropping it stamps the session: after the answer,
/// after an error that may hide a commit, and when the caller's future is
/// cancelled.
#[derive(Debug)]
pub(crate) struct Writing {
    endpoint: EndpointId,
    sent: Moment,
    session: Arc<Session>,
    cluster: Arc<Cluster>,
    changes_schema: bool,
    _running: InFlight,
}

impl Writing {
    /// Begins on the primary's pool of this moment.
    ///
    /// # Errors
    /// There is no primary.
    pub(crate) fn start<'a>(
        connection: &'a RoutedConnection,
        sql: &str,
    ) -> Result<(Writing, &'a DatabaseConnection), DbErr> {
        let cluster = connection.cluster();
        let (endpoint, primary) = cluster.primary()?;
        explain::trace(connection, endpoint, sql);
        let writing = Writing {
            endpoint,
            sent: cluster.board().now(),
            session: Arc::clone(connection.session_ref()),
            cluster: Arc::clone(cluster),
            changes_schema: cluster.may_change_schema(sql),
            _running: cluster.loads.start_write(endpoint),
        };
        Ok((writing, primary))
    }

    /// Passes `result` on; an error may say that the primary is one no more.
    pub(crate) fn looked_at<T>(&self, result: Result<T, DbErr>) -> Result<T, DbErr> {
        result.inspect_err(|error| {
            self.cluster.note_primary_error(self.endpoint, self.sent, error);
        })
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.session.wrote(self.cluster.board().clock());
        if self.changes_schema {
            self.cluster.schema_changed();
        }
    }
}

/// Notes whether a transaction changes the schema, and tells when it is over.
/// Shared with the transactions inside it.
#[derive(Debug)]
pub(crate) struct SchemaChange {
    cluster: Arc<Cluster>,
    noted: AtomicBool,
}

impl SchemaChange {
    pub(crate) fn watch(cluster: &Arc<Cluster>) -> Arc<Self> {
        let noted = AtomicBool::new(false);
        Arc::new(SchemaChange { cluster: Arc::clone(cluster), noted })
    }

    /// A statement of the transaction.
    pub(crate) fn note(&self, sql: &str) {
        if self.cluster.may_change_schema(sql) {
            self.noted.store(true, Ordering::Relaxed);
        }
    }
}

impl Drop for SchemaChange {
    fn drop(&mut self) {
        if *self.noted.get_mut() {
            self.cluster.schema_changed();
        }
    }
}
