//! In one word, how an endpoint stands.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How an endpoint stands: of all that is wrong with it, the worst.
///
/// Events tell when it changes; a [`Topology`](crate::Topology) shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Condition {
    /// Not observed yet.
    Unobserved,
    /// It does not answer.
    Down,
    /// It answers again and is not trusted yet. See
    /// [`HealthPolicy`](crate::HealthPolicy).
    Probation,
    /// It holds another system's data, or none of ours: a wrong server, or one
    /// that was created anew.
    Foreign,
    /// Its URL names another database than the primary's, on a server with our data.
    OtherDatabase,
    /// Its address leads to a server that another endpoint stands for.
    SameServer,
    /// It claims to be the primary and is not the one in charge.
    StalePrimary,
    /// It replays a history that a promotion has ended.
    OldTimeline,
    /// It is a subscriber whose tables are not all copied yet.
    Copying,
    /// It answers queries, and receives nothing from any primary.
    NotReplicating,
    /// It receives, and its replay is paused by hand.
    Paused,
    /// It replays, and is far behind.
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
