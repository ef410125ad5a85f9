//! What the clients of one process do with the file, told line by line as it happens.

use std::{
    io::Write,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{TryStreamExt, future::join_all};
use rustix::time::{ClockId, clock_gettime};
use sea_orm::{
    AccessMode, ConnectionTrait, DbBackend, DbErr, QueryResult, Statement, StreamTrait,
    TransactionTrait,
};
use sealane::{Config, RoutedConnection};

/// Rows; each is always written together with its neighbour.
pub const KEYS: usize = 16;
/// Of each line.
pub const END: &str = ";";
/// Rows that long streams show.
const CARGO: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) \
    INSERT INTO cargo SELECT i, printf('crate %d', i) FROM n";
const CLIENTS: usize = 4;
/// Of a client, between a write and the next.
const PAUSE: Duration = Duration::from_millis(100);

/// Makes the file.
pub async fn prepare(path: &Path) -> Result<RoutedConnection, DbErr> {
    let db = sealane::connect(Config::sqlite(path)).await?;
    let make = "CREATE TABLE cell (key INTEGER PRIMARY KEY, version INTEGER, author INTEGER); \
        CREATE TABLE cargo (id INTEGER PRIMARY KEY, label TEXT); \
        CREATE TABLE extra (id INTEGER PRIMARY KEY, name TEXT); \
        INSERT INTO extra VALUES (1, 'Ida')";
    db.execute_unprepared(make).await?;
    db.execute_unprepared(CARGO).await?;
    for key in 0..KEYS {
        db.execute_unprepared(&format!("INSERT INTO cell VALUES ({key}, 0, 0)")).await?;
    }
    Ok(db)
}

/// The clients of one process.
pub struct Load<W> {
    pub db: RoutedConnection,
    /// 0 or 1; its sessions and operations have numbers of this parity.
    process: usize,
    told: Mutex<W>,
    numbers: AtomicI64,
    last: AtomicU64,
    end: Instant,
    /// Long ones that were read to their end.
    pub streams: AtomicU64,
    /// Streams that wrote and were dropped after their first row.
    pub drops: AtomicU64,
    /// Of the schema.
    pub changes: AtomicU64,
}

impl<W: Write> Load<W> {
    /// `first` is greater than the number of any operation before it.
    pub fn new(db: RoutedConnection, process: usize, first: i64, told: W, time: Duration) -> Self {
        Load {
            db,
            process,
            told: Mutex::new(told),
            numbers: AtomicI64::new(first),
            last: AtomicU64::new(0),
            end: Instant::now() + time,
            streams: AtomicU64::new(0),
            drops: AtomicU64::new(0),
            changes: AtomicU64::new(0),
        }
    }

    /// All of it. `changes_schema`: of a table that only this process reads.
    pub async fn run(&self, changes_schema: bool) {
        let writers = join_all((0..CLIENTS).map(|client| self.writes(client)));
        let readers = join_all((0..CLIENTS).map(|client| self.reads(client)));
        let streams = join_all((0..3).map(|_| self.streams()));
        let changes = async {
            if changes_schema {
                tokio::join!(self.changes(), self.looks_at_changes());
            }
        };
        tokio::join!(writers, readers, streams, changes);
    }

    fn goes_on(&self) -> bool {
        Instant::now() < self.end
    }

    /// Nanoseconds on the clock of the machine; the last bit is the process, so that no two are equal.
    fn now(&self) -> u64 {
        let time = clock_gettime(ClockId::Monotonic);
        let seconds = u64::try_from(time.tv_sec).unwrap();
        let now = seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap();
        let now = now / 2 * 2 + self.process as u64;
        let last = self.last.fetch_max(now, Ordering::AcqRel);
        if now > last { now } else { self.last.fetch_add(2, Ordering::AcqRel) + 2 }
    }

    fn number(&self) -> i64 {
        self.numbers.fetch_add(1, Ordering::Relaxed) * 2 + i64::try_from(self.process).unwrap() + 2
    }

    fn tell(&self, line: &str) {
        let mut told = self.told.lock().unwrap();
        // At once, and with an end: the process may be killed in between.
        let line = format!("{line} {END}\n");
        told.write_all(line.as_bytes()).and_then(|()| told.flush()).unwrap();
    }

    async fn writes(&self, client: usize) {
        let session = 2 + client * 2 + self.process;
        let db = self.db.session();
        while self.goes_on() {
            let key = fastrand::usize(..KEYS / 2) * 2;
            let number = self.number();
            self.tell(&format!("B {number} {session} {} {key}", self.now()));
            let written = match fastrand::u8(..5) {
                0 => write_in_transaction(&db, key, number, false).await,
                1 => write_in_transaction(&db, key, number, true).await,
                2 => write_as_stream(&db, key, number, false).await,
                3 => self.drops_a_stream(&db, key, number).await,
                _ => write(&db, key, number).await,
            };
            let ended = self.now();
            match written {
                Ok(Some(version)) => self.tell(&format!("E {number} {ended} {version}")),
                Ok(None) => self.tell(&format!("U {number} {ended}")),
                Err(error) => self.tell(&format!("F {number} {ended} {error}")),
            }
            // It reads its own writes, too.
            self.read(&db, session).await;
            // SQLite's lock has no line: a process that always wants it again leaves it to nobody.
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn drops_a_stream(
        &self,
        db: &RoutedConnection,
        key: usize,
        number: i64,
    ) -> Result<Option<i64>, DbErr> {
        let written = write_as_stream(db, key, number, true).await?;
        self.drops.fetch_add(1, Ordering::Relaxed);
        Ok(written)
    }

    async fn reads(&self, client: usize) {
        let session = 2 + (CLIENTS + client) * 2 + self.process;
        let db = self.db.session();
        while self.goes_on() {
            self.read(&db, session).await;
            tokio::task::yield_now().await;
        }
    }

    async fn read(&self, db: &RoutedConnection, session: usize) {
        let (number, begun) = (self.number(), self.now());
        let in_transaction = fastrand::u8(..4) == 0;
        let cells = match in_transaction {
            true => cells_twice(db).await,
            false => cells(db).await.map(|cells| vec![cells]),
        };
        let ended = self.now();
        match cells {
            Ok(sights) => {
                self.tell(&format!("R {number} {session} {begun} {ended} {}", sights.join(" ")));
            }
            Err(error) => self.tell(&format!("F {number} {ended} {error}")),
        }
    }

    /// Slower than anything else, and all at once.
    async fn streams(&self) {
        while self.goes_on() {
            let show = raw("SELECT id, label FROM cargo", &[]);
            let shown = async {
                let mut rows = self.db.stream_raw(show).await?;
                let mut count = 0;
                while rows.try_next().await?.is_some() {
                    count += 1;
                    if count % 1000 == 0 {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
                Ok::<_, DbErr>(count)
            };
            match shown.await {
                Ok(20_000) => drop(self.streams.fetch_add(1, Ordering::Relaxed)),
                Ok(other) => self.tell(&format!("F 0 0 a stream of {other} rows")),
                Err(error) => self.tell(&format!("F 0 0 {error}")),
            }
        }
    }

    async fn changes(&self) {
        while self.goes_on() {
            for change in [
                "ALTER TABLE extra ADD COLUMN berth INTEGER DEFAULT 7",
                "CREATE INDEX berths ON extra (berth)",
                "DROP INDEX berths",
                "ALTER TABLE extra DROP COLUMN berth",
            ] {
                match self.db.execute_unprepared(change).await {
                    Ok(_) => drop(self.changes.fetch_add(1, Ordering::Relaxed)),
                    Err(error) => self.tell(&format!("F 0 0 {change}: {error}")),
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    async fn looks_at_changes(&self) {
        while self.goes_on() {
            match self.db.query_one_raw(raw("SELECT * FROM extra", &[])).await {
                Ok(Some(row)) => {
                    let names = row.column_names();
                    let berth = row.try_get::<i64>("", "berth").ok();
                    let is_whole = names == ["id", "name"] && berth.is_none()
                        || names == ["id", "name", "berth"] && berth == Some(7);
                    if !is_whole {
                        self.tell(&format!("F 0 0 SELECT * showed {names:?} and {berth:?}"));
                    }
                }
                Ok(None) => self.tell("F 0 0 SELECT * showed nothing"),
                Err(error) => self.tell(&format!("F 0 0 {error}")),
            }
            tokio::task::yield_now().await;
        }
    }
}

fn raw(sql: &str, values: &[i64]) -> Statement {
    Statement::from_sql_and_values(DbBackend::Sqlite, sql, values.iter().map(|it| (*it).into()))
}

const UPDATE: &str =
    "UPDATE cell SET version = version + 1, author = ? WHERE key IN (?, ?) RETURNING version";

fn update(key: usize, number: i64) -> Statement {
    let key = i64::try_from(key).unwrap();
    raw(UPDATE, &[number, key, key + 1])
}

fn version(row: &QueryResult) -> Result<Option<i64>, DbErr> {
    row.try_get_by_index(0).map(Some)
}

async fn write(db: &impl ConnectionTrait, key: usize, number: i64) -> Result<Option<i64>, DbErr> {
    let rows = db.query_all_raw(update(key, number)).await?;
    version(&rows[0])
}

/// Looks at all its rows, or drops them after the first. SQLite commits at the end: of rows that were
/// dropped, only a later read tells that they are committed.
async fn write_as_stream(
    db: &RoutedConnection,
    key: usize,
    number: i64,
    is_dropped: bool,
) -> Result<Option<i64>, DbErr> {
    let mut rows = db.stream_raw(update(key, number)).await?;
    let row = rows.try_next().await?.ok_or(DbErr::RecordNotFound("cell".to_owned()))?;
    let written = version(&row)?;
    if !is_dropped {
        while rows.try_next().await?.is_some() {}
        return Ok(written);
    }
    drop(rows);
    let read = version_of(db, key).await?;
    match Some(read) < written {
        true => Err(DbErr::Custom(format!("saw {written:?}, dropped it, and read {read}"))),
        false => Ok(written),
    }
}

async fn version_of(db: &impl ConnectionTrait, key: usize) -> Result<i64, DbErr> {
    let read = raw("SELECT version FROM cell WHERE key = ?", &[i64::try_from(key).unwrap()]);
    let row = db.query_one_raw(read).await?.ok_or(DbErr::RecordNotFound("cell".to_owned()))?;
    row.try_get_by_index(0)
}

/// Reads first, and then writes what it makes of it; `None` if it was rolled back.
async fn write_in_transaction(
    db: &RoutedConnection,
    key: usize,
    number: i64,
    undo: bool,
) -> Result<Option<i64>, DbErr> {
    let txn = db.begin().await?;
    let read = version_of(&txn, key).await?;
    let written = write(&txn, key, number).await?;
    if written != Some(read + 1) {
        return Err(DbErr::Custom(format!("read {read} and wrote {written:?}")));
    }
    match undo {
        true => txn.rollback().await.map(|()| None),
        false => txn.commit().await.map(|()| written),
    }
}

/// All cells at one moment, as `key:version:author,…`.
async fn cells(db: &impl ConnectionTrait) -> Result<String, DbErr> {
    let rows = db.query_all_raw(raw("SELECT key, version, author FROM cell", &[])).await?;
    let cell = |row: &QueryResult| {
        let value = |index| row.try_get_by_index::<i64>(index);
        Ok::<_, DbErr>(format!("{}:{}:{}", value(0)?, value(1)?, value(2)?))
    };
    rows.iter().map(cell).collect::<Result<Vec<_>, _>>().map(|cells| cells.join(","))
}

async fn cells_twice(db: &RoutedConnection) -> Result<Vec<String>, DbErr> {
    let txn = db.begin_with_config(None, Some(AccessMode::ReadOnly)).await?;
    let first = cells(&txn).await?;
    tokio::task::yield_now().await;
    let second = cells(&txn).await?;
    txn.rollback().await?;
    Ok(vec![first, second])
}
