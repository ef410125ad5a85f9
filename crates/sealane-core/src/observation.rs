//! One probe's result, with its time.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{EndpointId, Moment, Position, Role, WriteStamp};

/// What was learned about one endpoint at one time, by a probe or by a
/// statement that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// The endpoint observed.
    pub endpoint: EndpointId,
    /// Before the probe was sent; or when the failed statement was sent.
    pub started: Moment,
    /// When its answer, or its failure, was known.
    pub finished: Moment,
    /// The write clock, read before the probe was sent.
    pub stamp: WriteStamp,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The server answered.
    Answered(Report),
    /// It did not, or a statement on it failed for a reason that is its own.
    Failed(Failure),
}

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Whether it accepts writes or replays.
    pub role: Role,
    /// How far it has got: inserted on a primary, replayed on a replica.
    /// Unknown until a replica has replayed anything.
    pub position: Option<Position>,
    /// How far a replica has received, replayed or not, where the engine tells
    /// (MySQL: what it has executed and what its relay log holds, in one set);
    /// `None` on a primary.
    pub received: Option<Position>,
    /// Whether it still receives what its primary writes.
    pub replication: Replication,
    /// Which run of the server this is.
    pub incarnation: Incarnation,
}

/// Whether a replica still receives from its primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Replication {
    /// A primary does not replicate from anyone; one file needs not.
    NotApplicable,
    /// Receiving and replaying.
    Running,
    /// Receiving, but replay is paused by hand.
    Paused,
    /// Not connected to any primary. It answers queries all the same, for ever.
    Stopped,
    /// A replica, and the monitor's role may not see whether it receives. Its
    /// positions tell how fresh it is all the same.
    Unknown,
}

/// Identifies one run of a server.
///
/// A replica that crashes may come back a little older than it was: recovery
/// promises consistency, not the last position shown. What was proved of one
/// run is not proved of the next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Incarnation(Arc<str>);

impl Incarnation {
    /// The run that the server describes with this text.
    pub fn new(description: impl Into<Arc<str>>) -> Self {
        Incarnation(description.into())
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why an endpoint could not be observed. Without credentials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "detail")]
#[non_exhaustive]
pub enum Failure {
    /// The connection could not be made, or was lost.
    Connection(String),
    /// No answer within the probe's timeout.
    Timeout,
    /// The server refused us: wrong password, unknown database, no privilege.
    Misconfigured(String),
    /// The server is starting up or shutting down.
    Unavailable(String),
    /// The server answered with something else.
    Unexpected(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Connection(detail) => write!(f, "no connection: {detail}"),
            Failure::Timeout => f.write_str("no answer in time"),
            Failure::Misconfigured(detail) => write!(f, "refused us: {detail}"),
            Failure::Unavailable(detail) => write!(f, "not available: {detail}"),
            Failure::Unexpected(detail) => write!(f, "unexpected answer: {detail}"),
        }
    }
}
