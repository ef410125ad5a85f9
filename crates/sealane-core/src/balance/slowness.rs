//! How slow an endpoint is, compared with what its statements usually take.
//!
//! A plain average of latencies mixes look-ups with reports: an endpoint that was just asked for a
//! report would seem slow. So each latency is divided by what *its* statement usually takes
//! ([`Pace`](crate::Pace)), and the quotient is averaged. 1 means "as usual". The quotient has no
//! unit, so nothing has to be scaled by a mean of the whole fleet, which all threads would have to
//! update. Where every endpoint is equally slow, what is usual follows, and nobody is avoided for it.
//!
//! The average is sensitive to peaks and decays with time, as in Finagle's and linkerd's
//! `PeakEwma`: a slower sample counts at once, and a faster one counts for as much as the time since
//! the last sample allows. Without samples the value returns to 1, so an endpoint that was slow once
//! gets reads again. An average that moves a fixed step with each sample was rejected: an endpoint
//! that gets no reads would stay slow for ever.
//!
//! Unlike there, one sample raises the value to four times itself at most. A look-up takes a fraction
//! of a millisecond, so one pause of a busy machine makes it a hundred times slower, and a replica
//! should not lose its reads for a minute because of that. A server that is really slow gets there
//! with its second or third read.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::Moment;

/// A moving average that one word holds, and the time of its last sample in another. Recording
/// takes no lock: if two samples come at once, one of them may be lost.
#[derive(Debug, Default)]
pub(super) struct Slowness {
    /// In units of [`AS_USUAL`]; 0 before the first sample.
    value: AtomicU64,
    at_us: AtomicU64,
}

/// The value of an endpoint that takes as long as usual.
pub(super) const AS_USUAL: u64 = 1 << 20;
/// This is 65,536 times as slow as usual.
const MOST: u64 = AS_USUAL << 16;
/// A thousand times as quick as usual.
const LEAST: u64 = AS_USUAL >> 10;

/// After this time, a sample counts for half. (Finagle's decays by a factor of e in the same time.)
/// An endpoint that is ten times as slow as usual is tried again after about half a minute, which
/// costs each process one slow read or two. The test `fleet` measures it: even if a process reads only
/// twelve times a second, its 99th percentile grows by a quarter; with half of this time, by a half.
const HALF_LIFE_US: u64 = 10_000_000;

/// Only what is older than this ages. An endpoint that is busy has a newer sample, and then nothing
/// has to be computed when it is drawn.
const FRESH_US: u64 = 1_000_000;

/// One sample raises the value to this many times itself at most.
const MOST_GROWTH: u64 = 4;

/// The first failure counts as this many times as slow as usual, and each further failure in a row
/// as twice as slow as the one before. A single failure may be one cut connection or one conflict
/// with replay.
const FAILED: u64 = 8 * AS_USUAL;
/// The highest power of two by which failures in a row multiply that.
const MOST_DOUBLINGS: u32 = 7;

impl Slowness {
    /// Records a statement that took `latency_us` and usually takes `usual_us`.
    pub(super) fn served(&self, latency_us: u64, usual_us: u64, now: Moment) {
        let scaled = latency_us.min(1 << 40) * AS_USUAL;
        let most = self.at(now, None).max(AS_USUAL).saturating_mul(MOST_GROWTH).min(MOST);
        self.record((scaled / usual_us.max(1)).clamp(LEAST, most), now);
    }

    /// Records a failure, after which `failures` have failed in a row. A failure is slow, however
    /// quickly it came: an endpoint that fails fast must not attract reads.
    pub(super) fn failed(&self, failures: u32, now: Moment) {
        self.record(FAILED << failures.saturating_sub(1).min(MOST_DOUBLINGS), now);
    }

    fn record(&self, sample: u64, now: Moment) {
        let (old, now_us) = (self.value.load(Ordering::Relaxed), micros(now));
        let new = match old > sample {
            true => {
                let elapsed_us = now_us.saturating_sub(self.at_us.load(Ordering::Relaxed));
                sample + left_of(old - sample, elapsed_us)
            }
            false => sample,
        };
        // Too little time to come down: the time goes on to count from the last sample.
        let comes_down = old > sample;
        if new != old || !comes_down {
            self.value.store(new, Ordering::Relaxed);
            self.at_us.store(now_us, Ordering::Relaxed);
        }
    }

    /// The value at `now`, in units of [`AS_USUAL`]. What was recorded before `since` is ignored: it
    /// says nothing about a server that was away in between.
    #[inline]
    pub(super) fn at(&self, now: Moment, since: Option<Moment>) -> u64 {
        let (value, at_us) =
            (self.value.load(Ordering::Relaxed), self.at_us.load(Ordering::Relaxed));
        if value == 0 || self.is_before(since) {
            return AS_USUAL;
        }
        match micros(now).saturating_sub(at_us).saturating_sub(FRESH_US) {
            0 => value,
            elapsed_us => aged(value, elapsed_us),
        }
    }

    /// Whether the last sample was recorded before `since`.
    pub(super) fn is_before(&self, since: Option<Moment>) -> bool {
        since.is_some_and(|since| self.at_us.load(Ordering::Relaxed) < micros(since))
    }

    /// Forgets all samples.
    pub(super) fn begin_anew(&self) {
        self.value.store(0, Ordering::Relaxed);
    }
}

/// What becomes of `value` if nothing is sampled for this time.
fn aged(value: u64, elapsed_us: u64) -> u64 {
    match value >= AS_USUAL {
        true => AS_USUAL + left_of(value - AS_USUAL, elapsed_us),
        false => AS_USUAL - left_of(AS_USUAL - value, elapsed_us),
    }
}

/// What is left of `difference`, which is at most [`MOST`], after this time: half of it after a
/// half-life. In between, a parabola follows the true curve to 1 %, in whole numbers, so that every
/// machine computes the same.
fn left_of(difference: u64, elapsed_us: u64) -> u64 {
    let (halves, rest_us) = (elapsed_us / HALF_LIFE_US, elapsed_us % HALF_LIFE_US);
    let left = u32::try_from(halves).ok().and_then(|halves| difference.checked_shr(halves));
    let Some(left) = left else { return 0 };
    // 2^-x is about 1 - x (4 - x) / 6 between 0 and 1.
    let slope = left * rest_us / HALF_LIFE_US;
    left - slope * (4 * HALF_LIFE_US - rest_us) / (6 * HALF_LIFE_US)
}

fn micros(moment: Moment) -> u64 {
    let elapsed = moment.since(Moment::ZERO);
    elapsed.as_secs().saturating_mul(1_000_000).saturating_add(u64::from(elapsed.subsec_micros()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::from_origin(Duration::from_millis(ms))
    }

    /// In hundredths.
    fn value(slowness: &Slowness, ms: u64) -> u64 {
        slowness.at(at(ms), None) * 100 / AS_USUAL
    }

    #[test]
    fn a_slower_sample_counts_at_once_and_a_faster_one_by_the_time_that_passed() {
        let it = Slowness::default();
        assert_eq!(value(&it, 0), 100);
        it.served(1_000, 1_000, at(0));
        it.served(10_000, 1_000, at(1));
        assert_eq!(value(&it, 1), 400);
        it.served(10_000, 1_000, at(1));
        assert_eq!(value(&it, 1), 1_000);
        it.served(1_000, 1_000, at(2));
        assert!((990..1_000).contains(&value(&it, 2)), "{}", value(&it, 2));
        it.served(1_000, 1_000, at(10_002));
        assert_eq!(value(&it, 10_002), 549, "half of what was above the sample");
    }

    #[test]
    fn what_fails_for_an_hour_stays_as_slow_as_it_was() {
        let it = Slowness::default();
        (0..36_000_u64)
            .for_each(|number| it.failed(u32::try_from(number + 1).unwrap(), at(number * 100)));
        assert_eq!(value(&it, 3_600_000), value(&it, 3_599_900));
        assert!(value(&it, 3_600_000) > 10_000, "{}", value(&it, 3_600_000));
    }

    #[test]
    fn what_is_sampled_often_decays_as_quickly_as_what_is_sampled_seldom() {
        let (often, seldom) = (Slowness::default(), Slowness::default());
        for it in [&often, &seldom] {
            it.served(4_000, 1_000, at(0));
        }
        for tenths in 1..=100_000_u64 {
            let now = Moment::from_origin(Duration::from_micros(tenths * 100));
            often.served(1_000, 1_000, now);
        }
        seldom.served(1_000, 1_000, at(10_000));
        let [often, seldom] = [often, seldom].map(|it| value(&it, 10_000));
        assert!(often.abs_diff(seldom) < 20, "{often} {seldom}");
    }

    #[test]
    fn without_samples_everything_becomes_as_usual() {
        for latency_us in [100_000, 10] {
            let it = Slowness::default();
            it.served(latency_us, 1_000, at(0));
            let far: Vec<_> = [0, 11_000, 21_000, 101_000]
                .map(|ms| value(&it, ms).abs_diff(100))
                .into_iter()
                .collect();
            assert!(far.windows(2).all(|pair| pair[1] <= pair[0] / 2 + 1), "{far:?}");
            assert!(far[3] < 10, "{far:?}");
        }
    }

    #[test]
    fn a_failure_is_slow_and_further_ones_are_slower_up_to_a_limit() {
        let it = Slowness::default();
        let values: Vec<_> = (1..=10)
            .map(|failures| {
                it.failed(failures, at(0));
                value(&it, 0) / 100
            })
            .collect();
        assert_eq!(values, [8, 16, 32, 64, 128, 256, 512, 1_024, 1_024, 1_024]);
    }

    #[test]
    fn what_was_recorded_before_the_server_came_back_is_ignored() {
        let it = Slowness::default();
        it.failed(5, at(1_000));
        assert_eq!(it.at(at(2_000), Some(at(1_500))), AS_USUAL);
        assert!(it.at(at(2_000), Some(at(1_000))) > 100 * AS_USUAL);
    }

    #[test]
    fn the_longest_times_do_no_harm() {
        let it = Slowness::default();
        it.served(u64::MAX, 0, at(0));
        (0..10).for_each(|_| it.served(u64::MAX, 0, at(0)));
        assert_eq!(it.at(at(0), None), MOST);
        let late = Moment::from_origin(Duration::MAX);
        assert_eq!(it.at(late, None), AS_USUAL);
        it.served(0, u64::MAX, late);
        assert_eq!(it.at(late, None), LEAST);
    }
}
