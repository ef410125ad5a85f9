//! What changed, told to whoever listens.

use std::{fmt, time::Duration};

use serde::Serialize;

use crate::{Condition, EndpointId, Failure, Replication, Role};

/// A change of the topology. Steady states are in the snapshot, not here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "event")]
#[non_exhaustive]
pub enum Event {
    /// An endpoint answers, for the first time or again.
    Up {
        /// Which one.
        endpoint: EndpointId,
    },
    /// An endpoint does not answer; it gets no statements until it does.
    Down {
        /// Which one.
        endpoint: EndpointId,
        /// Why.
        failure: Failure,
    },
    /// An endpoint answers again after it was down, and is not used before it has
    /// gone on doing so.
    Probation {
        /// Which one.
        endpoint: EndpointId,
    },
    /// An endpoint was seen in another role than before.
    RoleChanged {
        /// Which one.
        endpoint: EndpointId,
        /// The role before.
        from: Role,
        /// The role now.
        to: Role,
    },
    /// Writes go to another endpoint than before, or to none.
    PrimaryChanged {
        /// The primary before.
        from: Option<EndpointId>,
        /// The primary now; `None` while no endpoint may take writes.
        to: Option<EndpointId>,
    },
    /// Two endpoints claim to be the primary of one timeline. Writes stop.
    PrimaryConflict {
        /// One of them.
        first: EndpointId,
        /// Another.
        second: EndpointId,
    },
    /// A replica began or ceased to receive from its primary.
    ReplicationChanged {
        /// Which one.
        endpoint: EndpointId,
        /// The state now.
        to: Replication,
    },
    /// A server was restarted: what was proved of its data is proved anew.
    Restarted {
        /// Which one.
        endpoint: EndpointId,
    },
    /// An endpoint holds another system's data (a re-created or wrong server).
    /// It is never used.
    Foreign {
        /// Which one.
        endpoint: EndpointId,
    },
    /// An endpoint answers from a timeline that a promotion has ended.
    OldTimeline {
        /// Which one.
        endpoint: EndpointId,
    },
    /// A replica is farther behind than the policy of health allows.
    Lagging {
        /// Which one.
        endpoint: EndpointId,
        /// By how much, at least.
        lag: Duration,
    },
    /// An endpoint is no longer foreign, on an old timeline, or lagging.
    Recovered {
        /// Which one.
        endpoint: EndpointId,
        /// What it was.
        from: Condition,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Up { endpoint } => write!(f, "{endpoint} answers"),
            Event::Down { endpoint, failure } => write!(f, "{endpoint} is down: {failure}"),
            Event::Probation { endpoint } => write!(f, "{endpoint} answers again, on probation"),
            Event::RoleChanged { endpoint, from, to } => {
                write!(f, "{endpoint} changed from {from:?} to {to:?}")
            }
            Event::PrimaryChanged { to: Some(to), .. } => write!(f, "writes go to {to}"),
            Event::PrimaryChanged { to: None, .. } => f.write_str("no endpoint may take writes"),
            Event::PrimaryConflict { first, second } => {
                write!(f, "both {first} and {second} claim to be the primary")
            }
            Event::ReplicationChanged { endpoint, to } => {
                write!(f, "replication on {endpoint} is {to:?}")
            }
            Event::Restarted { endpoint } => write!(f, "{endpoint} was restarted"),
            Event::Foreign { endpoint } => write!(f, "{endpoint} holds another system's data"),
            Event::OldTimeline { endpoint } => write!(f, "{endpoint} is on an old timeline"),
            Event::Lagging { endpoint, lag } => write!(f, "{endpoint} lags by {lag:?}"),
            Event::Recovered { endpoint, from } => write!(f, "{endpoint} is no longer {from}"),
        }
    }
}
