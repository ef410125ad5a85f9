//! A failover that a session heard of before the probes did.

use std::time::Duration;

use sealane_core::Topology;

use crate::RoutedConnection;

/// All endpoints are asked at once when a token tells of a failover; a probe takes no longer
/// unless its server hangs.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where the session of `connection` knows of a failover, by its token, that nobody here has
/// seen yet, the primary that is known is none: waits until another one is. Once out of
/// patience, the session puts up with the one there is. Cancel safe.
pub(crate) async fn seen(connection: &RoutedConnection) {
    let (board, session) = (connection.cluster().board(), connection.session_ref());
    let is_seen = |topology: &Topology| !session.awaits_failover(topology);
    if is_seen(&board.topology()) {
        return;
    }
    if tokio::time::timeout(PATIENCE, board.until(is_seen)).await.is_err() {
        session.resign_failover();
    }
}
