//! `sqlite_file SECONDS`: one file under a mixed load, through SeaORM's own pools and through ours.
//!
//! Sixteen tasks read one row by its key, and write one every tenth time; once by themselves, and
//! once beside four readers of long results that take their time. What is compared was measured in
//! one run, one after the other. It fails if a statement of sealane's fails, or if sealane reads
//! less than one plain connection.
//!
//! Run by `cargo xtask bench --sqlite`.
#![allow(clippy::print_stdout, reason = "a program for the terminal")]

use std::{
    path::Path,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use futures_util::TryStreamExt;
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend, DbErr, Statement,
    StreamTrait, sqlx::sqlite::SqliteJournalMode,
};
use sealane::Config;
use tokio::{task::JoinSet, time::timeout_at};

const TASKS: u64 = 16;
/// Of ten statements, those that write.
const WRITES: u64 = 1;
const STREAMS: usize = 4;
const ROWS: u64 = 20_000;
/// What a slow reader does between two rows.
const PAUSE: Duration = Duration::from_millis(1);

/// What happened to a kind of statement.
#[derive(Default)]
struct Tally {
    done: AtomicU64,
    failed: AtomicU64,
    longest_us: AtomicU64,
}

/// What one way of reading and writing did.
#[derive(Default)]
struct Outcome {
    reads: Tally,
    writes: Tally,
    rows_streamed: AtomicU64,
}

impl Tally {
    fn count<T>(&self, result: &Result<T, DbErr>) {
        let tally = if result.is_ok() { &self.done } else { &self.failed };
        tally.fetch_add(1, Ordering::Relaxed);
    }

    fn lasted(&self, time: Duration) {
        let time = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.longest_us.fetch_max(time, Ordering::Relaxed);
    }

    fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let seconds = std::env::args().nth(1).context("usage: sqlite_file SECONDS")?;
    let time = Duration::from_secs(seconds.parse().context("SECONDS is a whole number")?);
    println!(
        "{:<34} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "", "reads/s", "failed", "longest", "writes/s", "failed", "longest"
    );
    let mut reads_of_one = 0;
    for beside_streams in [false, true] {
        for way in ["plain, 1 connection", "plain, 5", "plain, 5, WAL"] {
            let folder = tempfile::tempdir()?;
            let db = plain(way, &folder.path().join("boats.db")).await?;
            let outcome = measure(db.clone(), beside_streams, time).await?;
            show(way, beside_streams, &outcome, time);
            if way == "plain, 1 connection" {
                reads_of_one = outcome.reads.done();
            }
            db.close().await?;
        }
        let folder = tempfile::tempdir()?;
        let db = sealane::connect(Config::sqlite(folder.path().join("boats.db"))).await?;
        let outcome = measure(db.clone(), beside_streams, time).await?;
        show("sealane", beside_streams, &outcome, time);
        db.close().await?;
        let failed = outcome.reads.failed() + outcome.writes.failed();
        ensure!(failed == 0, "{failed} statements of sealane's failed");
        let reads = outcome.reads.done();
        ensure!(reads >= reads_of_one, "{reads} reads; one plain connection: {reads_of_one}");
        ensure!(outcome.writes.done() > 0, "nothing was written");
    }
    Ok(())
}

async fn plain(way: &str, path: &Path) -> Result<DatabaseConnection, DbErr> {
    let mut options = ConnectOptions::new(format!("sqlite://{}?mode=rwc", path.display()));
    options.sqlx_logging(false);
    if way != "plain, 1 connection" {
        options.max_connections(5);
    }
    if way.ends_with("WAL") {
        options.map_sqlx_sqlite_opts(|file| file.journal_mode(SqliteJournalMode::Wal));
    }
    Database::connect(options).await
}

/// Lets all tasks run for `time`. What is under way then is given up, and counts only by how long
/// it has lasted.
async fn measure<C>(db: C, beside_streams: bool, time: Duration) -> anyhow::Result<Outcome>
where
    C: ConnectionTrait + StreamTrait + Clone + Send + Sync + 'static,
{
    let make = format!(
        "CREATE TABLE boat (id INTEGER PRIMARY KEY, name TEXT, trips INTEGER); \
         INSERT INTO boat WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS}) \
         SELECT i, printf('boat %d', i), 0 FROM n"
    );
    db.execute_unprepared(&make).await?;
    let outcome = Arc::new(Outcome::default());
    let is_over = Arc::new(AtomicBool::new(false));
    let end = Instant::now() + time;
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let (db, outcome, is_over) = (db.clone(), Arc::clone(&outcome), Arc::clone(&is_over));
        tasks.spawn(async move {
            let mut random = fastrand::Rng::with_seed(task);
            while !is_over.load(Ordering::Relaxed) {
                statement(&db, &outcome, &mut random, end).await;
            }
        });
    }
    for _ in 0..if beside_streams { STREAMS } else { 0 } {
        let (db, outcome) = (db.clone(), Arc::clone(&outcome));
        tasks.spawn(async move {
            let streaming = async { while stream(&db, &outcome).await.is_ok() {} };
            let _ = timeout_at(end.into(), streaming).await;
        });
    }
    tokio::time::sleep_until(end.into()).await;
    is_over.store(true, Ordering::Relaxed);
    while tasks.join_next().await.transpose()?.is_some() {}
    ensure!(
        !beside_streams || outcome.rows_streamed.load(Ordering::Relaxed) > 0,
        "no row was streamed"
    );
    Arc::into_inner(outcome).context("a task is left")
}

async fn statement(
    db: &impl ConnectionTrait,
    outcome: &Outcome,
    random: &mut fastrand::Rng,
    end: Instant,
) {
    let (key, began) = (random.u64(1..=ROWS), Instant::now());
    let values = [key.into()];
    if random.u64(0..10) < WRITES {
        let sql = "UPDATE boat SET trips = trips + 1 WHERE id = ?";
        let update = Statement::from_sql_and_values(DbBackend::Sqlite, sql, values);
        if let Ok(result) = timeout_at(end.into(), db.execute_raw(update)).await {
            outcome.writes.count(&result);
        }
        outcome.writes.lasted(began.elapsed());
    } else {
        let sql = "SELECT id, name, trips FROM boat WHERE id = ?";
        let select = Statement::from_sql_and_values(DbBackend::Sqlite, sql, values);
        if let Ok(result) = timeout_at(end.into(), db.query_one_raw(select)).await {
            outcome.reads.count(&result);
        }
        outcome.reads.lasted(began.elapsed());
    }
}

async fn stream(db: &impl StreamTrait, outcome: &Outcome) -> Result<(), DbErr> {
    let all = Statement::from_string(DbBackend::Sqlite, "SELECT id, name, trips FROM boat");
    let mut rows = pin!(db.stream_raw(all).await?);
    while rows.try_next().await?.is_some() {
        outcome.rows_streamed.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

fn show(way: &str, beside_streams: bool, outcome: &Outcome, time: Duration) {
    let name = if beside_streams { format!("{way}, beside streams") } else { way.to_owned() };
    let seconds = time.as_secs_f64();
    let of = |tally: &Tally| {
        let rate = tally.done() as f64 / seconds;
        let longest_ms = tally.longest_us.load(Ordering::Relaxed) as f64 / 1e3;
        format!("{rate:>9.0} {:>9} {longest_ms:>6.0} ms", tally.failed())
    };
    println!("{name:<34} {} {}", of(&outcome.reads), of(&outcome.writes));
}
