//! Something on the primary that may write: a statement, a stream, a
//! transaction.

use std::sync::Arc;

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
    }
}
