//! One probe's result, with its time.

use std::{fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    Ancestry, Database, EndpointId, Feed, Moment, Position, Role, Source, Subscription, WriteStamp,
    printable,
};

/// What a probe or a failed statement has shown about one endpoint at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// The endpoint observed.
    pub endpoint: EndpointId,
    /// A moment before the probe was sent, or when the failed statement was sent.
    pub started: Moment,
    /// When the answer or the failure was known.
    pub finished: Moment,
    /// The write clock, read before the probe was sent.
    pub stamp: WriteStamp,
    /// The result.
    pub outcome: Outcome,
}

/// The result of a probe or of a statement.
#[allow(
    clippy::large_enum_variant,
    reason = "nearly all outcomes are answers, and a box would cost each quick probe an allocation"
)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The server answered.
    Answered(Report),
    /// The server did not answer, or a statement failed because of the server.
    Failed(Failure),
}

/// What a server says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Whether the server accepts writes or replays.
    pub role: Role,
    /// How far the server has got: the insert position on a primary, the replayed position on a
    /// replica. `None` until a replica has replayed something, and on a subscriber, which reports
    /// its position in `subscription`.
    pub position: Option<Position>,
    /// How far a replica has received, replayed or not, if the engine reports this (MySQL: executed
    /// transactions and the relay log's, in one set); `None` on a primary.
    pub received: Option<Position>,
    /// Whether a replica still receives from its primary.
    pub replication: Replication,
    /// The run of the server.
    pub incarnation: Incarnation,
    /// What a logical subscriber has received; `None` on all other servers.
    pub subscription: Option<Subscription>,
    /// The subscribers that a primary currently sends to, if the probe asked for them.
    pub feeds: Arc<[Feed]>,
    /// The database that the connection leads to, if known. A subscriber always has a different
    /// database, so it does not report one.
    pub database: Option<Arc<Database>>,
    /// The search path for names without a schema, if the engine has one.
    pub search_path: Option<Arc<str>>,
    /// Which transactions are over on a primary, if the engine reports this.
    pub transactions: Option<Transactions>,
    /// Which history a primary writes, on engines whose positions do not tell histories apart.
    pub ancestry: Option<Ancestry>,
    /// The servers that a replica is connected to and receives from, on engines whose positions do
    /// not tell histories apart. Empty if it does not tell, or if one of its sources is out of its
    /// reach.
    pub sources: Vec<Source>,
    /// Facts for people to read.
    pub info: ServerInfo,
}

/// Which transactions are over on a primary. The primary shows those of them that committed. A
/// replica may already show a transaction whose commit the primary has begun but does not show yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transactions {
    /// Transactions have numbers. On PostgreSQL, a transaction gets a number when it first writes
    /// (a read-only transaction has none). On MariaDB, groups of commits are numbered.
    Numbered {
        /// All transactions with a lower number are over.
        oldest: u64,
        /// No replica has shown a transaction with this or a higher number yet.
        next: u64,
    },
    /// The transactions of this set are over, and the report's position contains everything that a
    /// replica may have shown (MySQL).
    Within(Position),
}

impl Report {
    /// A report with the role and the run of a server, and nothing else.
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
            ancestry: None,
            sources: Vec::new(),
            info: ServerInfo::default(),
        }
    }
}

/// What a server says about itself, for people to read. It decides nothing, except whether two
/// addresses lead to one server. A field is `None` if the engine does not report it, or if the
/// monitor's role may not read it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerInfo {
    /// The server's software, such as `PostgreSQL 17.5`.
    pub version: Option<Arc<str>>,
    /// The identity of the server or its data, in the engine's words: PostgreSQL's system
    /// identifier, MySQL's server UUID, MariaDB's server and domain, Aurora's instance.
    pub identity: Option<Arc<str>>,
    /// Whether the server accepts writes.
    pub writable: Option<bool>,
    /// Whether a replica's receiving process is connected to its source (MySQL: the IO thread).
    pub receives: Option<bool>,
    /// Whether a replica's applying process runs (MySQL: the SQL thread).
    pub applies: Option<bool>,
    /// How far behind a replica believes itself to be, by the clocks of the servers.
    pub reported_lag: Option<Duration>,
    /// How many monitors of all processes probe the server, including this one.
    pub monitors: Option<u32>,
    /// What keeps reading sessions on the server from writing.
    pub read_only: Option<ReadOnly>,
    /// Whether our role may write there even if the server is set to be read-only (MySQL and
    /// MariaDB). If so, a demoted primary does not refuse our writes.
    pub unbound: Option<bool>,
    /// The group of primaries that the server belongs to, and its state there, in the engine's
    /// words: `Galera: Synced`.
    pub group: Option<Arc<str>>,
    /// Whether commits wait for a replica, or a replica acknowledges commits, according to the
    /// server itself (MySQL and MariaDB: semi-synchronous replication).
    pub semi_sync: Option<bool>,
}

/// What keeps reading sessions on a replica from writing. This matters if a write is mistaken for a
/// read, or if the replica becomes the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ReadOnly {
    /// The session itself, because its startup message contains such a setting.
    Session,
    /// Only the server, as long as it is a physical replica. A pooler in between drops or refuses
    /// the session's setting.
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

impl ServerInfo {
    /// The part that stays valid when a server no longer answers.
    pub(crate) fn last_known(&self) -> Self {
        let (version, identity) = (self.version.clone(), self.identity.clone());
        let group = self.group.clone();
        let ServerInfo { monitors, read_only, unbound, .. } = *self;
        ServerInfo {
            version,
            identity,
            monitors,
            read_only,
            unbound,
            group,
            ..ServerInfo::default()
        }
    }
}

/// Whether a replica still receives from its primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Replication {
    /// A primary, or a database file: it replicates from no other server.
    NotApplicable,
    /// Receiving and replaying.
    Running,
    /// Receiving, but replay is paused by hand.
    Paused,
    /// Not connected to any primary. The replica still answers queries, forever.
    Stopped,
    /// A logical subscriber with tables that are not copied yet. It still answers queries, from
    /// half-filled tables.
    Copying,
    /// A replica for which the monitor's role may not see whether it receives. Its positions still
    /// show how fresh it is.
    Unknown,
}

impl fmt::Display for Replication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Replication::NotApplicable => "not applicable",
            Replication::Running => "running",
            Replication::Paused => "paused",
            Replication::Stopped => "stopped",
            Replication::Copying => "copying its tables",
            Replication::Unknown => "unknown",
        })
    }
}

/// Identifies one run of a server.
///
/// A replica that crashes may come back a little older than it was: recovery promises consistency,
/// not the last visible position. So a proof for one run does not hold for the next run.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Incarnation(Arc<str>);

impl Incarnation {
    /// The run that the server describes with `description`.
    pub fn new(description: impl Into<Arc<str>>) -> Self {
        Incarnation(description.into())
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why an endpoint could not be observed. The text contains no credentials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "detail")]
#[non_exhaustive]
pub enum Failure {
    /// The connection could not be made, or was lost.
    Connection(String),
    /// A statement lost its connection, or the server announced its shutdown to it. No probe has
    /// failed so far.
    Statement(String),
    /// No answer within the probe's timeout.
    Timeout,
    /// The server refused the probe: wrong password, no privilege.
    Misconfigured(String),
    /// The server has no database of this name, perhaps only for now: a replica has the database
    /// once it has replayed its creation.
    NoDatabase(String),
    /// The server is starting up or shutting down.
    Unavailable(String),
    /// The server answered with an unexpected error or an unreadable answer.
    Unexpected(String),
}

impl Failure {
    /// What the failure means for the endpoint called `name`, in words.
    #[must_use]
    pub fn told_of(&self, name: &str) -> String {
        match self {
            // The server answers, but refuses us.
            Failure::Misconfigured(_) | Failure::NoDatabase(_) => {
                format!("{name} cannot be used: {self}")
            }
            _ => format!("{name} is down: {self}"),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, detail) = match self {
            Failure::Connection(detail) => ("no connection", detail),
            Failure::Statement(detail) => ("a statement failed there", detail),
            Failure::Timeout => return f.write_str("no answer in time"),
            Failure::Misconfigured(detail) | Failure::NoDatabase(detail) => ("refused us", detail),
            Failure::Unavailable(detail) => ("not available", detail),
            Failure::Unexpected(detail) => ("unexpected answer", detail),
        };
        write!(f, "{what}: {}", printable(detail))
    }
}
