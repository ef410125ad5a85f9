//! The promises, as what breaks them.

use std::fmt;

use crate::history::WriteId;

/// A promise that was broken.
#[allow(missing_docs, reason = "the names of the fields say it")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// A session has missed a write of its own.
    MissedWrite { session: usize, id: WriteId, server: usize },
    /// A session was shown less than before.
    WentBack { session: usize, commit: usize, server: usize },
    /// A read has missed what was older than its bound.
    TooStale { session: usize, commit: usize, server: usize, bound_ms: u64 },
    /// A table was read on a replica that leaves it out.
    FilteredRead { server: usize },
    /// A view that takes a lock was read on a replica, though its process had made it so.
    LockedOnReplica { session: usize, server: usize },
    /// Something was sent to another database, or to a server of another system.
    AskedStranger { process: usize, server: usize },
    /// A read that must not run on the primary has run there.
    ReadOnPrimary { session: usize, server: usize },
    /// A read has failed for what only a replica lacks.
    FailedOnReplica { session: usize, why: String },
    /// A write came to a server on a session for reading.
    WriteAsRead { id: WriteId, server: usize },
    /// A write was carried out more than once.
    WrittenTwice { id: WriteId },
    /// A write was carried out of which the client was told that it was not.
    WrittenThough { id: WriteId, told: String },
    /// A write was acknowledged that no server has carried out.
    NotWritten { id: WriteId },
    /// A write was acknowledged by a server that its process knew to be replaced.
    AcknowledgedByReplaced { id: WriteId, server: usize },
    /// A write was acknowledged and is lost, though commits wait for a replica.
    AcknowledgedLost { id: WriteId },
    /// Something was sent to an endpoint that its process had drained or removed.
    UsedThoughDrained { process: usize, address: usize },
    /// An endpoint could not be removed or added.
    MembershipFailed { what: String },
    /// A serializable transaction has run on a replica.
    SerializableOnReplica { session: usize, server: usize },
    /// A statement that ends its session was sent to one server after the other.
    KilledMany { session: usize, times: usize },
    /// A read-only transaction has moved to another server.
    TransactionMoved { session: usize },
    /// A statement did not end in time.
    Endless { session: usize, what: String, after_ms: u64 },
    /// Something is still held when nothing runs.
    Leak { what: String },
    /// A server is probed more often than the budget allows.
    TooManyProbes { process: usize, server: usize, in_a_second: u32 },
    /// All is well, and a session still reads on the primary.
    StuckToPrimary { process: usize, why: String },
    /// Something failed though all is well.
    FailedInCalm { process: usize, why: String },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl Violation {
    /// The kind, for comparing failures of scenarios that are not quite the same.
    #[must_use]
    pub fn kind(&self) -> String {
        let text = format!("{self:?}");
        text.split([' ', '{']).next().unwrap_or_default().to_owned()
    }
}
