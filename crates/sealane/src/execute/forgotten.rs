//! Idle connections that something on the way has forgotten.
//!
//! A firewall or an address translation that drops an idle connection tells neither end. The pool asks
//! a connection that was idle whether it lives, and its driver waits for the answer as long as for any
//! connection: half a minute on the primary, and then the statement fails. The monitor's connection is
//! never idle, so the endpoint stays up.
//!
//! The sign: the server answers a probe that began later. Then the attempt drops the connection that
//! does not answer, and takes another one. It does so once for each idle connection; then it waits as
//! long as the pool does, because it may wait for a login.
//!
//! Rejected: a time limit for the answer alone. A server that is merely overloaded would have to accept
//! all logins again. Rejected: to open all connections of the endpoint anew. Streams and transactions
//! on the others would end. A statement that was sent is not helped: its server may still be at work.

use std::time::Duration;

use sealane_core::Engine;

use super::attempt::Attempt;
use crate::pool::Pool;

/// The least time until a probe is asked for.
const SUSPICIOUS_AFTER: Duration = Duration::from_millis(500);
/// The least time that the connection may take longer than a probe that began later.
const GRACE: Duration = Duration::from_millis(200);
/// Both times are at least so many times the quickest probe.
const ROUND_TRIPS: u32 = 4;
/// Between two probes that are asked for.
const PAUSE: Duration = Duration::from_millis(50);

impl Attempt {
    /// How many connections may have been forgotten: those that are idle, and that nobody else is about
    /// to take. A file's connections are not on any way.
    pub(super) fn may_be_forgotten(&self, pool: &Pool) -> u32 {
        if self.cluster().engine == Engine::Sqlite {
            return 0;
        }
        let others = self.cluster().loads.waiting(self.endpoint()).saturating_sub(1);
        pool.idle().saturating_sub(others)
    }

    /// Completes once the connection that the attempt waits for shows no sign of life and the server
    /// does: soon, if it is not the first one. Cancel safe.
    pub(super) async fn is_forgotten(&self, is_first: bool) {
        let topology = self.cluster().store().topology();
        let state = topology.get(self.endpoint());
        let quickest = state.and_then(|state| state.least_probe_time).unwrap_or_default();
        let far = quickest.saturating_mul(ROUND_TRIPS);
        let suspicious_after = if is_first { SUSPICIOUS_AFTER } else { GRACE };
        loop {
            tokio::time::sleep(suspicious_after.max(far)).await;
            self.hear().await;
            tokio::time::sleep(GRACE.max(far)).await;
            // Otherwise it may wait for a connection that others use.
            if !self.is_pool_busy() {
                return;
            }
        }
    }

    /// Waits for the answer to a probe that begins from now on.
    async fn hear(&self) {
        let (store, endpoint) = (self.cluster().store(), self.endpoint());
        loop {
            let asked = store.now();
            store.nudge(endpoint);
            if store.heard_after(endpoint, asked).await.is_ok() {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}
