//! What the primary is proved to show.
//!
//! A primary writes a commit to its log and sends it to its replicas before it shows the commit
//! itself, so a replica can be ahead. A session that has read on a replica and moves to the primary
//! must know when the primary has followed.
//!
//! Each probe reports a *bound*: no replica has shown a transaction outside it. Once that probe or
//! another one reports that all transactions within the bound are over, the primary shows
//! everything that any replica had shown when the first probe was sent.
//!
//! # Numbers
//! On PostgreSQL, consider the transactions whose commit any replica had shown when a stamp was
//! drawn. All of them had their numbers by then. So these numbers are less than `next` of each
//! probe sent later: `next` is the bound. All numbers below `oldest` belong to transactions that
//! are over.
//!
//! Rejected: the end of a snapshot, `pg_snapshot_xmax`, in place of `next`. It is one more than the
//! newest number that is *over*. A transaction with a greater number may be running, and a replica
//! may already show its commit.
//!
//! An idle primary proves a stamp with one probe, a busy one with its second or third. The least
//! number that is not over is `pg_snapshot_xmin`; `next` is derived from the `age` of the first
//! number. Rejected: a transaction number of its own for each probe, `pg_current_xact_id()`. It
//! would write to the log and use up numbers.
//!
//! MariaDB counts the groups of commits that it shows (`mysql/shown.rs` of the monitor).
//!
//! # Sets
//! MySQL reports two sets: what it shows, and what it has begun to commit. Both together are the
//! bound. They are also the position that the report is a sample of.

use super::TopologyReducer;
use crate::{EndpointId, Observation, Outcome, Position, Report, Transactions, WriteStamp};

/// How many probes that wait for their proof are kept. While no session waits, at most one probe
/// per second is added. A transaction that stays open for longer makes the proofs coarser, not
/// wrong.
const CAPACITY: usize = 64;

/// Follows the probes of one run of one primary.
#[derive(Debug, Clone, Default)]
pub(super) struct Shown {
    of: Option<(EndpointId, u32)>,
    /// The stamps that await proof, each with the transactions that must be over.
    awaited: Vec<(WriteStamp, Bound)>,
    proved: Option<WriteStamp>,
}

/// Contains all transactions that any replica had shown.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Bound {
    /// All transactions with a lower number.
    Number(u64),
    Position(Position),
}

impl Bound {
    /// The bound that a primary has reported, if any.
    fn of(report: &Report) -> Option<(Self, &Transactions)> {
        let transactions = report.transactions.as_ref()?;
        let bound = match transactions {
            Transactions::Numbered { next, .. } => Bound::Number(*next),
            Transactions::Within(_) => Bound::Position(report.position.clone()?),
        };
        Some((bound, transactions))
    }

    /// Whether all transactions within the bound are over.
    fn is_over(&self, transactions: &Transactions) -> bool {
        match (self, transactions) {
            (Bound::Number(next), Transactions::Numbered { oldest, .. }) => next <= oldest,
            (Bound::Position(bound), Transactions::Within(over)) => over.covers(bound),
            // The server's software was replaced, so another run is about to be seen.
            (Bound::Number(_), Transactions::Within(_))
            | (Bound::Position(_), Transactions::Numbered { .. }) => false,
        }
    }
}

impl Shown {
    /// The newest proved stamp: the primary shows everything that any replica had shown when the
    /// stamp was drawn. `None` if the primary does not report this.
    fn proved(&self) -> Option<WriteStamp> {
        self.proved
    }

    /// Records the report of a probe that was sent to this run of the primary after `stamp`.
    fn note(&mut self, of: (EndpointId, u32), stamp: WriteStamp, report: &Report) {
        self.begin(Some(of));
        let Some((bound, transactions)) = Bound::of(report) else {
            return *self = Shown { of: Some(of), ..Shown::default() };
        };
        match self.awaited.last_mut() {
            Some((last, awaited)) if *awaited == bound => *last = stamp.max(*last),
            _ => self.awaited.push((stamp, bound)),
        }
        let proved = self.awaited.iter().filter(|(_, bound)| bound.is_over(transactions));
        let proved = proved.map(|(stamp, _)| *stamp).max().unwrap_or_default();
        self.proved = self.proved.max(Some(proved));
        // A proof of a stamp also proves all earlier stamps.
        self.awaited.retain(|(stamp, bound)| *stamp > proved && !bound.is_over(transactions));
        if self.awaited.len() >= CAPACITY {
            self.thin();
        }
    }

    /// Forgets everything about another primary or another run, because its numbers mean something
    /// else. A server that is promoted shows everything that it has replayed.
    fn begin(&mut self, of: Option<(EndpointId, u32)>) {
        if self.of != of {
            let proved = self.proved.map(|_| WriteStamp::NONE);
            *self = Shown { of, awaited: Vec::new(), proved };
        }
    }

    /// Drops every other entry, except the first and the last. Old entries end up far apart and
    /// recent ones close together. A session that waited for a dropped entry is served by the next
    /// one.
    fn thin(&mut self) {
        let (mut index, count) = (0, self.awaited.len());
        self.awaited.retain(|_| {
            index += 1;
            index % 2 == 1 || index == count
        });
    }
}

impl TopologyReducer {
    /// Derives what the primary is proved to show, if this is an observation of it.
    pub(super) fn note_shown(&mut self, observation: &Observation) {
        let primary = self.follow_shown();
        if let (Some(primary), Outcome::Answered(report)) = (primary, &observation.outcome)
            && primary.0 == observation.endpoint
        {
            self.shown.note(primary, observation.stamp, report);
            self.topology.shown = self.shown.proved();
        }
    }

    /// Forgets what was proved of a primary that is no longer in charge. Returns the current
    /// primary and its run.
    pub(super) fn follow_shown(&mut self) -> Option<(EndpointId, u32)> {
        let run = |id| Some((id, self.topology.get(id)?.run));
        let primary = self.topology.primary.and_then(run);
        self.shown.begin(primary);
        self.topology.shown = self.shown.proved();
        primary
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::{Incarnation, Role};

    const FIRST_RUN: (EndpointId, u32) = (EndpointId::FIRST, 1);

    fn stamp(number: u64) -> WriteStamp {
        WriteStamp::from_number(number)
    }

    fn report(transactions: Option<Transactions>) -> Report {
        Report { transactions, ..Report::new(Role::Primary, Incarnation::new("first")) }
    }

    fn numbered(oldest: u64, next: u64) -> Report {
        report(Some(Transactions::Numbered { oldest, next }))
    }

    /// A report that shows `over` and has begun to commit all of `begun`.
    fn within(over: &str, begun: &str) -> Report {
        let set = |numbers: &str| {
            let text = match numbers {
                "" => String::new(),
                _ => format!("3e11fa47-71ca-11e1-9e33-c80aa9429562:{numbers}"),
            };
            Position::GtidSet(text.parse().unwrap())
        };
        let transactions = Some(Transactions::Within(set(over)));
        Report { position: Some(set(begun)), ..report(transactions) }
    }

    /// The stamp that is proved after these probes, each given with its stamp.
    fn proved_by(probes: impl IntoIterator<Item = (u64, Report)>) -> u64 {
        let mut shown = Shown::default();
        for (at, report) in probes {
            shown.note(FIRST_RUN, stamp(at), &report);
        }
        shown.proved().unwrap().number()
    }

    /// The stamp that is proved after these probes. Each is a stamp, the oldest number and the next
    /// number.
    fn proved(probes: &[(u64, u64, u64)]) -> u64 {
        proved_by(probes.iter().map(|&(at, oldest, next)| (at, numbered(oldest, next))))
    }

    #[test]
    fn what_is_begun_is_awaited_until_it_is_shown() {
        assert_eq!(proved_by([(7, within("1-9", "1-9"))]), 7);
        let waits = (7, within("1-8", "1-9"));
        assert_eq!(proved_by([waits.clone()]), 0);
        assert_eq!(proved_by([waits.clone(), (8, within("1-8:10", "1-10"))]), 0);
        assert_eq!(proved_by([waits.clone(), (8, within("1-9", "1-10"))]), 7);
        assert_eq!(proved_by([waits, (8, within("1-10", "1-10"))]), 8);
    }

    #[test]
    fn what_was_begun_and_given_up_holds_up_only_its_own_probes() {
        let given_up = [(7, within("1-8", "1-9")), (8, within("1-8", "1-8"))];
        assert_eq!(proved_by(given_up), 8);
    }

    #[test]
    fn a_primary_without_running_transactions_shows_all_at_once() {
        assert_eq!(proved(&[(7, 100, 100)]), 7);
    }

    #[test]
    fn what_may_be_running_is_awaited_and_what_begins_later_is_not() {
        assert_eq!(proved(&[(7, 99, 100)]), 0);
        assert_eq!(proved(&[(7, 99, 100), (8, 99, 101)]), 0);
        assert_eq!(proved(&[(7, 99, 100), (8, 100, 101)]), 7);
        assert_eq!(proved(&[(7, 99, 100), (8, 99, 101), (9, 101, 102)]), 8);
    }

    #[test]
    fn a_transaction_that_stays_open_holds_the_proof_up_and_its_end_gives_all() {
        let mut probes: Vec<_> = (1..200).map(|n| (n, 50, 100 + n)).collect();
        assert_eq!(proved(&probes), 0);
        probes.push((200, 300, 300));
        assert_eq!(proved(&probes), 200);
    }

    #[test]
    fn many_probes_that_wait_are_thinned_and_prove_a_little_later() {
        let mut shown = Shown::default();
        let mut note = |at, oldest, next| {
            shown.note(FIRST_RUN, stamp(at), &numbered(oldest, next));
            (shown.awaited.len(), shown.proved().unwrap().number())
        };
        for n in 1..500 {
            let (kept, proved) = note(n, 50, 100 + n);
            assert!(kept <= CAPACITY && proved == 0, "{kept} kept, {proved} proved");
        }
        let (_, proved) = note(500, 500, 600);
        assert!((375..=400).contains(&proved), "{proved} is proved of 400");
    }

    #[test]
    fn transactions_that_overlap_hold_the_proof_up_for_no_longer_than_they_last() {
        for lasts in [1, 3, 20, 100] {
            let mut shown = Shown::default();
            for n in 1..1_000 {
                let next = 1_000 + n;
                shown.note(FIRST_RUN, stamp(n), &numbered(next - lasts, next));
                let behind = n - shown.proved().unwrap().number();
                assert!(n < 300 || behind <= lasts + lasts / 4 + 1, "{behind} behind, {lasts}");
            }
        }
    }

    #[test]
    fn another_run_or_another_primary_begins_anew() {
        let other = EndpointId::from_index(1).unwrap();
        for of in [(EndpointId::FIRST, 2), (other, 1)] {
            let mut shown = Shown::default();
            shown.note(FIRST_RUN, stamp(3), &numbered(100, 100));
            shown.note(FIRST_RUN, stamp(7), &numbered(100, 101));
            shown.begin(Some(of));
            assert_eq!(shown.proved(), Some(WriteStamp::NONE));
            shown.note(of, stamp(8), &numbered(500, 501));
            assert_eq!(shown.proved(), Some(WriteStamp::NONE), "not by the old numbers");
        }
    }

    #[test]
    fn a_primary_that_does_not_tell_proves_nothing() {
        let mut shown = Shown::default();
        shown.note(FIRST_RUN, stamp(7), &report(None));
        assert_eq!(shown.proved(), None);
    }

    /// A step in the life of transactions, which are numbered as they begin.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        Begin,
        /// One running transaction is written to the log: a replica may show it from now on.
        Log(usize),
        /// The primary shows one transaction that is in the log.
        Show(usize),
        Probe,
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => Just(Step::Begin),
            3 => any::<usize>().prop_map(Step::Log),
            3 => any::<usize>().prop_map(Step::Show),
            1 => Just(Step::Probe),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        /// Compares with a model primary of which everything is known.
        #[test]
        fn what_a_replica_had_shown_at_a_proved_stamp_the_primary_shows(
            steps in vec(any_step(), 0..200),
        ) {
            let (mut shown, mut clock, mut next) = (Shown::default(), 0, 1);
            let (mut running, mut logged): (Vec<u64>, Vec<(u64, u64)>) = (Vec::new(), Vec::new());
            for step in steps {
                match step {
                    Step::Begin => {
                        running.push(next);
                        next += 1;
                    }
                    Step::Log(n) if !running.is_empty() => {
                        let number = running.swap_remove(n % running.len());
                        // A session that reads this transaction on a replica draws a later stamp.
                        logged.push((number, clock + 1));
                        clock += 1;
                    }
                    Step::Show(n) if !logged.is_empty() => {
                        logged.swap_remove(n % logged.len());
                    }
                    Step::Probe => {
                        let hidden = running.iter().chain(logged.iter().map(|(number, _)| number));
                        let oldest = hidden.copied().min().unwrap_or(next);
                        shown.note(FIRST_RUN, stamp(clock), &numbered(oldest, next));
                    }
                    Step::Log(_) | Step::Show(_) => {}
                }
                let proved = shown.proved().unwrap_or_default().number();
                for (number, at) in &logged {
                    prop_assert!(proved < *at, "{proved} is proved, {number} is not shown");
                }
            }
        }
    }
}
