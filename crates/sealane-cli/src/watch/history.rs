//! The lags of the last two minutes, one for each second.

use std::{collections::BTreeMap, time::Duration};

use sealane::Status;

/// As many seconds as the widest curve shows.
const SECONDS: usize = 120;

/// The lags of each endpoint. Snapshots come several times a second; of those of one second, the
/// longest lag stays, and an unknown lag is longer than every other one.
#[derive(Debug, Default)]
pub(super) struct History {
    /// The second of the newest lags, since the start.
    second: Option<u64>,
    lags_ms: BTreeMap<String, Vec<Option<u64>>>,
}

impl History {
    /// Records the lags of a snapshot that was taken at `at` since the start. Seconds without a
    /// snapshot, as after a suspension, are unknown.
    pub(super) fn note(&mut self, at: Duration, status: &Status) {
        let second = at.as_secs();
        let passed = self.second.map_or(1, |before| second.saturating_sub(before));
        let passed = usize::try_from(passed).unwrap_or(SECONDS).min(SECONDS);
        self.second = Some(second);
        for endpoint in &status.endpoints {
            let lags = self.lags_ms.entry(endpoint.name.clone()).or_default();
            match lags.last_mut() {
                Some(last) if passed == 0 => {
                    *last = last.zip(endpoint.lag_ms).map(|(a, b)| a.max(b));
                }
                last => {
                    let missed = if last.is_some() { passed - 1 } else { 0 };
                    lags.extend(std::iter::repeat_n(None, missed));
                    lags.push(endpoint.lag_ms);
                }
            }
            lags.drain(..lags.len().saturating_sub(SECONDS));
        }
    }

    /// The lags of an endpoint, the newest at the end.
    pub(super) fn of(&self, endpoint: &str) -> &[Option<u64>] {
        self.lags_ms.get(endpoint).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use crate::watch::fleet::Fleet;

    use super::*;

    async fn noted(lags: &[(u64, Option<u64>)]) -> Vec<Option<u64>> {
        let mut fleet = Fleet::sail(1).await;
        let mut history = History::default();
        for (at_ms, lag_ms) in lags {
            fleet.replica(1).lag_ms = *lag_ms;
            history.note(Duration::from_millis(*at_ms), &fleet.status);
        }
        history.of("db-2").to_vec()
    }

    #[tokio::test]
    async fn each_second_has_its_longest_lag() {
        let lags = [(0, Some(1)), (250, Some(9)), (500, Some(2)), (1_000, Some(3))];
        assert_eq!(noted(&lags).await, [Some(9), Some(3)]);
    }

    #[tokio::test]
    async fn what_was_unknown_in_a_second_stays_unknown() {
        let lags = [(0, Some(1)), (250, None), (500, Some(2)), (1_000, Some(3))];
        assert_eq!(noted(&lags).await, [None, Some(3)]);
    }

    #[tokio::test]
    async fn seconds_that_nobody_saw_are_unknown() {
        let lags = [(0, Some(1)), (3_100, Some(2))];
        assert_eq!(noted(&lags).await, [Some(1), None, None, Some(2)]);
        let after_a_night = noted(&[(0, Some(1)), (30_000_000, Some(2))]).await;
        assert_eq!(after_a_night.len(), SECONDS);
        assert_eq!(after_a_night.iter().flatten().count(), 1);
    }

    #[tokio::test]
    async fn a_long_watch_takes_no_more_room() {
        let lags: Vec<_> = (0..1_000).map(|second| (second * 1_000, Some(second))).collect();
        let noted = noted(&lags).await;
        assert_eq!((noted.len(), noted.last()), (SECONDS, Some(&Some(999))));
    }

    #[tokio::test]
    async fn an_endpoint_that_was_never_seen_has_no_lags() {
        assert!(History::default().of("db-9").is_empty());
    }
}
