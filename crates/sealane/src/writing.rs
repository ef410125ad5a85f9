//! Something on the primary that may write: a statement, a stream, a
//! transaction.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sea_orm::{DatabaseConnection, DbErr};
use sealane_core::{EndpointId, Footprint, InFlight, Moment, Session};

use crate::{
    RoutedConnection,
    cluster::{Cluster, SchemaChange},
    explain,
};

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
    Statement { tables: Footprint, generation: u64, _change: Option<SchemaChange> },
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
        let generation = cluster.catalog_generation();
        let tables = match connection.session_ref().tells_tables() {
            true => cluster.written(sql),
            false => Footprint::WHOLE,
        };
        let what = What::Statement { tables, generation, _change: cluster.schema_change(sql) };
        Writing::begin(connection, sql, what)
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
        let (tables, generation) = match &self.what {
            What::Statement { tables, generation, .. } => (*tables, *generation),
            What::Transaction(notes) => (notes.lock().tables, notes.generation),
        };
        let tables = self.cluster.have_written(tables, generation);
        self.session.wrote(&tables, self.cluster.board().clock());
        if let What::Transaction(notes) = &self.what {
            notes.lock().change = None;
        }
    }
}

/// What the statements of a transaction do, and of those inside it, for when it
/// is over.
#[derive(Debug)]
pub(crate) struct Notes {
    cluster: Arc<Cluster>,
    /// Whether somebody asks which tables it writes.
    tells_tables: bool,
    /// Of the catalog, when it began.
    generation: u64,
    noted: Mutex<Noted>,
}

#[derive(Debug)]
struct Noted {
    tables: Footprint,
    change: Option<SchemaChange>,
}

impl Notes {
    pub(crate) fn new(connection: &RoutedConnection) -> Arc<Self> {
        let cluster = Arc::clone(connection.cluster());
        let tells_tables = connection.session_ref().tells_tables();
        let tables = if tells_tables { Footprint::NONE } else { Footprint::WHOLE };
        Arc::new(Notes {
            tells_tables,
            generation: cluster.catalog_generation(),
            cluster,
            noted: Mutex::new(Noted { tables, change: None }),
        })
    }

    /// A statement of the transaction.
    pub(crate) fn statement(&self, sql: &str) {
        let mut noted = self.lock();
        if noted.change.is_none() {
            noted.change = self.cluster.schema_change(sql);
        }
        drop(noted);
        if self.tells_tables && !self.cluster.is_read(sql) {
            self.add(&self.cluster.written(sql));
        }
    }

    /// Statements that nobody can see.
    pub(crate) fn unseen(&self) {
        if self.tells_tables {
            self.add(&Footprint::WHOLE);
        }
    }

    fn add(&self, written: &Footprint) {
        let mut noted = self.lock();
        noted.tables = noted.tables.with(written);
    }

    fn lock(&self) -> MutexGuard<'_, Noted> {
        // Both fields are whole at any time.
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
