//! What the drivers of PostgreSQL and MySQL have in common: pools that check what their new
//! connections lead to.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use sea_orm::{
    ConnectOptions, DatabaseConnection,
    sqlx::{
        self, Connection, Pool,
        pool::{PoolConnectionMetadata, PoolOptions},
    },
};
use sealane_core::{EndpointId, Incarnation, ReadOnly};
use sealane_monitor::{Admission, Board, RunGuard};

use super::{OpenPools, Pools, TRUSTED_FOR};

/// How long a read waits for a connection to a replica before it goes
/// elsewhere, unless configured. A caller that would wait half a minute for
/// the primary (sqlx's default) has somewhere better to go here.
const REPLICA_ACQUIRE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(1);

/// What a session may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Writes,
    /// The server itself refuses what writes, also after a promotion.
    Reads,
}

type Options<DB> = <<DB as sqlx::Database>::Connection as Connection>::Options;

/// A driver of sqlx, as far as pools need to know it.
pub(crate) trait Driver: sqlx::Database {
    /// What pools of one endpoint need beside their options.
    type Settings: Clone + Send + Sync + 'static;

    fn wrap(pool: Pool<Self>) -> DatabaseConnection;

    /// How to connect for reading, by what a probe has found to keep sessions from writing.
    fn reading(connect: &Options<Self>, known: Option<ReadOnly>) -> Options<Self>;

    /// Makes a new connection ready, and says which run it leads to.
    fn set_up<'c>(
        connection: &'c mut Self::Connection,
        access: Access,
        settings: &'c Self::Settings,
    ) -> BoxFuture<'c, Result<Incarnation, sqlx::Error>>;
}

/// Opens the pools of one endpoint.
pub(crate) struct Opener<DB: Driver> {
    pub(crate) board: Arc<Board>,
    pub(crate) endpoint: EndpointId,
    pub(crate) writes: PoolOptions<DB>,
    pub(crate) reads: PoolOptions<DB>,
    pub(crate) connect: Options<DB>,
    pub(crate) settings: DB::Settings,
}

impl<DB: Driver> Opener<DB> {
    /// Sizes the pools. Only the one that the endpoint's place in the configuration makes likely
    /// is filled beforehand.
    pub(crate) fn sized(
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

    /// The settings of a pool for code that wants SeaORM's own connection. It lives as long as the
    /// endpoint, so it checks each connection when it is handed out, too: the connection's age
    /// tells whether it may lead to another server. The application's own check before use is not
    /// run.
    pub(crate) fn plain(&self) -> PoolOptions<DB> {
        let (board, endpoint) = (Arc::clone(&self.board), self.endpoint);
        let pool = self.guarded(self.writes.clone().min_connections(0), Access::Writes, None);
        pool.before_acquire(move |connection, metadata| {
            let is_current = board.topology().primary() == Some(endpoint)
                && board.is_younger_than_generation(endpoint, metadata.age);
            Box::pin(async move { Ok(is_current && lives(connection, metadata).await) })
        })
    }

    fn open_pool(&self, access: Access, generation: u64) -> DatabaseConnection {
        let pool = match access {
            Access::Writes => &self.writes,
            Access::Reads => &self.reads,
        };
        let connect = match access {
            Access::Writes => self.connect.clone(),
            Access::Reads => DB::reading(&self.connect, self.known()),
        };
        let pool = self.guarded(pool.clone(), access, Some(generation));
        DB::wrap(pool.connect_lazy_with(connect))
    }

    fn known(&self) -> Option<ReadOnly> {
        self.board.topology().get(self.endpoint)?.particulars.read_only
    }

    /// The pool's settings with the guard in them.
    fn guarded(
        &self,
        pool: PoolOptions<DB>,
        access: Access,
        generation: Option<u64>,
    ) -> PoolOptions<DB> {
        let (board, endpoint) = (Arc::clone(&self.board), self.endpoint);
        let settings = self.settings.clone();
        // Of a pool that is never replaced.
        let is_plain = generation.is_none();
        pool.after_connect(move |connection, _| {
            let (board, settings) = (Arc::clone(&board), settings.clone());
            Box::pin(async move {
                let generation = generation.unwrap_or_else(|| board.generation(endpoint));
                let incarnation = DB::set_up(connection, access, &settings).await?;
                let guard = RunGuard::new(Arc::clone(&board), endpoint, generation);
                match (guard.admit(&incarnation).await, access) {
                    _ if is_plain && board.topology().primary() != Some(endpoint) => {
                        Err(sqlx::Error::Protocol("this endpoint is not the primary now".into()))
                    }
                    // Writes go on even where probes cannot.
                    (Admission::Known, _) | (Admission::Unobserved, Access::Writes) => Ok(()),
                    // Nothing is proved of what it would read, or somebody else is there now.
                    (Admission::Unobserved, Access::Reads) | (Admission::Replaced, _) => {
                        Err(sqlx::Error::Protocol(
                            "this is not the server's run that the monitor knows".into(),
                        ))
                    }
                }
            })
        })
    }
}

impl<DB: Driver> OpenPools for Opener<DB> {
    fn open(&self, generation: u64) -> Pools {
        let reads = self.open_pool(Access::Reads, generation);
        Pools { generation, reads, writes: self.open_pool(Access::Writes, generation) }
    }
}

/// Whether a connection that may have idled for long answers, soon.
async fn lives<C: Connection>(connection: &mut C, metadata: PoolConnectionMetadata) -> bool {
    metadata.idle_for < TRUSTED_FOR
        || tokio::time::timeout(TRUSTED_FOR, connection.ping()).await.is_ok_and(|it| it.is_ok())
}
