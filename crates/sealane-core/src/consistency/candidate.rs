//! An endpoint as policies see it.

use std::time::Duration;

use super::{ReadRequest, Refusal, Verdict};
use crate::{Endpoint, EndpointId, EndpointState, Moment, Position, Replication, Server, Topology};

/// One endpoint at one moment, for a [`ConsistencyPolicy`](crate::ConsistencyPolicy) or a
/// [`Balancer`](crate::Balancer) to judge.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    state: &'a EndpointState,
    topology: &'a Topology,
    now: Moment,
}

impl<'a> Candidate<'a> {
    /// The endpoint `id` of `topology` at `now`; `None` if the topology has no such endpoint.
    #[must_use]
    pub fn new(topology: &'a Topology, id: EndpointId, now: Moment) -> Option<Self> {
        Some(Candidate::of(topology, topology.get(id)?, now))
    }

    /// An endpoint of `topology` in this state.
    pub(crate) fn of(topology: &'a Topology, state: &'a EndpointState, now: Moment) -> Self {
        Candidate { state, topology, now }
    }

    /// The endpoint's number.
    #[must_use]
    pub fn id(&self) -> EndpointId {
        self.state.id
    }

    /// The endpoint as configured: name, zone, group, tags, weight.
    #[must_use]
    pub fn endpoint(&self) -> &'a Endpoint {
        &self.state.endpoint
    }

    /// What probes have shown about the endpoint.
    #[must_use]
    pub fn state(&self) -> &'a EndpointState {
        self.state
    }

    /// How far the endpoint is behind the primary's newest known position; `None` if unknown.
    #[must_use]
    pub fn lag(&self) -> Option<Duration> {
        self.topology.lag_of(self.state)
    }

    /// The most that a read on the endpoint may miss now; `None` if nothing is proved.
    #[must_use]
    pub fn staleness(&self) -> Option<Duration> {
        self.topology.staleness_of(self.state, self.now)
    }

    /// Whether the endpoint is proved to show everything that the primary had committed `bound`
    /// ago.
    ///
    /// # Errors
    /// [`Refusal::TooStale`].
    pub fn within(&self, bound: Duration) -> Verdict {
        within(self.staleness(), bound)
    }

    /// Whether the endpoint is proved to show everything that the primary had committed at the
    /// moment `at`.
    ///
    /// # Errors
    /// [`Refusal::TooStale`], with the time that has passed since.
    pub fn shows(&self, at: Moment) -> Verdict {
        let is_current = self.state.position == Some(Position::Current);
        if is_current || self.state.fresh_at.is_some_and(|fresh_at| fresh_at >= at) {
            return Ok(());
        }
        Err(Refusal::TooStale { staleness: self.staleness(), bound: self.now.since(at) })
    }

    /// Whether the endpoint is proved to show everything that the session of `read` wrote and saw,
    /// and is within the read's bound on lag.
    ///
    /// # Errors
    /// [`Refusal::TooStale`], [`Refusal::NotReplicating`] or [`Refusal::BehindSession`].
    pub fn covers_session(&self, read: &ReadRequest) -> Verdict {
        let state = self.state;
        // Checked before the session: a replica that is too far behind is not worth waiting for.
        if let Some(bound) = read.max_lag {
            within(self.lag(), bound)?;
        } else if state.replication == Replication::Stopped && self.lag().is_none() {
            return Err(Refusal::NotReplicating);
        }
        let covered = state.covered;
        if state.doubted {
            // This holds even for a session that needs nothing, because what it would see may be
            // lost.
            let needed = read.session.written().max(self.topology.sampled_stamp());
            return Err(Refusal::BehindSession { covered, needed });
        }
        if read.session.is_within(covered) {
            return Ok(());
        }
        let needed = read.session.needs(Server { endpoint: state.id, run: state.run });
        if covered < needed {
            return Err(Refusal::BehindSession { covered, needed });
        }
        match read.session.missing(state) {
            Some(needed) => Err(Refusal::BehindSession { covered, needed }),
            None => Ok(()),
        }
    }
}

fn within(staleness: Option<Duration>, bound: Duration) -> Verdict {
    match staleness {
        Some(known) if known <= bound => Ok(()),
        staleness => Err(Refusal::TooStale { staleness, bound }),
    }
}
