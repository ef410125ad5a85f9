//! How many statements of this process each endpoint is running.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{AttemptOutcome, EndpointId, EndpointSet, MAX_ENDPOINTS};

/// Live counters per endpoint, updated by the statements themselves.
///
/// Each place that an endpoint can have has a counter, so no counter is created while statements
/// run. A place at which a statement still runs is not given to another endpoint.
#[derive(Debug)]
pub struct Loads(Box<[Load; MAX_ENDPOINTS]>);

impl Default for Loads {
    fn default() -> Self {
        Loads::new()
    }
}

/// Padded to a whole cache line, so that traffic on one endpoint does not slow down traffic on its
/// neighbour.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Load {
    in_flight: AtomicU32,
    reads: AtomicU64,
    writes: AtomicU64,
    /// A moving average, in microseconds; 0 before the first read.
    latency_us: AtomicU64,
    /// Failed attempts since the last one that was served.
    failures: AtomicU32,
}

/// Each read moves the average by the difference divided by this number, so the last few tens of
/// reads dominate.
const STEP: u64 = 8;

impl Loads {
    /// Counters at zero.
    #[must_use]
    pub fn new() -> Self {
        Loads(Box::new(std::array::from_fn(|_| Load::default())))
    }

    fn of(&self, id: EndpointId) -> &Load {
        &self.0[id.place()]
    }

    /// The places at which statements run now.
    #[must_use]
    pub fn busy(&self) -> EndpointSet {
        let ids = (0..MAX_ENDPOINTS).filter_map(EndpointId::from_index);
        ids.filter(|id| self.in_flight(*id) > 0).collect()
    }

    /// Resets the counts at the place of `id`, for a new endpoint. Running statements stay counted.
    pub fn begin_anew(&self, id: EndpointId) {
        let Load { in_flight: _, reads, writes, latency_us, failures } = self.of(id);
        [reads, writes, latency_us].iter().for_each(|count| count.store(0, Ordering::Relaxed));
        failures.store(0, Ordering::Relaxed);
    }

    /// How many statements run on `id` now.
    #[must_use]
    pub fn in_flight(&self, id: EndpointId) -> u32 {
        self.of(id).in_flight.load(Ordering::SeqCst)
    }

    /// How many proved reads have run on `id` so far.
    #[must_use]
    pub fn reads(&self, id: EndpointId) -> u64 {
        self.of(id).reads.load(Ordering::Relaxed)
    }

    /// How many transactions, and statements that were not proved reads, have run on `id` so far.
    #[must_use]
    pub fn writes(&self, id: EndpointId) -> u64 {
        self.of(id).writes.load(Ordering::Relaxed)
    }

    /// How long reads on `id` take, as a moving average over the last few tens; `None` before the
    /// first.
    #[must_use]
    pub fn latency(&self, id: EndpointId) -> Option<Duration> {
        let latency_us = self.of(id).latency_us.load(Ordering::Relaxed);
        (latency_us > 0).then(|| Duration::from_micros(latency_us))
    }

    /// How many attempts of reads on `id` have failed since the last one that was served.
    #[must_use]
    pub fn failures(&self, id: EndpointId) -> u32 {
        self.of(id).failures.load(Ordering::Relaxed)
    }

    /// Records how an attempt of a read ended. If two attempts end at once, one may be lost.
    pub fn ended(&self, id: EndpointId, outcome: AttemptOutcome) {
        let load = self.of(id);
        match outcome {
            AttemptOutcome::Served(latency) => {
                let new_us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1);
                let old_us = load.latency_us.load(Ordering::Relaxed);
                let average_us = match old_us {
                    0 => new_us,
                    _ => (old_us - old_us / STEP).saturating_add(new_us / STEP).max(1),
                };
                load.latency_us.store(average_us, Ordering::Relaxed);
                if load.failures.load(Ordering::Relaxed) > 0 {
                    load.failures.store(0, Ordering::Relaxed);
                }
            }
            AttemptOutcome::Failed | AttemptOutcome::Overdue | AttemptOutcome::Silent => {
                load.failures.fetch_add(1, Ordering::Relaxed);
            }
            AttemptOutcome::Refused | AttemptOutcome::Outrun | AttemptOutcome::Abandoned => {}
        }
    }

    /// Counts a read on `id` as running until the guard is dropped.
    #[must_use]
    pub fn start_read(self: &Arc<Self>, id: EndpointId) -> InFlight {
        self.of(id).reads.fetch_add(1, Ordering::Relaxed);
        self.start(id)
    }

    /// Counts a write on `id` as running until the guard is dropped.
    #[must_use]
    pub fn start_write(self: &Arc<Self>, id: EndpointId) -> InFlight {
        self.of(id).writes.fetch_add(1, Ordering::Relaxed);
        self.start(id)
    }

    fn start(self: &Arc<Self>, id: EndpointId) -> InFlight {
        // Sequentially consistent: a statement is counted before it checks whether its endpoint is
        // being drained, and draining looks for running statements only after it was published.
        self.of(id).in_flight.fetch_add(1, Ordering::SeqCst);
        InFlight { loads: Arc::clone(self), endpoint: id }
    }
}

/// Counts one running statement until it is dropped, also by cancellation.
#[derive(Debug)]
pub struct InFlight {
    loads: Arc<Loads>,
    endpoint: EndpointId,
}

impl InFlight {
    /// The endpoint that runs the statement.
    #[must_use]
    pub fn endpoint(&self) -> EndpointId {
        self.endpoint
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.loads.of(self.endpoint).in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_guard_ends_the_statement_and_keeps_the_count() {
        let loads = Arc::new(Loads::new());
        let guard = loads.start_read(EndpointId::FIRST);
        assert_eq!(loads.in_flight(EndpointId::FIRST), 1);
        drop(guard);
        assert_eq!(loads.in_flight(EndpointId::FIRST), 0);
        assert_eq!(loads.reads(EndpointId::FIRST), 1);
    }

    #[test]
    fn a_new_endpoint_at_a_place_begins_with_nothing_counted_but_what_runs() {
        let loads = Arc::new(Loads::new());
        let running = loads.start_read(EndpointId::FIRST);
        loads.ended(EndpointId::FIRST, AttemptOutcome::Failed);
        assert_eq!(loads.busy().places().collect::<Vec<_>>(), [0]);
        loads.begin_anew(EndpointId::FIRST);
        assert_eq!((loads.reads(EndpointId::FIRST), loads.failures(EndpointId::FIRST)), (0, 0));
        assert_eq!(loads.in_flight(EndpointId::FIRST), 1);
        drop(running);
        assert!(loads.busy().is_empty());
    }

    #[test]
    fn latency_follows_what_is_served_and_failures_count_until_then() {
        let loads = Loads::new();
        let id = EndpointId::FIRST;
        assert_eq!((loads.latency(id), loads.failures(id)), (None, 0));
        loads.ended(id, AttemptOutcome::Served(Duration::from_millis(1)));
        assert_eq!(loads.latency(id), Some(Duration::from_millis(1)));
        loads.ended(id, AttemptOutcome::Failed);
        loads.ended(id, AttemptOutcome::Failed);
        loads.ended(id, AttemptOutcome::Abandoned);
        assert_eq!(loads.failures(id), 2);
        for _ in 0..60 {
            loads.ended(id, AttemptOutcome::Served(Duration::from_millis(9)));
        }
        assert_eq!(loads.failures(id), 0);
        let latency = loads.latency(id).unwrap();
        assert!(
            latency.abs_diff(Duration::from_millis(9)) < Duration::from_micros(50),
            "{latency:?}"
        );
    }
}
