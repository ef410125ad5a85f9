//! Admits a new connection only to a run of the server that the board knows.
//!
//! What is proved of a replica's data is proved of one run of the server: after
//! a crash it may come back a little older. Connections of the old run die with
//! it, so a new connection is the one place where an unnoticed restart can slip
//! in. The guard makes the board learn of the new run before the connection is
//! used; a statement planned before then sees, when it is done, that the run
//! has changed under it, and is planned again.

use std::{sync::Arc, time::Duration};

use sealane_core::{EndpointId, Incarnation, ReadOnly};

use crate::Board;

/// How long a connection may wait for the board to learn of its server's run.
/// A probe takes a round trip or two.
const PATIENCE: Duration = Duration::from_secs(1);

/// Watches the new connections of one endpoint's pool.
#[derive(Debug, Clone)]
pub struct RunGuard {
    board: Arc<Board>,
    endpoint: EndpointId,
}

impl RunGuard {
    /// A guard for connections to `endpoint`.
    #[must_use]
    pub fn new(board: Arc<Board>, endpoint: EndpointId) -> Self {
        RunGuard { board, endpoint }
    }

    /// What keeps sessions that read on the endpoint from writing, as far as a probe has found
    /// out.
    #[must_use]
    pub fn read_only(&self) -> Option<ReadOnly> {
        self.board.topology().get(self.endpoint)?.particulars.read_only
    }

    /// Returns once the board knows `incarnation` as the current run; `false`
    /// if it does not within a second, and the connection must not be used.
    ///
    /// Cancel safe.
    pub async fn admit(&self, incarnation: &Incarnation) -> bool {
        let known = |topology: &sealane_core::Topology| {
            topology
                .get(self.endpoint)
                .is_some_and(|state| state.incarnation.as_ref() == Some(incarnation))
        };
        if known(&self.board.topology()) {
            return true;
        }
        // On a new connection: the probe's own may lead to the server that was there before.
        self.board.probe_anew(self.endpoint);
        tokio::time::timeout(PATIENCE, self.board.until(known)).await.is_ok()
    }
}
