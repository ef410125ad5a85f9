//! Takes endpoints out of use that answer probes and do not serve statements.
//!
//! Health judges what probes show. A server whose query processes hang, whose disk is full or whose
//! connections are used up may answer every probe in time. So the attempts of reads are judged as
//! well: after several in a row that did not succeed, the endpoint is *ejected*, for a time that
//! grows with each ejection. Then one attempt at a time is a *trial*: the first that succeeds
//! readmits the endpoint, and one that fails ejects it for longer. (Envoy and Finagle do the same
//! under the names outlier detection and failure accrual; there a caller waits for the trial. Here
//! a trial is a copy of a read that nobody waits for.)
//!
//! Ejection is a preference and no proof: an ejected endpoint still serves if nothing else does. At
//! most half of the replicas are ejected, but one may always be: what all of them suffer from is
//! not cured by sending their load to the others.

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
    /// After this many attempts in a row that failed or were overdue; 0 turns ejection off.
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
    failures: AtomicU32,
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

/// The weight of an attempt that failed or was overdue.
const FAILED: u32 = 4;
/// The weight of an attempt that a hedge outran. One in twenty is outrun by chance, a dozen in a
/// row are not.
const OUTRUN: u32 = 1;

impl Ejections {
    /// The longest that a trial takes.
    pub const TRIAL: Duration = Duration::from_secs(2);

    /// Nobody is ejected.
    #[must_use]
    pub fn new(policy: EjectionPolicy) -> Self {
        let of = Box::new(std::array::from_fn(|_| Standing::default()));
        Ejections { policy, ejected: AtomicU64::new(0), of }
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

    /// An endpoint whose time is over at `now`, and that is not on trial. Its trial begins: the
    /// caller sends it a read and records the end of this read. A trial that was not
    /// [ended](Self::ended) after [`Ejections::TRIAL`] is forgotten.
    #[must_use]
    pub fn begin_trial(&self, now: Moment) -> Option<EndpointId> {
        self.members().find(|id| {
            let mut term = self.term(*id);
            let is_tried = term.trial.is_some_and(|began| now < began + Self::TRIAL);
            let is_due = now >= term.until && !is_tried;
            if is_due {
                term.trial = Some(now);
            }
            is_due
        })
    }

    /// Records how a read ended that began on `id` at `began`. `fleet` tells how many replicas are in
    /// use.
    pub fn ended(
        &self,
        id: EndpointId,
        outcome: AttemptOutcome,
        began: Moment,
        now: Moment,
        fleet: impl FnOnce() -> usize,
    ) -> Option<EjectionChange> {
        let failures = &self.of[id.place()].failures;
        match outcome {
            // The server did what it was asked, even if the answer is an error.
            AttemptOutcome::Served(_) | AttemptOutcome::Refused => {
                if failures.load(Ordering::Relaxed) != 0 {
                    failures.store(0, Ordering::Relaxed);
                }
                if self.is_ejected(id) { self.readmit(id, began, now) } else { None }
            }
            AttemptOutcome::Failed | AttemptOutcome::Overdue | AttemptOutcome::Outrun => {
                let weight = if outcome == AttemptOutcome::Outrun { OUTRUN } else { FAILED };
                let failed = failures.fetch_add(weight, Ordering::Relaxed).saturating_add(weight);
                let limit = self.policy.after.saturating_mul(FAILED);
                let is_due = limit > 0 && failed >= limit;
                if self.is_ejected(id) || is_due { self.eject(id, now, fleet) } else { None }
            }
            AttemptOutcome::Silent if self.policy.after > 0 => self.eject(id, now, fleet),
            AttemptOutcome::Silent | AttemptOutcome::Abandoned => {
                // Nothing was learned: another trial may begin.
                if self.is_ejected(id) {
                    self.term(id).trial = None;
                }
                None
            }
        }
    }

    /// Forgets everything about the place of `id`, for a new endpoint.
    pub fn begin_anew(&self, id: EndpointId) {
        self.ejected.fetch_and(!bit(id), Ordering::AcqRel);
        self.of[id.place()].failures.store(0, Ordering::Relaxed);
        *self.term(id) = Term::default();
    }

    fn eject(
        &self,
        id: EndpointId,
        now: Moment,
        fleet: impl FnOnce() -> usize,
    ) -> Option<EjectionChange> {
        let mut term = self.term(id);
        // Attempts that were under way when it was ejected end one after the other.
        if self.is_ejected(id) && now < term.until {
            return None;
        }
        let others = self.members().filter(|other| *other != id).count();
        if others >= (fleet() / 2).max(1) {
            return None;
        }
        if now.since(term.back_since) >= self.policy.forgiven_after && !self.is_ejected(id) {
            term.times = 0;
        }
        let factor = 2_u32.saturating_pow(term.times);
        let time = self.policy.back_off.saturating_mul(factor).min(self.policy.back_off_cap);
        term.times = term.times.saturating_add(1);
        (term.until, term.trial) = (now + time, None);
        self.ejected.fetch_or(bit(id), Ordering::AcqRel);
        Some(EjectionChange::Ejected(time))
    }

    fn readmit(&self, id: EndpointId, began: Moment, now: Moment) -> Option<EjectionChange> {
        let mut term = self.term(id);
        // An attempt from before the trial says nothing about the endpoint's state now.
        if now < term.until || term.trial.is_none_or(|trial| began < trial) {
            return None;
        }
        (term.trial, term.back_since) = (None, now);
        self.ejected.fetch_and(!bit(id), Ordering::AcqRel);
        Some(EjectionChange::Readmitted)
    }

    fn members(&self) -> impl Iterator<Item = EndpointId> {
        self.ejected().places().filter_map(EndpointId::from_index)
    }

    fn term(&self, id: EndpointId) -> MutexGuard<'_, Term> {
        self.of[id.place()].term.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bit(id: EndpointId) -> u64 {
    1 << id.place()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const FLEET: usize = 4;

    fn id(index: usize) -> EndpointId {
        EndpointId::from_index(index).unwrap()
    }

    fn at(ms: u32) -> Moment {
        Moment::ZERO + MS * ms
    }

    fn end(
        it: &Ejections,
        index: usize,
        outcome: AttemptOutcome,
        ms: u32,
    ) -> Option<EjectionChange> {
        it.ended(id(index), outcome, at(ms), at(ms), || FLEET)
    }

    fn fail(it: &Ejections, index: usize, times: u32, ms: u32) -> Option<EjectionChange> {
        (0..times).filter_map(|_| end(it, index, AttemptOutcome::Overdue, ms)).last()
    }

    fn places(it: &Ejections) -> Vec<usize> {
        it.ejected().places().collect()
    }

    const SERVED: AttemptOutcome = AttemptOutcome::Served(MS);

    #[test]
    fn only_failures_in_a_row_eject() {
        let it = Ejections::new(EjectionPolicy::default());
        for _ in 0..5 {
            assert_eq!(fail(&it, 1, 2, 0), None);
            assert_eq!(end(&it, 1, SERVED, 0), None);
        }
        assert_eq!(places(&it), [0_usize; 0]);
        assert_eq!(fail(&it, 1, 3, 0), Some(EjectionChange::Ejected(MS * 1_000)));
        assert_eq!(places(&it), [1]);
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
    fn one_trial_at_a_time_after_the_ejection_and_its_success_readmits() {
        let it = Ejections::new(EjectionPolicy::default());
        fail(&it, 1, 3, 0);
        assert_eq!(it.begin_trial(at(999)), None);
        assert_eq!(it.begin_trial(at(1_000)), Some(id(1)));
        assert_eq!(it.begin_trial(at(1_001)), None);
        assert_eq!(places(&it), [1]);
        assert_eq!(end(&it, 1, SERVED, 1_002), Some(EjectionChange::Readmitted));
        assert_eq!((places(&it), it.begin_trial(at(1_003))), (vec![], None));
    }

    #[test]
    fn an_attempt_from_before_the_trial_readmits_nobody() {
        let it = Ejections::new(EjectionPolicy::default());
        fail(&it, 1, 3, 0);
        assert!(it.begin_trial(at(1_000)).is_some());
        let late = it.ended(id(1), SERVED, at(10), at(1_001), || FLEET);
        assert_eq!((late, places(&it)), (None, vec![1]));
    }

    #[test]
    fn a_failed_trial_ejects_for_twice_as_long_up_to_the_cap() {
        let it = Ejections::new(EjectionPolicy::default());
        fail(&it, 1, 3, 0);
        let (mut now, mut times) = (1_000, Vec::new());
        for _ in 0..5 {
            assert!(it.begin_trial(at(now)).is_some());
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
            assert!(it.begin_trial(at(back)).is_some());
            end(&it, 1, SERVED, back);
        }
        assert_eq!(fail(&it, 1, 3, 72_000), Some(EjectionChange::Ejected(MS * 2_000)));
    }

    #[test]
    fn an_abandoned_or_forgotten_trial_makes_room_for_the_next_one() {
        let it = Ejections::new(EjectionPolicy::default());
        fail(&it, 1, 3, 0);
        assert!(it.begin_trial(at(1_000)).is_some());
        end(&it, 1, AttemptOutcome::Abandoned, 1_001);
        assert!(it.begin_trial(at(1_002)).is_some());
        assert!(it.begin_trial(at(3_001)).is_none());
        assert!(it.begin_trial(at(3_002)).is_some());
    }

    #[test]
    fn at_most_half_of_the_fleet_is_ejected_and_one_always_may_be() {
        let it = Ejections::new(EjectionPolicy::default());
        for index in 0..FLEET {
            fail(&it, index, 3, 0);
        }
        assert_eq!(places(&it), [0, 1]);
        let alone = Ejections::new(EjectionPolicy::default());
        assert!(alone.ended(id(0), AttemptOutcome::Silent, at(0), at(0), || 1).is_some());
    }

    #[test]
    fn zero_turns_it_off() {
        let it = Ejections::new(EjectionPolicy { after: 0, ..EjectionPolicy::default() });
        fail(&it, 1, 30, 0);
        end(&it, 1, AttemptOutcome::Silent, 0);
        assert_eq!(places(&it), [0_usize; 0]);
    }

    #[test]
    fn a_new_endpoint_at_the_place_begins_with_nothing() {
        let it = Ejections::new(EjectionPolicy::default());
        fail(&it, 1, 3, 0);
        it.begin_anew(id(1));
        assert_eq!((places(&it), fail(&it, 1, 2, 1)), (vec![], None));
    }
}
