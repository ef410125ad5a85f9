//! Decides whether a database can be split into a writer and readers.

use std::{fmt, time::Duration};

use sea_orm::{
    DbErr,
    sqlx::{
        self, ConnectOptions as _, Connection, Row,
        sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode},
    },
};
use tokio::time::Instant;

use super::{Given, connect_error};

/// SQLITE_BUSY.
const BUSY: &str = "5";
/// The change to WAL needs exclusive access to the file for a moment, and SQLite does not wait for
/// this itself.
const WAL_WITHIN: Duration = Duration::from_secs(5);
const WAL_AGAIN: Duration = Duration::from_millis(10);
/// How long a pool's hooks may take with the test connection.
const HOOKS_WITHIN: Duration = Duration::from_secs(3);

const JOURNAL_MODES: [(SqliteJournalMode, &str); 5] = [
    (SqliteJournalMode::Delete, "DELETE"),
    (SqliteJournalMode::Truncate, "TRUNCATE"),
    (SqliteJournalMode::Persist, "PERSIST"),
    (SqliteJournalMode::Memory, "MEMORY"),
    (SqliteJournalMode::Off, "OFF"),
];

/// Asks whether there is a file, without its name, which need not be text.
const MAIN: &str =
    "SELECT iif(coalesce(file, '') = '', '', 'file') FROM pragma_database_list WHERE seq = 0";

/// Why one pool serves everything.
#[derive(Debug)]
pub(super) enum Whole {
    /// The database is in memory.
    Memory,
    SharedCache,
    Exclusive,
    /// The application has chosen another journal mode.
    Chosen(&'static str),
    /// The journal mode must not be changed.
    Kept,
    /// The journal mode cannot be changed, for example because the file is read-only.
    NoLog(String),
    /// A reader could not be opened with the application's settings.
    NoReader(String),
    /// The application's hooks do not accept a reader.
    NoHook,
    /// The connection was lost in the meantime.
    Lost(String),
}

impl fmt::Display for Whole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Whole::Memory => f.write_str("it is in memory"),
            Whole::SharedCache => f.write_str("its connections share one cache"),
            Whole::Exclusive => f.write_str("its locking mode is EXCLUSIVE"),
            Whole::Chosen(mode) => write!(f, "its options ask for the journal mode {mode}"),
            Whole::Kept => {
                f.write_str("it is not in WAL mode, and the configuration forbids the change")
            }
            Whole::NoLog(why) => {
                write!(f, "it is not in WAL mode and cannot be changed to it: {why}")
            }
            Whole::NoReader(why) => write!(
                f,
                "its options cannot be used for a connection that only reads (settings to be made \
                 once belong in `after_connect`): {why}"
            ),
            Whole::NoHook => f.write_str(
                "a hook of `map_sqlx_sqlite_pool_opts` writes or fails on a connection that only \
                 reads (settings to be made once belong in `after_connect`)",
            ),
            Whole::Lost(why) => f.write_str(why),
        }
    }
}

impl Whole {
    /// Logs the reason: as a warning, unless it is to be expected.
    pub(super) fn tell(&self) {
        match self {
            Whole::Memory | Whole::SharedCache => {
                tracing::debug!(target: "sealane::connect", why = %self, "the database is not split");
            }
            _ => tracing::warn!(
                target: "sealane::connect", why = %self,
                "the SQLite file is not split: one pool serves reads and writes"
            ),
        }
    }
}

impl Given {
    /// Opens the database as SeaORM would.
    pub(super) async fn connect(&self) -> Result<SqliteConnection, DbErr> {
        self.connect.connect().await.map_err(connect_error)
    }

    /// Prepares the database for the split.
    ///
    /// # Errors
    /// The database cannot or must not be split.
    pub(super) async fn prepare(
        &self,
        first: &mut SqliteConnection,
        may_change_journal: bool,
    ) -> Result<(), Whole> {
        // The options have no getters, so their debug outputs are compared.
        let is =
            |other: SqliteConnectOptions| format!("{:?}", self.connect) == format!("{other:?}");
        if is(self.connect.clone().shared_cache(true)) {
            return Err(Whole::SharedCache);
        }
        let chosen = JOURNAL_MODES
            .into_iter()
            .find(|(mode, _)| is(self.connect.clone().journal_mode(*mode)));
        if let Some((_, mode)) = chosen {
            return Err(Whole::Chosen(mode));
        }
        if ask(first, MAIN).await?.is_empty() {
            return Err(Whole::Memory);
        }
        if ask(first, "PRAGMA locking_mode").await? == "exclusive" {
            return Err(Whole::Exclusive);
        }
        let mode = ask(first, "PRAGMA journal_mode").await?;
        if mode != "wal" {
            if mode == "memory" {
                return Err(Whole::Memory);
            }
            if !may_change_journal {
                return Err(Whole::Kept);
            }
            change_to_wal(first).await?;
        }
        self.try_reader().await
    }

    /// Opens a connection with read-only access to the file. This finds application settings that
    /// each reader would write. Then the pool's hooks run. The driver does not report their errors:
    /// it tries again until the time is over.
    async fn try_reader(&self) -> Result<(), Whole> {
        let connect = self.reader().read_only(true);
        let refused = |error: sqlx::Error| Whole::NoReader(error.to_string());
        close(connect.connect().await.map_err(refused)?).await;
        let pool = self.pool.clone().min_connections(0).max_connections(1);
        let pool = pool.acquire_timeout(HOOKS_WITHIN).connect_with(connect).await;
        match pool {
            Ok(pool) => {
                pool.close().await;
                Ok(())
            }
            Err(sqlx::Error::PoolTimedOut) => Err(Whole::NoHook),
            Err(error) => Err(refused(error)),
        }
    }
}

/// Closes a connection and ignores errors.
pub(super) async fn close(connection: SqliteConnection) {
    let _ = connection.close().await;
}

async fn change_to_wal(connection: &mut SqliteConnection) -> Result<(), Whole> {
    let end = Instant::now() + WAL_WITHIN;
    loop {
        let answer = sqlx::query("PRAGMA journal_mode = WAL").fetch_one(&mut *connection).await;
        let is_busy = |error: &sqlx::Error| {
            error.as_database_error().and_then(|error| error.code()).is_some_and(|it| it == BUSY)
        };
        match answer.and_then(|row| row.try_get::<String, _>(0)) {
            Ok(mode) if mode == "wal" => return Ok(()),
            Ok(mode) => return Err(Whole::NoLog(format!("its journal mode stays {mode}"))),
            Err(error) if is_busy(&error) && Instant::now() < end => {
                tokio::time::sleep(WAL_AGAIN).await;
            }
            Err(error) => return Err(Whole::NoLog(error.to_string())),
        }
    }
}

async fn ask(connection: &mut SqliteConnection, sql: &'static str) -> Result<String, Whole> {
    let answer = sqlx::query(sql).fetch_one(connection).await;
    answer
        .and_then(|row| row.try_get::<Option<String>, _>(0))
        .map(Option::unwrap_or_default)
        .map_err(|error| Whole::Lost(error.to_string()))
}
