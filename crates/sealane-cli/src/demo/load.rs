//! Tasks that read, and one that writes and reads back what it wrote.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use sea_orm::{ConnectionTrait, DbErr, Statement};
use sealane::RoutedConnection;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

/// A read as a page makes it: some rows, sorted.
const READ: &str =
    "SELECT id, name FROM boat WHERE id > $1 AND voyages = $2 ORDER BY name LIMIT 20";
const WRITE: &str = "INSERT INTO boat (name, voyages) VALUES ('new', 0) RETURNING id";
const READ_BACK: &str = "SELECT id FROM boat WHERE id = $1";
/// The time between two writes.
const PAUSE: Duration = Duration::from_millis(2);

/// How often what happened.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) reads: u64,
    pub(super) writes: u64,
    pub(super) missed: u64,
    /// Reads that failed; more than none only in a load that endures failures.
    pub(super) failed: u64,
    pub(super) slowest_us: u64,
}

impl Counts {
    /// What happened after `before`.
    pub(super) fn since(&self, before: &Counts) -> Counts {
        Counts { reads: self.reads - before.reads, writes: self.writes - before.writes, ..*self }
    }
}

/// The same while it grows.
#[derive(Debug, Default)]
struct Meter {
    reads: AtomicU64,
    writes: AtomicU64,
    missed: AtomicU64,
    failed: AtomicU64,
    slowest_us: AtomicU64,
    /// Whether a read that fails is counted, and does not end the load.
    endures: bool,
    is_over: AtomicBool,
}

/// A running load. It ends when it is dropped.
#[derive(Debug)]
pub(super) struct Load {
    meter: Arc<Meter>,
    tasks: JoinSet<Result<(), DbErr>>,
}

impl Load {
    /// Begins with as many reading tasks as there may be reading connections, twice.
    pub(super) fn begin(db: &RoutedConnection, readers: u32) -> Self {
        Self::of(db, readers, Meter::default())
    }

    /// The same, and a read that fails is counted.
    pub(super) fn enduring(db: &RoutedConnection, readers: u32) -> Self {
        Self::of(db, readers, Meter { endures: true, ..Meter::default() })
    }

    fn of(db: &RoutedConnection, readers: u32, meter: Meter) -> Self {
        let meter = Arc::new(meter);
        let mut tasks = JoinSet::new();
        for number in 0..readers.saturating_mul(2) {
            tasks.spawn(read(db.clone(), Arc::clone(&meter), i64::from(number)));
        }
        tasks.spawn(write(db.clone(), Arc::clone(&meter)));
        Load { meter, tasks }
    }

    pub(super) fn counts(&self) -> Counts {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Meter { reads, writes, missed, failed, slowest_us, .. } = &*self.meter;
        Counts {
            reads: of(reads),
            writes: of(writes),
            missed: of(missed),
            failed: of(failed),
            slowest_us: of(slowest_us),
        }
    }

    /// Ends all tasks, waits for them, and returns what happened until now.
    ///
    /// # Errors
    /// A task has failed: it stopped early, so the counts mean nothing. This is the first error.
    pub(super) async fn end(mut self) -> Result<Counts, DbErr> {
        self.meter.is_over.store(true, Ordering::Relaxed);
        let counts = self.counts();
        let mut first = Ok(counts);
        while let Some(ended) = self.tasks.join_next().await {
            let ended = ended.unwrap_or_else(|panic| Err(DbErr::Custom(panic.to_string())));
            first = first.and_then(|counts| ended.map(|()| counts));
        }
        first
    }
}

impl Meter {
    fn goes_on(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed)
    }
}

async fn read(db: RoutedConnection, meter: Arc<Meter>, mut number: i64) -> Result<(), DbErr> {
    while meter.goes_on() {
        let values = [(number * 7_919 % 15_000).into(), (number % 97).into()];
        let began = Instant::now();
        let backend = db.get_database_backend();
        match db.query_all_raw(Statement::from_sql_and_values(backend, READ, values)).await {
            Ok(_) => meter.reads.fetch_add(1, Ordering::Relaxed),
            Err(_) if meter.endures => meter.failed.fetch_add(1, Ordering::Relaxed),
            Err(error) => return Err(error),
        };
        let took_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        meter.slowest_us.fetch_max(took_us, Ordering::Relaxed);
        number += 13;
    }
    Ok(())
}

async fn write(db: RoutedConnection, meter: Arc<Meter>) -> Result<(), DbErr> {
    while meter.goes_on() {
        let session = db.session();
        let id = insert(&session).await?;
        meter.writes.fetch_add(1, Ordering::Relaxed);
        if !sees(&session, id).await? {
            meter.missed.fetch_add(1, Ordering::Relaxed);
        }
        sleep(PAUSE).await;
    }
    Ok(())
}

/// A new boat; returns its number.
pub(super) async fn insert(session: &RoutedConnection) -> Result<i64, DbErr> {
    let insert = Statement::from_string(session.get_database_backend(), WRITE);
    let row = session.query_one_raw(insert).await?;
    row.ok_or_else(|| DbErr::RecordNotInserted)?.try_get_by_index(0)
}

/// Whether the session finds the boat with this number.
pub(super) async fn sees(session: &RoutedConnection, id: i64) -> Result<bool, DbErr> {
    let backend = session.get_database_backend();
    let again = Statement::from_sql_and_values(backend, READ_BACK, [id.into()]);
    Ok(session.query_one_raw(again).await?.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(outcomes: [Result<(), DbErr>; 3]) -> Load {
        let mut tasks = JoinSet::new();
        outcomes.into_iter().for_each(|it| drop(tasks.spawn(async { it })));
        Load { meter: Arc::default(), tasks }
    }

    #[tokio::test]
    async fn a_task_that_fails_is_told() {
        assert!(load([Ok(()), Ok(()), Ok(())]).end().await.is_ok());
        let error = load([Ok(()), Err(DbErr::Custom("planted".into())), Ok(())]).end().await;
        assert!(error.unwrap_err().to_string().contains("planted"));
    }
}
