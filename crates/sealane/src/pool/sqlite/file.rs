//! The state that the connections of one file share.
//!
//! An SQLite file is split into two endpoints, `writer` (one connection) and `readers`, on one
//! topology without probes. Readers see the same schema as the writer, so their errors are the
//! caller's. Three things would make them differ:
//!
//! - *The writer's session.* Texts are searched for temporary tables, attached databases and
//!   settings (`session.rs`). While there are any, all reads run on the writer, and the next user
//!   of the writer asks it whether they still exist.
//! - *Prepared statements.* When SQLite prepares a cached statement again after a schema change,
//!   sqlx keeps the statement's old columns, and then shows wrong columns or panics (and a panic
//!   ends `query_one` as if there was no row). So each change leaves the readers' pool behind,
//!   reads run on the writer while a change is under way, and a read that began before a change and
//!   ended after it is repeated.
//! - *Streamed rows of a write.* SQLite commits at the end of the statement, so reads wait until a
//!   dropped stream is over.
//!
//! Readers are closed before the writer, one after the other: connections that are closed at the
//! same time each find that they are not the last one. (Rejected: separate sqlx options for
//! readers. Each reader would write a setting that needs writing, and wait for the writer. A file
//! with such a setting is not split.)

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use sea_orm::{ConnAcquireErr, ConnectionTrait, DbBackend, DbErr, Statement};
use sealane_sql::{Dialect, may_change_schema};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::session::{self, Touches};

/// The writer's session has no objects of its own.
const SHARED: u8 = 0;
/// The session may have objects of its own; the next user of the writer asks it.
const UNSURE: u8 = 1;
/// The session has temporary objects or attached databases.
const OWN: u8 = 2;

/// Counts the objects that only the writer's session has: temporary objects and attached databases.
const ASK: &str = "SELECT (SELECT count(*) FROM sqlite_temp_master) \
                   + (SELECT count(*) FROM pragma_database_list WHERE seq > 1)";

/// What the writer and the readers of one file must know about each other.
#[derive(Debug)]
pub(crate) struct File {
    /// Counts the schema changes made through the writer.
    schema: AtomicU64,
    /// Whether the writer's prepared statements may be older than the schema.
    is_stale: AtomicBool,
    session: AtomicU8,
    /// Whether a setting of the writer's session changes the results of reads.
    is_set: AtomicBool,
    /// Whether a text may have left open a transaction that nobody will end.
    may_be_open: AtomicBool,
    /// How many streams of written rows were dropped before their end, so that they may not be
    /// committed yet.
    unsettled: AtomicUsize,
    settled: Notify,
    /// Limits the statements on the readers. Streams do not count, because they may last long.
    room: Arc<Semaphore>,
    patience: Duration,
}

impl File {
    /// At most `readers` statements read at a time; a statement waits at most `patience` for its
    /// turn.
    pub(super) fn new(readers: u32, patience: Duration) -> Arc<Self> {
        let readers = usize::try_from(readers).unwrap_or(usize::MAX);
        Arc::new(File {
            schema: AtomicU64::new(0),
            is_stale: AtomicBool::new(false),
            // It is not known what the application's hook has created.
            session: AtomicU8::new(UNSURE),
            is_set: AtomicBool::new(false),
            may_be_open: AtomicBool::new(false),
            unsettled: AtomicUsize::new(0),
            settled: Notify::new(),
            room: Arc::new(Semaphore::new(readers.min(Semaphore::MAX_PERMITS))),
            patience,
        })
    }

    /// The number of the schema that new statements are prepared for.
    pub(crate) fn schema(&self) -> u64 {
        self.schema.load(Ordering::Acquire)
    }

    /// Records a schema change: prepared statements may show columns that no longer exist.
    pub(crate) fn schema_changed(&self) {
        self.is_stale.store(true, Ordering::Release);
        self.schema.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether reads must run in the writer's session.
    pub(crate) fn reads_with_writer(&self) -> bool {
        self.session.load(Ordering::Acquire) != SHARED || self.is_set.load(Ordering::Acquire)
    }

    /// Records the effects of a text that the writer is about to run. The caller holds the
    /// connection.
    pub(crate) fn note(&self, sql: &str) {
        if session::may_stay_open(sql) {
            self.may_be_open.store(true, Ordering::Release);
        }
        if self.note_in_transaction(sql) {
            self.unsure();
        }
    }

    /// The same for a text in a transaction. Returns whether the session may have objects of its
    /// own when the transaction is over; before its end, no other statement can see them.
    pub(crate) fn note_in_transaction(&self, sql: &str) -> bool {
        let touches = session::touches(sql);
        if touches != Touches::Nothing || may_change_schema(sql, Dialect::Sqlite) {
            // No other statement gets the connection before the prepared statements are forgotten.
            self.is_stale.store(true, Ordering::Release);
        }
        if touches == Touches::Reads && !self.is_set.swap(true, Ordering::AcqRel) {
            tracing::warn!(
                target: "sealane::connect",
                "a setting of the writer's session changes the results of reads; all reads run there \
                 from now on"
            );
        }
        match touches {
            Touches::Names => true,
            Touches::Drops => self.session.load(Ordering::Acquire) != SHARED,
            Touches::Nothing | Touches::Reads => false,
        }
    }

    /// Records that names may have another meaning in the writer's session.
    pub(crate) fn unsure(&self) {
        self.is_stale.store(true, Ordering::Release);
        self.session.store(UNSURE, Ordering::Release);
    }

    /// Asks the writer whether its session has objects of its own.
    pub(crate) async fn ask(&self, writer: &impl ConnectionTrait) -> Result<(), DbErr> {
        let row = writer.query_one_raw(asks()).await?;
        self.answered(row.map_or(Ok(0), |row| row.try_get_by_index(0))?);
        Ok(())
    }

    pub(super) fn answered(&self, own: i64) {
        if own > 0 {
            // The session's names may hide other names in prepared statements.
            self.is_stale.store(true, Ordering::Release);
        }
        self.session.store(if own == 0 { SHARED } else { OWN }, Ordering::Release);
    }

    pub(super) fn is_unsure(&self) -> bool {
        self.session.load(Ordering::Acquire) == UNSURE
    }

    /// Whether the current user of the writer must end a transaction left open by an earlier text.
    /// Resets the flag.
    pub(super) fn take_open(&self) -> bool {
        self.may_be_open.load(Ordering::Acquire) && self.may_be_open.swap(false, Ordering::AcqRel)
    }

    /// Whether the writer must be tidied before its next use.
    pub(super) fn is_untidy(&self) -> bool {
        self.is_stale() || self.may_be_open.load(Ordering::Acquire)
    }

    /// Whether the writer's prepared statements must be forgotten.
    pub(super) fn is_stale(&self) -> bool {
        self.is_stale.load(Ordering::Acquire)
    }

    /// The same for the current user of the writer, who then forgets them. Resets the flag.
    pub(super) fn take_stale(&self) -> bool {
        self.is_stale() && self.is_stale.swap(false, Ordering::AcqRel)
    }

    /// Waits for the turn of a statement on the readers.
    ///
    /// # Errors
    /// No place became free in time.
    pub(super) async fn room(&self) -> Result<OwnedSemaphorePermit, DbErr> {
        let room = Arc::clone(&self.room).acquire_owned();
        match tokio::time::timeout(self.patience, room).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed)),
            Err(_) => Err(DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)),
        }
    }

    /// Whether all written rows that were shown are committed.
    pub(crate) fn is_settled(&self) -> bool {
        self.unsettled.load(Ordering::Acquire) == 0
    }

    /// Waits until all written rows that were shown are committed.
    ///
    /// # Errors
    /// They were not committed within the time that a read waits for a reader.
    pub(crate) async fn settled(&self) -> Result<(), DbErr> {
        let settled = tokio::time::timeout(self.patience, self.all_settled()).await;
        settled.map_err(|_| DbErr::ConnectionAcquire(ConnAcquireErr::Timeout))
    }

    async fn all_settled(&self) {
        while !self.is_settled() {
            let settled = self.settled.notified();
            tokio::pin!(settled);
            // The waiter is registered before the check, so that no change is missed in between.
            settled.as_mut().enable();
            if !self.is_settled() {
                settled.await;
            }
        }
    }

    /// A guard: reads wait until it is dropped.
    pub(super) fn unsettled(self: &Arc<Self>) -> Unsettled {
        self.unsettled.fetch_add(1, Ordering::AcqRel);
        Unsettled(Arc::clone(self))
    }
}

pub(super) fn asks() -> Statement {
    Statement::from_string(DbBackend::Sqlite, ASK)
}

/// A guard for written rows that were shown and may not be committed yet.
#[derive(Debug)]
pub(crate) struct Unsettled(Arc<File>);

impl Drop for Unsettled {
    fn drop(&mut self) {
        self.0.unsettled.fetch_sub(1, Ordering::AcqRel);
        self.0.settled.notify_waiters();
    }
}
