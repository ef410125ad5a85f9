//! Sessions that have seen more on a replica than the primary is proved to show.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use sealane_core::{EndpointId, SessionView, Topology};

use super::TopologyStore;

impl TopologyStore {
    /// Waits, at most for `patience`, until the primary is proved to show what a session has seen
    /// on a replica. Returns whether this is proved. Meanwhile the primary is probed quickly.
    /// Cancel safe.
    pub async fn until_shown(&self, session: &SessionView, patience: Duration) -> bool {
        let is_shown = |topology: &Topology| session.ahead_of_primary(topology).is_none();
        if is_shown(&self.topology()) {
            return true;
        }
        let _waiting = Waiting::begin(&self.shown_awaited);
        // This wakes only tasks at the idle pace.
        self.wake_all.notify_waiters();
        tokio::time::timeout(patience, self.until(is_shown)).await.is_ok()
    }

    /// Whether `endpoint` is the primary, a session waits for what it shows, and the primary shows
    /// more than at the last call. If so, the current wait counts as a new one.
    pub(crate) fn shows_more(&self, endpoint: EndpointId) -> bool {
        self.is_awaited_to_show(endpoint) && {
            let shown = self.topology().shown().unwrap_or_default().number();
            self.shown_before.swap(shown, Ordering::AcqRel) != shown
        }
    }

    /// Whether `endpoint` is the primary and a session waits for what it shows.
    pub(crate) fn is_awaited_to_show(&self, endpoint: EndpointId) -> bool {
        self.shown_awaited.load(Ordering::Acquire) > 0
            && self.topology().primary() == Some(endpoint)
    }
}

/// Counts one waiting task until dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Waiting(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
