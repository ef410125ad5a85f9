//! The pools of one endpoint, and the server run that their connections belong to.
//!
//! An endpoint has two pools: one with read-only sessions, for reads that it serves as a replica,
//! and one with writing sessions, for everything that it serves as the primary. Both are lazy. So a
//! promoted endpoint needs no new configuration, and a demoted endpoint gets no writes.
//!
//! Both pools live for one *generation*: until another server run answers at the address, or the
//! server answers again after an outage (`sealane_monitor::Footing`). Then they are left behind
//! with all their connections, whether idle, lent, or lost in a dead network, and the next
//! statement opens new pools. So a connection is never used for another server than the one it was
//! opened to, and a slot that the driver cannot get back costs nothing. (Rejected: one pool forever
//! with a check before each use. Learning a connection's run takes a query, and the driver waits
//! without limit for slots that a dead network holds.)
//!
//! An abandoned statement closes its connection instead of returning it, because sqlx pings on
//! release without a time limit.
//!
//! # SeaORM's options
//! SeaORM keeps the hooks of `ConnectOptions` private and accepts one of each kind. So a pool is
//! made that is never used: it carries the application's settings, and the real pools add ours to
//! them. A search path set with `set_schema_search_path` uses the same hook as the guard, so the
//! guard sets the path, too.
//!
//! The driver's own hook, which the application may set with `map_sqlx_mysql_pool_opts` and
//! `map_sqlx_postgres_pool_opts`, runs before ours: see `hook`.
//!
//! Code that needs SeaORM's own connection gets one more pool of each endpoint. This pool is never
//! replaced, because references to it are handed out; it checks its connections by their age.

mod begun;
mod connections;
mod digest;
pub(crate) mod distance;
#[cfg(any(feature = "mysql", feature = "postgres"))]
mod driver;
#[cfg(feature = "postgres")]
pub(crate) mod guard;
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
mod lent;
mod line;
#[cfg(feature = "mysql")]
pub(crate) mod mysql;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
#[cfg(any(feature = "mysql", feature = "postgres"))]
mod rows;
#[cfg(feature = "assembly")]
pub(crate) mod simulated;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use sea_orm::{ConnectOptions, DatabaseConnection, DbBackend, DbErr};
use sealane_core::{Engine, Role};

pub(crate) use begun::Begun;
pub(crate) use connections::Connections;
pub(crate) use digest::Digest;
pub(crate) use line::{Execute, ExecuteUnprepared, Line, QueryAll, QueryOne, RowStream, Verb};

/// A connection that was used within this time is used again without a ping. SeaORM by default
/// pings every time, which doubles the round trips. Without any pings, the dead connections of a
/// restarted server would make the first writes fail.
pub(crate) const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// How long closing a pool may take. A hanging server never answers the goodbye.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// Connections for one purpose.
#[derive(Debug, Clone)]
pub(crate) struct Pool {
    pub(crate) connection: DatabaseConnection,
    /// Whether a read waits for a connection only as long as its server's distance calls for, and not as
    /// long as the pool.
    pub(crate) is_left_early: bool,
    /// The pool's role for a split SQLite file.
    #[cfg(feature = "sqlite")]
    pub(crate) seat: Option<sqlite::Seat>,
    /// Ends abandoned reads on the server.
    #[cfg(feature = "mysql")]
    pub(crate) canceller: Option<Arc<mysql::Canceller>>,
    /// Who lends the connections, if a simulator does.
    #[cfg(feature = "assembly")]
    pub(crate) lender: Option<Arc<dyn simulated::Lender>>,
}

impl From<DatabaseConnection> for Pool {
    fn from(connection: DatabaseConnection) -> Self {
        Pool {
            connection,
            is_left_early: false,
            #[cfg(feature = "sqlite")]
            seat: None,
            #[cfg(feature = "mysql")]
            canceller: None,
            #[cfg(feature = "assembly")]
            lender: None,
        }
    }
}

/// The two pools of one generation.
#[derive(Debug, Clone)]
pub(crate) struct Pools {
    pub(crate) generation: u64,
    pub(crate) reads: Pool,
    pub(crate) writes: Pool,
    /// Whether both are the same pool.
    pub(crate) is_one: bool,
}

impl Pools {
    /// One pool for everything.
    pub(crate) fn same(pool: impl Into<Pool>) -> Self {
        let pool = pool.into();
        Pools { generation: 0, reads: pool.clone(), writes: pool, is_one: true }
    }

    /// The pool for statements planned for `role`: statements on the primary may write, statements
    /// on a replica may not.
    pub(crate) fn of(&self, role: Role) -> &Pool {
        match role {
            Role::Primary => &self.writes,
            // A replica. If core gets more roles, they do not take writes either.
            _ => &self.reads,
        }
    }

    /// Whether the server ends reads that are abandoned.
    #[cfg(feature = "mysql")]
    fn cancels(&self) -> bool {
        self.reads.canceller.as_ref().is_some_and(|canceller| canceller.works())
    }

    async fn close(&self) -> Result<(), DbErr> {
        let (reads, writes) =
            tokio::join!(close(&self.reads.connection), close(&self.writes.connection));
        #[cfg(feature = "assembly")]
        [&self.reads, &self.writes]
            .iter()
            .filter_map(|it| it.lender.as_ref())
            .for_each(|it| it.close());
        reads.and(writes)
    }
}

/// Closes a pool, in bounded time.
async fn close(pool: &DatabaseConnection) -> Result<(), DbErr> {
    // Connections that are not closed by then are dropped with the pool.
    tokio::time::timeout(CLOSE_LIMIT, pool.close_by_ref()).await.unwrap_or(Ok(()))
}

/// Opens the pools of a generation. They do not connect before their first use.
pub(crate) trait OpenPools: Send + Sync {
    fn open(&self, generation: u64) -> Pools;
}

/// Pools with only one generation.
impl OpenPools for Pools {
    fn open(&self, _: u64) -> Pools {
        self.clone()
    }
}

/// The pools of one endpoint.
pub(crate) struct EndpointPools {
    /// Opened at the first use: by then a probe knows what keeps sessions from writing.
    current: ArcSwapOption<Pools>,
    opener: Box<dyn OpenPools>,
    opening: Mutex<()>,
    /// For code that needs SeaORM's own type. This pool checks its connections itself.
    plain: DatabaseConnection,
}

impl EndpointPools {
    /// Pools that are never replaced: of a single server, or of one file.
    pub(crate) fn fixed(pools: Pools) -> Self {
        let plain = pools.writes.connection.clone();
        let pools = Pools { generation: u64::MAX, ..pools };
        EndpointPools {
            current: ArcSwapOption::from_pointee(pools.clone()),
            opener: Box::new(pools),
            opening: Mutex::default(),
            plain,
        }
    }

    /// Pools that `opener` opens for each generation.
    #[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite", feature = "assembly"))]
    pub(crate) fn renewed(opener: Box<dyn OpenPools>, plain: DatabaseConnection) -> Self {
        EndpointPools { current: ArcSwapOption::empty(), opener, opening: Mutex::default(), plain }
    }

    /// The pools of `generation` or of a later generation.
    pub(crate) fn at(&self, generation: u64) -> Arc<Pools> {
        if let Some(current) = self.fresh(generation) {
            return current;
        }
        let _one_at_a_time = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(current) = self.fresh(generation) {
            return current;
        }
        let renewed = Arc::new(self.opener.open(generation));
        if let Some(left) = self.current.swap(Some(Arc::clone(&renewed))) {
            // Closing the old pools ends waits for their connections at once.
            tokio::spawn(async move { left.close().await });
        }
        renewed
    }

    fn fresh(&self, generation: u64) -> Option<Arc<Pools>> {
        self.current.load_full().filter(|current| current.generation >= generation)
    }

    /// Whether the server of MySQL or MariaDB ends reads that are abandoned, as far as is known.
    #[cfg(feature = "mysql")]
    pub(crate) fn cancels(&self) -> bool {
        self.current.load().as_ref().is_some_and(|current| current.cancels())
    }

    /// SeaORM's own connection, which may write while the endpoint is the primary.
    pub(crate) fn plain(&self) -> &DatabaseConnection {
        &self.plain
    }

    /// Closes all pools, in bounded time.
    pub(crate) async fn close(&self) -> Result<(), DbErr> {
        let last = {
            let _one_at_a_time = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
            let last = match self.current.load_full() {
                Some(current) => Pools::clone(&current),
                None => self.opener.open(0),
            };
            // These closed pools count for every later generation: a remaining handle must not open
            // new ones.
            let last = Arc::new(Pools { generation: u64::MAX, ..last });
            self.current.store(Some(Arc::clone(&last)));
            last
        };
        let pools = last.close();
        let (pools, plain) = tokio::join!(pools, close(&self.plain));
        pools.and(plain)
    }
}

impl fmt::Debug for EndpointPools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let generation = self.current.load().as_ref().map(|current| current.generation);
        f.debug_struct("EndpointPools").field("generation", &generation).finish_non_exhaustive()
    }
}

/// The same options for a pool that does nothing before its first use; otherwise SeaORM would run
/// the application's hook at once.
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
fn quiet(options: &ConnectOptions) -> ConnectOptions {
    let mut quiet = options.clone();
    quiet.connect_lazy(true).min_connections(0).after_connect(|_| Box::pin(async { Ok(()) }));
    quiet
}

/// The options that all routed pools have in common.
pub(crate) fn routed(options: &ConnectOptions) -> ConnectOptions {
    let mut options = options.clone();
    if options.get_test_before_acquire_if_idle_for().is_none() {
        options.test_before_acquire_if_idle_for(TRUSTED_FOR);
    }
    options
}

/// The engine behind SeaORM's backend.
pub(crate) fn engine_of(backend: DbBackend) -> Engine {
    match backend {
        DbBackend::Postgres => Engine::Postgres,
        DbBackend::MySql => Engine::MySql,
        // SQLite, and any future backend of SeaORM: a single endpoint.
        _ => Engine::Sqlite,
    }
}
