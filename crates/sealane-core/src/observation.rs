//! One probe's result, with its time.

use std::{fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{Database, EndpointId, Feed, Moment, Position, Role, Subscription, WriteStamp};

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
#[allow(
    clippy::large_enum_variant,
    reason = "nearly all are answers; boxed, each quick probe would allocate for it"
)]
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
    /// Unknown until a replica has replayed anything, and on a subscriber, which
    /// tells it in `subscription`.
    pub position: Option<Position>,
    /// How far a replica has received, replayed or not, where the engine tells
    /// (MySQL: what it has executed and what its relay log holds, in one set);
    /// `None` on a primary.
    pub received: Option<Position>,
    /// Whether it still receives what its primary writes.
    pub replication: Replication,
    /// Which run of the server this is.
    pub incarnation: Incarnation,
    /// What a logical subscriber has received; `None` on all other servers.
    pub subscription: Option<Subscription>,
    /// The subscribers that a primary sends to at this moment, if it was asked.
    pub feeds: Arc<[Feed]>,
    /// The database that the connection leads to, if the server told. A subscriber's is
    /// another one by nature, and is not told.
    pub database: Option<Arc<Database>>,
    /// Where names without a schema are looked for, if the engine has such a setting.
    pub search_path: Option<Arc<str>>,
    /// Which transactions are over on a primary, where the engine tells.
    pub transactions: Option<Transactions>,
    /// What is for people to read.
    pub particulars: Particulars,
}

/// Which transactions are over on a primary of PostgreSQL. They are numbered when they first
/// write; those that only read have no number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transactions {
    /// All with a lesser number are over, and shown if they were committed.
    pub oldest: u64,
    /// No transaction had this number yet, nor a greater one.
    pub next: u64,
}

impl Report {
    /// Of this run of a server no more is known than its role.
    #[must_use]
    pub fn new(role: Role, incarnation: Incarnation) -> Self {
        Report {
            role,
            position: None,
            received: None,
            replication: Replication::NotApplicable,
            incarnation,
            subscription: None,
            feeds: Arc::default(),
            database: None,
            search_path: None,
            transactions: None,
            particulars: Particulars::default(),
        }
    }
}

/// What a server says of itself for people to read: nothing is decided by it but
/// whether two addresses lead to one server. Each is `None` where the engine, or the privileges of the probe's role, do not
/// let it be told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Particulars {
    /// What it runs, such as `PostgreSQL 17.5`.
    pub version: Option<Arc<str>>,
    /// Whose data it holds, in the words of the engine: PostgreSQL's system
    /// identifier, MySQL's server UUID, MariaDB's server and domain, Aurora's
    /// instance.
    pub identity: Option<Arc<str>>,
    /// Whether it accepts writes.
    pub writable: Option<bool>,
    /// Whether what receives on a replica is connected to its source (MySQL: the
    /// IO thread).
    pub receives: Option<bool>,
    /// Whether what applies on a replica runs (MySQL: the SQL thread).
    pub applies: Option<bool>,
    /// How far behind a replica takes itself to be, by the clocks of servers.
    pub reported_lag: Option<Duration>,
    /// How many monitors ask it, of all processes, this one among them.
    pub monitors: Option<u32>,
    /// What keeps sessions that read there from writing.
    pub read_only: Option<ReadOnly>,
}

/// What keeps sessions that read on a replica from writing, should a write be taken for a
/// read, or the replica become the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ReadOnly {
    /// The session itself, by a setting that it was begun with.
    Session,
    /// Only the server, for as long as it is a physical replica: a pooler in between drops
    /// the setting, or refuses it.
    Server,
}

impl fmt::Display for ReadOnly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ReadOnly::Session => "startup option",
            ReadOnly::Server => "standby only",
        })
    }
}

impl Particulars {
    /// What is left when a server does not answer any more.
    pub(crate) fn last_known(&self) -> Self {
        let (version, identity) = (self.version.clone(), self.identity.clone());
        let Particulars { monitors, read_only, .. } = *self;
        Particulars { version, identity, monitors, read_only, ..Particulars::default() }
    }
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
    /// A logical subscriber whose tables are not all copied yet. It answers queries
    /// all the same, from tables that are half full.
    Copying,
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
    /// A statement lost its connection, or was told that the server is going away. No probe has
    /// found anything wrong so far.
    Statement(String),
    /// No answer within the probe's timeout.
    Timeout,
    /// The server refused us: wrong password, no privilege.
    Misconfigured(String),
    /// The server has no database of that name, or not yet: on a replica it is there
    /// once its creation was replayed.
    NoDatabase(String),
    /// The server is starting up or shutting down.
    Unavailable(String),
    /// The server answered with something else.
    Unexpected(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Connection(detail) => write!(f, "no connection: {detail}"),
            Failure::Statement(detail) => write!(f, "a statement failed there: {detail}"),
            Failure::Timeout => f.write_str("no answer in time"),
            Failure::Misconfigured(detail) | Failure::NoDatabase(detail) => {
                write!(f, "refused us: {detail}")
            }
            Failure::Unavailable(detail) => write!(f, "not available: {detail}"),
            Failure::Unexpected(detail) => write!(f, "unexpected answer: {detail}"),
        }
    }
}
