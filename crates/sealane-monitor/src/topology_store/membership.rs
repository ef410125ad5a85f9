//! Endpoints that are added, removed and drained.
//!
//! The signals of an endpoint are at its place, in a table that never grows: statements read them
//! without a lock. A new endpoint may get the place of a removed one. Then the counters continue,
//! so that nothing that was planned on the old endpoint holds on the new one, and everything else
//! is reset.

use std::sync::{PoisonError, atomic::Ordering};

use sealane_core::{Endpoint, EndpointId, EndpointSet};

use super::TopologyStore;

impl TopologyStore {
    /// The number that the next endpoint can get. `busy` contains the places where statements run.
    /// `None` if there are too many endpoints.
    #[must_use]
    pub fn vacancy(&self, busy: EndpointSet) -> Option<EndpointId> {
        self.lock().vacancy(busy)
    }

    /// Adds an endpoint with a number from [`vacancy`](Self::vacancy). Returns false, and changes
    /// nothing, if the number was given to another endpoint in the meantime.
    pub fn add(&self, id: EndpointId, endpoint: Endpoint) -> bool {
        let mut is_added = false;
        self.change(id, self.now(), |reducer| {
            let event = reducer.add(id, endpoint);
            if event.is_some() {
                // This comes before the endpoint is published.
                self.forget(id);
            }
            is_added = event.is_some();
            event.into_iter().collect()
        });
        is_added
    }

    /// Removes an endpoint. Later observations of it are ignored, and what was planned on it no
    /// longer holds.
    pub fn remove(&self, id: EndpointId) {
        self.change(id, self.now(), |reducer| reducer.remove(id));
    }

    /// Begins or ends the draining of an endpoint: while it is drained, it gets no new statements.
    pub fn set_draining(&self, id: EndpointId, draining: bool) {
        self.change(id, self.now(), |reducer| {
            reducer.set_draining(id, draining).into_iter().collect()
        });
    }

    /// Resets the values stored at the place of `id`, and ends everything that was planned on the
    /// previous endpoint there.
    fn forget(&self, id: EndpointId) {
        let watch = self.watch(id);
        watch.reconnect.store(false, Ordering::Release);
        watch.is_used_unobserved.store(false, Ordering::Release);
        watch.silent_since_ms.store(0, Ordering::Release);
        *watch.heard.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.renew_connections(id);
    }
}
