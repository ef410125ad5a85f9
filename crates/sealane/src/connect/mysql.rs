//! A primary of MySQL or MariaDB and its replicas.

use std::sync::Arc;

use sea_orm::DbErr;
use sealane_core::{EndpointId, Position, Topology};
use sealane_monitor::{
    BoxProbe, TopologyStore,
    mysql::{MySqlCatalog, MySqlProbe},
};
use sealane_sql::Dialect;

use super::{Addresses, address, primary_answers};
use crate::{
    BoxFuture, Config, ConnectError, Replica,
    cluster::{
        Cluster,
        membership::{OpenEndpoint, Opened},
    },
};

/// Opens endpoints of MySQL and MariaDB.
struct Opener {
    store: Arc<TopologyStore>,
    /// Loads the catalog of each endpoint.
    catalog: Arc<MySqlCatalog>,
}

impl OpenEndpoint for Opener {
    fn open<'a>(
        &'a self,
        replica: &'a Replica,
        id: EndpointId,
        is_first: bool,
    ) -> BoxFuture<'a, Result<Opened, DbErr>> {
        Box::pin(async move {
            let opened = crate::pool::mysql::open(&replica.options, &self.store, id, is_first);
            let (pools, connect) = opened.await?;
            self.catalog.add(id, connect.clone());
            Ok(Opened { pools, probe: BoxProbe::new(MySqlProbe::new(connect)) })
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
    let topology = Topology::new(addresses.endpoints.clone()).asking_for_filters();
    let database = address::database(config, addresses.first());
    let store = TopologyStore::of_database(&database, topology, config.health);
    let sources = Arc::new(MySqlCatalog::new(Arc::clone(&store)));
    let opener = Box::new(Opener { store: Arc::clone(&store), catalog: Arc::clone(&sources) });
    let cluster = super::replicated(config, addresses, Arc::clone(&store), opener).await?;
    let topology = Arc::clone(&store.topology());
    one_flavour(topology.iter().map(|(_, s)| (s.endpoint.name(), s.position.as_ref())))?;
    primary_answers(&topology)?;
    Ok(cluster.with_catalog(config, Dialect::MySql, sources).await)
}

/// Refuses MySQL together with MariaDB, as far as both have answered. A server that answers later
/// is not used, because its data belong to another system.
fn one_flavour<'a>(
    endpoints: impl Iterator<Item = (&'a str, Option<&'a Position>)>,
) -> Result<(), ConnectError> {
    let (mut mysql, mut mariadb) = (None, None);
    for (name, position) in endpoints {
        match position {
            Some(Position::GtidSet(_)) => mysql = mysql.or(Some(name)),
            Some(Position::GtidList(_)) => mariadb = mariadb.or(Some(name)),
            _ => {}
        }
    }
    match (mysql, mariadb) {
        (Some(mysql), Some(mariadb)) => Err(ConnectError::MixedFlavours {
            mysql: mysql.to_owned(),
            mariadb: mariadb.to_owned(),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use sealane_core::{GtidList, GtidSet};

    use super::*;

    #[test]
    fn mysql_beside_mariadb_is_refused_by_name() {
        let mysql = Position::GtidSet(GtidSet::default());
        let mariadb = Position::GtidList(GtidList::default());
        let one = [("primary", Some(&mysql)), ("replica-1", None), ("replica-2", Some(&mysql))];
        assert!(one_flavour(one.into_iter()).is_ok());
        let two = [("primary", Some(&mysql)), ("replica-1", None), ("replica-2", Some(&mariadb))];
        let error = one_flavour(two.into_iter()).unwrap_err().to_string();
        assert!(error.contains("primary runs MySQL and replica-2 runs MariaDB"), "{error}");
    }
}
