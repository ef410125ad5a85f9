//! Anything on the primary that may write: a statement, a stream, a transaction.

mod notes;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sea_orm::DbErr;
use sealane_core::{
    AttemptOutcome, Engine, Lent, RetryDecision, Role, SeenSoFar, Session, TableSet,
};
use sealane_monitor::Stage;

pub(crate) use notes::Notes;

use super::attempt::{Attempt, Ended};
use crate::{
    Error,
    caller::Caller,
    cluster::SchemaChange,
    error::{self, LOST, REPLACED},
};

/// Held while the write is running. Dropping it stamps the session: after the answer, after an
/// error that may hide a commit, and when the caller's future is cancelled.
#[derive(Debug)]
pub(crate) struct Writing {
    attempt: Attempt,
    session: Arc<Session>,
    /// What the session had seen when the primary was chosen.
    held: SeenSoFar,
    what: What,
    /// How long the attempt took until it was open, with the wait for its connection.
    opening: Duration,
    /// Whether the write is known to be over on the server.
    over: AtomicBool,
    /// Whether nothing of it remains, as with a transaction without a COMMIT.
    undone: AtomicBool,
}

#[derive(Debug)]
pub(crate) enum What {
    Statement { tables: TableSet, generation: u64, change: Option<SchemaChange> },
    Transaction(Arc<Notes>),
}

impl What {
    /// A single statement that is about to be sent.
    pub(crate) fn statement(caller: &Caller, sql: &str) -> Self {
        let cluster = caller.cluster();
        let generation = cluster.catalog_generation();
        let tables = match caller.session_ref().tells_tables() {
            true => cluster.written(sql),
            false => TableSet::WHOLE,
        };
        What::Statement { tables, generation, change: cluster.schema_change(sql) }
    }
}

impl Writing {
    /// Tracks the write of an opened `attempt`. Call this before anything that writes is sent. `held`
    /// is what the session had seen when the primary was chosen.
    pub(crate) fn new(caller: &Caller, attempt: Attempt, what: What, held: SeenSoFar) -> Self {
        let session = Arc::clone(caller.session_ref());
        let undone = AtomicBool::new(matches!(what, What::Transaction(_)));
        let opening = attempt.age();
        let over = AtomicBool::new(false);
        Writing { attempt, session, held, what, opening, over, undone }
    }

    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    pub(crate) fn attempt(&self) -> &Attempt {
        &self.attempt
    }

    /// Runs `running`, which writes, to its end.
    ///
    /// # Errors
    /// Its own error, or the outcome is unknown.
    pub(crate) async fn run<T>(
        &self,
        running: impl Future<Output = Result<T, DbErr>>,
    ) -> Result<T, DbErr> {
        self.over.store(false, Ordering::Relaxed);
        self.undone.store(false, Ordering::Relaxed);
        if let What::Transaction(notes) = &self.what {
            notes.commits();
        }
        let cluster = self.attempt.cluster();
        let sent = cluster.store().now();
        let result = self.judged(self.attempt.race(Stage::Sent, running).await);
        let now = cluster.store().now();
        // What a write waited for its connection shows a crowded primary as well. Of a transaction
        // its beginning and the COMMIT count: what its caller does in between does not.
        let took = match self.what {
            What::Statement { .. } => {
                self.measure(&result);
                self.attempt.age()
            }
            What::Transaction(_) => self.opening + now.since(sent),
        };
        if result.is_ok() {
            cluster.fallback_limit.write_ended(took, now);
        }
        result
    }

    /// Records how long the statement took, unless the server refused it.
    fn measure<T>(&self, result: &Result<T, DbErr>) {
        match result {
            Ok(_) => self.attempt.measure_write(AttemptOutcome::Served(Duration::ZERO)),
            Err(error) if matches!(Error::of(error), Some(Error::OutcomeUnknown { .. })) => {
                self.attempt.measure_write(AttemptOutcome::Failed);
            }
            Err(_) => {}
        }
    }

    /// Judges the end of something that writes.
    pub(crate) fn judged<T>(&self, result: Result<T, Ended>) -> Result<T, DbErr> {
        match result {
            Ok(value) if self.attempt.holds(Stage::Sent) => {
                self.over.store(true, Ordering::Relaxed);
                Ok(value)
            }
            Ok(_) | Err(Ended::Moved) => Err(self.unknown(REPLACED, None)),
            Err(Ended::Failed(error)) => {
                let cluster = self.attempt.cluster();
                let is_lost = error::with_code(&error, |code| code.leaves_unknown(cluster.engine));
                self.over.store(error::is_end(&error) && !is_lost, Ordering::Relaxed);
                self.note_error(&error);
                Err(match is_lost && cluster.is_watched() {
                    true => self.unknown(LOST, Some(error)),
                    false => error,
                })
            }
        }
    }

    pub(crate) fn unknown(&self, why: &'static str, cause: Option<DbErr>) -> DbErr {
        Error::OutcomeUnknown { endpoint: self.attempt.place(), why, cause }.into()
    }

    /// Has the topology checked again if `error` says that the primary may no longer be the
    /// primary.
    pub(crate) fn note_error(&self, error: &DbErr) {
        let cluster = self.attempt.cluster();
        if !cluster.is_watched() {
            return;
        }
        let (engine, store) = (cluster.engine, cluster.store());
        error::with_code(error, |code| {
            // For a write, only the answer to the caller differs: a write is never tried again.
            if RetryDecision::for_read(engine, Role::Primary, code) == RetryDecision::Suspect {
                self.attempt.suspect(error);
            } else if code.is_read_only_refusal(engine) {
                store.nudge_all();
            }
        });
    }

    /// Records that the session has seen what the write has shown so far, on the server where it
    /// runs.
    pub(crate) fn note_seen(&self) {
        let clock = self.attempt.cluster().store().clock();
        self.session.saw_unplanned(self.attempt.server(), Some(self.held), clock);
    }

    /// Statements may be sent there whose answers sealane does not see, until the guard is dropped.
    pub(crate) fn lend(&self) -> Lent {
        self.session.lend(self.attempt.server(), Some(self.held))
    }

    /// Records that within the next `time` somebody else may commit it unseen.
    pub(crate) fn expect(&self, time: Duration) {
        self.session.expect_writes(self.attempt.cluster().store().now() + time);
    }

    /// Makes the session wait for what was written so far.
    pub(crate) fn stamp(&self) {
        let (tables, generation) = match &self.what {
            What::Statement { tables, generation, .. } => (*tables, *generation),
            What::Transaction(notes) => notes.written(),
        };
        let cluster = self.attempt.cluster();
        let clock = cluster.store().clock();
        self.session.wrote(&tables, generation, clock);
        // The write is recorded now; a schema change that comes later takes it into account.
        if !tables.is_whole() && !cluster.is_schema_of(generation) {
            self.session.wrote_anything(clock);
        }
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        let change = match &mut self.what {
            What::Statement { change, .. } => change.take(),
            What::Transaction(notes) => {
                if notes.take_keeps() {
                    self.attempt.cluster().may_have_kept();
                }
                notes.take_change()
            }
        };
        // MySQL and MariaDB commit schema changes at once, also within a transaction.
        let takes_back = self.attempt.cluster().engine != Engine::MySql;
        match change {
            Some(change) if takes_back && *self.undone.get_mut() => change.undone(),
            Some(change) if !*self.over.get_mut() => change.linger(),
            _ => {}
        }
        self.stamp();
    }
}
