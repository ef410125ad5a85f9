//! A limit that follows what it protects.
//!
//! When replicas vanish, some of their reads run on the primary. How many it can bear depends on the
//! reads, on the server and on what else it does, so no fixed number is right for everybody. What has
//! to be protected is known, though: the primary's own writes. So the limit follows *their* duration.
//! While nothing falls back, their mean is learned as usual. While reads fall back, the mean of each
//! window is compared with it: if writes take half as long again, a quarter of the places is taken
//! away; if they do not, and all places were needed, there is one more. (Additive increase,
//! multiplicative decrease: Chiu and Jain, "Analysis of the Increase and Decrease Algorithms for
//! Congestion Avoidance", 1989.) When nothing falls back any more, the limit returns to its start.
//!
//! While a few reads fall back all the time, what is usual is learned at the least limit: they are too
//! few to slow the writes down.
//!
//! Where nothing is written there is nothing to learn from, and the limit stays what it is.
//!
//! Rejected: the crate `congestion-limiter`. It adapts to the latency of the work that it admits, as
//! most limiters do. A fallback read may be slow because its statement is, and a limit learned from
//! such reads would say nothing of the writes. Rejected: the latency of the fallback reads relative
//! to their statements' usual one; what is usual for a statement follows an overload within a few
//! executions.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

use crate::Moment;

/// Writes are judged together for this long, so that one checkpoint decides nothing.
const WINDOW: Duration = Duration::from_millis(250);
/// A mean of fewer writes says nothing.
const LEAST_WRITES: u64 = 8;
/// The usual mean moves by a window's difference divided by this number.
const USUAL_STEPS: u64 = 8;
/// Writes may take this much longer than usual, in hundredths, ...
const TOLERATED_PERCENT: u64 = 150;
/// ... and by this much: short writes vary with the scheduler.
const TOLERATED_US: u64 = 1_000;
/// A write counts for at most so many usual ones: then one of [`LEAST_WRITES`] decides nothing.
const COUNTED_AT_MOST: u64 = 4;
/// The limit falls to at least this part of its start, so that a burst of slow writes does not lock
/// all reads out.
const LEAST_PART: usize = 4;

/// How many reads may fall back to the primary at a time.
#[derive(Debug)]
pub struct AdaptiveLimit {
    start: usize,
    least: usize,
    most: usize,
    limit: AtomicUsize,
    /// The end of the running window, in nanoseconds since the origin of moments.
    window_end_ns: AtomicU64,
    /// The writes of the window.
    count: AtomicU64,
    sum_us: AtomicU64,
    /// The mean duration of a write while nothing falls back; 0 if unknown.
    usual_us: AtomicU64,
    /// Whether a read fell back in the window, and whether all places were taken.
    fell_back: AtomicBool,
    was_full: AtomicBool,
}

impl AdaptiveLimit {
    /// A limit that begins at `start` and never exceeds `most`.
    #[must_use]
    pub fn new(start: usize, most: usize) -> Self {
        AdaptiveLimit {
            start,
            least: (start / LEAST_PART).max(1).min(start),
            most: most.max(start),
            limit: AtomicUsize::new(start),
            window_end_ns: AtomicU64::new(0),
            count: AtomicU64::new(0),
            sum_us: AtomicU64::new(0),
            usual_us: AtomicU64::new(0),
            fell_back: AtomicBool::new(false),
            was_full: AtomicBool::new(false),
        }
    }

    /// The limit now.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Records that a read falls back, or wants to. `is_full`: it took the last place, or found none.
    pub fn fell_back(&self, is_full: bool) {
        self.fell_back.store(true, Ordering::Relaxed);
        if is_full {
            self.was_full.store(true, Ordering::Relaxed);
        }
    }

    /// Records that a write `took` so long, with the wait for its connection, and ended at `now`
    /// while `running` reads that fell back were running. Returns the limit if it has changed. Takes
    /// no lock; if two writes end at once, one may be left out.
    pub fn write_ended(&self, took: Duration, running: usize, now: Moment) -> Option<usize> {
        // One write that waits for a lock must not pass for a primary that is slow, or for what is
        // usual.
        let most_us = match self.usual_us.load(Ordering::Relaxed) {
            0 => u64::MAX,
            usual_us => usual_us.saturating_mul(COUNTED_AT_MOST) + TOLERATED_US,
        };
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).min(most_us);
        self.sum_us.fetch_add(took_us, Ordering::Relaxed);
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        let (end_ns, now_ns) = (self.window_end_ns.load(Ordering::Relaxed), nanos(now));
        if count < LEAST_WRITES || now_ns < end_ns {
            return None;
        }
        let next_end_ns = nanos(now + WINDOW);
        // One of those that end now judges the window.
        self.window_end_ns
            .compare_exchange(end_ns, next_end_ns, Ordering::Relaxed, Ordering::Relaxed)
            .ok()?;
        let count = self.count.swap(0, Ordering::Relaxed).max(1);
        let mean_us = (self.sum_us.swap(0, Ordering::Relaxed) / count).max(1);
        let fell_back = self.fell_back.swap(running > 0, Ordering::Relaxed);
        let was_full = self.was_full.swap(false, Ordering::Relaxed);
        let (before, after) = (self.limit(), self.judge(mean_us, fell_back, was_full));
        self.limit.store(after, Ordering::Relaxed);
        (before != after).then_some(after)
    }

    /// The limit after a window.
    fn judge(&self, mean_us: u64, fell_back: bool, was_full: bool) -> usize {
        let (limit, usual_us) = (self.limit(), self.usual_us.load(Ordering::Relaxed));
        if !fell_back {
            self.learn(mean_us);
            return match limit < self.start {
                true => limit + 1,
                false => self.start.max(limit.saturating_sub(1)),
            };
        }
        let tolerated_us = usual_us.saturating_mul(TOLERATED_PERCENT) / 100 + TOLERATED_US;
        match usual_us {
            // Nothing was written before the outage.
            0 => limit,
            // So few reads cannot be what slows the writes down.
            _ if mean_us > tolerated_us && limit == self.least && !was_full => {
                self.learn(mean_us);
                limit
            }
            _ if mean_us > tolerated_us => (limit - limit.div_ceil(4)).max(self.least),
            _ if was_full => (limit + 1).min(self.most),
            _ => limit,
        }
    }

    fn learn(&self, mean_us: u64) {
        let usual_us = match self.usual_us.load(Ordering::Relaxed) {
            0 => mean_us,
            usual_us => (usual_us * (USUAL_STEPS - 1) + mean_us) / USUAL_STEPS,
        };
        self.usual_us.store(usual_us.max(1), Ordering::Relaxed);
    }
}

fn nanos(moment: Moment) -> u64 {
    u64::try_from(moment.since(Moment::ZERO).as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long a write takes on a quiet primary.
    const QUIET: Duration = Duration::from_millis(10);

    /// A primary in virtual time that bears so many fallback reads; each further one slows its writes
    /// down by as much as a write takes there when it is quiet.
    struct Primary {
        limit: AdaptiveLimit,
        bears: usize,
        now: Moment,
    }

    impl Primary {
        fn new(bears: usize) -> Self {
            Primary { limit: AdaptiveLimit::new(8, 15), bears, now: Moment::ZERO }
        }

        fn write_time(&self, running: usize) -> Duration {
            let too_many = running.saturating_sub(self.bears);
            QUIET * u32::try_from(1 + too_many).unwrap()
        }

        /// Writes a hundred times a second for so long beside `readers` that want to fall back, and
        /// returns how long a write took in the mean.
        fn run(&mut self, seconds: u32, readers: usize) -> Duration {
            let mut total = Duration::ZERO;
            for _ in 0..seconds * 100 {
                let running = readers.min(self.limit.limit());
                if readers > 0 {
                    self.limit.fell_back(readers >= self.limit.limit());
                }
                self.now = self.now + Duration::from_millis(10);
                let took = self.write_time(running);
                total += took;
                let told = self.limit.write_ended(took, running, self.now);
                assert!(told.is_none_or(|told| told == self.limit.limit()));
            }
            total / (seconds * 100)
        }
    }

    #[test]
    fn writes_that_take_next_to_nothing_are_what_is_usual() {
        let limit = AdaptiveLimit::new(8, 15);
        for n in 0..1_000 {
            limit.write_ended(Duration::from_micros(3), 0, Moment::ZERO + 10 * n * QUIET);
        }
        assert_eq!(limit.usual_us.load(Ordering::Relaxed), 3);
        assert_eq!(limit.limit(), 8);
    }

    #[test]
    fn too_many_reads_for_the_primary_become_fewer_until_it_bears_them() {
        let mut primary = Primary::new(3);
        primary.run(5, 0);
        assert_eq!(primary.limit.limit(), 8);
        primary.run(2, 64);
        let mean = primary.run(10, 64);
        assert!(mean < QUIET * 2, "writes take {mean:?}");
        assert!((2..=4).contains(&primary.limit.limit()), "{}", primary.limit.limit());
    }

    #[test]
    fn a_primary_that_bears_more_gets_more_up_to_the_most() {
        let mut primary = Primary::new(64);
        primary.run(5, 0);
        primary.run(10, 64);
        assert_eq!(primary.limit.limit(), 15);
    }

    #[test]
    fn places_that_nobody_needs_are_not_added() {
        let mut primary = Primary::new(64);
        primary.run(5, 0);
        primary.run(10, 5);
        assert_eq!(primary.limit.limit(), 8);
    }

    #[test]
    fn the_limit_never_falls_below_a_quarter_of_its_start() {
        let mut primary = Primary::new(0);
        primary.run(5, 0);
        primary.run(60, 64);
        assert_eq!(primary.limit.limit(), 2);
        let tiny = AdaptiveLimit::new(1, 1);
        assert_eq!(tiny.least, 1);
        assert_eq!(AdaptiveLimit::new(0, 0).least, 0, "no place stays no place");
    }

    #[test]
    fn beside_a_few_reads_that_always_fall_back_it_learns_what_is_usual() {
        let mut primary = Primary::new(64);
        primary.run(5, 0);
        let trickle = |primary: &mut Primary, seconds: u32| {
            for _ in 0..seconds * 100 {
                primary.limit.fell_back(false);
                primary.now = primary.now + Duration::from_millis(10);
                primary.limit.write_ended(QUIET * 3, 1, primary.now);
            }
        };
        trickle(&mut primary, 2);
        assert_eq!(primary.limit.limit(), 2, "the writes seem to suffer");
        trickle(&mut primary, 20);
        for _ in 0..500 {
            primary.limit.fell_back(true);
            primary.now = primary.now + Duration::from_millis(10);
            primary.limit.write_ended(QUIET * 3, 2, primary.now);
        }
        assert_eq!(primary.limit.limit(), 15, "a real outage gets its places");
    }

    #[test]
    fn after_an_outage_the_limit_returns_to_its_start() {
        for bears in [0, 64] {
            let mut primary = Primary::new(bears);
            primary.run(5, 0);
            primary.run(20, 64);
            assert_ne!(primary.limit.limit(), 8);
            primary.run(20, 0);
            assert_eq!(primary.limit.limit(), 8);
        }
    }

    #[test]
    fn one_write_that_waits_for_a_lock_is_neither_usual_nor_an_overload() {
        let mut primary = Primary::new(3);
        primary.run(5, 0);
        for _ in 0..50 {
            primary.now = primary.now + Duration::from_millis(10);
            let is_stuck = primary.now.since(Moment::ZERO).as_millis().is_multiple_of(400);
            let took = if is_stuck { 60_000 } else { 10 };
            primary.limit.write_ended(Duration::from_millis(took), 0, primary.now);
        }
        primary.run(2, 64);
        primary.run(10, 64);
        assert!((2..=4).contains(&primary.limit.limit()), "{}", primary.limit.limit());

        let mut quiet = Primary::new(64);
        quiet.run(5, 0);
        for number in 0..1_000 {
            quiet.limit.fell_back(false);
            quiet.now = quiet.now + Duration::from_millis(10);
            let took = if number % 30 == 0 { Duration::from_secs(60) } else { QUIET };
            quiet.limit.write_ended(took, 8, quiet.now);
        }
        assert_eq!(quiet.limit.limit(), 8, "one slow write in a window sheds nobody");
    }

    #[test]
    fn without_writes_before_the_outage_nothing_changes() {
        let mut primary = Primary::new(0);
        primary.run(20, 64);
        assert_eq!(primary.limit.limit(), 8);
    }

    #[test]
    fn slow_writes_without_fallback_reads_are_what_is_usual() {
        let limit = AdaptiveLimit::new(8, 15);
        let mut now = Moment::ZERO;
        for took_ms in [2, 40, 2, 80] {
            for _ in 0..100 {
                now = now + Duration::from_millis(10);
                assert_eq!(limit.write_ended(Duration::from_millis(took_ms), 0, now), None);
            }
        }
    }
}
