//! What a balancer chooses from.

use std::time::Duration;

use super::{Loads, slowness::AS_USUAL};
use crate::{Candidate, EndpointId, EndpointSet, EndpointState, Moment, Topology};

/// An endpoint that came back, or that was added, gets its whole share of the reads after this
/// time: its cache is cold, and its pools are empty.
const SLOW_START: Duration = Duration::from_secs(10);
/// It begins with this part of its share. With less, it would hardly be seen to work.
const FIRST_PART: u64 = 10;

/// The share of an endpoint with weight 1.
const ONE: u64 = 1 << 10;

/// The endpoints that may serve a read, and their current load and results.
#[derive(Debug, Clone, Copy)]
pub struct Candidates<'a> {
    set: EndpointSet,
    topology: &'a Topology,
    loads: &'a Loads,
    now: Moment,
    /// One more than the session's number; 0 without one. (An `Option` would be twice as large, and
    /// this is copied for each attempt.)
    key: u64,
}

impl<'a> Candidates<'a> {
    /// The members of `set` at `now`.
    #[must_use]
    pub fn new(set: EndpointSet, topology: &'a Topology, loads: &'a Loads, now: Moment) -> Self {
        Candidates { set: set.and(topology.all()), topology, loads, now, key: 0 }
    }

    /// All endpoints of `topology` at `now`.
    #[must_use]
    pub fn all(topology: &'a Topology, loads: &'a Loads, now: Moment) -> Self {
        Candidates::new(topology.all(), topology, loads, now)
    }

    /// The candidates as a set.
    #[must_use]
    pub fn set(&self) -> EndpointSet {
        self.set
    }

    /// The candidates of `set` at the same moment.
    #[must_use]
    pub fn with(self, set: EndpointSet) -> Self {
        Candidates { set: set.and(self.topology.all()), ..self }
    }

    /// The same for a read of the session with this number, for balancers that keep a session's
    /// reads together.
    #[must_use]
    pub fn with_key(self, key: Option<u64>) -> Self {
        Candidates { key: key.map_or(0, |key| key.saturating_add(1)), ..self }
    }

    /// The number of the read's session; `None` for a session that many callers share.
    #[must_use]
    pub fn key(&self) -> Option<u64> {
        self.key.checked_sub(1)
    }

    /// How many candidates there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.set.len()
    }

    /// Whether there is no candidate.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// The candidate that comes after `n` others; `None` past the end.
    #[must_use]
    pub fn nth(&self, n: usize) -> Option<EndpointId> {
        self.topology.nth(self.set, n)
    }

    /// Like [`nth`](Self::nth), but for the members of `set`.
    pub(crate) fn nth_of(&self, set: EndpointSet, n: usize) -> Option<EndpointId> {
        self.topology.nth(set, n)
    }

    /// Iterates over the candidates, in the same order for each choice.
    pub fn iter(&self) -> impl Iterator<Item = Candidate<'a>> + use<'a> {
        let (topology, now) = (self.topology, self.now);
        topology.members(self.set).filter_map(move |id| Candidate::new(topology, id, now))
    }

    /// The numbers of the candidates, in the same order for each choice.
    pub fn ids(&self) -> impl Iterator<Item = EndpointId> + use<'a> {
        self.topology.members(self.set)
    }

    /// The time of this choice.
    #[must_use]
    pub fn now(&self) -> Moment {
        self.now
    }

    /// How many statements of this process run on `id` now.
    #[must_use]
    pub fn in_flight(&self, id: EndpointId) -> u32 {
        self.loads.in_flight(id)
    }

    /// How long reads on `id` take, as a moving average over the last few tens; `None` before the
    /// first.
    #[must_use]
    pub fn latency(&self, id: EndpointId) -> Option<Duration> {
        self.loads.latency(id)
    }

    /// How many attempts on `id` have failed since the last one that was served.
    #[must_use]
    pub fn failures(&self, id: EndpointId) -> u32 {
        self.loads.failures(id)
    }

    /// The weight of `id`: its share of the reads, relative to the other endpoints.
    #[must_use]
    pub fn weight(&self, id: EndpointId) -> u32 {
        self.topology.get(id).map_or(1, |state| state.endpoint.weight())
    }

    /// Whether endpoints differ in weight, or one of them has come back a moment ago and gets only
    /// a part of its share yet.
    #[must_use]
    pub fn is_weighted(&self) -> bool {
        self.topology.is_weighted()
            || self.topology.last_return().is_some_and(|at| self.now.since(at) < SLOW_START)
    }

    /// How slow `id` is, relative to what its statements usually take; see [`Loads::slowness`].
    /// What was measured before the server was away is ignored.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a few digits are enough")]
    pub fn slowness(&self, id: EndpointId) -> f64 {
        self.slowness_units(id) as f64 / AS_USUAL as f64
    }

    /// The same as a whole number, for comparisons.
    #[inline]
    pub(super) fn slowness_units(&self, id: EndpointId) -> u64 {
        self.loads.slowness_since(id, self.now, self.topology.returned_at(id))
    }

    /// What one more read on `id` costs, for comparisons only: its slowness, multiplied by what is in
    /// flight there and the read itself, relative to its share. An idle endpoint that is as quick
    /// as usual costs the same whatever its share, because candidates are drawn by share.
    #[must_use]
    pub fn cost(&self, id: EndpointId) -> u64 {
        // The first factor is at most 2^26, so nothing that runs in practice exceeds the number.
        (self.slowness_units(id) >> 10).saturating_mul(self.crowd(id))
    }

    /// What is in flight on `id` with one more read, relative to its share. 1,024 if `id` is idle.
    pub(super) fn crowd(&self, id: EndpointId) -> u64 {
        match self.is_weighted() {
            false => self.crowd_among_equals(id),
            true => ONE + u64::from(self.in_flight(id)) * ONE * ONE / self.share(id),
        }
    }

    #[inline]
    pub(super) fn crowd_among_equals(&self, id: EndpointId) -> u64 {
        ONE * (u64::from(self.in_flight(id)) + 1)
    }

    /// The share of the reads that `id` gets now, relative to the others: its weight times 1,024,
    /// or a part of this just after the endpoint came back.
    #[must_use]
    pub fn share(&self, id: EndpointId) -> u64 {
        self.topology.get(id).map_or(ONE, |state| self.share_of(state))
    }

    fn share_of(&self, state: &EndpointState) -> u64 {
        let whole = u64::from(state.endpoint.weight()) * ONE;
        let in_use = state.returned_at.map(|at| self.now.since(at));
        match in_use.filter(|time| *time < SLOW_START) {
            None => whole,
            Some(time) => {
                let part = whole * u64::from(time.subsec_millis()) / 1_000;
                let parts = (whole * time.as_secs() + part) / SLOW_START.as_secs();
                parts.max(whole / FIRST_PART)
            }
        }
    }

    /// A candidate with the least `cost`. If there are several, `random` decides.
    pub(super) fn least<K: Ord>(
        &self,
        random: u64,
        cost: impl Fn(EndpointId) -> K,
    ) -> Option<EndpointId> {
        let (mut least, mut found) = (None, EndpointSet::EMPTY);
        for id in self.topology.members(self.set) {
            let cost = cost(id);
            match least.as_ref().map_or(std::cmp::Ordering::Less, |least| cost.cmp(least)) {
                std::cmp::Ordering::Less => {
                    least = Some(cost);
                    found = EndpointSet::from_iter([id]);
                }
                std::cmp::Ordering::Equal => found.insert(id),
                std::cmp::Ordering::Greater => {}
            }
        }
        self.nth_of(found, random as usize % found.len().max(1))
    }

    /// Draws one of the candidates other than `but`, in proportion to the shares. `random` is
    /// uniform over 32 bits.
    pub(super) fn draw(&self, but: Option<EndpointId>, random: u64) -> Option<EndpointId> {
        let others = || self.topology.members(self.set).filter(move |id| Some(*id) != but);
        let total: u64 = others().map(|id| self.share(id)).sum();
        let mut left = (random * total) >> 32;
        others().find(|id| {
            let share = self.share(*id);
            let is_drawn = left < share;
            left = left.saturating_sub(share);
            is_drawn
        })
    }
}
