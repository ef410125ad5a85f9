//! A primary of PostgreSQL and its replicas.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use sea_orm::DbErr;
use sealane_core::{EndpointId, Topology};
use sealane_monitor::{
    BoxProbe, TopologyStore,
    postgres::{PostgresCatalog, PostgresProbe},
};
use sealane_sql::Dialect;

use super::{Addresses, address, primary_answers};
use crate::{
    BoxFuture, Config, ConnectError, Replica,
    cluster::{
        Cluster,
        membership::{OpenEndpoint, Opened},
    },
    pool::guard,
};

/// Opens endpoints of PostgreSQL.
struct Opener {
    store: Arc<TopologyStore>,
    /// Loads the catalog of each endpoint.
    catalog: Arc<PostgresCatalog>,
    /// Whether there are logical subscribers. If so, a primary is asked which servers it sends to.
    has_subscribers: Arc<AtomicBool>,
}

impl Opener {
    /// From the first subscriber on, all probes ask more, on new connections.
    fn note_subscriber(&self) {
        if !self.has_subscribers.swap(true, Ordering::AcqRel) {
            self.store.topology().iter().for_each(|(id, _)| _ = self.store.probe_anew(id));
        }
    }
}

impl OpenEndpoint for Opener {
    fn open<'a>(
        &'a self,
        replica: &'a Replica,
        id: EndpointId,
        is_first: bool,
    ) -> BoxFuture<'a, Result<Opened, DbErr>> {
        Box::pin(async move {
            let kind = match replica.subscription {
                Some(_) => guard::Replica::Logical,
                None => guard::Replica::Physical,
            };
            let opened =
                crate::pool::postgres::open(&replica.options, &self.store, id, is_first, kind);
            let (pools, connect) = opened.await?;
            self.catalog.add(id, connect.clone());
            let probe = match &replica.subscription {
                Some(name) => {
                    self.note_subscriber();
                    PostgresProbe::subscriber(connect, name)
                }
                None => PostgresProbe::with_feeds(connect, Arc::clone(&self.has_subscribers)),
            };
            Ok(Opened { pools, probe: BoxProbe::new(probe) })
        })
    }

    fn forget(&self, id: EndpointId) {
        self.catalog.remove(id);
    }
}

/// Connects to all endpoints and observes each once.
pub(super) async fn replicated(
    config: &Config,
    addresses: &Addresses,
) -> Result<Cluster, ConnectError> {
    let topology = Topology::new(addresses.endpoints.clone());
    let database = address::database(config, addresses.first());
    let store = TopologyStore::of_database(&database, topology, config.health);
    let has_subscribers = config.replicas.iter().any(|replica| replica.subscription.is_some());
    let sources = Arc::<PostgresCatalog>::default();
    let opener = Box::new(Opener {
        store: Arc::clone(&store),
        catalog: Arc::clone(&sources),
        has_subscribers: Arc::new(AtomicBool::new(has_subscribers)),
    });
    let cluster = super::replicated(config, addresses, Arc::clone(&store), opener).await?;
    primary_answers(&store.topology())?;
    Ok(cluster.with_catalog(config, Dialect::PostgreSql, sources).await)
}
