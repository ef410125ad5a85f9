//! One SQLite file: one connection that writes, several that read.
//!
//! In WAL mode readers do not wait for the writer, and a read that begins after
//! a commit sees it (<https://sqlite.org/wal.html>): no fence is needed.
//!
//! Readers cannot write (`query_only`), but they open the file for writing. A connection opened
//! read-only cannot recover the log of a killed process, and if it is the last one to close, it
//! leaves everything in the log.

mod file;
mod line;
mod path;
mod session;
mod split;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sea_orm::{
    ConnectOptions, Database, DatabaseConnection, DbErr, RuntimeErr, SqlxSqliteConnector,
    sqlx::{
        self, Sqlite,
        pool::PoolOptions,
        sqlite::{SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqliteLockingMode},
    },
};

use super::{EndpointPools, OpenPools, Pool, Pools, quiet, routed};
use split::close;

pub(crate) use file::File;
pub(crate) use line::{FileLine, Seat, WrittenRows};
pub(crate) use path::{shown, url};

/// Connections for reading, unless configured: enough for the cores of a small machine. Each costs
/// a page cache of about 2 MiB.
const READERS: u32 = 4;
/// Additional connections for long work: streams and reading transactions. Each is a thread.
const LASTING: u32 = 28;
/// How long a read waits for a reader, unless configured, before it goes to the writer.
const READER_ACQUIRE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long closing waits for the writer, to empty the log while other processes use the file.
const CHECKPOINT_LIMIT: Duration = Duration::from_secs(1);

/// An open database.
pub(crate) enum Opened {
    /// One pool for everything, as in SeaORM.
    Whole(DatabaseConnection),
    /// Separate pools for the writer and the readers.
    Split { file: Arc<File>, writer: EndpointPools, readers: EndpointPools },
}

/// Opens the database. Splits it if this is possible and `may_change_journal` allows the necessary
/// change.
pub(crate) async fn open(
    options: &ConnectOptions,
    may_change_journal: bool,
) -> Result<Opened, DbErr> {
    let options = routed(options);
    let given = Given::of(&options).await?;
    // Opened as SeaORM would open it. While this connection is open, the log stays.
    let mut first = given.connect().await?;
    if let Err(why) = given.prepare(&mut first, may_change_journal).await {
        why.tell();
        close(first).await;
        return Database::connect(options).await.map(Opened::Whole);
    }
    let (readers_most, patience) = given.reading(&options);
    let file = File::new(readers_most, patience);
    let writer = open_writer(&options, &given).await?;
    file.ask(&writer).await?;
    let pool = given.pool.clone().max_connections(readers_most.saturating_add(LASTING));
    let readers = Readers {
        pool: pool.acquire_timeout(patience),
        connect: given.reader(),
        file: Arc::clone(&file),
        open: Mutex::default(),
        writer: writer.clone(),
    };
    // Nothing uses this connection: code that needs SeaORM's own connection gets the writer.
    let plain = readers.connection(readers.pool.clone().min_connections(0));
    let readers = EndpointPools::renewed(Box::new(readers), plain);
    close(first).await;
    let seat = Some(Seat::Writes(Arc::clone(&file)));
    let writer = EndpointPools::fixed(Pools::same(Pool { seat, ..Pool::from(writer) }));
    Ok(Opened::Split { file, writer, readers })
}

/// The only connection that writes. It runs the application's hook once.
async fn open_writer(options: &ConnectOptions, given: &Given) -> Result<DatabaseConnection, DbErr> {
    let usual = PoolOptions::<Sqlite>::new();
    let mut pool = given.pool.clone().max_connections(1);
    pool = pool.min_connections(given.pool.get_min_connections().min(1));
    // Objects of the writer's session must not vanish, unless the application has set these limits.
    if given.pool.get_idle_timeout() == usual.get_idle_timeout() {
        pool = pool.idle_timeout(None);
    }
    if given.pool.get_max_lifetime() == usual.get_max_lifetime() {
        pool = pool.max_lifetime(None);
    }
    let connect = given.connect.clone().journal_mode(SqliteJournalMode::Wal);
    let mut options = options.clone();
    options
        .connect_lazy(false)
        .map_sqlx_sqlite_pool_opts(move |_| pool.clone())
        .map_sqlx_sqlite_opts(move |_| connect.clone());
    Database::connect(options).await
}

/// Waits until the writer is free, so that everything sent to it before is over.
pub(crate) async fn is_idle(writer: &DatabaseConnection) {
    let pool = writer.get_sqlite_connection_pool();
    // Another process may hold the file for longer than the pool's timeout.
    while let Err(sqlx::Error::PoolTimedOut) = pool.acquire().await {}
}

/// Moves the content of the log to the file, as far as no other connection reads it.
pub(crate) async fn checkpoint(writer: &DatabaseConnection) {
    // An open transaction keeps its connection and its uncommitted changes.
    let connection = writer.get_sqlite_connection_pool().acquire();
    if let Ok(Ok(mut connection)) = tokio::time::timeout(CHECKPOINT_LIMIT, connection).await {
        let _ = sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(&mut *connection).await;
    }
}

/// The pool and connect options that result from the application's options.
struct Given {
    pool: PoolOptions<Sqlite>,
    connect: SqliteConnectOptions,
}

impl Given {
    /// SeaORM does not give access to the application's hooks, and it accepts only one hook of each
    /// kind. So a pool is created that is never used: it carries the application's settings.
    async fn of(options: &ConnectOptions) -> Result<Given, DbErr> {
        let pattern = Database::connect(quiet(options)).await?;
        let pool = pattern.get_sqlite_connection_pool();
        let connect = SqliteConnectOptions::clone(&pool.connect_options());
        let given = Given { pool: pool.options().clone(), connect };
        pattern.close().await?;
        Ok(given)
    }

    /// How many statements read at a time, and how long a statement waits for its turn.
    fn reading(&self, options: &ConnectOptions) -> (u32, Duration) {
        let most = match self.pool.get_max_connections() {
            // SeaORM's value without a setting.
            1 if options.get_max_connections().is_none() => READERS,
            most => most,
        };
        let usual = PoolOptions::<Sqlite>::new().get_acquire_timeout();
        let patience = match self.pool.get_acquire_timeout() {
            given if given == usual => READER_ACQUIRE_TIMEOUT,
            given => given,
        };
        (most, patience)
    }

    /// The options of a reader. The file already has its settings, and setting them again, or
    /// changing them, would take a writer's lock.
    fn reader(&self) -> SqliteConnectOptions {
        self.connect
            .clone()
            .create_if_missing(false)
            .journal_mode(SqliteJournalMode::Wal)
            .locking_mode(SqliteLockingMode::Normal)
            .auto_vacuum(SqliteAutoVacuum::None)
            // This comes last: earlier settings may be needed for reading.
            .pragma("query_only", "ON")
    }
}

/// Opens the readers, and opens new ones after a schema change: old prepared statements would show
/// the old columns or make the driver panic. Old readers that stream go on until they are done.
struct Readers {
    pool: PoolOptions<Sqlite>,
    connect: SqliteConnectOptions,
    file: Arc<File>,
    /// The opened readers that are not closed yet. A schema change leaves old readers to a task
    /// that closes them, and the runtime may end before that task.
    open: Mutex<Vec<DatabaseConnection>>,
    /// The writer must not be closed before the readers.
    writer: DatabaseConnection,
}

impl Readers {
    fn connection(&self, pool: PoolOptions<Sqlite>) -> DatabaseConnection {
        let pool = pool.connect_lazy_with(self.connect.clone());
        SqlxSqliteConnector::from_sqlx_sqlite_pool(pool)
    }
}

impl Drop for Readers {
    /// The application may have dropped everything without closing. The driver would then close all
    /// connections at once, each in its own thread. Each of them would find that it is not the last
    /// one, and nobody would empty the log. So a thread closes the readers here, before the writer.
    fn drop(&mut self) {
        let open = std::mem::take(self.open.get_mut().unwrap_or_else(PoisonError::into_inner));
        if open.iter().all(is_closed) {
            return;
        }
        let writer = self.writer.clone();
        // The application's runtime may be about to end, so this uses a thread and a small runtime.
        let closing = std::thread::Builder::new().spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            if let Ok(runtime) = runtime {
                runtime.block_on(async {
                    for readers in &open {
                        let _ = super::close(readers).await;
                    }
                });
            }
            drop(writer);
        });
        // Without a thread the log stays; it is read together with the file.
        drop(closing);
    }
}

impl OpenPools for Readers {
    fn open(&self, generation: u64) -> Pools {
        let connection = self.connection(self.pool.clone());
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|readers| !is_closed(readers));
        open.push(connection.clone());
        let seat = Some(Seat::Reads(Arc::clone(&self.file)));
        // Readers serve both roles here, because nothing is ever written through them.
        Pools { generation, ..Pools::same(Pool { seat, ..Pool::from(connection) }) }
    }
}

/// Whether a pool is closed and has no connection left.
fn is_closed(pool: &DatabaseConnection) -> bool {
    let pool = pool.get_sqlite_connection_pool();
    pool.is_closed() && pool.size() == 0
}

fn connect_error(error: sqlx::Error) -> DbErr {
    DbErr::Conn(RuntimeErr::SqlxError(error.into()))
}
