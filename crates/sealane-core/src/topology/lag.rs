//! How far behind a replica was recently.
//!
//! A read that may wait for a replica asks `LagHistory::catches_up_in` whether waiting can pay off.
//! The answer is a guess from the last ten seconds. The read then waits on the topology store, for
//! any topology in which a replica can serve it, so the same probes answer all waiting reads.
//!
//! Rejected: the engines' own waits, such as `WAIT_FOR_EXECUTED_GTID_SET`. Each such wait would
//! hold a connection of a replica's pool, would need the primary's position first, and would hear
//! of the replay some milliseconds earlier at best.

use std::{collections::VecDeque, time::Duration};

use serde::Serialize;

use crate::Moment;

/// How many observations of one endpoint are kept: four minutes at the idle pace of one per second.
const CAPACITY: usize = 256;
/// Observations closer together than this count as one, so that quick probing does not push out the
/// last half minute.
const GRAIN: Duration = Duration::from_millis(100);

/// Observations that span less time than this show no trend.
const TELLING: Duration = Duration::from_millis(500);

/// How much of the history is used to estimate how fast a replica replays.
const TREND: Duration = Duration::from_secs(10);
/// A replica that replays more slowly than this part of real time counts as standing still.
const SLOWEST_PACE: f64 = 0.05;

/// The lags of one replica, as found by its last observations.
///
/// The history is kept beside the topology and not in its snapshots, because routing does not use
/// it.
#[derive(Debug, Clone, Default)]
pub struct LagHistory(VecDeque<(Moment, Option<Duration>)>);

/// The summary of a [`LagHistory`] over a window of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LagSummary {
    /// How many observations found a lag.
    pub known: usize,
    /// How many observations found an unknown lag. The values below do not include them.
    pub unknown: usize,
    /// The mean of the known lags. This and the following values are `None` if no lag is known.
    pub average: Option<Duration>,
    /// The median.
    pub median: Option<Duration>,
    /// The 95th percentile: 95 of 100 lags were not longer.
    pub p95: Option<Duration>,
    /// The longest lag.
    pub maximum: Option<Duration>,
}

impl LagHistory {
    /// Records the lag found at `at`. Of several observations within a tenth of a second, only the
    /// newest is kept. Beyond 256 observations, the oldest is forgotten.
    pub(crate) fn push(&mut self, at: Moment, lag: Option<Duration>) {
        let mut newest = self.0.iter().rev().map(|(at, _)| *at);
        if let (Some(last), Some(before)) = (newest.next(), newest.next())
            && last.since(before) < GRAIN
        {
            self.0.pop_back();
        }
        if self.0.len() >= CAPACITY {
            self.0.pop_front();
        }
        self.0.push_back((at, lag));
    }

    /// Whether the replica was observed but its lag was never known.
    pub(crate) fn awaits_first(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|(_, lag)| lag.is_none())
    }

    /// How long it takes from `now` until the replica shows what the primary has at `now`, if
    /// replay continues as in the last ten seconds. `None` if replay stands still or nothing is
    /// known. The result is a guess that decides whether waiting is worthwhile. It proves nothing.
    #[must_use]
    pub fn catches_up_in(&self, now: Moment) -> Option<Duration> {
        let (last_at, last) = self.0.back().and_then(|(at, lag)| Some((*at, (*lag)?)))?;
        let begin = last_at - TREND;
        let first = self.0.iter().filter(|(at, _)| *at >= begin).find_map(|(at, lag)| {
            let lag = (*lag)?;
            Some((*at, lag))
        })?;
        // How many seconds of the primary's history the replica replays per second; 1 means that it
        // keeps pace.
        let pace = match last_at.since(first.0) {
            // Two probes close together say nothing about the pace.
            span if span < TELLING => 1.0,
            span => 1.0 - (last.as_secs_f64() - first.1.as_secs_f64()) / span.as_secs_f64(),
        };
        let fallen_back = (1.0 - pace) * now.since(last_at).as_secs_f64();
        let behind = (last.as_secs_f64() + fallen_back).max(0.0);
        if pace < SLOWEST_PACE { None } else { Duration::try_from_secs_f64(behind / pace).ok() }
    }

    /// A summary of the lags found in the `window` before `now`, both ends included. It allocates
    /// and sorts, so it is meant for people and metrics, not for routing.
    #[must_use]
    pub fn summary(&self, now: Moment, window: Duration) -> LagSummary {
        let begin = now - window;
        let found = self.0.iter().filter(|(at, _)| (begin..=now).contains(at));
        let lags: Vec<Option<Duration>> = found.map(|(_, lag)| *lag).collect();
        let mut known: Vec<Duration> = lags.iter().flatten().copied().collect();
        known.sort_unstable();
        let total: Duration = known.iter().sum();
        LagSummary {
            known: known.len(),
            unknown: lags.len() - known.len(),
            average: u32::try_from(known.len()).ok().and_then(|count| total.checked_div(count)),
            median: percentile(&known, 50),
            p95: percentile(&known, 95),
            maximum: known.last().copied(),
        }
    }
}

/// The percentile by nearest rank: the least value in `sorted` for which at least `percent` of 100
/// values are not greater.
fn percentile(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::from_origin(Duration::from_secs(seconds))
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Lags of 1 to `n` milliseconds, one a second.
    fn rising(n: u64) -> LagHistory {
        let mut history = LagHistory::default();
        (1..=n).for_each(|second| history.push(at(second), Some(ms(second))));
        history
    }

    #[test]
    fn a_window_is_summed_up() {
        let summary = rising(100).summary(at(100), Duration::from_secs(1_000));
        assert_eq!((summary.known, summary.unknown), (100, 0));
        assert_eq!(summary.average, Some(Duration::from_micros(50_500)));
        assert_eq!(summary.median, Some(ms(50)));
        assert_eq!(summary.p95, Some(ms(95)));
        assert_eq!(summary.maximum, Some(ms(100)));
    }

    #[test]
    fn observations_older_than_the_window_do_not_count() {
        let summary = rising(100).summary(at(100), Duration::from_secs(9));
        assert_eq!((summary.known, summary.median), (10, Some(ms(95))));
    }

    #[test]
    fn unknown_is_not_zero() {
        let mut history = rising(1);
        history.push(at(2), None);
        let summary = history.summary(at(2), Duration::from_secs(9));
        assert_eq!((summary.known, summary.unknown), (1, 1));
        assert_eq!(summary.average, Some(ms(1)));
    }

    #[test]
    fn nothing_found_is_nothing_known() {
        let summary = rising(10).summary(at(100), Duration::from_secs(9));
        assert_eq!((summary.average, summary.p95, summary.maximum), (None, None, None));
    }

    #[test]
    fn one_lag_is_every_percentile() {
        let summary = rising(1).summary(at(1), Duration::ZERO);
        assert_eq!((summary.median, summary.p95), (Some(ms(1)), Some(ms(1))));
    }

    /// Takes the lags in milliseconds, one per second from the first second on.
    fn history_of(lags_ms: &[u64]) -> LagHistory {
        let mut history = LagHistory::default();
        (1..).zip(lags_ms).for_each(|(second, lag)| history.push(at(second), Some(ms(*lag))));
        history
    }

    #[test]
    fn a_replica_that_keeps_pace_shows_a_write_after_its_lag() {
        assert_eq!(history_of(&[0, 0, 0]).catches_up_in(at(3)), Some(ms(0)));
        assert_eq!(history_of(&[0, 0, 0]).catches_up_in(at(4)), Some(ms(0)));
        assert_eq!(history_of(&[700]).catches_up_in(at(1)), Some(ms(700)));
        assert_eq!(history_of(&[700, 700, 700]).catches_up_in(at(4)), Some(ms(700)));
    }

    #[test]
    fn a_replica_that_catches_up_needs_less_time_than_its_lag_and_one_that_falls_back_more() {
        // The replica replays two seconds of history per second, and has four to go.
        assert_eq!(history_of(&[6_000, 5_000, 4_000]).catches_up_in(at(3)), Some(ms(2_000)));
        // The replica replays half a second per second, so being one second behind means waiting
        // two seconds.
        assert_eq!(history_of(&[0, 500, 1_000]).catches_up_in(at(3)), Some(ms(2_000)));
        // It also falls further behind between observations.
        assert_eq!(history_of(&[0, 500, 1_000]).catches_up_in(at(4)), Some(ms(3_000)));
    }

    #[test]
    fn a_replica_that_stands_still_or_is_unknown_never_catches_up() {
        assert_eq!(history_of(&[0, 1_000, 2_000]).catches_up_in(at(3)), None);
        assert_eq!(LagHistory::default().catches_up_in(at(3)), None);
        let mut lost = history_of(&[0, 0]);
        lost.push(at(3), None);
        assert_eq!(lost.catches_up_in(at(3)), None);
    }

    #[test]
    fn only_the_last_ten_seconds_decide_the_pace() {
        let mut lags = vec![90_000; 20];
        lags.extend([500; 12]);
        assert_eq!(history_of(&lags).catches_up_in(at(32)), Some(ms(500)));
    }

    #[test]
    fn quick_probing_does_not_push_out_older_observations() {
        let mut history = history_of(&[0]);
        for n in 1..=2_000 {
            history.push(at(1) + ms(n * 5), Some(ms(n)));
        }
        assert!(history.0.len() <= 102, "{}", history.0.len());
        let summary = history.summary(at(11), Duration::from_secs(60));
        assert_eq!(summary.maximum, Some(ms(2_000)), "the newest is always there");
        assert_eq!(history.0.front().unwrap().0, at(1));
    }

    #[test]
    fn the_history_is_bounded() {
        let history = rising(10_000);
        assert_eq!(history.0.len(), CAPACITY);
        assert_eq!(history.summary(at(10_000), Duration::MAX).known, CAPACITY);
    }
}
