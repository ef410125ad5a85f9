//! What changed, told to whoever listens.

use std::{fmt, time::Duration};

use serde::Serialize;

use crate::{Condition, EndpointId, Failure, Replication, Role, Topology};

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
    /// An endpoint leads to another database than the primary does. It is never used.
    OtherDatabase {
        /// Which one.
        endpoint: EndpointId,
        /// The database that it leads to.
        database: String,
        /// The database that we serve.
        ours: String,
    },
    /// An endpoint leads to a server that another endpoint stands for. It is not used.
    SameServer {
        /// Which one.
        endpoint: EndpointId,
        /// The one that stands for both.
        stands: EndpointId,
    },
    /// Names without a schema are looked for elsewhere than on the primary: they may mean
    /// other tables. Told once.
    SearchPathDiffers {
        /// Which one.
        endpoint: EndpointId,
        /// Its search path.
        search_path: String,
        /// The primary's.
        primary: String,
    },
    /// An endpoint claims to be the primary and is not believed. It gets no statements
    /// until it is seen in another role.
    Fenced {
        /// Which one.
        endpoint: EndpointId,
        /// The primary in charge, if there is one.
        primary: Option<EndpointId>,
    },
    /// All endpoints that answer hold another system's data, and ours were not seen for
    /// long: they are what is served from now on. Nothing that was proved before holds.
    Replaced {
        /// The primary of that system.
        primary: EndpointId,
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
    /// An endpoint is no longer foreign, of another database, another address of a server
    /// in use, on an old timeline, or lagging.
    Recovered {
        /// Which one.
        endpoint: EndpointId,
        /// What it was.
        from: Condition,
    },
}

impl Event {
    /// The event in words, with the names of its endpoints in `topology`.
    pub fn named<'a>(&'a self, topology: &'a Topology) -> impl fmt::Display + 'a {
        let name = move |id| {
            fmt::from_fn(move |f| match topology.get(id) {
                Some(state) => f.write_str(state.endpoint.name()),
                None => write!(f, "{id}"),
            })
        };
        fmt::from_fn(move |f| self.tell(f, name))
    }

    /// Whether somebody should look: it is something that is wrong.
    #[must_use]
    pub fn is_trouble(&self) -> bool {
        match self {
            Event::Down { .. }
            | Event::PrimaryConflict { .. }
            | Event::PrimaryChanged { to: None, .. }
            | Event::Foreign { .. }
            | Event::OtherDatabase { .. }
            | Event::SameServer { .. }
            | Event::SearchPathDiffers { .. }
            | Event::Fenced { .. }
            | Event::Replaced { .. }
            | Event::OldTimeline { .. }
            | Event::Lagging { .. } => true,
            Event::ReplicationChanged { to, .. } => *to == Replication::Stopped,
            Event::Up { .. }
            | Event::Probation { .. }
            | Event::RoleChanged { .. }
            | Event::PrimaryChanged { to: Some(_), .. }
            | Event::Restarted { .. }
            | Event::Recovered { .. } => false,
        }
    }

    fn tell<N: fmt::Display>(
        &self,
        f: &mut fmt::Formatter<'_>,
        name: impl Fn(EndpointId) -> N,
    ) -> fmt::Result {
        match self {
            Event::Up { endpoint } => write!(f, "{} answers", name(*endpoint)),
            Event::Down { endpoint, failure } => {
                write!(f, "{} is down: {failure}", name(*endpoint))
            }
            Event::Probation { endpoint } => {
                write!(f, "{} answers again, on probation", name(*endpoint))
            }
            Event::RoleChanged { endpoint, from, to } => {
                write!(f, "{} changed from {from:?} to {to:?}", name(*endpoint))
            }
            Event::PrimaryChanged { to: Some(to), .. } => write!(f, "writes go to {}", name(*to)),
            Event::PrimaryChanged { to: None, .. } => f.write_str("no endpoint may take writes"),
            Event::PrimaryConflict { first, second } => {
                write!(f, "both {} and {} claim to be the primary", name(*first), name(*second))
            }
            Event::ReplicationChanged { endpoint, to } => {
                write!(f, "replication on {} is {to:?}", name(*endpoint))
            }
            Event::Restarted { endpoint } => write!(f, "{} was restarted", name(*endpoint)),
            Event::Foreign { endpoint } => {
                write!(f, "{} holds another system's data", name(*endpoint))
            }
            Event::OtherDatabase { endpoint, database, ours } => write!(
                f,
                "{} leads to another database, {database}, and is not used; we serve {ours}",
                name(*endpoint)
            ),
            Event::SameServer { endpoint, stands } => write!(
                f,
                "{} leads to the same server as {} and is not used",
                name(*endpoint),
                name(*stands)
            ),
            Event::SearchPathDiffers { endpoint, search_path, primary } => write!(
                f,
                "the search path on {} is {search_path}, and on the primary {primary}: names \
                 without a schema may mean other tables there",
                name(*endpoint)
            ),
            Event::Fenced { endpoint, primary: Some(primary) } => write!(
                f,
                "{} claims to be the primary and is not believed: writes go to {}",
                name(*endpoint),
                name(*primary)
            ),
            Event::Fenced { endpoint, primary: None } => {
                write!(f, "{} claims to be the primary and is not believed", name(*endpoint))
            }
            Event::Replaced { primary } => write!(
                f,
                "all servers hold another system's data than before; it is served from now on, \
                 and writes go to {}",
                name(*primary)
            ),
            Event::OldTimeline { endpoint } => {
                write!(f, "{} is on an old timeline", name(*endpoint))
            }
            Event::Lagging { endpoint, lag } => {
                write!(f, "{} lags by {lag:?}", name(*endpoint))
            }
            Event::Recovered { endpoint, from } => {
                write!(f, "{} is no longer {from}", name(*endpoint))
            }
        }
    }
}

impl fmt::Display for Event {
    /// With the numbers of endpoints; [`Event::named`] has their names.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tell(f, |id| id)
    }
}
