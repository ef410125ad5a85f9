//! Connections that something on the way has forgotten.
//!
//! A firewall or an address translation that drops an idle connection tells neither end. The pool asks
//! a connection that was idle whether it lives, and its driver waits for the answer as long as for any
//! connection: half a minute on the primary, and then the statement fails. The monitor's connection is
//! never idle, so the endpoint stays up.
//!
//! The sign: no answer on a connection that was idle, while a probe is answered that began later. Then
//! all connections of the endpoint are opened anew. (Rejected: a time limit for the answer alone. A
//! server that is merely overloaded would have to accept all logins again.) A statement that was sent is
//! not helped: its server may still be at work.

use std::time::Duration;

use sealane_core::Engine;

use super::attempt::{Attempt, Ended};
use crate::pool::Pool;

/// From then on, a probe is asked for. A read on a replica waits for a second at most.
const SUSPICIOUS_AFTER: Duration = Duration::from_millis(500);
/// How much longer the connection may take than the probe that began later.
const GRACE: Duration = Duration::from_millis(200);
/// Between two probes that are asked for.
const PAUSE: Duration = Duration::from_millis(50);

impl Attempt {
    /// Whether the attempt gets a connection that was idle. A file's connections are not on any way.
    pub(super) fn may_be_forgotten(&self, pool: &Pool) -> bool {
        self.cluster().engine != Engine::Sqlite && pool.has_idle()
    }

    /// Opens the endpoint's connections anew, once they have shown to be forgotten.
    pub(super) async fn forget(&self) -> Ended {
        let (store, endpoint) = (self.cluster().store(), self.endpoint());
        tokio::time::sleep(SUSPICIOUS_AFTER).await;
        loop {
            let asked = store.now();
            store.nudge(endpoint);
            if store.heard_after(endpoint, asked).await.is_ok() {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        tokio::time::sleep(GRACE).await;
        if store.renew(self.footing())
            && let Some(state) = store.topology().get(endpoint)
        {
            tracing::info!(
                target: "sealane::topology",
                "idle connections to {} do not answer while the server does: all are opened anew",
                state.endpoint.name()
            );
        }
        Ended::Moved
    }
}
