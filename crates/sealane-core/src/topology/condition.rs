//! The state of an endpoint in one word.
//!
//! A lagging replica serves eventual reads only if there is no better replica, and then the best
//! two of them do. A replica on an old timeline cannot catch up before it is pointed to the new
//! primary. It serves eventual reads if there is no other replica at all, and never other reads. An
//! endpoint that leads elsewhere (foreign, another database, the same server) serves nothing.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The state of an endpoint: the worst of its faults.
///
/// A [`Topology`](crate::Topology) shows it, and events report its changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Condition {
    /// Not observed yet.
    Unobserved,
    /// The endpoint does not answer.
    Down,
    /// The endpoint answers again but is not trusted yet. See
    /// [`HealthPolicy`](crate::HealthPolicy).
    Probation,
    /// The endpoint holds another system's data: it is a wrong server, or one that was created
    /// anew.
    Foreign,
    /// The endpoint is a server with our data, but its URL names another database than the
    /// primary's URL.
    OtherDatabase,
    /// The endpoint's address leads to a server that another endpoint already represents.
    SameServer,
    /// The endpoint is being drained: it gets no new statements.
    Draining,
    /// The endpoint answers, but its filters of replication, or those of the primary's log, are not
    /// known.
    FiltersUnknown,
    /// The endpoint claims to be the primary, but another one is in charge.
    StalePrimary,
    /// The endpoint replays a timeline that a promotion has ended.
    OldTimeline,
    /// The endpoint is a subscriber, and not all of its tables are copied yet.
    Copying,
    /// The endpoint answers queries but receives nothing from any primary.
    NotReplicating,
    /// The endpoint receives, but its replay is paused by hand.
    Paused,
    /// The endpoint replays but is far behind.
    Lagging,
    /// Nothing is wrong.
    Serving,
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Condition::Unobserved => "not observed yet",
            Condition::Down => "down",
            Condition::Probation => "on probation",
            Condition::Foreign => "foreign",
            Condition::OtherDatabase => "another database",
            Condition::SameServer => "another address of a server in use",
            Condition::Draining => "being drained",
            Condition::FiltersUnknown => "with filters that are not known yet",
            Condition::StalePrimary => "a primary that was replaced",
            Condition::OldTimeline => "on an old timeline",
            Condition::Copying => "copying its tables",
            Condition::NotReplicating => "not replicating",
            Condition::Paused => "paused",
            Condition::Lagging => "lagging",
            Condition::Serving => "serving",
        })
    }
}
