//! What is known about one endpoint.

use std::{sync::Arc, time::Duration};

use super::{
    Database, Endpoint, EndpointId, Failure, FilterQuestion, Health, Incarnation, Replication,
    Role, ServerInfo,
};
use crate::{Moment, Position, WriteStamp};

/// The known state of one endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointState {
    /// Its number in this process.
    pub id: EndpointId,
    /// The endpoint as configured.
    pub endpoint: Endpoint,
    /// Whether the endpoint answers.
    pub health: Health,
    /// The role that was last observed.
    pub role: Role,
    /// Whether a replica still receives from its primary.
    pub replication: Replication,
    /// How far the endpoint has got, if known.
    pub position: Option<Position>,
    /// How far a replica has received, replayed or not, if known.
    pub received: Option<Position>,
    /// The run of the server that the position belongs to.
    pub incarnation: Option<Incarnation>,
    /// The number of this run; 0 before the first one. Runs of all endpoints are numbered together,
    /// in the order in which they are first seen, so no two runs share a number. A read that was
    /// planned on one run and served by another proves nothing.
    pub run: u32,
    /// Whether the endpoint holds another system's data.
    pub foreign: bool,
    /// The database that the endpoint last reported.
    pub database: Option<Arc<Database>>,
    /// Whether this is another database than the primary's, on a server with our data.
    pub other_database: bool,
    /// Another endpoint that already represents the same server.
    pub same_as: Option<EndpointId>,
    /// Whether the endpoint is known to be on a timeline that a promotion has ended.
    pub old_timeline: bool,
    /// Whether the endpoint is a replica that was not seen on the primary's history since the
    /// previous history ended, on an engine whose positions do not number histories. What such a
    /// replica shows may be lost.
    pub doubted: bool,
    /// Whether the endpoint is a replica that counts as lagging by the health policy.
    pub lagging: bool,
    /// The question for the server's filters of replication that is not answered yet. Until it is, the
    /// server may leave out something that the catalog does not say.
    pub filters_unknown: Option<FilterQuestion>,
    /// Whether the endpoint gets no new statements, because somebody wants it idle. It is still
    /// probed and proved, and a primary stays the primary.
    pub draining: bool,
    /// When the endpoint last came back after a confirmed outage or with a new run of its server,
    /// or first answered after it was added. `None` if it has been there from the start.
    pub returned_at: Option<Moment>,
    /// What the server says about itself, for people to read.
    pub info: ServerInfo,
    /// How long the last probe took, including the round trip.
    pub probe_time: Option<Duration>,
    /// How long the shortest probe of this server run took: about its distance.
    pub least_probe_time: Option<Duration>,
    /// The newest write stamp that the endpoint's data is proved to contain.
    pub covered: WriteStamp,
    /// The endpoint's data contains everything that the primary had committed at this moment.
    /// `None` if nothing is proved.
    pub fresh_at: Option<Moment>,
    /// The time of the primary's newest sample when the endpoint first had a position that no
    /// sample proves. The endpoint has lagged at least since then.
    pub(crate) unproved_since: Option<Moment>,
}

impl EndpointState {
    pub(super) fn new(id: EndpointId, endpoint: Endpoint) -> Self {
        EndpointState {
            id,
            endpoint,
            health: Health::Unknown,
            role: Role::Unknown,
            replication: Replication::NotApplicable,
            position: None,
            received: None,
            incarnation: None,
            run: 0,
            foreign: false,
            database: None,
            other_database: false,
            same_as: None,
            old_timeline: false,
            doubted: false,
            lagging: false,
            filters_unknown: None,
            draining: false,
            returned_at: None,
            info: ServerInfo::default(),
            probe_time: None,
            least_probe_time: None,
            covered: WriteStamp::NONE,
            fresh_at: None,
            unproved_since: None,
        }
    }

    /// Whether the endpoint is up, or down only because a statement failed. One statement's broken
    /// connection must not give the endpoint's place to another server.
    pub(crate) fn may_answer(&self) -> bool {
        matches!(self.health, Health::Up | Health::Down { failure: Failure::Statement(_) })
    }

    /// Whether the endpoint is a replica that is out of use although no probe says that it is away: a
    /// statement lost its connection, or it must go on answering.
    pub(crate) fn is_suspected_replica(&self) -> bool {
        let is_suspected = matches!(
            self.health,
            Health::Down { failure: Failure::Statement(_) } | Health::Probation
        );
        is_suspected && self.is_ours() && !self.draining && self.role == Role::Replica
    }

    /// Whether the endpoint answers, holds our data, and is not represented by another endpoint.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.health == Health::Up && self.is_ours()
    }

    /// Whether the endpoint answers, shows a replica's role, and may get new statements.
    pub(crate) fn is_replica_in_use(&self) -> bool {
        self.is_usable() && !self.draining && self.role == Role::Replica
    }

    /// Whether the endpoint leads to our database, as far as is known, and no other endpoint
    /// represents its server.
    pub(crate) fn is_ours(&self) -> bool {
        !self.foreign && !self.other_database && self.same_as.is_none()
    }
}
