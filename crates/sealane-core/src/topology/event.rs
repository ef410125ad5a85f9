//! Events: changes of the topology, sent to listeners.

use std::{fmt, time::Duration};

use serde::Serialize;

use crate::{Condition, EndpointId, Failure, Replication, Role, Severity, Topology, printable};

/// A change of the topology. The snapshot shows states; events show only changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "event")]
#[non_exhaustive]
pub enum Event {
    /// An endpoint was added while the process runs. It gets statements once it is observed.
    Added {
        /// The endpoint.
        endpoint: EndpointId,
        /// Its name.
        name: String,
    },
    /// An endpoint was removed. Its number is never used again.
    Removed {
        /// The endpoint.
        endpoint: EndpointId,
        /// Its name, because no topology has the endpoint any more.
        name: String,
    },
    /// An endpoint is being drained: it gets no new statements.
    Draining {
        /// The endpoint.
        endpoint: EndpointId,
        /// Its name.
        name: String,
    },
    /// An endpoint that was being drained gets statements again.
    Undrained {
        /// The endpoint.
        endpoint: EndpointId,
        /// Its name.
        name: String,
    },
    /// An endpoint answers, for the first time or again.
    Up {
        /// The endpoint.
        endpoint: EndpointId,
    },
    /// An endpoint does not answer. It gets no statements until it answers again. Sent again for the
    /// primary if at first only a statement failed there, and then a probe as well.
    Down {
        /// The endpoint.
        endpoint: EndpointId,
        /// The reason.
        failure: Failure,
    },
    /// An endpoint answers probes, but reads that were sent to it failed or did not end in time. It
    /// gets no reads for a while.
    Ejected {
        /// The endpoint.
        endpoint: EndpointId,
        /// For how long, in milliseconds. Then one read tries it.
        for_ms: u64,
    },
    /// A read has succeeded on an endpoint that was ejected. It gets reads again.
    Readmitted {
        /// The endpoint.
        endpoint: EndpointId,
    },
    /// An endpoint answers again after it was down. It is used only after it has answered for a
    /// while.
    Probation {
        /// The endpoint.
        endpoint: EndpointId,
    },
    /// An endpoint was seen in another role than before.
    RoleChanged {
        /// The endpoint.
        endpoint: EndpointId,
        /// The role before.
        from: Role,
        /// The role now.
        to: Role,
    },
    /// Writes go to another endpoint than before, or to no endpoint.
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
        /// The other one.
        second: EndpointId,
    },
    /// A replica started or stopped receiving from its primary.
    ReplicationChanged {
        /// The endpoint.
        endpoint: EndpointId,
        /// The state now.
        to: Replication,
    },
    /// A server was restarted, so everything about its data must be proved again.
    Restarted {
        /// The endpoint.
        endpoint: EndpointId,
    },
    /// An endpoint holds another system's data (a re-created or wrong server). It is not used.
    Foreign {
        /// The endpoint.
        endpoint: EndpointId,
    },
    /// An endpoint leads to another database than the primary does. It is not used.
    OtherDatabase {
        /// The endpoint.
        endpoint: EndpointId,
        /// The database that the endpoint leads to.
        database: String,
        /// The database that we serve.
        ours: String,
    },
    /// An endpoint leads to a server that another endpoint already represents. It is not used.
    SameServer {
        /// The endpoint.
        endpoint: EndpointId,
        /// The endpoint that represents the server.
        stands: EndpointId,
    },
    /// The endpoint's search path differs from the primary's, so names without a schema may mean
    /// other tables there. Sent once for each difference.
    SearchPathDiffers {
        /// The endpoint.
        endpoint: EndpointId,
        /// Its search path.
        search_path: String,
        /// The primary's search path.
        primary: String,
    },
    /// An endpoint claims to be the primary, but the claim is rejected. It gets no statements until
    /// it has another role.
    Fenced {
        /// The endpoint.
        endpoint: EndpointId,
        /// The primary in charge, if there is one.
        primary: Option<EndpointId>,
    },
    /// All endpoints that answer hold another system's data, and our data was not seen for a long
    /// time. From now on, that system is served. Every earlier proof is void.
    Replaced {
        /// The primary of that system.
        primary: EndpointId,
    },
    /// An endpoint is on a timeline that a promotion has ended.
    OldTimeline {
        /// The endpoint.
        endpoint: EndpointId,
    },
    /// A replica is farther behind than the health policy allows.
    Lagging {
        /// The endpoint.
        endpoint: EndpointId,
        /// The lag, or a lower bound of it.
        lag: Duration,
    },
    /// An endpoint is no longer in one of these conditions: foreign, another database, another
    /// address of a server in use, on an old timeline, or lagging.
    Recovered {
        /// The endpoint.
        endpoint: EndpointId,
        /// The condition that has ended.
        from: Condition,
    },
    /// No replica takes reads any more, so the primary serves all of them: each replica is out of
    /// use, far behind, on an old timeline or ejected. (Eventual reads may still run on a replica
    /// that is behind.)
    ReadsOnPrimary {},
    /// A replica takes reads again.
    ReadsOnReplicas {},
    /// In shadow mode, a replica gave another answer than the primary to a read that would have run
    /// on the replica. Sent at most once a minute for each statement.
    ShadowDiffered {
        /// The replica.
        endpoint: EndpointId,
        /// The statement, without literals.
        statement: String,
    },
}

impl Event {
    /// The event in words, with the names of its endpoints in `topology`.
    pub fn named<'a>(&'a self, topology: &'a Topology) -> impl fmt::Display + 'a {
        let name = move |id| {
            fmt::from_fn(move |f| match topology.get(id) {
                Some(state) => write!(f, "{}", printable(state.endpoint.name())),
                None => write!(f, "{id}"),
            })
        };
        fmt::from_fn(move |f| self.tell(f, name))
    }

    /// How much the event matters to the person on call, whoever its endpoint is. See
    /// [`severity_in`](Self::severity_in).
    #[must_use]
    pub fn severity(&self) -> Severity {
        match self {
            Event::PrimaryConflict { .. }
            | Event::PrimaryChanged { to: None, .. }
            | Event::Fenced { .. }
            | Event::Replaced { .. } => Severity::Error,
            Event::Down { .. }
            | Event::Ejected { .. }
            | Event::Foreign { .. }
            | Event::OtherDatabase { .. }
            | Event::SameServer { .. }
            | Event::SearchPathDiffers { .. }
            | Event::OldTimeline { .. }
            | Event::Lagging { .. }
            | Event::ReadsOnPrimary {}
            | Event::ShadowDiffered { .. }
            | Event::ReplicationChanged { to: Replication::Stopped, .. } => Severity::Warning,
            Event::ReplicationChanged { .. }
            | Event::Added { .. }
            | Event::Removed { .. }
            | Event::Draining { .. }
            | Event::Undrained { .. }
            | Event::Up { .. }
            | Event::Probation { .. }
            | Event::RoleChanged { .. }
            | Event::PrimaryChanged { to: Some(_), .. }
            | Event::Restarted { .. }
            | Event::Readmitted { .. }
            | Event::Recovered { .. }
            | Event::ReadsOnReplicas {} => Severity::Info,
        }
    }

    /// How much the event matters in `topology`, to which it led: without the primary, writes stop.
    ///
    /// A failed statement alone is no error: somebody may have cut one connection. A probe follows
    /// at once, and if it fails as well, [`Event::Down`] is sent again.
    #[must_use]
    pub fn severity_in(&self, topology: &Topology) -> Severity {
        match self {
            Event::Down { failure: Failure::Statement(_), .. } => self.severity(),
            Event::Down { endpoint, .. } if topology.primary() == Some(*endpoint) => {
                Severity::Error
            }
            _ => self.severity(),
        }
    }

    /// Whether the event reports a problem that a person should look at.
    #[must_use]
    pub fn is_trouble(&self) -> bool {
        self.severity() > Severity::Info
    }

    /// Writes a membership event with the endpoint's stored name, because the endpoint may be gone
    /// by now.
    fn tell_membership(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Added { name, .. } => write!(f, "{} was added", printable(name)),
            Event::Removed { name, .. } => write!(f, "{} was removed", printable(name)),
            Event::Draining { name, .. } => write!(f, "{} is being drained", printable(name)),
            Event::Undrained { name, .. } => {
                write!(f, "{} is no longer being drained", printable(name))
            }
            _ => Ok(()),
        }
    }

    /// Writes an event about the server or database that an address leads to.
    fn tell_identity<N: fmt::Display>(
        &self,
        f: &mut fmt::Formatter<'_>,
        name: impl Fn(EndpointId) -> N,
    ) -> fmt::Result {
        match self {
            Event::Foreign { endpoint } => {
                write!(f, "{} holds another system's data", name(*endpoint))
            }
            Event::OtherDatabase { endpoint, database, ours } => write!(
                f,
                "{} leads to another database, {}, and is not used; we serve {}",
                name(*endpoint),
                printable(database),
                printable(ours)
            ),
            Event::SameServer { endpoint, stands } => write!(
                f,
                "{} leads to the same server as {} and is not used",
                name(*endpoint),
                name(*stands)
            ),
            Event::SearchPathDiffers { endpoint, search_path, primary } => write!(
                f,
                "the search path on {} is {}, and on the primary {}: names without a schema may \
                 mean other tables there",
                name(*endpoint),
                printable(search_path),
                printable(primary)
            ),
            _ => Ok(()),
        }
    }

    /// Writes an event about reads.
    fn tell_reads<N: fmt::Display>(
        &self,
        f: &mut fmt::Formatter<'_>,
        name: impl Fn(EndpointId) -> N,
    ) -> fmt::Result {
        match self {
            Event::ReadsOnPrimary {} => {
                f.write_str("no replica takes reads: all of them are on the primary")
            }
            Event::ReadsOnReplicas {} => f.write_str("a replica takes reads again"),
            Event::ShadowDiffered { endpoint, statement } => write!(
                f,
                "{} gave another answer than the primary in shadow mode to {}",
                name(*endpoint),
                printable(statement)
            ),
            _ => Ok(()),
        }
    }

    fn tell<N: fmt::Display>(
        &self,
        f: &mut fmt::Formatter<'_>,
        name: impl Fn(EndpointId) -> N,
    ) -> fmt::Result {
        match self {
            Event::Added { .. }
            | Event::Removed { .. }
            | Event::Draining { .. }
            | Event::Undrained { .. } => self.tell_membership(f),
            Event::Up { endpoint } => write!(f, "{} answers", name(*endpoint)),
            Event::Down { endpoint, failure } => {
                f.write_str(&failure.told_of(&name(*endpoint).to_string()))
            }
            Event::Ejected { endpoint, for_ms } => write!(
                f,
                "{} gets no reads for {for_ms} ms: it answers probes, but reads there did not succeed",
                name(*endpoint)
            ),
            Event::Readmitted { endpoint } => {
                write!(f, "{} serves reads again", name(*endpoint))
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
                write!(f, "replication on {} is {to}", name(*endpoint))
            }
            Event::Restarted { endpoint } => write!(f, "{} was restarted", name(*endpoint)),
            Event::Foreign { .. }
            | Event::OtherDatabase { .. }
            | Event::SameServer { .. }
            | Event::SearchPathDiffers { .. } => self.tell_identity(f, name),
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
                "all servers hold other data than before: another system's, or ours from before a \
                 promotion; these are served from now on, and writes go to {}",
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
            Event::ReadsOnPrimary {} | Event::ReadsOnReplicas {} | Event::ShadowDiffered { .. } => {
                self.tell_reads(f, name)
            }
        }
    }
}

impl fmt::Display for Event {
    /// Shows endpoints by number; [`Event::named`] shows their names.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tell(f, |id| id)
    }
}
