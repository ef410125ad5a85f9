//! The pools of one endpoint, and which run of a server their connections belong to.
//!
//! An endpoint has a pool of sessions that cannot write, for reads that it serves as a replica, and
//! one of sessions that may, for whatever it serves as the primary. Both are lazy. An endpoint
//! that is promoted needs no new configuration, and one that is demoted gets no write.
//!
//! Both live for one *generation*: until another run of a server answers at the address, or the
//! server answers again after an outage (`sealane_monitor::Footing`). Then they are left behind with all their
//! connections, idle, lent, or lost in a dead network, and new ones are opened with the next
//! statement. So no connection is ever handed out for another server than the one it was made to,
//! and a slot that the driver cannot get back costs nothing. (Rejected: one pool for ever with a
//! check before each use. A connection does not tell which run it was made in without being asked,
//! and the driver waits without limit for slots that a dead network holds.)

#[cfg(any(feature = "mysql", feature = "postgres"))]
mod driver;
#[cfg(feature = "postgres")]
pub(crate) mod guard;
mod line;
#[cfg(feature = "mysql")]
pub(crate) mod mysql;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use sea_orm::{ConnectOptions, DatabaseConnection, DbErr};
use sealane_core::Role;

pub(crate) use line::{Execute, ExecuteUnprepared, Line, QueryAll, QueryOne, Verb};

/// A connection that was used within this time is not asked whether it lives
/// before it is used again. SeaORM's default asks every time, which doubles
/// the round trips; never asking would let a restarted server's dead
/// connections fail the first writes.
pub(crate) const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// How long the polite end of a pool may take. A server that hangs never says goodbye.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// The two pools of one generation.
#[derive(Debug, Clone)]
pub(crate) struct Pools {
    pub(crate) generation: u64,
    pub(crate) reads: DatabaseConnection,
    pub(crate) writes: DatabaseConnection,
}

impl Pools {
    /// One connection for everything.
    pub(crate) fn same(connection: DatabaseConnection) -> Self {
        Pools { generation: 0, reads: connection.clone(), writes: connection }
    }

    /// The pool for what was planned in `role`: what the primary serves may write, what a replica
    /// serves may not.
    pub(crate) fn of(&self, role: Role) -> &DatabaseConnection {
        match role {
            Role::Primary => &self.writes,
            // A replica; and if core learns of more roles, none of them takes writes.
            _ => &self.reads,
        }
    }

    async fn close(&self) -> Result<(), DbErr> {
        let (reads, writes) = tokio::join!(close(&self.reads), close(&self.writes));
        reads.and(writes)
    }
}

/// Closes a pool, in bounded time.
async fn close(pool: &DatabaseConnection) -> Result<(), DbErr> {
    // What has not said goodbye by then is dropped with the pool.
    tokio::time::timeout(CLOSE_LIMIT, pool.close_by_ref()).await.unwrap_or(Ok(()))
}

/// Makes the pools of a generation. None of them connects before it is used.
pub(crate) trait OpenPools: Send + Sync {
    fn open(&self, generation: u64) -> Pools;
}

/// Pools that there is only one generation of.
impl OpenPools for Pools {
    fn open(&self, _: u64) -> Pools {
        self.clone()
    }
}

/// The pools of one endpoint.
pub(crate) struct EndpointPools {
    /// Opened with the first use: by then a probe knows how sessions are kept from writing.
    current: ArcSwapOption<Pools>,
    opener: Box<dyn OpenPools>,
    opening: Mutex<()>,
    /// For code that wants SeaORM's own type. It checks its connections by itself.
    plain: DatabaseConnection,
}

impl EndpointPools {
    /// Pools that serve for ever: of one server alone, or of one file.
    pub(crate) fn fixed(pools: Pools) -> Self {
        let plain = pools.writes.clone();
        let pools = Pools { generation: u64::MAX, ..pools };
        EndpointPools {
            current: ArcSwapOption::from_pointee(pools.clone()),
            opener: Box::new(pools),
            opening: Mutex::default(),
            plain,
        }
    }

    /// Pools that `opener` makes for each generation.
    #[cfg(any(feature = "mysql", feature = "postgres"))]
    pub(crate) fn renewed(opener: Box<dyn OpenPools>, plain: DatabaseConnection) -> Self {
        EndpointPools { current: ArcSwapOption::empty(), opener, opening: Mutex::default(), plain }
    }

    /// The pools of `generation`, or of a later one.
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
            // Ends the waits for its connections at once.
            tokio::spawn(async move { left.close().await });
        }
        renewed
    }

    fn fresh(&self, generation: u64) -> Option<Arc<Pools>> {
        self.current.load_full().filter(|current| current.generation >= generation)
    }

    /// SeaORM's own connection, which may write while the endpoint is the primary.
    pub(crate) fn plain(&self) -> &DatabaseConnection {
        &self.plain
    }

    /// Closes all of them, in bounded time.
    pub(crate) async fn close(&self) -> Result<(), DbErr> {
        let last = {
            let _one_at_a_time = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
            let last = match self.current.load_full() {
                Some(current) => Pools::clone(&current),
                None => self.opener.open(0),
            };
            // For every generation to come: a handle that is left must not open them again.
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

/// The same options for a pool that does nothing before it is used: SeaORM would
/// run the application's hook at once.
#[cfg(any(feature = "mysql", feature = "postgres"))]
fn quiet(options: &ConnectOptions) -> ConnectOptions {
    let mut quiet = options.clone();
    quiet.connect_lazy(true).min_connections(0).after_connect(|_| Box::pin(async { Ok(()) }));
    quiet
}

/// What every routed pool has in common.
pub(crate) fn routed(options: &ConnectOptions) -> ConnectOptions {
    let mut options = options.clone();
    if options.get_test_before_acquire_if_idle_for().is_none() {
        options.test_before_acquire_if_idle_for(TRUSTED_FOR);
    }
    options
}
