//! How many statements each endpoint is running for us.

use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

use crate::EndpointId;

/// Live numbers per endpoint, updated by the statements themselves.
#[derive(Debug)]
pub struct Loads(Box<[Load]>);

/// Padded to a cache line of its own, so that traffic on one endpoint does not
/// slow down that on its neighbour.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Load {
    in_flight: AtomicU32,
    reads: AtomicU64,
    writes: AtomicU64,
}

impl Loads {
    /// Numbers for `endpoints` endpoints.
    #[must_use]
    pub fn new(endpoints: usize) -> Self {
        Loads((0..endpoints).map(|_| Load::default()).collect())
    }

    /// Statements running on `id` now.
    #[must_use]
    pub fn in_flight(&self, id: EndpointId) -> u32 {
        self.0[id.index()].in_flight.load(Ordering::Relaxed)
    }

    /// Proved reads that ran on `id` so far.
    #[must_use]
    pub fn reads(&self, id: EndpointId) -> u64 {
        self.0[id.index()].reads.load(Ordering::Relaxed)
    }

    /// Statements that were not proved reads, and transactions, that ran on `id` so far.
    #[must_use]
    pub fn writes(&self, id: EndpointId) -> u64 {
        self.0[id.index()].writes.load(Ordering::Relaxed)
    }

    /// Counts a read on `id` as running until the guard is dropped.
    #[must_use]
    pub fn start_read(self: &Arc<Self>, id: EndpointId) -> InFlight {
        self.0[id.index()].reads.fetch_add(1, Ordering::Relaxed);
        self.start(id)
    }

    /// Counts a write on `id` as running until the guard is dropped.
    #[must_use]
    pub fn start_write(self: &Arc<Self>, id: EndpointId) -> InFlight {
        self.0[id.index()].writes.fetch_add(1, Ordering::Relaxed);
        self.start(id)
    }

    fn start(self: &Arc<Self>, id: EndpointId) -> InFlight {
        self.0[id.index()].in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight { loads: Arc::clone(self), endpoint: id }
    }
}

/// One statement that is running; dropping it, also by cancellation, ends it.
#[derive(Debug)]
pub struct InFlight {
    loads: Arc<Loads>,
    endpoint: EndpointId,
}

impl InFlight {
    /// Where the statement runs.
    #[must_use]
    pub fn endpoint(&self) -> EndpointId {
        self.endpoint
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.loads.0[self.endpoint.index()].in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_guard_ends_the_statement_and_keeps_the_count() {
        let loads = Arc::new(Loads::new(2));
        let guard = loads.start_read(EndpointId::FIRST);
        assert_eq!(loads.in_flight(EndpointId::FIRST), 1);
        drop(guard);
        assert_eq!(loads.in_flight(EndpointId::FIRST), 0);
        assert_eq!(loads.reads(EndpointId::FIRST), 1);
    }
}
