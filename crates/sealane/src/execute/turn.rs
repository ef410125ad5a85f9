//! Lets sessions that begin anew share proofs, in turns.
//!
//! A request with a refused token gets a session that needs a separate proof: that a replica has
//! what the primary had when the request came. Anybody can send any number of such tokens. So the
//! first reads of these sessions wait for each other, and one probe of the primary serves all reads
//! of a turn. The proof begins after all of them have arrived. (Rejected: sharing an earlier proof.
//! It would be cheaper, but it would miss what a user wrote elsewhere a moment ago.)
//!
//! There are twenty turns a second, and a read waits for the proof of its turn instead of running
//! on the primary.

use std::time::Duration;

use sealane_core::Consistency;

use crate::caller::Caller;

/// How long to wait for the proof of a turn. It comes within some milliseconds, unless servers are
/// busy or replicas lag.
const PATIENCE: Duration = Duration::from_millis(200);

/// If this is the first read of a session that began anew, waits for a turn and returns how long to
/// wait for the proof. Otherwise returns `None` at once. Cancel safe.
pub(crate) async fn taken(caller: &Caller, consistency: Consistency) -> Option<Duration> {
    let cluster = caller.cluster();
    if consistency != Consistency::ReadYourWrites
        || !caller.session_ref().takes_turn()
        || !cluster.is_watched()
    {
        return None;
    }
    let now = cluster.store().now();
    tokio::time::sleep(cluster.turns.next(now).since(now)).await;
    Some(PATIENCE)
}
