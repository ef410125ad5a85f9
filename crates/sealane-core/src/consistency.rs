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

/// What becomes of a read on the primary, a write, or the beginning of a transaction there, in a
/// session that has just read on a replica.
///
/// A replica can show a commit before the primary does: a primary sends its log to the replicas,
/// and with synchronous replication waits for them, before the commit becomes visible on the primary
/// itself. A session that goes on from a replica to the primary can then see an older value than it
/// has already seen. Sessions that stay on replicas, or on the primary, never do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum WhenAhead {
    /// It runs on the primary at once, and may go back in time.
    #[default]
    Primary,
    /// It waits until the primary is proved to show all that the session has seen, this long at
    /// most, and then runs there. Only PostgreSQL tells what is needed for the proof; on other
    /// engines nothing waits.
    ///
    /// The proof takes a probe of the primary, and those transactions to end that were running when
    /// the session read on the replica and have written something, in any database of the server.
    /// Where one of them stays open for longer than the limit the proof does not come in time. So it
    /// is with a prepared transaction, and with a commit that waits for a synchronous replica which
    /// is away.
    Wait(Duration),
}

impl fmt::Display for WhenAhead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WhenAhead::Primary => f.write_str("the primary serves at once"),
            WhenAhead::Wait(patience) => write!(f, "wait for up to {patience:?}"),
        }
    }
}
