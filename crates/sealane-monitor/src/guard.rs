//! Admits a new connection only if it leads to the run of the server that its pool is for.
//!
//! What is proved of a replica's data is proved of one run of the server: after a crash it may
//! come back a little older. An address may also lead to another server from one moment to the
//! next. Connections of the old run stay with the old pool (see `footing.rs`), so a new connection
//! is the one place where an unnoticed change can slip in. The guard makes the board learn of the
//! new run before the connection is used; attempts that were planned before then lose their
//! footing, and are planned again.

use std::{sync::Arc, time::Duration};

use sealane_core::{EndpointId, Incarnation, Topology};

use crate::Board;

/// How long a connection may wait for the board to learn of its server's run.
/// A probe takes a round trip or two.
const PATIENCE: Duration = Duration::from_secs(1);

/// Watches the new connections of one pool.
#[derive(Debug, Clone)]
pub struct RunGuard {
    board: Arc<Board>,
    endpoint: EndpointId,
    generation: u64,
}

/// What a new connection leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// The run that the pool is for.
    Known,
    /// A run of which the board has not learned, and it knows of no other one: nobody could probe
    /// the server so far.
    Unobserved,
    /// Another run than the one that the pool is for.
    Replaced,
}

impl RunGuard {
    /// A guard for connections of this generation to `endpoint`.
    #[must_use]
    pub fn new(board: Arc<Board>, endpoint: EndpointId, generation: u64) -> Self {
        RunGuard { board, endpoint, generation }
    }

    /// Says what a connection to the run `incarnation` leads to. Waits up to a second for a probe
    /// if the board does not know that run. Cancel safe.
    pub async fn admit(&self, incarnation: &Incarnation) -> Admission {
        if let Some(admission) = self.look(&self.board.topology(), incarnation) {
            return admission;
        }
        // On a new connection: the probe's own may lead to the server that was there before.
        self.board.probe_anew(self.endpoint);
        let mut admission = None;
        let told = self.board.until(|topology| {
            admission = self.look(topology, incarnation);
            admission.is_some()
        });
        let _ = tokio::time::timeout(PATIENCE, told).await;
        admission.unwrap_or_else(|| match self.known(&self.board.topology()) {
            Some(_) => Admission::Replaced,
            None => Admission::Unobserved,
        })
    }

    /// `None` while the board has to learn of `incarnation` first.
    fn look(&self, topology: &Topology, incarnation: &Incarnation) -> Option<Admission> {
        let is_known = self.known(topology).as_ref() == Some(incarnation);
        // Behind the topology: a run is published after its generation is counted.
        match self.board.generation(self.endpoint) == self.generation {
            false => Some(Admission::Replaced),
            true => is_known.then_some(Admission::Known),
        }
    }

    fn known(&self, topology: &Topology) -> Option<Incarnation> {
        topology.get(self.endpoint)?.incarnation.clone()
    }
}
