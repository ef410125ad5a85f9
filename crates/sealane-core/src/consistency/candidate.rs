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
    /// The endpoint `id` of `topology` at `now`; `None` if it is not in there.
    #[must_use]
    pub fn new(topology: &'a Topology, id: EndpointId, now: Moment) -> Option<Self> {
        Some(Candidate::of(topology, topology.get(id)?, now))
    }

    /// An endpoint of `topology` in this state.
    pub(crate) fn of(topology: &'a Topology, state: &'a EndpointState, now: Moment) -> Self {
        Candidate { state, topology, now }
    }

    /// Which endpoint it is.
    #[must_use]
    pub fn id(&self) -> EndpointId {
        self.state.id
    }

    /// What was configured: name, zone, group, tags, weight.
    #[must_use]
    pub fn endpoint(&self) -> &'a Endpoint {
        &self.state.endpoint
    }

    /// What probes have told.
    #[must_use]
    pub fn state(&self) -> &'a EndpointState {
        self.state
    }

    /// How far it is behind the newest that is known of the primary; `None` if that is unknown.
    #[must_use]
    pub fn lag(&self) -> Option<Duration> {
        self.topology.lag_of(self.state)
    }

    /// What a read on it may miss at most now; `None` if nothing is proved.
    #[must_use]
    pub fn staleness(&self) -> Option<Duration> {
        self.topology.staleness_of(self.state, self.now)
    }

    /// Whether it is proved to show all that the primary had committed `bound` ago.
    ///
    /// # Errors
    /// [`Refusal::TooStale`].
    pub fn within(&self, bound: Duration) -> Verdict {
        within(self.staleness(), bound)
    }

    /// Whether it is proved to show all that the primary had committed at the moment `at`.
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

    /// Whether it is proved to show all that the session of `read` wrote and saw, and is not behind
    /// by more than the bound on lag.
    ///
    /// # Errors
    /// [`Refusal::TooStale`], [`Refusal::NotReplicating`] or [`Refusal::BehindSession`].
    pub fn covers_session(&self, read: &ReadRequest) -> Verdict {
        let state = self.state;
        // Before the session: what is too far behind is not worth waiting for.
        if let Some(bound) = read.max_lag {
            within(self.lag(), bound)?;
        } else if state.replication == Replication::Stopped && self.lag().is_none() {
            return Err(Refusal::NotReplicating);
        }
        let covered = state.covered;
        if state.doubted {
            // Also for a session that needs nothing: what it would see may be lost.
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
