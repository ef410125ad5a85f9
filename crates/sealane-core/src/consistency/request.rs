//! What a read asks for.

use std::{sync::Arc, time::Duration};

use serde::Serialize;

use super::{Consistency, ConsistencyPolicy};
use crate::{EndpointSet, Horizon, Moment, SessionView};

/// What the statement needs of its endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// A proved read.
    Read,
    /// Anything else.
    Write,
}

/// Everything that a plan depends on besides the topology.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ReadRequest {
    /// What the statement needs.
    pub access: Access,
    /// How fresh a read must be.
    pub consistency: Consistency,
    /// What the session has written and seen.
    pub session: SessionView,
    /// The longest lag behind the primary at which a replica still serves
    /// [`Consistency::ReadYourWrites`]; `None` for any lag.
    pub max_lag: Option<Duration>,
    /// The time of the read, for [`Consistency::BoundedStaleness`].
    pub now: Moment,
    /// The replicas that may be used at all. The primary always may.
    pub among: EndpointSet,
    /// When `among` was made. An endpoint that was added later is not in `among`, even if it has
    /// the place of a member.
    pub horizon: Horizon,
    /// The generation of the catalog by which the statement was judged; `u64::MAX` for the newest.
    pub catalog: u64,
    /// Whether replicas may have other rows of what is read, and show them without an error. Then
    /// none of them serves it.
    pub replicas_differ: bool,
    /// The replicas to use only if nothing else serves, because attempts on them did not succeed.
    pub ejected: EndpointSet,
    /// Whether the primary is a candidate beside the replicas
    /// ([`PrimaryReads::Always`](crate::PrimaryReads::Always)).
    pub shares_primary: bool,
    /// If no replica is fresh enough, the longest proved staleness that is accepted after all, and
    /// then the primary is not tried. [`Duration::MAX`] accepts any, even an unknown one.
    pub stale: Option<Duration>,
    /// A further condition that a replica must meet.
    pub policy: Option<Arc<dyn ConsistencyPolicy>>,
}

impl ReadRequest {
    /// A request outside any session, with any lag.
    #[must_use]
    pub fn new(access: Access, consistency: Consistency, now: Moment) -> Self {
        let (session, among) = (SessionView::default(), EndpointSet::ALL);
        ReadRequest {
            access,
            consistency,
            session,
            max_lag: None,
            now,
            among,
            horizon: Horizon::NEVER,
            catalog: u64::MAX,
            replicas_differ: false,
            ejected: EndpointSet::EMPTY,
            shares_primary: false,
            stale: None,
            policy: None,
        }
    }

    /// The same request by `session`.
    #[must_use]
    pub fn with_session(self, session: SessionView) -> Self {
        ReadRequest { session, ..self }
    }

    /// The same request with a bound on the lag behind the primary.
    #[must_use]
    pub fn with_max_lag(self, max_lag: Option<Duration>) -> Self {
        ReadRequest { max_lag, ..self }
    }

    /// The same request with only these replicas to choose from.
    #[must_use]
    pub fn among(self, among: EndpointSet) -> Self {
        ReadRequest { among, ..self }
    }

    /// The same request, restricted to endpoints that existed at `horizon`.
    #[must_use]
    pub fn within(self, horizon: Horizon) -> Self {
        ReadRequest { horizon, ..self }
    }

    /// The same request for a statement that was judged by this generation of the catalog.
    #[must_use]
    pub fn judged_by(self, catalog: u64) -> Self {
        ReadRequest { catalog, ..self }
    }

    /// The same request for something of which replicas may have other rows, or not.
    #[must_use]
    pub fn with_replicas_differing(self, replicas_differ: bool) -> Self {
        ReadRequest { replicas_differ, ..self }
    }

    /// The same request that prefers other endpoints to these replicas.
    #[must_use]
    pub fn avoiding(self, ejected: EndpointSet) -> Self {
        ReadRequest { ejected, ..self }
    }

    /// The same request, for which the primary is a candidate beside the replicas or not.
    #[must_use]
    pub fn sharing_primary(self, shares_primary: bool) -> Self {
        ReadRequest { shares_primary, ..self }
    }

    /// The same request, which accepts stale data if there is nothing better.
    #[must_use]
    pub fn or_stale(self, stale: Option<Duration>) -> Self {
        ReadRequest { stale, ..self }
    }

    /// The same request with a policy that a replica must satisfy as well.
    #[must_use]
    pub fn with_policy(self, policy: Option<Arc<dyn ConsistencyPolicy>>) -> Self {
        ReadRequest { policy, ..self }
    }
}
