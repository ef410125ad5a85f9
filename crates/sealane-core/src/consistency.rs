//! How fresh a read must be.

mod candidate;
mod refusal;
mod request;

use std::{fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

pub use candidate::Candidate;
pub use refusal::{Refusal, Verdict};
pub use request::{Access, ReadRequest};

/// What a read may miss, from the weakest promise to the strongest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Consistency {
    /// Any healthy replica, however far behind.
    Eventual,
    /// A replica that is proved to be at most this far behind the primary. The proof compares the
    /// positions of both on one local clock. An unknown staleness is too much.
    BoundedStaleness(Duration),
    /// A replica that has replayed every write of the session. Unless the session is the shared
    /// one, the replica also shows nothing older than what the session has seen.
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

/// Decides whether a replica is fresh enough for a read.
///
/// A policy can only narrow the choice. A candidate's role, health, system, database and group are
/// checked before, and the [`Consistency`] that a handle asks for applies as well. If the policy
/// refuses a replica as [`Refusal::TooStale`] or [`Refusal::BehindSession`], the read may wait for
/// that replica ([`FallbackPolicy::Wait`]). Any other refusal is final for this read.
///
/// ```
/// use sealane_core::{Candidate, ConsistencyPolicy, Moment, ReadRequest, Verdict};
///
/// /// Requires everything that was committed when the order was placed.
/// #[derive(Debug)]
/// struct SincePlaced(Moment);
///
/// impl ConsistencyPolicy for SincePlaced {
///     fn name(&self) -> &'static str {
///         "since-placed"
///     }
///
///     fn judge(&self, candidate: &Candidate<'_>, _read: &ReadRequest) -> Verdict {
///         candidate.shows(self.0)
///     }
/// }
/// ```
pub trait ConsistencyPolicy: fmt::Debug + Send + Sync {
    /// The name shown in explanations.
    fn name(&self) -> &'static str;

    /// Whether `candidate`, a replica in use, may serve `read`. The primary always may. This is
    /// called for each replica of each read, so it must not block, allocate or panic.
    ///
    /// # Errors
    /// The reason why the candidate may not serve the read.
    fn judge(&self, candidate: &Candidate<'_>, read: &ReadRequest) -> Verdict;
}

impl<T: ConsistencyPolicy + ?Sized> ConsistencyPolicy for Arc<T> {
    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn judge(&self, candidate: &Candidate<'_>, read: &ReadRequest) -> Verdict {
        (**self).judge(candidate, read)
    }
}

impl ConsistencyPolicy for Consistency {
    fn name(&self) -> &'static str {
        match self {
            Consistency::Eventual => "eventual",
            Consistency::BoundedStaleness(_) => "bounded-staleness",
            Consistency::ReadYourWrites => "read-your-writes",
            Consistency::Strong => "strong",
        }
    }

    fn judge(&self, candidate: &Candidate<'_>, read: &ReadRequest) -> Verdict {
        let state = candidate.state();
        match *self {
            Consistency::Strong => Err(Refusal::NotPrimary),
            // Such a replica gets nothing new before it is pointed to another primary, and it may
            // hold data that was lost.
            _ if state.old_timeline => Err(Refusal::OldTimeline),
            Consistency::Eventual if state.lagging => Err(Refusal::Lagging),
            Consistency::Eventual => Ok(()),
            Consistency::BoundedStaleness(bound) => candidate.within(bound),
            Consistency::ReadYourWrites => candidate.covers_session(read),
        }
    }
}

/// What happens to a read if no replica is good enough. Reads that ask for the primary always run
/// there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FallbackPolicy {
    /// The read runs on the primary.
    #[default]
    Primary,
    /// The read waits for a replica, at most this long, and then runs on the primary. If the pace
    /// of replay shows that no replica will be ready in time, the read does not wait.
    Wait(Duration),
    /// The read fails and never runs on the primary, so that reads that replicas cannot serve do
    /// not overload the primary. Do not use it for handles that insert into MySQL or MariaDB:
    /// SeaORM reads the inserted row back there, and this read may fail.
    Fail,
    /// The read runs on the primary. If the primary has no place for it, it is *served stale*: by
    /// the replica that is least behind, whatever the read asked for. The primary has no place
    /// while it does not answer, while as many reads as its limit allows fall back to it, and, for
    /// reads that fall back, under [`PrimaryReads::Intended`].
    ///
    /// A read that was already sent to the primary when that stopped answering ends as without this
    /// policy.
    ///
    /// Only the demand for freshness is dropped. The replica is still a healthy replica of the same
    /// database, among those of the read's route; it is on the primary's timeline, it is not doubted
    /// after a crash of the primary, and no policy refuses it for another reason than its age.
    Stale {
        /// The most that a replica may be proved to miss; `None` for anything, even an unknown
        /// amount.
        at_most: Option<Duration>,
    },
}

impl FallbackPolicy {
    /// The longest staleness that a read with this policy accepts as its last resort; `None` if it
    /// accepts none. [`Duration::MAX`] stands for any.
    #[must_use]
    pub fn accepted_staleness(self) -> Option<Duration> {
        match self {
            FallbackPolicy::Stale { at_most } => Some(at_most.unwrap_or(Duration::MAX)),
            FallbackPolicy::Primary | FallbackPolicy::Wait(_) | FallbackPolicy::Fail => None,
        }
    }
}

impl fmt::Display for FallbackPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FallbackPolicy::Primary => f.write_str("the primary serves"),
            FallbackPolicy::Wait(patience) => write!(f, "wait for up to {patience:?}"),
            FallbackPolicy::Fail => f.write_str("fail"),
            FallbackPolicy::Stale { at_most: None } => {
                f.write_str("the primary serves, or else the replica that is least behind")
            }
            FallbackPolicy::Stale { at_most: Some(bound) } => write!(
                f,
                "the primary serves, or else the replica that is least behind, by {bound:?} at most"
            ),
        }
    }
}

/// Which of the reads that replicas could serve run on the primary.
///
/// Some reads are *intended* for the primary under each of these: those that ask for it, those that
/// no replica could ever serve, and those of a session whose writes no replica has replayed yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum PrimaryReads {
    /// Only the intended ones. A read that no replica serves waits for a replica, and then fails,
    /// or is [served stale](FallbackPolicy::Stale).
    Intended,
    /// Also those that no replica serves now, up to a limit.
    #[default]
    Fallback,
    /// The primary also takes its turn among the replicas, with its own weight, for reads that
    /// choose among endpoints of no group. It is then a candidate like any other: if it is slow or
    /// hangs, its reads move to a replica, and it is left out for a while. The fewer replicas are
    /// left, the greater is its share, up to half of the reads beside the last one. It is no
    /// candidate if no replica is, so the limit protects it when all replicas are gone.
    Always,
}

impl PrimaryReads {
    /// The name in configuration files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            PrimaryReads::Intended => "intended",
            PrimaryReads::Fallback => "fallback",
            PrimaryReads::Always => "always",
        }
    }
}

/// What happens when a session has just read on a replica and then reads on the primary, writes, or
/// begins a transaction there.
///
/// A replica can show a commit before the primary does. A primary sends its log to the replicas
/// before the commit becomes visible on the primary itself, and with synchronous replication it
/// even waits for them. A session that moves from a replica to the primary can then see an older
/// value than before. Sessions that stay on replicas, or on the primary, never do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum WhenAhead {
    /// The statement runs on the primary at once, so the session may go back in time.
    #[default]
    Primary,
    /// The statement waits, at most this long, until the primary is proved to show everything that
    /// the session has seen. Then it runs there. Where the primary does not tell what the proof
    /// needs (MariaDB without the privilege `BINLOG MONITOR`, Aurora), nothing waits.
    ///
    /// The proof needs a probe of the primary. It also needs the end of all commits that had begun
    /// when the session read on the replica; on PostgreSQL, of all writing transactions that were
    /// running then, in any database of the server. If one of them stays open longer than the
    /// limit, the proof comes too late. Examples are a prepared transaction (PostgreSQL), and a
    /// commit that waits for a synchronous replica that is away.
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
