//! What a run does on one release: which suites wait for a cluster, and the clusters that are up.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::lock;
use crate::cluster::Cluster;
use crate::release::Release;
use crate::suite::Suite;
use crate::summary::{Report, Verdict};

/// A further cluster of an engine starts for so many suites.
const WORTH_A_CLUSTER: usize = 3;

/// The suites of one release, which several clusters may share.
pub(super) struct Part {
    pub(super) release: &'static Release,
    /// The suites that no cluster has taken yet and that run beside others.
    waiting: Mutex<VecDeque<Suite>>,
    /// The suites that nothing may run beside.
    pub(super) alone: Vec<Suite>,
    report: Mutex<Report>,
    /// Whether a worker has taken one of the suites.
    has_begun: AtomicBool,
    /// The cluster that waits for the suites that run alone.
    idle: Mutex<Option<Cluster>>,
}

impl Part {
    /// `usual`: each suite runs on its usual engines only. `has_test` tells whether the run's filter
    /// leaves a suite any test.
    pub(super) fn new(
        release: &'static Release,
        suites: &[Suite],
        usual: bool,
        has_test: impl Fn(&Suite) -> anyhow::Result<bool>,
    ) -> anyhow::Result<Self> {
        let mut report = Report::new(release, suites, usual);
        let (mut alone, mut waiting) = (Vec::new(), VecDeque::new());
        for suite in report.left() {
            match has_test(&suite)? {
                false => report.set(&suite.name, Verdict::NoSuchTest),
                true if suite.is_alone => alone.push(suite),
                true => waiting.push_back(suite),
            }
        }
        let (waiting, report) = (Mutex::new(waiting), Mutex::new(report));
        let has_begun = AtomicBool::new(false);
        Ok(Self { release, waiting, alone, report, has_begun, idle: Mutex::default() })
    }

    /// How many suites still wait for a cluster.
    pub(super) fn left(&self) -> usize {
        lock(&self.waiting).len()
    }

    /// Whether enough suites wait for one more cluster to start. It costs about ten seconds, but
    /// without the first one nothing runs.
    pub(super) fn is_worth_a_cluster(&self) -> bool {
        let least = if self.has_begun.load(Ordering::Relaxed) { WORTH_A_CLUSTER } else { 1 };
        self.left() >= least
    }

    /// The next suite that runs beside others.
    pub(super) fn next(&self) -> Option<Suite> {
        self.has_begun.store(true, Ordering::Relaxed);
        lock(&self.waiting).pop_front()
    }

    /// Reads or changes the report.
    pub(super) fn report<T>(&self, with: impl FnOnce(&mut Report) -> T) -> T {
        with(&mut lock(&self.report))
    }

    /// Notes why suites could not run. None of those that still wait is tried.
    pub(super) fn trouble(&self, error: &anyhow::Error) {
        lock(&self.waiting).clear();
        self.report(|report| report.trouble(error));
    }

    /// The cluster that waits, if there is one.
    pub(super) fn take(&self) -> Option<Cluster> {
        lock(&self.idle).take()
    }

    /// Lets `cluster` wait, and returns the one that has waited until now.
    pub(super) fn give_back(&self, cluster: Cluster) -> Option<Cluster> {
        lock(&self.idle).replace(cluster)
    }

    /// The report, when all is done.
    pub(super) fn into_report(self) -> Report {
        self.report.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::Choice;

    #[test]
    fn the_first_cluster_starts_for_one_suite_and_a_further_one_for_three() {
        let release = "mysql".parse::<Choice>().unwrap().releases().next().unwrap();
        let suites: Vec<Suite> = Suite::all().unwrap();
        let few = ["smoke", "entities", "start"];
        let part =
            Part::new(release, &suites, false, |suite| Ok(few.contains(&&*suite.name))).unwrap();
        assert!(part.left() == 3 && part.is_worth_a_cluster());
        part.next();
        assert!(part.left() == 2 && !part.is_worth_a_cluster());
        let one = Part::new(release, &suites, false, |suite| Ok(suite.name == "smoke")).unwrap();
        assert!(one.is_worth_a_cluster());
    }

    #[test]
    fn a_suite_waits_runs_alone_or_has_no_test_and_trouble_ends_the_waiting() {
        let release = "postgres".parse::<Choice>().unwrap().releases().next().unwrap();
        let suites: Vec<Suite> = Suite::all().unwrap();
        let part = Part::new(release, &suites, false, |suite| Ok(suite.name != "smoke")).unwrap();
        let waiting = part.left();
        assert!(waiting >= WAITING && part.alone.iter().any(|suite| suite.name == "tails"));
        let first = part.next().unwrap();
        assert!(!first.is_alone && first.name != "smoke" && part.left() == waiting - 1);
        part.trouble(&anyhow::anyhow!("no image"));
        assert!(part.next().is_none());
        let report = part.into_report();
        assert!(!report.is_fine());
        assert!(report.to_string().contains("smoke                no test of that name"));
        assert_eq!(report.left().len(), waiting + suites.iter().filter(alone_here).count());
    }

    /// PostgreSQL has more suites than this that run beside others.
    const WAITING: usize = 20;

    fn alone_here(suite: &&Suite) -> bool {
        suite.is_alone && suite.is_for(&crate::engine::POSTGRES)
    }
}
