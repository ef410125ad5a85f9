//! Something on the primary that may write: a statement, a stream, a
//! transaction.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use sea_orm::{DatabaseConnection, DbErr};
use sealane_core::{EndpointId, Footprint, InFlight, Moment, Session};

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
    what: What,
    _running: InFlight,
}

#[derive(Debug)]
enum What {
    Statement { tables: Footprint, changes_schema: bool },
    Transaction(Arc<Notes>),
}

impl Writing {
    /// Begins a statement on the primary's pool of this moment.
    ///
    /// # Errors
    /// There is no primary.
    pub(crate) fn start<'a>(
        connection: &'a RoutedConnection,
        sql: &str,
    ) -> Result<(Writing, &'a DatabaseConnection), DbErr> {
        let cluster = connection.cluster();
        let tables = match connection.session_ref().tells_tables() {
            true => cluster.written(sql),
            false => Footprint::WHOLE,
        };
        let changes_schema = cluster.may_change_schema(sql);
        Writing::begin(connection, sql, What::Statement { tables, changes_schema })
    }

    /// Begins a transaction, of which `notes` will tell what it did.
    ///
    /// # Errors
    /// There is no primary.
    pub(crate) fn start_transaction<'a>(
        connection: &'a RoutedConnection,
        notes: &Arc<Notes>,
    ) -> Result<(Writing, &'a DatabaseConnection), DbErr> {
        Writing::begin(connection, "BEGIN", What::Transaction(Arc::clone(notes)))
    }

    fn begin<'a>(
        connection: &'a RoutedConnection,
        sql: &str,
        what: What,
    ) -> Result<(Writing, &'a DatabaseConnection), DbErr> {
        let cluster = connection.cluster();
        let (endpoint, primary) = cluster.primary()?;
        explain::trace(connection, endpoint, sql);
        let writing = Writing {
            endpoint,
            sent: cluster.board().now(),
            session: Arc::clone(connection.session_ref()),
            cluster: Arc::clone(cluster),
            what,
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
        let (tables, changes_schema) = match &self.what {
            What::Statement { tables, changes_schema } => (*tables, *changes_schema),
            What::Transaction(notes) => (notes.tables(), notes.change_schema()),
        };
        self.session.wrote(&tables, self.cluster.board().clock());
        if changes_schema {
            self.cluster.schema_changed();
        }
    }
}

/// What the statements of a transaction do, and of those inside it, for when it
/// is over.
#[derive(Debug)]
pub(crate) struct Notes {
    cluster: Arc<Cluster>,
    /// Nobody asks which tables it writes.
    whole: bool,
    tables: Mutex<Footprint>,
    schema: AtomicBool,
}

impl Notes {
    pub(crate) fn new(connection: &RoutedConnection) -> Arc<Self> {
        let whole = !connection.session_ref().tells_tables();
        let tables = Mutex::new(if whole { Footprint::WHOLE } else { Footprint::NONE });
        let cluster = Arc::clone(connection.cluster());
        Arc::new(Notes { cluster, whole, tables, schema: AtomicBool::new(false) })
    }

    /// A statement of the transaction.
    pub(crate) fn statement(&self, sql: &str) {
        if self.cluster.may_change_schema(sql) {
            self.schema.store(true, Ordering::Relaxed);
        }
        if !self.whole && !self.cluster.is_read(sql) {
            self.add(&self.cluster.written(sql));
        }
    }

    /// Statements that nobody can see.
    pub(crate) fn unseen(&self) {
        if !self.whole {
            self.add(&Footprint::WHOLE);
        }
    }

    fn add(&self, written: &Footprint) {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        *tables = tables.with(written);
    }

    fn tables(&self) -> Footprint {
        *self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change_schema(&self) -> bool {
        self.schema.load(Ordering::Relaxed)
    }
}
