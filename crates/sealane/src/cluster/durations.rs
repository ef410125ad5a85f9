//! How long statements take on each endpoint, as histograms.
//!
//! The histograms are arrays of atomic counts whose widths grow with the values, so that recording is
//! one addition, without a lock, and a percentile is wrong by 3 % at most. Each endpoint has three of
//! them: for reads as a replica, for reads as the primary, and for writes. They are made when the
//! endpoint first runs something.
//!
//! The time begins when the attempt has its connection, as that of the balancers does: a wait for a
//! connection is no slowness of the server, and is counted by itself. (Rejected: `hdrhistogram`,
//! whose recorders for several threads need one handle each.)

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use histogram::{AtomicHistogram, Histogram, Quantile};
use sealane_core::{AttemptOutcome, EndpointId, Engine, MAX_ENDPOINTS, Role};
use sealane_monitor::{OperationLabels, OperationSeries, TopologyStore};
use serde::Serialize;

use super::counts::Count;

/// Each power of two is divided into two to the power of this many buckets: an error of 3 %.
const GROUPING_POWER: u8 = 5;
/// The longest time is two to the power of this many microseconds: 71 minutes.
const LONGEST_POWER: u8 = 32;

/// The durations on all endpoints, each at the place of its endpoint.
pub(crate) struct Durations {
    places: Box<[ArcSwapOption<OnEndpoint>; MAX_ENDPOINTS]>,
}

/// The durations on one endpoint.
pub(crate) struct OnEndpoint {
    endpoint: EndpointId,
    reads_as_replica: Track,
    reads_as_primary: Track,
    writes: Track,
    failures: Count,
}

/// The durations of statements that have the same endpoint, role and intent.
struct Track {
    histogram: AtomicHistogram,
    series: OperationSeries,
}

/// A kind of statement on an endpoint.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Operation {
    Read(Role),
    Write,
}

/// How long statements took, without the wait for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LatencyReport {
    /// How many statements were answered.
    pub answered: u64,
    /// Half of them took at most this long, in microseconds.
    pub p50_us: u64,
    /// 95 of 100 took at most this long, in microseconds.
    pub p95_us: u64,
    /// 99 of 100 took at most this long, in microseconds.
    pub p99_us: u64,
}

impl Default for Durations {
    fn default() -> Self {
        Durations { places: Box::new(std::array::from_fn(|_| ArcSwapOption::empty())) }
    }
}

impl Durations {
    /// Records how a statement on `endpoint` ended after this time.
    pub(crate) fn record(
        &self,
        store: &TopologyStore,
        engine: Engine,
        endpoint: EndpointId,
        operation: Operation,
        outcome: AttemptOutcome,
        took: Duration,
    ) {
        let place = &self.places[endpoint.place()];
        let known = place.load();
        match known.as_ref().filter(|known| known.endpoint == endpoint) {
            Some(known) => known.record(operation, outcome, took),
            None => {
                let Some(new) = OnEndpoint::new(store, engine, endpoint) else { return };
                let new = Arc::new(new);
                new.record(operation, outcome, took);
                // If another thread was faster, what this one has recorded is lost.
                let _ = place.compare_and_swap(&known, Some(new));
            }
        }
    }

    /// What was recorded for `endpoint`; `None` before its first statement.
    pub(crate) fn on(&self, endpoint: EndpointId) -> Option<Arc<OnEndpoint>> {
        self.places[endpoint.place()].load_full().filter(|known| known.endpoint == endpoint)
    }
}

impl OnEndpoint {
    fn new(store: &TopologyStore, engine: Engine, endpoint: EndpointId) -> Option<Self> {
        let topology = store.topology();
        let name = topology.get(endpoint)?.endpoint.name();
        let track = |role, is_read| {
            let labels = OperationLabels { engine, endpoint: name, role, is_read };
            Track { histogram: empty(), series: store.operation_series(&labels) }
        };
        Some(OnEndpoint {
            endpoint,
            reads_as_replica: track(Role::Replica, true),
            reads_as_primary: track(Role::Primary, true),
            writes: track(Role::Primary, false),
            failures: Count::default(),
        })
    }

    fn record(&self, operation: Operation, outcome: AttemptOutcome, took: Duration) {
        let track = match operation {
            Operation::Read(Role::Primary) => &self.reads_as_primary,
            Operation::Read(_) => &self.reads_as_replica,
            Operation::Write => &self.writes,
        };
        match outcome {
            AttemptOutcome::Served(_) => track.answered(took),
            AttemptOutcome::Failed | AttemptOutcome::Overdue | AttemptOutcome::Silent => {
                self.failures.add();
                track.series.failed(took);
            }
            // The server answered, or nobody waited for it.
            _ => {}
        }
    }

    /// Statements that the endpoint has not answered.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.get()
    }

    /// How long reads took, in either role; `None` before the first one.
    pub(crate) fn reads(&self) -> Option<LatencyReport> {
        let (one, other) =
            (self.reads_as_replica.histogram.load(), self.reads_as_primary.histogram.load());
        LatencyReport::of(&one.checked_add(&other).ok()?)
    }

    /// How long writes took; `None` before the first one.
    pub(crate) fn writes(&self) -> Option<LatencyReport> {
        LatencyReport::of(&self.writes.histogram.load())
    }
}

impl Track {
    fn answered(&self, took: Duration) {
        let most_us = (1 << LONGEST_POWER) - 1;
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).min(most_us);
        // No value is out of range.
        let _ = self.histogram.increment(took_us);
        self.series.answered(took);
    }
}

impl LatencyReport {
    fn of(histogram: &Histogram) -> Option<Self> {
        let wanted = [0.5, 0.95, 0.99];
        let found = histogram.quantiles(&wanted).ok()??;
        let at = |quantile: f64| {
            let quantile = Quantile::new(quantile).ok()?;
            found.get(&quantile).map(histogram::Bucket::end)
        };
        let [p50_us, p95_us, p99_us] = wanted.map(at);
        let answered = u64::try_from(found.total_count()).unwrap_or(u64::MAX);
        Some(LatencyReport { answered, p50_us: p50_us?, p95_us: p95_us?, p99_us: p99_us? })
    }
}

fn empty() -> AtomicHistogram {
    AtomicHistogram::new(GROUPING_POWER, LONGEST_POWER)
        .expect("the powers are constants that the crate allows")
}

#[cfg(test)]
mod tests {
    use sealane_core::{Endpoint, Topology};

    use super::*;

    fn store() -> Arc<TopologyStore> {
        TopologyStore::new(Topology::always_current(vec![Endpoint::new("only", "here")]))
    }

    fn record(durations: &Durations, operation: Operation, outcome: AttemptOutcome, took_us: u64) {
        let took = Duration::from_micros(took_us);
        let endpoint = EndpointId::FIRST;
        durations.record(&store(), Engine::Sqlite, endpoint, operation, outcome, took);
    }

    const SERVED: AttemptOutcome = AttemptOutcome::Served(Duration::ZERO);

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let durations = Durations::default();
        for number in 1..=1_000 {
            let role = if number % 2 == 0 { Role::Primary } else { Role::Replica };
            record(&durations, Operation::Read(role), SERVED, number * 10);
        }
        let found = durations.on(EndpointId::FIRST).unwrap().reads().unwrap();
        assert_eq!(found.answered, 1_000);
        for (found, exact) in
            [(found.p50_us, 5_000_u64), (found.p95_us, 9_500), (found.p99_us, 9_900)]
        {
            assert!(found >= exact && found - exact <= exact / 30 + 1, "{found} for {exact}");
        }
    }

    #[test]
    fn reads_writes_and_failures_are_apart() {
        let durations = Durations::default();
        assert!(durations.on(EndpointId::FIRST).is_none());
        record(&durations, Operation::Write, SERVED, 7);
        record(&durations, Operation::Read(Role::Replica), AttemptOutcome::Silent, 9);
        record(&durations, Operation::Read(Role::Replica), AttemptOutcome::Refused, 9);
        let found = durations.on(EndpointId::FIRST).unwrap();
        assert_eq!((found.writes().unwrap().answered, found.reads()), (1, None));
        assert_eq!(found.failures(), 1);
    }

    #[test]
    fn the_longest_time_is_recorded_too() {
        let durations = Durations::default();
        record(&durations, Operation::Write, SERVED, u64::MAX);
        let found = durations.on(EndpointId::FIRST).unwrap().writes().unwrap();
        assert_eq!((found.answered, found.p50_us), (1, (1 << LONGEST_POWER) - 1));
    }
}
