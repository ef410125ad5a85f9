//! How long a statement usually takes.
//!
//! A read that takes much longer than it usually does may wait for a server that hangs. Only the
//! statement's own history can tell: what is slow for a look-up is quick for a report. So each
//! cached text has a pace: a mean and a mean deviation, estimated as TCP estimates its round trips
//! (RFC 6298). Both fit into one word, so that recording takes no lock.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// The usual duration of a statement, learned from the times that it took.
///
/// Two paces are always equal: what was measured is no part of what is known about a text.
#[derive(Debug, Default)]
pub struct Pace {
    usual: AtomicU64,
    /// The 95th percentile, in nanoseconds.
    p95_ns: AtomicU64,
}

/// The mean moves by the difference divided by this number (RFC 6298: alpha = 1/8).
const MEAN_STEP: u32 = 8;
/// The same for the deviation (RFC 6298: beta = 1/4).
const DEVIATION_STEP: u32 = 4;
/// The estimate of the 95th percentile moves by this part of itself.
const P95_STEPS: u64 = 200;
/// How many deviations above the mean are still usual (RFC 6298: K = 4).
const USUAL_DEVIATIONS: u32 = 4;

impl Pace {
    /// Records that the statement took this long. If two calls end at once, one may be lost.
    pub fn record(&self, latency: Duration) {
        let latency_us = u32::try_from(latency.as_micros()).unwrap_or(u32::MAX).max(1);
        let word = match self.read() {
            None => pack(latency_us, latency_us / 2),
            Some((mean_us, deviation_us)) => {
                let difference = latency_us.abs_diff(mean_us);
                pack(
                    towards(mean_us, latency_us, MEAN_STEP),
                    towards(deviation_us, difference, DEVIATION_STEP),
                )
            }
        };
        self.usual.store(word, Ordering::Relaxed);
        self.record_p95(latency);
    }

    /// Follows the 95th percentile itself: a mean and a deviation would place it where no execution
    /// ever ends, if some find their pages in memory and some do not. What lies above the estimate
    /// raises it by 19 steps, what lies below lowers it by one; so it rests where 5 of 100 lie
    /// above it.
    fn record_p95(&self, latency: Duration) {
        let latency_ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        let p95_ns = self.p95_ns.load(Ordering::Relaxed);
        let step_ns = (p95_ns / P95_STEPS).max(1);
        let new_ns = match p95_ns {
            0 => latency_ns.saturating_mul(2),
            _ if latency_ns > p95_ns => p95_ns.saturating_add(19 * step_ns),
            _ => p95_ns - step_ns,
        };
        self.p95_ns.store(new_ns.max(1), Ordering::Relaxed);
    }

    /// How long the statement takes on average; `None` before the first record.
    #[must_use]
    pub fn mean(&self) -> Option<Duration> {
        self.read().map(|(mean_us, _)| Duration::from_micros(mean_us.into()))
    }

    /// The time within which the statement nearly always ends; `None` before the first record.
    #[must_use]
    pub fn bound(&self) -> Option<Duration> {
        self.read().map(|(mean_us, deviation_us)| {
            let above_us = u64::from(deviation_us) * u64::from(USUAL_DEVIATIONS);
            Duration::from_micros(u64::from(mean_us) + above_us)
        })
    }

    /// The time within which about 95 of 100 executions end; `None` before the first record.
    #[must_use]
    pub fn p95(&self) -> Option<Duration> {
        let p95_ns = self.p95_ns.load(Ordering::Relaxed);
        (p95_ns != 0).then(|| Duration::from_nanos(p95_ns))
    }

    /// Takes over what `other` has learned, for the same text classified anew.
    pub fn follow(&self, other: &Pace) {
        self.usual.store(other.usual.load(Ordering::Relaxed), Ordering::Relaxed);
        self.p95_ns.store(other.p95_ns.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// The mean, which is never zero, and the deviation, both in microseconds.
    fn read(&self) -> Option<(u32, u32)> {
        let word = self.usual.load(Ordering::Relaxed);
        (word != 0).then_some(((word >> 32) as u32, (word & 0xFFFF_FFFF) as u32))
    }
}

fn pack(mean_us: u32, deviation_us: u32) -> u64 {
    u64::from(mean_us.max(1)) << 32 | u64::from(deviation_us)
}

fn towards(from: u32, to: u32, step: u32) -> u32 {
    match to >= from {
        true => from + (to - from) / step,
        false => from - (from - to) / step,
    }
}

impl Clone for Pace {
    fn clone(&self) -> Self {
        let pace = Pace::default();
        pace.follow(self);
        pace
    }
}

impl PartialEq for Pace {
    fn eq(&self, _: &Pace) -> bool {
        true
    }
}

impl Eq for Pace {}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_statement_that_never_ran_has_no_pace() {
        assert_eq!((Pace::default().mean(), Pace::default().bound()), (None, None));
    }

    #[test]
    fn the_first_time_is_the_mean_and_three_times_it_is_still_usual() {
        let pace = Pace::default();
        pace.record(ms(10));
        assert_eq!((pace.mean(), pace.bound()), (Some(ms(10)), Some(ms(30))));
    }

    #[test]
    fn five_of_a_hundred_lie_above_the_95th_percentile_whatever_the_shape() {
        let even = |number: u64| 5_000 + number % 100 * 100;
        let rare = |number: u64| if number % 100 < 10 { 50_000 } else { 1_000 };
        for shape in [&even as &dyn Fn(u64) -> u64, &rare] {
            let pace = Pace::default();
            // Numbers that are spread without being random.
            let took = |number: u64| Duration::from_micros(shape(number * 37));
            (0..5_000).for_each(|number| pace.record(took(number)));
            let above = (5_000..7_000).filter(|number| {
                let is_above = took(*number) > pace.p95().unwrap();
                pace.record(took(*number));
                is_above
            });
            let above = above.count();
            assert!((60..=140).contains(&above), "{above} of 2000");
        }
    }

    #[test]
    fn a_steady_statement_is_soon_known_well() {
        let pace = Pace::default();
        (0..40).for_each(|_| pace.record(ms(10)));
        assert_eq!(pace.mean(), Some(ms(10)));
        assert!(pace.bound().unwrap() < ms(11), "{:?}", pace.bound());
    }

    #[test]
    fn one_slow_time_widens_the_bound_and_quick_ones_narrow_it_again() {
        let pace = Pace::default();
        (0..40).for_each(|_| pace.record(ms(10)));
        pace.record(ms(1_000));
        assert!(pace.bound().unwrap() > ms(1_000));
        (0..60).for_each(|_| pace.record(ms(10)));
        assert!(pace.bound().unwrap() < ms(20), "{:?}", pace.bound());
    }

    #[test]
    fn the_longest_and_the_shortest_time_do_no_harm() {
        let pace = Pace::default();
        pace.record(Duration::MAX);
        pace.record(Duration::ZERO);
        assert!(pace.mean().unwrap() > Duration::ZERO);
        assert!(pace.bound().unwrap() > pace.mean().unwrap());
    }
}
