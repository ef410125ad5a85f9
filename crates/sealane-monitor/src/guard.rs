//! Admits a new connection only if it leads to the server run that its pool belongs to.
//!
//! A proof about a replica's data holds for one run of the server only: after a crash the replica
//! may come back a little older. An address may also suddenly lead to another server. Connections
//! of the old run stay in the old pool (see `footing.rs`). So an unnoticed change can only come in
//! with a new connection. Before the connection is used, the guard makes the store observe the new
//! run. Attempts that were planned earlier then lose their footing and are planned again.
//!
//! A new connection for writing is also admitted when nobody could probe the server so far. Before
//! each attempt the endpoint is judged again, on the snapshot that its run is taken from. A read
//! that was served by another run than that is done again (`ReadExecution` in `sealane`).

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use sealane_core::{EndpointId, Incarnation, Topology};

use crate::TopologyStore;

/// How long a connection may wait until the store knows its server's run. A probe takes one or two
/// round trips.
const PATIENCE: Duration = Duration::from_secs(1);

/// Watches the new connections of one pool.
#[derive(Debug, Clone)]
pub struct RunGuard {
    store: Arc<TopologyStore>,
    endpoint: EndpointId,
    generation: u64,
}

/// Which run a new connection leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// The run that the pool belongs to.
    Known,
    /// An unknown run, while the store knows no run of this endpoint: no probe has reached the
    /// server so far.
    Unobserved,
    /// Another run than the one that the pool belongs to.
    Replaced,
}

impl RunGuard {
    /// A guard for connections of this generation to `endpoint`.
    #[must_use]
    pub fn new(store: Arc<TopologyStore>, endpoint: EndpointId, generation: u64) -> Self {
        RunGuard { store, endpoint, generation }
    }

    /// Decides whether a connection to the run `incarnation` is admitted. If the store does not
    /// know this run, waits up to a second for a probe. Cancel safe.
    pub async fn admit(&self, incarnation: &Incarnation) -> Admission {
        if let Some(admission) = self.look(&self.store.topology(), incarnation) {
            return admission;
        }
        // The probe must open a new connection: its old one may still lead to the previous server.
        self.store.probe_anew(self.endpoint);
        let mut admission = None;
        let told = self.store.until(|topology| {
            admission = self.look(topology, incarnation);
            admission.is_some()
        });
        let _ = tokio::time::timeout(PATIENCE, told).await;
        admission.unwrap_or_else(|| self.unobserved())
    }

    /// The first probe that tells a run leaves such connections behind.
    fn unobserved(&self) -> Admission {
        // Nothing is published in between.
        let _reducer = self.store.lock();
        let watch = self.store.watch(self.endpoint);
        watch.is_used_unobserved.store(true, Ordering::Release);
        match self.known(&self.store.topology()) {
            Some(_) => Admission::Replaced,
            None => Admission::Unobserved,
        }
    }

    /// `None` as long as the store does not know `incarnation`.
    fn look(&self, topology: &Topology, incarnation: &Incarnation) -> Option<Admission> {
        let is_known = self.known(topology).as_ref() == Some(incarnation);
        // The generation is read after the topology, because the store increases it before it
        // publishes a run.
        match self.store.generation(self.endpoint) == self.generation {
            false => Some(Admission::Replaced),
            true => is_known.then_some(Admission::Known),
        }
    }

    fn known(&self, topology: &Topology) -> Option<Incarnation> {
        topology.get(self.endpoint)?.incarnation.clone()
    }
}
