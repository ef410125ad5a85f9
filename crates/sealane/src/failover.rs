//! A failover that a session heard of before the probes did.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use sealane_core::{Moment, Topology};

use crate::RoutedConnection;

/// All endpoints are asked at once when a token tells of a failover; a probe takes no longer
/// unless its server hangs.
const PATIENCE: Duration = Duration::from_secs(1);

/// When somebody last waited in vain: others need not, for a while.
#[derive(Debug, Default)]
pub(crate) struct Resignation {
    /// Milliseconds after the origin of moments; 0 if nobody did.
    at_ms: AtomicU64,
}

impl Resignation {
    const LASTS: Duration = Duration::from_secs(10);

    fn note(&self, now: Moment) {
        let ms = u64::try_from(now.since(Moment::ZERO).as_millis()).unwrap_or(u64::MAX);
        self.at_ms.store(ms, Ordering::Relaxed);
    }

    fn holds(&self, now: Moment) -> bool {
        match self.at_ms.load(Ordering::Relaxed) {
            0 => false,
            ms => now.since(Moment::from_origin(Duration::from_millis(ms))) < Self::LASTS,
        }
    }
}

/// Where the session of `connection` knows of a failover, by its token, that nobody here has
/// seen yet, the primary that is known is none: waits until another one is. Once out of
/// patience, puts up with the one there is. Cancel safe.
pub(crate) async fn seen(connection: &RoutedConnection) {
    let (cluster, session) = (connection.cluster(), connection.session_ref());
    let board = cluster.board();
    let is_seen = |topology: &Topology| !session.awaits_failover(topology);
    if is_seen(&board.topology()) || cluster.resignation.holds(board.now()) {
        return;
    }
    if tokio::time::timeout(PATIENCE, board.until(is_seen)).await.is_err() {
        tracing::warn!(
            target: "sealane::session",
            "a token tells of a failover that is not seen here; is a server missing in the configuration?"
        );
        cluster.resignation.note(board.now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resignation_holds_for_a_while() {
        let resignation = Resignation::default();
        let at = |seconds| Moment::from_origin(Duration::from_secs(seconds));
        assert!(!resignation.holds(at(3)));
        resignation.note(at(3));
        assert!(resignation.holds(at(3)) && resignation.holds(at(12)));
        assert!(!resignation.holds(at(13)));
    }
}
