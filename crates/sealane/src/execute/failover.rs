//! Handles failovers that a session's token reports before the probes see them.
//!
//! A token from a timeline that nobody here has seen reports a failover before the probes do. Its
//! stamp proves nothing then, because samples may still come from the primary that was replaced.
//! Its position does prove something. Statements of that session, including writes, wait until the
//! new primary is seen, for a second at most. After a session has waited in vain, no other session
//! waits for ten seconds. Until the failover is seen, the session's own tokens contain that
//! position and server, or nothing if that would say less.
//!
//! If such a token is merged into the shared session, nobody waits: the other users have seen
//! nothing of that timeline, and each of their statements would wait for a second if this process
//! cannot see the new primary at all. The shared session keeps the position aside. When the
//! failover is seen, the shared session takes a stamp, which the new primary's samples cover.
//! Everything else that is merged into the shared session becomes a stamp at once.
//!
//! A token from a timeline above the primary's is believed to report a failover, until a minute after
//! a token reported that timeline first while the primary goes on. Then the database was restored to a
//! state before that timeline, and the token is replaced. (Without timelines: while the primary still
//! lacks what that token and this one tell of.)

use std::time::Duration;

use sealane_core::Topology;

use crate::caller::Caller;

/// How long to wait for such a failover. When a token reports one, all endpoints are probed at
/// once, and a probe takes no longer than this unless its server hangs.
const PATIENCE: Duration = Duration::from_secs(1);

/// If the session's token reports a failover that this process has not seen yet, the known primary
/// is no longer the primary: waits until the new one is seen. After the limit, accepts the known
/// primary. Cancel safe.
pub(crate) async fn seen(caller: &Caller) {
    let (cluster, session) = (caller.cluster(), caller.session_ref());
    let store = cluster.store();
    let is_seen = |topology: &Topology| !session.awaits_failover(topology);
    if is_seen(&store.topology()) || cluster.resignation.holds(store.now()) {
        return;
    }
    // There is a primary that this process does not know.
    store.nudge_all();
    if tokio::time::timeout(PATIENCE, store.until(is_seen)).await.is_err() {
        tracing::warn!(
            target: "sealane::session",
            "a token tells of a failover that is not seen here; is a server missing in the configuration?"
        );
        cluster.resignation.note(store.now());
    }
}
