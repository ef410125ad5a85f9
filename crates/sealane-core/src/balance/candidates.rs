//! What a balancer chooses from.

use std::time::Duration;

use super::Loads;
use crate::{Candidate, EndpointId, EndpointSet, Moment, Topology};

/// The endpoints that may serve a read, and their current load and results.
#[derive(Debug, Clone, Copy)]
pub struct Candidates<'a> {
    set: EndpointSet,
    topology: &'a Topology,
    loads: &'a Loads,
    now: Moment,
}

impl<'a> Candidates<'a> {
    /// The members of `set` at `now`.
    #[must_use]
    pub fn new(set: EndpointSet, topology: &'a Topology, loads: &'a Loads, now: Moment) -> Self {
        Candidates { set: set.and(topology.all()), topology, loads, now }
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

    /// Whether endpoints differ in weight.
    #[must_use]
    pub fn is_weighted(&self) -> bool {
        self.topology.is_weighted()
    }
}
