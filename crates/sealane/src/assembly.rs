//! An entry point for simulators and test kits: a cluster assembled from parts that they bring.
//!
//! **Not covered by semantic versioning**, and not a second way to connect: applications use
//! [`connect`](crate::connect). The parts replace a real server, its network and its driver:
//! probes, and pools that lend connections. Everything else is the product as everybody runs it.
//!
//! SeaORM's own `proxy` was rejected: its COMMIT cannot fail, its BEGIN has no connection, it
//! cannot stream, and it does not compile together with the drivers of MySQL and SQLite. SeaORM's
//! `mock` cannot wait. So the seam is one level lower, at one connection of a pool. Only two things
//! of the mock are used: its rows, which nothing else can make, and a transaction as a stand-in
//! where SeaORM's own type is required. This stand-in is connected to nothing.

use std::{fmt, sync::Arc};

use sea_orm::{DbBackend, DbErr};
use sealane_core::{EndpointId, Engine};
use sealane_monitor::{BoxProbe, CatalogSource, Monitor, TopologyStore};
use sealane_sql::{Classifier, Dialect};

use crate::{
    BoxFuture, Config, Replica, RoutedConnection,
    cluster::{
        Cluster, PoolTable,
        membership::{OpenEndpoint, Opened},
    },
    pool::{EndpointPools, OpenPools, Pool, Pools, simulated::nowhere},
};

pub use crate::pool::simulated::{Answer, Connection, Lender, Row};

/// Opens the pools of one endpoint.
pub trait OpenLenders: Send + Sync {
    /// The pools of this generation: one for reads as a replica, one for everything else.
    fn open(&self, generation: u64) -> (Arc<dyn Lender>, Arc<dyn Lender>);
}

/// Opens endpoints that join later; see [`RoutedConnection::add_replica`].
pub trait OpenServers: Send + Sync {
    /// The probe and the pools of the endpoint `id`, which the application has named `name`.
    fn open(&self, id: EndpointId, name: &str) -> (BoxProbe, Box<dyn OpenLenders>);
}

/// The parts of a cluster.
pub struct Parts {
    /// Policies and limits. The URLs in it are not used.
    pub config: Config,
    /// The kind of the servers.
    pub engine: Engine,
    /// The SQL dialect of the servers.
    pub dialect: Dialect,
    /// The store with the endpoints, in the order of `probes` and `pools`.
    pub store: Arc<TopologyStore>,
    /// One for each endpoint.
    pub probes: Vec<BoxProbe>,
    /// One for each endpoint.
    pub pools: Vec<Box<dyn OpenLenders>>,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("engine", &self.engine).finish_non_exhaustive()
    }
}

/// Observes all endpoints once, as [`connect`](crate::connect) does, without a catalog. The endpoints
/// are fixed.
pub async fn assemble(parts: Parts) -> RoutedConnection {
    without_catalog(parts, None).await
}

/// Like [`assemble`], and endpoints can be added, drained and removed.
pub async fn assemble_with(parts: Parts, servers: Box<dyn OpenServers>) -> RoutedConnection {
    without_catalog(parts, Some(servers)).await
}

/// Like [`assemble_with`], and the catalog is loaded from `catalog`.
pub async fn assemble_with_catalog(
    parts: Parts,
    servers: Box<dyn OpenServers>,
    catalog: impl CatalogSource,
) -> RoutedConnection {
    let (config, dialect) = (parts.config.clone(), parts.dialect);
    let cluster = assembled(parts, Some(servers)).await;
    RoutedConnection::new(cluster.with_catalog(&config, dialect, catalog).await)
}

async fn without_catalog(parts: Parts, servers: Option<Box<dyn OpenServers>>) -> RoutedConnection {
    let (quick, dialect) = (parts.config.schedule.quick, parts.dialect);
    let cluster = assembled(parts, servers).await;
    cluster.monitor.await_replication(quick * 10).await;
    let classifier = Some(Arc::new(Classifier::new(dialect)));
    RoutedConnection::new(Cluster { classifier, ..cluster })
}

async fn assembled(parts: Parts, servers: Option<Box<dyn OpenServers>>) -> Cluster {
    let Parts { config, engine, store, probes, pools, .. } = parts;
    let backend = match engine {
        Engine::MySql => DbBackend::MySql,
        _ => DbBackend::Postgres,
    };
    let monitor = Monitor::spawn(store, probes, config.schedule);
    monitor.first_round(config.schedule.timeout_with_connect()).await;
    let pools = pools.into_iter().map(|opener| {
        let opener = Box::new(Opener { opener, backend });
        EndpointPools::renewed(opener, nowhere(backend))
    });
    let cluster = Cluster::assemble(engine, monitor, PoolTable::new(pools)).configured(&config);
    let opener =
        servers.map(|servers| Box::new(Joining { servers, backend }) as Box<dyn OpenEndpoint>);
    let (reading, signer) = (config.reading, config.signer);
    Cluster { opener, reading, signer, ..cluster }
}

struct Joining {
    servers: Box<dyn OpenServers>,
    backend: DbBackend,
}

impl OpenEndpoint for Joining {
    fn open<'a>(
        &'a self,
        replica: &'a Replica,
        id: EndpointId,
        _is_first: bool,
    ) -> BoxFuture<'a, Result<Opened, DbErr>> {
        Box::pin(async move {
            let (probe, opener) = self.servers.open(id, &replica.name);
            let opener = Box::new(Opener { opener, backend: self.backend });
            let pools = EndpointPools::renewed(opener, nowhere(self.backend));
            Ok(Opened { pools, probe })
        })
    }

    fn forget(&self, _id: EndpointId) {}
}

struct Opener {
    opener: Box<dyn OpenLenders>,
    backend: DbBackend,
}

impl OpenPools for Opener {
    fn open(&self, generation: u64) -> Pools {
        let pool = |lender| Pool { lender: Some(lender), ..nowhere(self.backend).into() };
        let (reads, writes) = self.opener.open(generation);
        Pools { generation, reads: pool(reads), writes: pool(writes), is_one: false }
    }
}
