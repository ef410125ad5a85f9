//! How many statements of this process each endpoint is running.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use super::slowness::{AS_USUAL, Slowness};
use crate::{AttemptOutcome, EndpointId, EndpointSet, MAX_ENDPOINTS, Moment, Pace};

/// Live counters per endpoint, updated by the statements themselves.
///
/// Each place that an endpoint can have has a counter, so no counter is created while statements
/// run. A place at which a statement still runs is not given to another endpoint.
#[derive(Debug)]
pub struct Loads {
    of: Box<[Load; MAX_ENDPOINTS]>,
    /// How long statements take of which nothing is known: they are compared with each other.
    unknown: Pace,
}

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
    /// Those of them that wait for a connection.
    waiting: AtomicU32,
    reads: AtomicU64,
    writes: AtomicU64,
    /// A moving average, in microseconds; 0 before the first read.
    latency_us: AtomicU64,
    /// Failed attempts since the last one that was served.
    failures: AtomicU32,
    slowness: Slowness,
}

/// Each read moves the average by the difference divided by this number, so the last few tens of
/// reads dominate.
const STEP: u64 = 8;

impl Loads {
    /// Counters at zero.
    #[must_use]
    pub fn new() -> Self {
        let of = Box::new(std::array::from_fn(|_| Load::default()));
        Loads { of, unknown: Pace::default() }
    }

    fn of(&self, id: EndpointId) -> &Load {
        &self.of[id.place()]
    }

    /// The places at which statements run now.
    #[must_use]
    pub fn busy(&self) -> EndpointSet {
        let ids = (0..MAX_ENDPOINTS).filter_map(EndpointId::from_index);
        ids.filter(|id| self.in_flight(*id) > 0).collect()
    }

    /// Resets the counts at the place of `id`, for a new endpoint. Running statements stay counted.
    pub fn begin_anew(&self, id: EndpointId) {
        let Load { in_flight: _, waiting: _, reads, writes, latency_us, failures: _, slowness: _ } =
            self.of(id);
        [reads, writes, latency_us].iter().for_each(|count| count.store(0, Ordering::Relaxed));
        self.forgive(id);
    }

    /// Forgets how slow `id` was, and that attempts failed there.
    pub fn forgive(&self, id: EndpointId) {
        let load = self.of(id);
        load.slowness.begin_anew();
        load.failures.store(0, Ordering::Relaxed);
    }

    /// How many statements run on `id` now.
    #[must_use]
    pub fn in_flight(&self, id: EndpointId) -> u32 {
        self.of(id).in_flight.load(Ordering::SeqCst)
    }

    /// How many statements wait for a connection to `id` now.
    #[must_use]
    pub fn waiting(&self, id: EndpointId) -> u32 {
        self.of(id).waiting.load(Ordering::Relaxed)
    }

    /// Counts a statement as waiting for a connection to `id` until the guard is dropped.
    #[must_use]
    pub fn wait(&self, id: EndpointId) -> Waiting<'_> {
        let waiting = &self.of(id).waiting;
        waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(waiting)
    }

    /// How many proved reads were sent to `id` so far.
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

    /// How slow `id` is at `now`, relative to what its statements usually take: 1 is as usual. The
    /// value jumps to the slowest statement at once, and returns to 1 within about a minute without
    /// statements. A failure counts as slow.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a few digits are enough")]
    pub fn slowness(&self, id: EndpointId, now: Moment) -> f64 {
        self.slowness_since(id, now, None) as f64 / AS_USUAL as f64
    }

    /// The same in units of [`AS_USUAL`], without what was measured before `since`.
    #[inline]
    pub(super) fn slowness_since(&self, id: EndpointId, now: Moment, since: Option<Moment>) -> u64 {
        self.of(id).slowness.at(now, since)
    }

    /// Records how an attempt of a read ended at `now`. `usual` is how long its statement usually
    /// takes, read before this attempt was recorded there; `None` if that is not known. Statements
    /// of which it is not known are compared with each other. The time of a served attempt should
    /// not contain the wait for a connection: what waits counts as in flight, and a connection that
    /// had to be opened says nothing about later statements. What was recorded before `since`, when the
    /// server came back, is forgotten. If two attempts end at once, one may be lost.
    pub fn ended(
        &self,
        id: EndpointId,
        outcome: AttemptOutcome,
        usual: Option<Duration>,
        now: Moment,
        since: Option<Moment>,
    ) {
        let load = self.of(id);
        if load.slowness.is_before(since) {
            self.forgive(id);
        }
        match outcome {
            AttemptOutcome::Served(latency) => {
                let new_us = micros(latency);
                if let Some(usual) = usual.or_else(|| self.usual_of_unknown(latency)) {
                    load.slowness.served(new_us, micros(usual), now);
                }
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
                let failures = load.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
                load.slowness.failed(failures, now);
            }
            AttemptOutcome::Refused | AttemptOutcome::Outrun | AttemptOutcome::Abandoned => {}
        }
    }

    /// How long unknown statements took before this one, which is recorded.
    fn usual_of_unknown(&self, latency: Duration) -> Option<Duration> {
        let usual = self.unknown.mean();
        self.unknown.record(latency);
        usual
    }

    /// Counts a read on `id` as running until the guard is dropped.
    #[must_use]
    pub fn start_read(self: &Arc<Self>, id: EndpointId) -> InFlight {
        let running = self.start(id);
        running.count_read();
        running
    }

    /// Counts a write on `id` as running until the guard is dropped.
    #[must_use]
    pub fn start_write(self: &Arc<Self>, id: EndpointId) -> InFlight {
        self.of(id).writes.fetch_add(1, Ordering::Relaxed);
        self.start(id)
    }

    /// Counts a statement on `id` as running until the guard is dropped, and not yet as a read or a
    /// write that was sent.
    #[must_use]
    pub fn start(self: &Arc<Self>, id: EndpointId) -> InFlight {
        // Sequentially consistent: a statement is counted before it checks whether its endpoint is
        // being drained, and draining looks for running statements only after it was published.
        self.of(id).in_flight.fetch_add(1, Ordering::SeqCst);
        InFlight { loads: Arc::clone(self), endpoint: id }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX).max(1)
}

/// Counts one statement that waits for a connection until it is dropped, also by cancellation.
#[derive(Debug)]
pub struct Waiting<'a>(&'a AtomicU32);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
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

    /// Counts it as a read that is being sent.
    pub fn count_read(&self) {
        self.loads.of(self.endpoint).reads.fetch_add(1, Ordering::Relaxed);
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
        loads.ended(EndpointId::FIRST, AttemptOutcome::Failed, None, Moment::ZERO, None);
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
        let end = |outcome| loads.ended(id, outcome, None, Moment::ZERO, None);
        assert_eq!((loads.latency(id), loads.failures(id)), (None, 0));
        end(AttemptOutcome::Served(Duration::from_millis(1)));
        assert_eq!(loads.latency(id), Some(Duration::from_millis(1)));
        end(AttemptOutcome::Failed);
        end(AttemptOutcome::Failed);
        end(AttemptOutcome::Abandoned);
        assert_eq!(loads.failures(id), 2);
        for _ in 0..60 {
            end(AttemptOutcome::Served(Duration::from_millis(9)));
        }
        assert_eq!(loads.failures(id), 0);
        let latency = loads.latency(id).unwrap();
        assert!(
            latency.abs_diff(Duration::from_millis(9)) < Duration::from_micros(50),
            "{latency:?}"
        );
    }

    #[test]
    fn a_report_does_not_make_an_endpoint_slow_and_a_slow_look_up_does() {
        let (loads, id, now) = (Loads::new(), EndpointId::FIRST, Moment::ZERO);
        let [report, look_up] = [2_000, 2].map(Duration::from_millis);
        loads.ended(id, AttemptOutcome::Served(look_up), Some(look_up), now, None);
        loads.ended(id, AttemptOutcome::Served(report), Some(report), now, None);
        assert!((loads.slowness(id, now) - 1.0).abs() < 0.01);
        loads.ended(id, AttemptOutcome::Served(look_up * 3), Some(look_up), now, None);
        assert!((loads.slowness(id, now) - 3.0).abs() < 0.01);
    }

    #[test]
    fn the_first_read_after_a_return_does_not_bring_back_what_was_slow_before_it() {
        let (loads, id, ms) = (Loads::new(), EndpointId::FIRST, Duration::from_millis(1));
        let at = |s| Moment::from_origin(Duration::from_secs(s));
        (0..8).for_each(|_| loads.ended(id, AttemptOutcome::Silent, None, at(1), None));
        assert!(loads.slowness(id, at(1)) > 1_000.0 && loads.failures(id) == 8);
        loads.ended(id, AttemptOutcome::Served(ms), Some(ms), at(8), Some(at(7)));
        assert!((loads.slowness(id, at(8)) - 1.0).abs() < 0.01);
        loads.ended(id, AttemptOutcome::Silent, None, at(9), Some(at(7)));
        assert!(loads.failures(id) == 1 && loads.slowness(id, at(9)) < 10.0);
    }

    #[test]
    fn statements_that_are_not_known_are_compared_with_each_other() {
        let (loads, now) = (Loads::new(), Moment::ZERO);
        let [quick, slow] = [1, 2].map(|index| EndpointId::from_index(index).unwrap());
        let ms = Duration::from_millis(10);
        (0..20).for_each(|_| loads.ended(quick, AttemptOutcome::Served(ms), None, now, None));
        loads.ended(slow, AttemptOutcome::Served(ms * 4), None, now, None);
        assert!((loads.slowness(quick, now) - 1.0).abs() < 0.01);
        assert!((loads.slowness(slow, now) - 4.0).abs() < 0.01);
    }
}
