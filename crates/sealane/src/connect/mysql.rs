//! A primary of MySQL or MariaDB and its replicas.

use std::sync::{Arc, atomic::AtomicUsize};

use sealane_core::{EndpointId, Engine, Loads, Position, Topology};
use sealane_monitor::{Board, Monitor, mysql::MySqlProbe};
use sealane_sql::{Classifier, Dialect};

use super::{Addresses, open_error, primary_answers};
use crate::{Config, ConnectError, cluster::Cluster, failover::Resignation, group::Groups};

/// Connects to all endpoints and observes each once.
pub(super) async fn replicated(
    config: Config,
    addresses: Addresses,
) -> Result<Cluster, ConnectError> {
    let board = Board::with_policy(Topology::new(addresses.endpoints.clone()), config.health);
    let groups = Groups::new(config.endpoints().map(|endpoint| endpoint.group.as_deref()));
    let (mut pools, mut probes) = (Vec::new(), Vec::new());
    for (index, endpoint) in config.endpoints().enumerate() {
        // `check` has counted them.
        let id = EndpointId::from_index(index).unwrap_or(EndpointId::FIRST);
        let (its_pools, connect_options) =
            crate::pool::mysql::open(&endpoint.options, &board, id, index == 0)
                .await
                .map_err(open_error(&addresses.endpoints[index]))?;
        pools.push(its_pools);
        probes.push(MySqlProbe::new(connect_options));
    }
    let monitor = Monitor::spawn(board, probes, config.pace);
    // Whoever has not answered by then joins later.
    monitor.first_round(config.pace.timeout_with_connect()).await;
    let topology = monitor.board().topology();
    one_flavour(topology.iter().map(|(_, s)| (s.endpoint.name(), s.position.as_ref())))?;
    primary_answers(&topology)?;
    // Out of patience: reads begin on the primary, and move when there is proof.
    monitor.await_replication(config.pace.quick * 10).await;
    Ok(Cluster {
        engine: Engine::MySql,
        loads: Arc::new(Loads::new(pools.len())),
        monitor,
        pools: pools.into(),
        balancer: config.balancer,
        classifier: Some(Arc::new(Classifier::new(Dialect::MySql))),
        catalog: None,
        schema_changes: AtomicUsize::new(0),
        groups,
        reading: config.reading,
        signer: config.signer,
        resignation: Resignation::default(),
        primary_wait: config.primary_wait,
        quick: config.pace.quick,
    })
}

/// Refuses MySQL beside MariaDB, as far as both have answered. One that answers
/// later is not used: its data are of another system.
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
