//! What shadow mode has recorded.
//!
//! Reads in shadow mode take a lock here for as long as it takes to count; other reads do not come
//! here at all.

mod report;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sealane_core::{EndpointId, Moment};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Shadow;
pub use report::{ShadowComparisons, ShadowDifference, ShadowEndpoint, ShadowReport, ShadowStays};

/// How many reads are compared at a time. Each takes one connection to a replica, and for a moment
/// one to the primary.
const COMPARED_AT_A_TIME: usize = 2;
/// How many statements that differed are kept.
const KEPT: usize = 20;
/// A statement that differs again and again is announced this often.
const ANNOUNCED_EVERY: Duration = Duration::from_secs(60);
/// The least time between two announcements.
const BETWEEN_ANNOUNCEMENTS: Duration = Duration::from_secs(1);

/// The counts of shadow mode, and the statements that differed.
#[derive(Debug)]
pub(crate) struct Ledger {
    entries: Mutex<Entries>,
    room: Arc<Semaphore>,
}

/// The right to compare one read.
pub(crate) type ComparisonPermit = OwnedSemaphorePermit;

#[derive(Debug, Default)]
struct Entries {
    reads: u64,
    stays: ShadowStays,
    endpoints: BTreeMap<EndpointId, ShadowEndpoint>,
    /// The statement that differed last comes last.
    differences: VecDeque<Kept>,
    announced: Option<Moment>,
}

#[derive(Debug)]
struct Kept {
    difference: ShadowDifference,
    announced: Option<Moment>,
}

/// Why a read would have run on the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stay {
    OutsideShare,
    Asked,
    Pinned,
    FellBack,
    /// It would have failed.
    Failed,
}

/// What a comparison showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compared {
    Equal,
    /// The primary's own answer changed in the meantime.
    Changed,
    NotComparable,
    Failed,
    /// Nothing was asked: there was no room, or the server was replaced.
    Skipped,
}

impl Default for Ledger {
    fn default() -> Self {
        let room = Arc::new(Semaphore::new(COMPARED_AT_A_TIME));
        Ledger { entries: Mutex::default(), room }
    }
}

impl Ledger {
    /// Counts a read that stays on the primary anyway.
    pub(crate) fn stays(&self, why: Stay) {
        let mut entries = self.lock();
        entries.reads += 1;
        let stays = &mut entries.stays;
        *match why {
            Stay::OutsideShare => &mut stays.outside_share,
            Stay::Asked => &mut stays.asked,
            Stay::Pinned => &mut stays.pinned,
            Stay::FellBack => &mut stays.fell_back,
            Stay::Failed => &mut stays.would_fail,
        } += 1;
    }

    /// Counts a read that would have run on `endpoint`, whose name is `name`.
    pub(crate) fn leaves(&self, endpoint: EndpointId, name: &str) {
        let mut entries = self.lock();
        entries.reads += 1;
        let entry = entries.endpoints.entry(endpoint).or_insert_with(|| ShadowEndpoint::new(name));
        entry.reads += 1;
    }

    /// Takes a place for a comparison, if one is free.
    pub(crate) fn try_compare(&self) -> Option<ComparisonPermit> {
        Arc::clone(&self.room).try_acquire_owned().ok()
    }

    /// Counts a comparison on `endpoint`.
    pub(crate) fn compared(&self, endpoint: EndpointId, outcome: Compared) {
        if let Some(entry) = self.lock().endpoints.get_mut(&endpoint) {
            let counts = &mut entry.comparisons;
            *match outcome {
                Compared::Equal => &mut counts.equal,
                Compared::Changed => &mut counts.changed_meanwhile,
                Compared::NotComparable => &mut counts.not_comparable,
                Compared::Failed => &mut counts.failed,
                Compared::Skipped => &mut counts.skipped,
            } += 1;
        }
    }

    /// Counts and keeps a difference on `endpoint`. Returns whether it is to be announced now.
    pub(crate) fn differed(
        &self,
        endpoint: EndpointId,
        difference: ShadowDifference,
        now: Moment,
    ) -> bool {
        let mut entries = self.lock();
        if let Some(entry) = entries.endpoints.get_mut(&endpoint) {
            entry.comparisons.differed += 1;
        }
        entries.keep(difference, now)
    }

    /// What was recorded since the start.
    pub(crate) fn report(&self, shadow: Shadow) -> ShadowReport {
        let entries = self.lock();
        ShadowReport {
            shadow,
            reads: entries.reads,
            stays: entries.stays,
            endpoints: entries.endpoints.values().cloned().collect(),
            differences: entries.differences.iter().map(|kept| kept.difference.clone()).collect(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        // Counts have no broken state.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    fn keep(&mut self, difference: ShadowDifference, now: Moment) -> bool {
        let is_same = |kept: &Kept| kept.difference.statement == difference.statement;
        let known = self.differences.iter().position(is_same);
        let known = known.and_then(|at| self.differences.remove(at));
        let (times, last) = known.map_or((0, None), |it| (it.difference.times, it.announced));
        let is_past =
            |last: Option<Moment>, pause| last.is_none_or(|last| now.since(last) >= pause);
        let is_due =
            is_past(last, ANNOUNCED_EVERY) && is_past(self.announced, BETWEEN_ANNOUNCEMENTS);
        let announced = if is_due { Some(now) } else { last };
        if is_due {
            self.announced = announced;
        }
        if self.differences.len() == KEPT {
            self.differences.pop_front();
        }
        let difference = ShadowDifference { times: times + 1, ..difference };
        self.differences.push_back(Kept { difference, announced });
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(seconds: u64) -> Moment {
        Moment::ZERO + Duration::from_secs(seconds)
    }

    fn difference(statement: &str) -> ShadowDifference {
        ShadowDifference {
            statement: statement.to_owned(),
            endpoint: "replica-1".to_owned(),
            times: 0,
            lag_ms: Some(7),
            rows_on_primary: 2,
            rows_on_replica: 1,
        }
    }

    #[test]
    fn each_read_counts_once_with_where_it_would_have_run() {
        let ledger = Ledger::default();
        ledger.leaves(EndpointId::FIRST, "replica-1");
        ledger.leaves(EndpointId::FIRST, "replica-1");
        for why in [Stay::OutsideShare, Stay::Asked, Stay::Pinned, Stay::FellBack, Stay::Failed] {
            ledger.stays(why);
        }
        for outcome in [Compared::Equal, Compared::Equal, Compared::Changed, Compared::Failed] {
            ledger.compared(EndpointId::FIRST, outcome);
        }
        ledger.compared(EndpointId::FIRST, Compared::NotComparable);
        ledger.compared(EndpointId::FIRST, Compared::Skipped);
        assert!(ledger.differed(EndpointId::FIRST, difference("SELECT 1"), moment(1)));
        let report = ledger.report(Shadow::COMPARE_ALL);
        let ShadowStays { outside_share, asked, pinned, fell_back, would_fail } = report.stays;
        assert_eq!([outside_share, asked, pinned, fell_back, would_fail], [1; 5]);
        let replica = &report.endpoints[0];
        assert_eq!((report.reads, replica.reads, replica.comparisons.compared()), (7, 2, 3));
        let told = report.to_string();
        for part in ["replica-1", "7 reads", "SELECT 1", "7 ms", "2 rows", "1 on replica-1"] {
            assert!(told.contains(part), "{part}: {told}");
        }
    }

    #[test]
    fn a_statement_is_announced_once_a_minute_and_all_of_them_once_a_second() {
        let ledger = Ledger::default();
        let announced = |statement, seconds| {
            ledger.differed(EndpointId::FIRST, difference(statement), moment(seconds))
        };
        assert!(announced("a", 100));
        assert!(!announced("b", 100) && !announced("a", 159));
        assert!(announced("b", 159));
        assert!(announced("a", 160));
    }

    #[test]
    fn the_statements_that_differed_last_are_kept_and_each_of_them_once() {
        let ledger = Ledger::default();
        for number in 0..30 {
            ledger.differed(EndpointId::FIRST, difference(&number.to_string()), moment(1));
        }
        ledger.differed(EndpointId::FIRST, difference("15"), moment(1));
        let report = ledger.report(Shadow::Record);
        let kept: Vec<_> =
            report.differences.iter().map(|it| (it.statement.as_str(), it.times)).collect();
        assert_eq!((kept.len(), kept[0], kept[19]), (KEPT, ("10", 1), ("15", 2)));
    }
}
