//! How fresh a read must be.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// What a read may miss, from the weakest promise to the strongest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Consistency {
    /// Any healthy replica, however far behind.
    Eventual,
    /// A replica that is proved to be at most this far behind the primary, by
    /// the positions of both on one local clock. Unknown is too far.
    BoundedStaleness(Duration),
    /// A replica that has replayed every write of the session, and (for a
    /// session of its own) nothing older than what the session has seen.
    #[default]
    ReadYourWrites,
    /// The primary.
    Strong,
}

impl fmt::Display for Consistency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Consistency::Eventual => f.write_str("eventual"),
            Consistency::BoundedStaleness(bound) => write!(f, "bounded staleness of {bound:?}"),
            Consistency::ReadYourWrites => f.write_str("read-your-writes"),
            Consistency::Strong => f.write_str("strong"),
        }
    }
}

/// What becomes of a read for which no replica is good enough. Reads that ask for
/// the primary run there in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum WhenBehind {
    /// It runs on the primary.
    #[default]
    Primary,
    /// It waits for a replica, this long at most, and then runs on the primary. Where
    /// the pace of replay tells that no replica will be there in time, it does not
    /// wait.
    Wait(Duration),
    /// It fails, and never runs on the primary: to keep what replicas cannot serve
    /// from bringing the primary down. Not for handles that insert into MySQL or
    /// MariaDB: SeaORM reads there what it has inserted, and that read may fail.
    Fail,
}

impl fmt::Display for WhenBehind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WhenBehind::Primary => f.write_str("the primary serves"),
            WhenBehind::Wait(patience) => write!(f, "wait for up to {patience:?}"),
            WhenBehind::Fail => f.write_str("fail"),
        }
    }
}
