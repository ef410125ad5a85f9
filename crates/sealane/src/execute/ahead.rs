//! Handles sessions that have seen more on a replica than the primary shows.
//!
//! A session is *ahead* if its last reads were not on the primary itself, and the primary is not
//! proved to show their stamp (`topology/reducer/shown.rs` in `sealane-core` explains this proof).
//! With `WhenAhead::Wait`, writes, the beginnings of transactions and reads on the primary wait for
//! the proof. In the meantime the store has the primary probed quickly, starting again with each
//! proof. When the wait runs out, the session is considered to have seen only what the primary
//! shows: a session pays for one wait, not for one per read.

use sealane_core::{SeenSoFar, SessionView, WhenAhead};

use crate::caller::Caller;

/// Waits as [`overtaken`] does, for the state of the session now, and returns what the session has
/// seen: the primary counts as showing all of it from then on.
pub(crate) async fn held_by_primary(caller: &Caller) -> SeenSoFar {
    let session = caller.session_now().view();
    overtaken(caller, &session).await;
    session.seen_so_far()
}

/// If `caller` is configured to wait and `session`, the state of its session, may be ahead of the
/// primary, waits until the primary has caught up. After the limit, accepts what the primary shows.
/// Cancel safe.
pub(crate) async fn overtaken(caller: &Caller, session: &SessionView) {
    let WhenAhead::Wait(patience) = caller.own_when_ahead() else { return };
    if !caller.cluster().store().until_shown(session, patience).await {
        tracing::debug!(
            target: "sealane::route",
            ?patience,
            "the primary is not proved to show what the session has seen on a replica"
        );
    }
}
