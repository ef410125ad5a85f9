//! Something on the primary that may write: a statement, a stream, a
//! transaction.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use sea_orm::{DatabaseConnection, DbErr};
use sealane_core::{EndpointId, Footprint, InFlight, Moment, Session};

use crate::{
    RoutedConnection,
    cluster::{Cluster, SchemaChange},
    error, explain, failover,
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
    /// Whether it is known to be over on the server.
    over: AtomicBool,
    _running: InFlight,
}

#[derive(Debug)]
enum What {
    Statement { tables: Footprint, generation: u64, change: Option<SchemaChange> },
    Transaction(Arc<Notes>),
}

impl Writing {
    /// Begins a statement on the primary's pool of this moment; or of a later one, if the
    /// session knows of a failover that is not seen here.
    ///
    /// # Errors
    /// There is no primary.
    pub(crate) async fn start<'a>(
        connection: &'a RoutedConnection,
        sql: &str,
    ) -> Result<(Writing, &'a DatabaseConnection), DbErr> {
        failover::seen(connection).await;
        let cluster = connection.cluster();
        let generation = cluster.catalog_generation();
        let tables = match connection.session_ref().tells_tables() {
            true => cluster.written(sql),
            false => Footprint::WHOLE,
        };
        let what = What::Statement { tables, generation, change: cluster.schema_change(sql) };
        Writing::begin(connection, sql, what)
    }

    /// Begins a transaction, of which `notes` will tell what it did; as [`Writing::start`].
    ///
    /// # Errors
    /// There is no primary.
    pub(crate) async fn start_transaction<'a>(
        connection: &'a RoutedConnection,
        notes: &Arc<Notes>,
    ) -> Result<(Writing, &'a DatabaseConnection), DbErr> {
        failover::seen(connection).await;
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
            over: AtomicBool::new(false),
            _running: cluster.loads.start_write(endpoint),
        };
        Ok((writing, primary))
    }

    /// To be called before what ends it is sent.
    pub(crate) fn ending(&self) {
        self.over.store(false, Ordering::Relaxed);
    }

    /// To be called when it has ended well.
    pub(crate) fn ended(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// To be called with the error that it failed with, which may say that the primary
    /// is one no more.
    pub(crate) fn failed(&self, error: &DbErr) {
        self.over.store(error::is_end(error), Ordering::Relaxed);
        self.cluster.note_primary_error(self.endpoint, self.sent, error);
    }

    /// Passes `result` on, with which it has ended.
    pub(crate) fn looked_at<T>(&self, result: Result<T, DbErr>) -> Result<T, DbErr> {
        self.ended();
        result.inspect_err(|error| self.failed(error))
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        let change = match &mut self.what {
            What::Statement { change, .. } => change.take(),
            What::Transaction(notes) => notes.lock().change.take(),
        };
        if let Some(change) = change.as_ref().filter(|_| !*self.over.get_mut()) {
            change.linger();
        }
        let (tables, generation) = match &self.what {
            What::Statement { tables, generation, .. } => (*tables, *generation),
            What::Transaction(notes) => (notes.lock().tables, notes.generation),
        };
        let clock = self.cluster.board().clock();
        self.session.wrote(&tables, generation, clock);
        // By now it is noted; a change that comes later finds it so.
        if !tables.is_whole() && !self.cluster.is_schema_of(generation) {
            self.session.wrote_anything(clock);
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
