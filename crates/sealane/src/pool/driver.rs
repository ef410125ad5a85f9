//! The common part of PostgreSQL and MySQL: pools that check which server run a new connection
//! leads to.

mod entrance;
mod hook;

use std::{mem, sync::Arc};

use futures_util::future::BoxFuture;
use sea_orm::{
    ConnectOptions,
    sqlx::{
        self, Connection, Pool,
        pool::{PoolConnectionMetadata, PoolOptions},
    },
};
use sealane_core::{EndpointId, Incarnation, ReadOnly};
use sealane_monitor::TopologyStore;

use super::{OpenPools, Pools, TRUSTED_FOR, distance::arrives_within, lent::leave};

use entrance::Entrance;
pub(crate) use hook::Hook;

/// What a session may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Writes,
    /// The session refuses writes, also after a promotion of the server.
    Reads,
}

/// Whether `options` say how long to wait for a connection.
pub(crate) fn sets_patience(options: &ConnectOptions) -> bool {
    options.get_acquire_timeout().is_some() || options.get_connect_timeout().is_some()
}

/// How a driver connects.
pub(crate) type Options<DB> = <<DB as sqlx::Database>::Connection as Connection>::Options;

/// The part of an sqlx driver that pools need.
pub(crate) trait Driver: sqlx::Database {
    /// What the pools of one endpoint need in addition to their options.
    type Settings: Clone + Send + Sync + 'static;

    fn wrap(pool: Pool<Self>, settings: &Self::Settings) -> super::Pool;

    /// How to connect for reading. `known` is what a probe has found to keep sessions from writing.
    fn reading(connect: &Options<Self>, known: Option<ReadOnly>) -> Options<Self>;

    /// The same with a name that the server shows, if it shows one.
    fn named(connect: &Options<Self>, name: &str) -> Options<Self>;

    /// Whether anything was sent on `other`, a new connection with `name`, that was not sent on
    /// `connection`, which is also new.
    fn is_used<'c>(
        connection: &'c mut Self::Connection,
        other: &'c mut Self::Connection,
        name: &'c str,
        settings: &'c Self::Settings,
    ) -> BoxFuture<'c, Result<bool, sqlx::Error>>;

    /// Prepares a new connection and returns the server run that it leads to.
    fn set_up<'c>(
        connection: &'c mut Self::Connection,
        access: Access,
        settings: &'c Self::Settings,
    ) -> BoxFuture<'c, Result<Incarnation, sqlx::Error>>;
}

/// Opens the pools of one endpoint.
pub(crate) struct Opener<DB: Driver> {
    pub(crate) store: Arc<TopologyStore>,
    pub(crate) endpoint: EndpointId,
    pub(crate) writes: PoolOptions<DB>,
    pub(crate) reads: PoolOptions<DB>,
    /// Whether the application says how long it waits for a connection.
    pub(crate) is_patience_set: bool,
    pub(crate) connect: Options<DB>,
    pub(crate) settings: DB::Settings,
    pub(crate) hook: Arc<Hook<DB>>,
}

impl<DB: Driver> Opener<DB> {
    /// The sizes of both pools (writes, reads). Only the pool that the endpoint will probably use,
    /// by its place in the configuration, is filled in advance.
    pub(crate) fn sized(
        options: &ConnectOptions,
        pool: PoolOptions<DB>,
        is_first: bool,
    ) -> (PoolOptions<DB>, PoolOptions<DB>) {
        let least = options.get_min_connections().unwrap_or(pool.get_min_connections());
        let (writes_least, reads_least) = if is_first { (least, 0) } else { (0, least) };
        (pool.clone().min_connections(writes_least), pool.min_connections(reads_least))
    }

    /// The settings of a pool for code that needs SeaORM's own connection. This pool lives as long
    /// as the endpoint, so it also checks each connection before use: the connection's age shows
    /// whether it may lead to another server. The application's own check before use does not run.
    pub(crate) fn plain(&self) -> PoolOptions<DB> {
        let (store, endpoint) = (Arc::clone(&self.store), self.endpoint);
        let writes = self.writes.clone().min_connections(0);
        let entrance = Arc::new(self.entrance(&self.connect, Access::Writes, None));
        guarded(writes, &entrance).before_acquire(move |connection, metadata| {
            let is_current = store.topology().primary() == Some(endpoint)
                && store.is_younger_than_generation(endpoint, metadata.age);
            let entrance = Arc::clone(&entrance);
            Box::pin(async move {
                if is_current && !lives(connection, metadata).await {
                    // Not by the pool: with TLS, it would wait for the goodbye of a server that does
                    // not answer.
                    leave(mem::replace(connection, entrance.open().await?));
                }
                Ok(is_current)
            })
        })
    }

    fn open_pool(&self, access: Access, generation: u64) -> super::Pool {
        let is_left_early = access == Access::Reads && !self.is_patience_set;
        let (mut pool, connect) = match access {
            Access::Writes => (self.writes.clone(), self.connect.clone()),
            Access::Reads => (self.reads.clone(), DB::reading(&self.connect, self.known())),
        };
        if is_left_early {
            pool = pool.acquire_timeout(arrives_within(&self.store, self.endpoint));
        }
        let entrance = Arc::new(self.entrance(&connect, access, Some(generation)));
        let pool = guarded(pool, &entrance);
        let pool = DB::wrap(pool.connect_lazy_with(connect), &self.settings);
        super::Pool { is_left_early, ..pool }
    }

    fn known(&self) -> Option<ReadOnly> {
        self.store.topology().get(self.endpoint)?.info.read_only
    }

    fn entrance(
        &self,
        connect: &Options<DB>,
        access: Access,
        generation: Option<u64>,
    ) -> Entrance<DB> {
        Entrance {
            store: Arc::clone(&self.store),
            endpoint: self.endpoint,
            connect: connect.clone(),
            settings: self.settings.clone(),
            hook: Arc::clone(&self.hook),
            access,
            generation,
        }
    }
}

/// The pool's settings with a look at each new connection added.
fn guarded<DB: Driver>(pool: PoolOptions<DB>, entrance: &Arc<Entrance<DB>>) -> PoolOptions<DB> {
    let entrance = Arc::clone(entrance);
    pool.after_connect(move |connection, _| {
        let entrance = Arc::clone(&entrance);
        Box::pin(async move { entrance.admit(connection).await })
    })
}

impl<DB: Driver> OpenPools for Opener<DB> {
    fn open(&self, generation: u64) -> Pools {
        let reads = self.open_pool(Access::Reads, generation);
        let writes = self.open_pool(Access::Writes, generation);
        Pools { generation, reads, writes, is_one: false }
    }
}

/// Whether a connection answers soon. Asks only if it was idle for a while.
async fn lives<C: Connection>(connection: &mut C, metadata: PoolConnectionMetadata) -> bool {
    metadata.idle_for < TRUSTED_FOR
        || tokio::time::timeout(TRUSTED_FOR, connection.ping()).await.is_ok_and(|it| it.is_ok())
}
