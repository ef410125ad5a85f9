//! How far a replica was behind lately.

use std::{collections::VecDeque, time::Duration};

use serde::Serialize;

use crate::Moment;

/// How many observations are kept of one endpoint: four minutes at the idle
/// pace of one a second.
const CAPACITY: usize = 256;

/// The lags of one replica, as its last observations found them.
///
/// It lives beside the topology, not in its snapshots: nobody routes by it.
#[derive(Debug, Clone, Default)]
pub struct LagHistory(VecDeque<(Moment, Option<Duration>)>);

/// What a [`LagHistory`] says of a window of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LagSummary {
    /// How many observations found a lag.
    pub known: usize,
    /// How many found it unknown. They are in none of the numbers below.
    pub unknown: usize,
    /// The mean of the known lags; `None` if there are none, as below.
    pub average: Option<Duration>,
    /// The median.
    pub median: Option<Duration>,
    /// Ninety-five in a hundred lags were no longer.
    pub p95: Option<Duration>,
    /// The longest.
    pub maximum: Option<Duration>,
}

impl LagHistory {
    /// Notes what was found at `at`; beyond 256 observations the oldest is
    /// forgotten.
    pub(crate) fn push(&mut self, at: Moment, lag: Option<Duration>) {
        if self.0.len() >= CAPACITY {
            self.0.pop_front();
        }
        self.0.push_back((at, lag));
    }

    /// The lags found in the `window` before `now`, both ends included.
    /// Allocates and sorts: for people and metrics, not for routing.
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

/// By nearest rank: the least of `sorted` that at least so many in a hundred do
/// not exceed.
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
    fn what_is_older_than_the_window_does_not_count() {
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

    #[test]
    fn the_history_is_bounded() {
        let history = rising(10_000);
        assert_eq!(history.0.len(), CAPACITY);
        assert_eq!(history.summary(at(10_000), Duration::MAX).known, CAPACITY);
    }
}
