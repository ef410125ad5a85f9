//! Compares the published bound on staleness with the truth, again and again.
//!
//! # Why this is sound
//! A bound *b* published at a moment *t* says: every later read on the replica sees everything that
//! the primary had committed at *t - b*. So the ruler first reads the bound and then asks the
//! replica for its newest marker. A missing marker that was committed before *t - b* proves the
//! bound wrong. The ruler's truth is the age of the first missing marker. All moments are on one
//! clock: the primary's own, asked *before* the bound is read, or ours. The ruler assumes the
//! latest possible commit and the earliest possible *t*. So its truth is never more than the real
//! staleness, and it never calls a right bound wrong. How close the bounds come to this truth shows
//! how much it may be too small.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sealane::RoutedConnection;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::connection::Line;
use crate::marker::Written;
use crate::{Cluster, Markers, Server};

/// Pause between two samples, in addition to the time for taking one.
const PAUSE: Duration = Duration::from_millis(2);
/// A replica that does not answer for this long gives no sample of the truth.
const PATIENCE: Duration = Duration::from_millis(200);

/// The clock that measures the age of a marker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Clock {
    /// The primary's own clock.
    Primary,
    /// This program's clock, for primaries whose clock changes during the test.
    Here,
}

/// Measures one replica until it is dropped.
#[derive(Debug)]
pub struct Ruler {
    found: Arc<Mutex<Found>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Found {
    /// The replica's current fault.
    fault: &'static str,
    samples: Vec<Sample>,
}

/// The published bound of a replica at one moment, and the truth.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// The replica's fault at that moment.
    pub fault: &'static str,
    /// The published bound; `None` if it was published as unknown.
    pub bound: Option<Duration>,
    /// The least age of the replica's data; `None` if the replica did not answer.
    pub truth: Option<Duration>,
}

impl Ruler {
    /// Starts to measure what `db` publishes about `replica`.
    #[must_use]
    pub fn start(
        db: &RoutedConnection,
        cluster: &Cluster,
        replica: &Server,
        markers: &Markers,
        clock: Clock,
    ) -> Self {
        let found = Arc::new(Mutex::new(Found { fault: "none", samples: Vec::new() }));
        let eye = Eye {
            db: db.clone(),
            name: replica.name.clone(),
            replica: Line::to(replica),
            primary: (clock == Clock::Primary).then(|| Line::to(cluster.primary())),
            now: format!("SELECT {}", replica.replication().clock()),
            written: markers.written(),
        };
        let task = tokio::spawn(eye.look(Arc::clone(&found)));
        Self { found, task }
    }

    /// Records that the replica has the fault `fault` from now on.
    pub fn note(&self, fault: &'static str) {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).fault = fault;
    }

    /// All samples until now.
    #[must_use]
    pub fn samples(&self) -> Vec<Sample> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).samples.clone()
    }
}

impl Drop for Ruler {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Eye {
    db: RoutedConnection,
    name: String,
    replica: Line,
    primary: Option<Line>,
    now: String,
    written: Arc<Written>,
}

impl Eye {
    async fn look(mut self, found: Arc<Mutex<Found>>) {
        loop {
            let fault = found.lock().unwrap_or_else(PoisonError::into_inner).fault;
            if let Some((bound, truth)) = self.sample().await {
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                found.samples.push(Sample { fault, bound, truth });
            }
            sleep(PAUSE).await;
        }
    }

    /// Takes a sample; `None` while the primary does not tell its time.
    async fn sample(&mut self) -> Option<(Option<Duration>, Option<Duration>)> {
        let clock_us: Option<i64> = match &mut self.primary {
            Some(primary) => Some(timeout(PATIENCE, primary.scalar(&self.now)).await.ok()?.ok()?),
            None => None,
        };
        let asked = Instant::now();
        let bound = self.bound();
        let newest = "SELECT coalesce(max(number), 0) FROM marker";
        let Ok(Ok(newest)) = timeout(PATIENCE, self.replica.scalar::<i64>(newest)).await else {
            return Some((bound, None));
        };
        let Some(missing) = self.written.after(newest) else {
            return Some((bound, Some(Duration::ZERO)));
        };
        let truth = match clock_us {
            Some(now) => {
                Duration::from_micros(u64::try_from(now - missing.clock_us).unwrap_or_default())
            }
            None => asked.saturating_duration_since(missing.seen),
        };
        Some((bound, Some(truth)))
    }

    fn bound(&self) -> Option<Duration> {
        let endpoints = self.db.status().endpoints;
        let replica = endpoints.into_iter().find(|endpoint| endpoint.name == self.name);
        replica.and_then(|replica| replica.staleness_ms).map(Duration::from_millis)
    }
}

impl Sample {
    /// The bound and the truth, if both are known.
    #[must_use]
    pub fn compared(&self) -> Option<(Duration, Duration)> {
        self.bound.zip(self.truth)
    }

    /// Whether the replica missed more than the bound says.
    #[must_use]
    pub fn is_wrong(&self) -> bool {
        self.is_wrong_if_less(Duration::ZERO)
    }

    /// The same with a bound that is smaller by `error`: a planted fault, to check that the ruler
    /// finds it.
    #[must_use]
    pub fn is_wrong_if_less(&self, error: Duration) -> bool {
        self.compared().is_some_and(|(bound, truth)| truth > bound.saturating_sub(error))
    }
}

/// The summary of the samples of one fault.
#[derive(Clone, Copy, Debug)]
pub struct Summary {
    /// The number of samples.
    pub samples: usize,
    /// How often no bound was published, which claims nothing.
    pub unknown: usize,
    /// How often the replica did not answer.
    pub silent: usize,
    /// How many bounds were wrong.
    pub wrong: usize,
    /// The longest time that the data was really behind.
    pub stalest: Duration,
    /// By how much bounds exceeded the truth: the median.
    pub median: Duration,
    /// The 95th percentile of the same.
    pub p95: Duration,
}

impl Summary {
    /// Summarises the samples that were taken during `fault`; all samples if `fault` is empty.
    #[must_use]
    pub fn of(samples: &[Sample], fault: &str) -> Self {
        let of_fault = |sample: &&Sample| fault.is_empty() || sample.fault == fault;
        let samples: Vec<&Sample> = samples.iter().filter(of_fault).collect();
        let compared = samples.iter().filter_map(|sample| sample.compared());
        let mut excess: Vec<Duration> =
            compared.map(|(bound, truth)| bound.saturating_sub(truth)).collect();
        excess.sort_unstable();
        let rank = |percent: usize| {
            let index = (excess.len() * percent).div_ceil(100).saturating_sub(1);
            excess.get(index).copied().unwrap_or_default()
        };
        Self {
            samples: samples.len(),
            unknown: samples.iter().filter(|sample| sample.bound.is_none()).count(),
            silent: samples.iter().filter(|sample| sample.truth.is_none()).count(),
            wrong: samples.iter().filter(|sample| sample.is_wrong()).count(),
            stalest: samples.iter().filter_map(|sample| sample.truth).max().unwrap_or_default(),
            median: rank(50),
            p95: rank(95),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { samples, unknown, silent, wrong, stalest, median, p95 } = self;
        write!(
            f,
            "{samples} samples, {wrong} wrong; {unknown} without a bound, {silent} without an \
             answer; up to {stalest:.1?} behind; bounds exceed the truth by {median:.1?} \
             (median), {p95:.1?} (p95)"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(fault: &'static str, bound: Option<u64>, truth: Option<u64>) -> Sample {
        let ms = |ms: Option<u64>| ms.map(Duration::from_millis);
        Sample { fault, bound: ms(bound), truth: ms(truth) }
    }

    #[test]
    fn a_bound_below_the_truth_is_wrong_and_one_that_is_unknown_is_not() {
        assert!(sample("", Some(9), Some(10)).is_wrong());
        assert!(!sample("", Some(10), Some(10)).is_wrong());
        assert!(!sample("", None, Some(10)).is_wrong());
        assert!(!sample("", Some(10), None).is_wrong());
        assert!(sample("", Some(12), Some(10)).is_wrong_if_less(Duration::from_millis(3)));
        assert!(!sample("", Some(12), Some(10)).is_wrong_if_less(Duration::from_millis(2)));
    }

    #[test]
    fn samples_are_summarised_by_fault() {
        let samples = [
            sample("pause", Some(12), Some(10)),
            sample("pause", Some(25), Some(20)),
            sample("pause", None, Some(30)),
            sample("cut", Some(5), None),
        ];
        let pause = Summary::of(&samples, "pause");
        assert_eq!((pause.samples, pause.unknown, pause.silent), (3, 1, 0));
        assert_eq!((pause.median, pause.p95), (Duration::from_millis(2), Duration::from_millis(5)));
        assert_eq!(pause.stalest, Duration::from_millis(30));
        assert_eq!(Summary::of(&samples, "").samples, 4);
        assert_eq!(Summary::of(&samples, "").silent, 1);
    }
}
