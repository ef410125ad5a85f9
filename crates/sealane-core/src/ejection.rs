//! Takes endpoints out of use that answer probes and do not serve statements.
//!
//! Health judges what probes show. A server whose query processes hang, whose disk is full or whose
//! connections are used up may answer every probe in time. So the attempts of reads are judged as
//! well. An endpoint is *ejected* if several attempts in a row did not succeed, or a third of the
//! last dozen, or if it answers neither a statement nor a probe. The ejection lasts longer each
//! time. Then one attempt at a time is a *trial*: the first that succeeds readmits the endpoint, and
//! one that fails ejects it for longer. (Envoy and Finagle do the same under the names outlier
//! detection and failure accrual; there a caller waits for the trial. Here a trial is a copy of a
//! read that nobody waits for.) An endpoint that nobody tries comes back after a while.
//!
//! Ejection is a preference and no proof: an ejected endpoint still serves if nothing else does. At
//! most half of the replicas that serve the same reads are ejected, but one may always be. What all
//! of them suffer from is not cured by sending their load to the others; so slowness alone ejects an
//! endpoint only while another one is without trouble.
//!
//! Only endpoints in use are ejected. Once a probe says that one is down, health decides when it comes
//! back. A statement that loses its connection does not end the ejection of its endpoint: what the
//! endpoint is ejected for, an answered probe says nothing about.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{AttemptOutcome, EndpointId, EndpointSet, Event, MAX_ENDPOINTS, Moment};

/// When an endpoint is ejected, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct EjectionPolicy {
    /// After this many attempts in a row that failed or were overdue. With 0, no endpoint is ejected,
    /// and no read leaves an endpoint because it is slow.
    pub after: u32,
    /// How long the first ejection lasts. Each further one lasts twice as long.
    pub back_off: Duration,
    /// The longest ejection.
    pub back_off_cap: Duration,
    /// After this time in use, earlier ejections are forgotten.
    pub forgiven_after: Duration,
}

impl Default for EjectionPolicy {
    fn default() -> Self {
        EjectionPolicy {
            // One overdue read may have waited for a lock, two for the same lock.
            after: 3,
            // Many faults are over sooner, and a trial costs one further read.
            back_off: Duration::from_secs(1),
            back_off_cap: Duration::from_secs(10),
            forgiven_after: Duration::from_secs(60),
        }
    }
}

/// What changed for an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EjectionChange {
    /// It gets no reads for this long.
    Ejected(Duration),
    /// It serves again.
    Readmitted,
}

impl EjectionChange {
    /// The change as an event.
    #[must_use]
    pub fn event(self, endpoint: EndpointId) -> Event {
        match self {
            EjectionChange::Ejected(time) => {
                let for_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
                Event::Ejected { endpoint, for_ms }
            }
            EjectionChange::Readmitted => Event::Readmitted { endpoint },
        }
    }
}

/// The ejections of all endpoints.
#[derive(Debug)]
pub struct Ejections {
    policy: EjectionPolicy,
    /// The places of ejected endpoints. Statements read only this word while all is well.
    ejected: AtomicU64,
    of: Box<[Standing; MAX_ENDPOINTS]>,
}

#[derive(Debug, Default)]
struct Standing {
    /// The weights of the attempts since the last one that succeeded.
    in_a_row: AtomicU32,
    /// How many attempts have succeeded, and how many have not, since the trouble began.
    succeeded: AtomicU32,
    failed: AtomicU32,
    term: Mutex<Term>,
}

#[derive(Debug, Default)]
struct Term {
    /// How often it was ejected since its ejections were forgotten.
    times: u32,
    until: Moment,
    /// When the running trial began.
    trial: Option<Moment>,
    back_since: Moment,
}

impl Term {
    /// Whether a trial is running that is not forgotten yet.
    fn is_tried(&self, now: Moment) -> bool {
        self.trial.is_some_and(|began| now < began + Ejections::TRIAL + FORGOTTEN_AFTER)
    }

    /// Whether a trial is due.
    fn is_due(&self, now: Moment) -> bool {
        now >= self.until && !self.is_tried(now)
    }
}

/// The weight of an attempt that failed or was overdue.
const FAILED: u32 = 4;
/// The weight of an attempt that a hedge outran. One in twenty is outrun by chance, a dozen in a
/// row are not.
const OUTRUN: u32 = 1;
/// So many attempts are judged together when not all of them fail.
const WINDOW: u32 = 12;
/// This part of them may fail.
const TOLERATED: u32 = 3;

/// A trial that has not ended so long after it should have is forgotten. Timers are not exact, and what
/// ends just after its time must not count for the next trial.
const FORGOTTEN_AFTER: Duration = Duration::from_millis(250);

impl Ejections {
    /// The longest that a trial takes.
    pub const TRIAL: Duration = Duration::from_secs(2);

    /// Nobody is ejected.
    #[must_use]
    pub fn new(policy: EjectionPolicy) -> Self {
        let of = Box::new(std::array::from_fn(|_| Standing::default()));
        Ejections { policy, ejected: AtomicU64::new(0), of }
    }

    /// Whether endpoints are ejected at all.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.policy.after > 0
    }

    /// The endpoints that should get no reads.
    #[must_use]
    pub fn ejected(&self) -> EndpointSet {
        EndpointSet::of_places(self.ejected.load(Ordering::Acquire))
    }

    /// Whether `id` is ejected.
    #[must_use]
    pub fn is_ejected(&self, id: EndpointId) -> bool {
        self.ejected().contains(id)
    }

    /// Begins a trial of `id`, if it is ejected, its time is over at `now`, and it is not on trial.
    /// The caller sends it a read and records the end of this read, or [releases](Self::release)
    /// it. A trial that has not ended after [`Ejections::TRIAL`] is forgotten.
    #[must_use]
    pub fn begin_trial(&self, id: EndpointId, now: Moment) -> bool {
        if !self.is_ejected(id) {
            return false;
        }
        let mut term = self.term(id);
        let is_due = term.is_due(now);
        if is_due {
            term.trial = Some(now);
        }
        is_due
    }

    /// Whether [`begin_trial`](Self::begin_trial) would begin a trial of `id`.
    #[must_use]
    pub fn is_due(&self, id: EndpointId, now: Moment) -> bool {
        self.is_ejected(id) && self.term(id).is_due(now)
    }

    /// Ends the trial of `id` without a result, so that another one may begin.
    pub fn release(&self, id: EndpointId) {
        self.term(id).trial = None;
    }

    /// Readmits `id` if nobody has tried it for the longest back-off after its time was over.
    pub fn readmit_untried(&self, id: EndpointId, now: Moment) -> Option<EjectionChange> {
        let mut term = self.term(id);
        let is_forgotten = now >= term.until + self.policy.back_off_cap && !term.is_tried(now);
        (self.is_ejected(id) && is_forgotten).then(|| self.take_back(id, &mut term, now))
    }

    /// Forgets the ejections of all endpoints but `kept`, and returns whose they were.
    pub fn retain(&self, kept: EndpointSet) -> EndpointSet {
        if self.ejected().without(kept).is_empty() {
            return EndpointSet::EMPTY;
        }
        let before = self.ejected.fetch_and(kept.to_places(), Ordering::AcqRel);
        EndpointSet::of_places(before).without(kept)
    }

    /// Records how a read ended that began on `id` at `began`. `in_use` tells which replicas in use
    /// serve the same reads.
    pub fn ended(
        &self,
        id: EndpointId,
        outcome: AttemptOutcome,
        began: Moment,
        now: Moment,
        in_use: impl FnOnce() -> EndpointSet,
    ) -> Option<EjectionChange> {
        match outcome {
            // The server did what it was asked, even if the answer is an error.
            AttemptOutcome::Served(_) | AttemptOutcome::Refused => self.succeeded(id, began, now),
            _ if !self.is_on() => None,
            AttemptOutcome::Failed | AttemptOutcome::Overdue | AttemptOutcome::Outrun => {
                let is_outrun = outcome == AttemptOutcome::Outrun;
                let is_due =
                    self.of(id).failed(if is_outrun { OUTRUN } else { FAILED }, self.policy.after);
                let is_slow = outcome != AttemptOutcome::Failed;
                if is_due || self.is_ejected(id) {
                    self.eject(id, began, now, in_use(), is_slow)
                } else {
                    None
                }
            }
            AttemptOutcome::Silent => self.eject(id, began, now, in_use(), false),
            AttemptOutcome::Abandoned => None,
        }
    }

    /// Forgets everything about the place of `id`, for a new endpoint.
    pub fn begin_anew(&self, id: EndpointId) {
        self.ejected.fetch_and(!bit(id), Ordering::AcqRel);
        self.of(id).forget();
        *self.term(id) = Term::default();
    }

    fn succeeded(&self, id: EndpointId, began: Moment, now: Moment) -> Option<EjectionChange> {
        self.of(id).succeeded();
        if !self.is_ejected(id) {
            return None;
        }
        let mut term = self.term(id);
        // An attempt from before the trial says nothing about the endpoint's state now.
        let is_tried = now >= term.until && term.trial.is_some_and(|trial| began >= trial);
        (is_tried && self.is_ejected(id)).then(|| self.take_back(id, &mut term, now))
    }

    /// `is_slow`: whether the endpoint did not fail, but took too long.
    fn eject(
        &self,
        id: EndpointId,
        began: Moment,
        now: Moment,
        in_use: EndpointSet,
        is_slow: bool,
    ) -> Option<EjectionChange> {
        let mut term = self.term(id);
        let is_new = !self.is_ejected(id);
        // Attempts that were under way when it was ejected, or readmitted, end one after the other.
        let is_old = match is_new {
            true => began < term.back_since,
            false => now < term.until || term.trial.is_none_or(|trial| began < trial),
        };
        if is_old || (is_new && is_slow && !self.has_sound_one_beside(id, in_use)) {
            return None;
        }
        if is_new && now.since(term.back_since) >= self.policy.forgiven_after {
            term.times = 0;
        }
        let most = (in_use.len() / 2).max(1);
        term.trial = None;
        self.ejected
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |places| {
                let others = EndpointSet::of_places(places & !bit(id)).and(in_use);
                // Whoever failed its trial stays out, also if there are fewer replicas by now.
                (!is_new || others.len() < most).then_some(places | bit(id))
            })
            .ok()?;
        let factor = 2_u32.saturating_pow(term.times);
        let time = self.policy.back_off.saturating_mul(factor).min(self.policy.back_off_cap);
        term.times = term.times.saturating_add(1);
        term.until = now + time;
        self.of(id).forget();
        Some(EjectionChange::Ejected(time))
    }

    /// Whether another endpoint of `in_use` is neither ejected nor in trouble.
    fn has_sound_one_beside(&self, id: EndpointId, in_use: EndpointSet) -> bool {
        let mut others =
            in_use.without(self.ejected()).places().filter(|place| *place != id.place());
        others.any(|place| self.of[place].in_a_row.load(Ordering::Relaxed) < FAILED)
    }

    fn take_back(&self, id: EndpointId, term: &mut Term, now: Moment) -> EjectionChange {
        (term.trial, term.back_since) = (None, now);
        self.ejected.fetch_and(!bit(id), Ordering::AcqRel);
        EjectionChange::Readmitted
    }

    fn of(&self, id: EndpointId) -> &Standing {
        &self.of[id.place()]
    }

    fn term(&self, id: EndpointId) -> MutexGuard<'_, Term> {
        self.of(id).term.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Standing {
    /// Counts an attempt that succeeded. While there is no trouble, this only reads.
    fn succeeded(&self) {
        if self.in_a_row.load(Ordering::Relaxed) != 0 {
            self.in_a_row.store(0, Ordering::Relaxed);
        }
        if self.failed.load(Ordering::Relaxed) != 0 {
            let succeeded = self.succeeded.fetch_add(1, Ordering::Relaxed);
            if succeeded.saturating_add(self.failed.load(Ordering::Relaxed)) >= WINDOW {
                self.forget();
            }
        }
    }

    /// Counts an attempt that did not succeed. Returns whether there were too many of them: `after`
    /// in a row, or a third of a window.
    fn failed(&self, weight: u32, after: u32) -> bool {
        let in_a_row = self.in_a_row.fetch_add(weight, Ordering::Relaxed).saturating_add(weight);
        if in_a_row >= after.saturating_mul(FAILED) {
            return true;
        }
        if weight < FAILED {
            return false;
        }
        let failed = self.failed.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        failed.saturating_mul(TOLERATED) > WINDOW && failed >= after
    }

    fn forget(&self) {
        [&self.in_a_row, &self.succeeded, &self.failed]
            .iter()
            .for_each(|count| count.store(0, Ordering::Relaxed));
    }
}

fn bit(id: EndpointId) -> u64 {
    1 << id.place()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const SERVED: AttemptOutcome = AttemptOutcome::Served(MS);

    fn id(index: usize) -> EndpointId {
        EndpointId::from_index(index).unwrap()
    }

    fn at(ms: u32) -> Moment {
        Moment::ZERO + MS * ms
    }

    /// The endpoints at the first places.
    fn first(count: usize) -> EndpointSet {
        (0..count).map(id).collect()
    }

    fn end(
        it: &Ejections,
        index: usize,
        outcome: AttemptOutcome,
        ms: u32,
    ) -> Option<EjectionChange> {
        it.ended(id(index), outcome, at(ms), at(ms), || first(4))
    }

    fn fail(it: &Ejections, index: usize, times: u32, ms: u32) -> Option<EjectionChange> {
        (0..times).filter_map(|_| end(it, index, AttemptOutcome::Overdue, ms)).last()
    }

    fn places(it: &Ejections) -> Vec<usize> {
        it.ejected().places().collect()
    }

    /// Endpoint 1 is ejected at 0 for a second.
    fn ejected() -> Ejections {
        let it = Ejections::new(EjectionPolicy::default());
        assert_eq!(fail(&it, 1, 3, 0), Some(EjectionChange::Ejected(MS * 1_000)));
        it
    }

    #[test]
    fn failures_in_a_row_eject_and_a_few_among_many_do_not() {
        let it = Ejections::new(EjectionPolicy::default());
        for _ in 0..5 {
            assert_eq!(fail(&it, 1, 2, 0), None);
            (0..10).for_each(|_| assert_eq!(end(&it, 1, SERVED, 0), None));
        }
        assert_eq!(places(&it), [0_usize; 0]);
        assert!(fail(&it, 1, 3, 0).is_some());
        assert_eq!(places(&it), [1]);
    }

    #[test]
    fn a_failed_trial_extends_the_ejection_also_if_fewer_replicas_are_left() {
        let it = ejected();
        assert!(fail(&it, 2, 3, 0).is_some());
        // Two of four are ejected; now one of the others goes away.
        assert!(it.begin_trial(id(1), at(1_000)));
        let three = || (0..3).map(id).collect();
        let again = it.ended(id(1), AttemptOutcome::Failed, at(1_000), at(1_001), three);
        assert_eq!(again, Some(EjectionChange::Ejected(MS * 2_000)));
        assert!(!it.is_due(id(1), at(2_000)), "its next trial comes later");
    }

    #[test]
    fn so_do_many_that_are_not_in_a_row() {
        let it = Ejections::new(EjectionPolicy::default());
        let rounds = (0..10).take_while(|_| {
            end(&it, 1, SERVED, 0);
            fail(&it, 1, 1, 0).is_none()
        });
        assert_eq!(rounds.count(), 4);
    }

    #[test]
    fn a_dozen_attempts_in_a_row_that_hedges_outran_eject() {
        let it = Ejections::new(EjectionPolicy::default());
        let outrun =
            |times: u32| (0..times).filter_map(|_| end(&it, 1, AttemptOutcome::Outrun, 0)).last();
        assert_eq!(outrun(11), None);
        assert_eq!(end(&it, 1, SERVED, 0), None);
        assert_eq!(outrun(11), None);
        assert!(outrun(1).is_some());
    }

    #[test]
    fn silence_ejects_at_once() {
        let it = Ejections::new(EjectionPolicy::default());
        assert!(end(&it, 1, AttemptOutcome::Silent, 0).is_some());
        assert_eq!(places(&it), [1]);
    }

    #[test]
    fn slowness_ejects_nobody_if_all_are_slow_and_failures_do() {
        let it = Ejections::new(EjectionPolicy::default());
        (0..4).for_each(|index| assert_eq!(fail(&it, index, 2, 0), None));
        assert_eq!(fail(&it, 1, 5, 0), None);
        end(&it, 2, SERVED, 0);
        assert!(fail(&it, 1, 1, 0).is_some(), "endpoint 2 is sound");
        assert!(end(&it, 3, AttemptOutcome::Failed, 0).is_some());
    }

    #[test]
    fn one_trial_at_a_time_after_the_ejection_and_its_success_readmits() {
        let it = ejected();
        assert!(!it.begin_trial(id(2), at(5_000)), "it is not ejected");
        assert!(!it.begin_trial(id(1), at(999)));
        assert!(it.begin_trial(id(1), at(1_000)));
        assert!(!it.begin_trial(id(1), at(1_001)));
        assert_eq!(places(&it), [1]);
        assert_eq!(end(&it, 1, SERVED, 1_002), Some(EjectionChange::Readmitted));
        assert_eq!((places(&it), it.begin_trial(id(1), at(1_003))), (vec![], false));
    }

    #[test]
    fn attempts_from_before_the_trial_neither_readmit_nor_eject_again() {
        let it = ejected();
        assert!(it.begin_trial(id(1), at(1_000)));
        for outcome in [SERVED, AttemptOutcome::Failed, AttemptOutcome::Silent] {
            assert_eq!(it.ended(id(1), outcome, at(10), at(1_001), || first(4)), None);
        }
        assert_eq!((places(&it), it.begin_trial(id(1), at(1_001))), (vec![1], false));
        assert_eq!(end(&it, 1, SERVED, 1_002), Some(EjectionChange::Readmitted));
        let late = it.ended(id(1), AttemptOutcome::Silent, at(20), at(1_003), || first(4));
        assert_eq!(late, None, "it began before the endpoint came back");
    }

    #[test]
    fn a_failed_trial_ejects_for_twice_as_long_up_to_the_cap() {
        let it = ejected();
        let (mut now, mut times) = (1_000, Vec::new());
        for _ in 0..5 {
            assert!(it.begin_trial(id(1), at(now)));
            let Some(EjectionChange::Ejected(time)) = fail(&it, 1, 1, now) else { panic!("{now}") };
            times.push(time.as_secs());
            now += u32::try_from(time.as_millis()).unwrap();
        }
        assert_eq!(times, [2, 4, 8, 10, 10]);
    }

    #[test]
    fn a_minute_in_use_forgives() {
        let it = Ejections::new(EjectionPolicy::default());
        for (begins, back) in [(0, 1_000), (70_000, 71_000)] {
            assert_eq!(fail(&it, 1, 3, begins), Some(EjectionChange::Ejected(MS * 1_000)));
            assert!(it.begin_trial(id(1), at(back)));
            end(&it, 1, SERVED, back);
        }
        assert_eq!(fail(&it, 1, 3, 72_000), Some(EjectionChange::Ejected(MS * 2_000)));
    }

    #[test]
    fn a_released_or_forgotten_trial_makes_room_for_the_next_one() {
        let it = ejected();
        assert!(it.begin_trial(id(1), at(1_000)));
        end(&it, 1, AttemptOutcome::Abandoned, 1_001);
        assert!(!it.begin_trial(id(1), at(1_001)), "somebody else's read was abandoned");
        it.release(id(1));
        assert!(it.begin_trial(id(1), at(1_002)));
        assert!(!it.begin_trial(id(1), at(3_251)), "it may end a moment after its time");
        assert!(it.begin_trial(id(1), at(3_252)));
    }

    #[test]
    fn an_endpoint_that_nobody_tries_comes_back_after_the_cap() {
        let it = ejected();
        assert!(it.begin_trial(id(1), at(10_500)), "it is never heard of again");
        assert_eq!(it.readmit_untried(id(1), at(11_000)), None);
        it.release(id(1));
        assert_eq!(it.readmit_untried(id(1), at(10_999)), None);
        assert_eq!(it.readmit_untried(id(1), at(11_000)), Some(EjectionChange::Readmitted));
        assert_eq!((places(&it), it.readmit_untried(id(1), at(11_001))), (vec![], None));
    }

    #[test]
    fn at_most_half_of_the_fleet_is_ejected_and_one_always_may_be() {
        let it = Ejections::new(EjectionPolicy::default());
        for index in 0..4 {
            fail(&it, index, 3, 0);
        }
        assert_eq!(places(&it), [0, 1]);
        let alone = Ejections::new(EjectionPolicy::default());
        assert!(alone.ended(id(0), AttemptOutcome::Silent, at(0), at(0), || first(1)).is_some());
    }

    #[test]
    fn an_endpoint_out_of_use_keeps_nobody_else_from_being_ejected() {
        let it = ejected();
        let others: EndpointSet = [id(0), id(2)].into_iter().collect();
        let silent = AttemptOutcome::Silent;
        assert!(it.ended(id(0), silent, at(1), at(1), || others).is_some());
        let forgotten: Vec<_> = it.retain(others).places().collect();
        assert_eq!((forgotten, places(&it)), (vec![1], vec![0]));
        assert!(it.retain(others).is_empty());
    }

    #[test]
    fn zero_turns_it_off() {
        let it = Ejections::new(EjectionPolicy { after: 0, ..EjectionPolicy::default() });
        fail(&it, 1, 30, 0);
        end(&it, 1, AttemptOutcome::Silent, 0);
        assert_eq!((places(&it), it.is_on()), (vec![], false));
    }

    #[test]
    fn a_new_endpoint_at_the_place_begins_with_nothing() {
        let it = ejected();
        it.begin_anew(id(1));
        assert_eq!((places(&it), fail(&it, 1, 2, 1)), (vec![], None));
    }
}
