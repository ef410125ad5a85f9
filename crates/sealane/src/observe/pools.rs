//! Publishes how many connections the pools have open.
//!
//! A pool tells nobody when it opens a connection, so the numbers are read at intervals.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use crate::{cluster::Cluster, observe::ConnectionReport};

/// How often the gauges are set. Prometheus usually asks every 15 seconds or less often.
const INTERVAL: Duration = Duration::from_secs(5);

/// Sets the gauges of `cluster` now and at intervals, until the cluster is dropped.
pub(crate) fn publish(cluster: &Arc<Cluster>) {
    let cluster = Arc::downgrade(cluster);
    tokio::spawn(async move {
        let mut published = Vec::new();
        while set(&cluster, &mut published).is_some() {
            tokio::time::sleep(INTERVAL).await;
        }
    });
}

/// Those of endpoints that were removed since they were `published` become 0. `None` if the cluster
/// was dropped.
fn set(cluster: &Weak<Cluster>, published: &mut Vec<String>) -> Option<()> {
    let cluster = cluster.upgrade()?;
    let topology = cluster.store().topology();
    let mut names = Vec::new();
    for (id, state) in topology.iter() {
        let connections = ConnectionReport::of(&cluster, id);
        let (used, name) = (connections.used(), state.endpoint.name());
        cluster.store().publish_connections(name, used, connections.idle, connections.waiting);
        names.push(name.to_owned());
    }
    for gone in published.iter().filter(|name| !names.contains(name)) {
        cluster.store().publish_connections(gone, 0, 0, 0);
    }
    *published = names;
    Some(())
}
