//! The pools of one endpoint: one that cannot write, one that may.
//!
//! Reads on a replica use the first, and the server itself enforces it. Whatever
//! the primary serves uses the second. An endpoint that is promoted needs no
//! new configuration, and one that is demoted gets no write. Neither pool
//! connects before it is used.

#[cfg(feature = "postgres")]
pub(crate) mod guard;
#[cfg(feature = "mysql")]
pub(crate) mod mysql;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;

use std::time::Duration;

#[cfg(any(feature = "mysql", feature = "postgres"))]
use sea_orm::sqlx::pool::PoolOptions;
use sea_orm::{ConnectOptions, DatabaseConnection, DbErr};

/// A connection that was used within this time is not asked whether it lives
/// before it is used again. SeaORM's default asks every time, which doubles
/// the round trips; never asking would let a restarted server's dead
/// connections fail the first writes.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// How long a read waits for a connection to a replica before it goes
/// elsewhere, unless configured. A caller that would wait half a minute for
/// the primary (sqlx's default) has somewhere better to go here.
#[cfg(any(feature = "mysql", feature = "postgres"))]
const REPLICA_ACQUIRE_TIMEOUT: Duration = Duration::from_secs(1);

/// The two pools of one endpoint.
#[derive(Debug)]
pub(crate) struct Pools {
    pub(crate) reads: DatabaseConnection,
    pub(crate) writes: DatabaseConnection,
}

impl Pools {
    /// One connection for everything.
    pub(crate) fn same(connection: DatabaseConnection) -> Self {
        Pools { reads: connection.clone(), writes: connection }
    }

    /// Closes both.
    pub(crate) async fn close(&self) -> Result<(), DbErr> {
        let reads = self.reads.close_by_ref().await;
        self.writes.close_by_ref().await.and(reads)
    }
}

/// What becomes of a connection to a run that the monitor does not get to know.
#[cfg(any(feature = "mysql", feature = "postgres"))]
#[derive(Debug, Clone, Copy)]
enum Unknown {
    /// Writes go on even where probes cannot.
    Admitted,
    /// Nothing is proved of what it would read.
    Refused,
}

#[cfg(any(feature = "mysql", feature = "postgres"))]
impl Unknown {
    /// Whether a connection to the server's run `incarnation` may be used.
    async fn admit(
        self,
        guard: &sealane_monitor::RunGuard,
        incarnation: &sealane_core::Incarnation,
    ) -> Result<(), sea_orm::sqlx::Error> {
        match (guard.admit(incarnation).await, self) {
            (true, _) | (false, Unknown::Admitted) => Ok(()),
            (false, Unknown::Refused) => Err(sea_orm::sqlx::Error::Protocol(
                "the monitor does not know this server's run".into(),
            )),
        }
    }
}

/// The settings of the writing pool and of the reading one. Only the pool that the
/// endpoint's role makes likely is filled beforehand.
#[cfg(any(feature = "mysql", feature = "postgres"))]
fn sized<DB: sea_orm::sqlx::Database>(
    options: &ConnectOptions,
    pool: PoolOptions<DB>,
    is_first: bool,
) -> (PoolOptions<DB>, PoolOptions<DB>) {
    let least = options.get_min_connections().unwrap_or(pool.get_min_connections());
    let (writes_least, reads_least) = if is_first { (least, 0) } else { (0, least) };
    let writes = pool.clone().min_connections(writes_least);
    let mut reads = pool.min_connections(reads_least);
    if options.get_acquire_timeout().is_none() && options.get_connect_timeout().is_none() {
        reads = reads.acquire_timeout(REPLICA_ACQUIRE_TIMEOUT);
    }
    (writes, reads)
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
