//! Why an endpoint may not serve a statement.

use std::{borrow::Cow, fmt, time::Duration};

use serde::Serialize;

use crate::WriteStamp;

/// Why an endpoint may not serve a statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "refusal")]
#[non_exhaustive]
pub enum Refusal {
    /// The statement is for the primary, and this endpoint is not the primary.
    NotPrimary,
    /// The endpoint is the primary, and the read must not burden the primary.
    OnlyReplicas,
    /// The endpoint is not among the replicas that the statement may choose from, because of its
    /// group or a policy.
    OtherGroup,
    /// The endpoint has not been observed yet.
    NotObserved,
    /// The endpoint does not answer.
    Down,
    /// The endpoint answers again but is not trusted yet.
    Probation,
    /// The endpoint answers probes, but reads that were sent to it failed or did not end in time.
    /// It serves if no other endpoint does.
    Ejected,
    /// The endpoint is being drained.
    Draining,
    /// The endpoint holds another system's data.
    Foreign,
    /// The endpoint's URL names another database than the primary's.
    OtherDatabase,
    /// The endpoint is another address of a server that is in use.
    SameServer,
    /// The filters of the endpoint's replication, or of the primary's log, are not known, or were not
    /// known when the statement was judged.
    FiltersUnknown,
    /// The endpoint may have other rows of some table, and show them without an error; nobody knows
    /// which tables a read-only transaction will read.
    MayDiffer,
    /// The endpoint was seen to be a primary, but another one is in charge.
    StalePrimary,
    /// The endpoint does not receive from a primary, and its lag is unknown.
    NotReplicating,
    /// The endpoint is on a timeline that a promotion has ended, so it cannot catch up. It serves
    /// eventual reads if there is no better replica.
    OldTimeline,
    /// The endpoint is far behind, and other replicas are less so.
    Lagging,
    /// The endpoint is not proved to be fresh enough.
    TooStale {
        /// The proved staleness, if any.
        staleness: Option<Duration>,
        /// The bound that was asked for.
        bound: Duration,
    },
    /// A policy of the application refuses the endpoint.
    Declined {
        /// The reason, in words that follow the endpoint's name, such as "is in another region".
        why: Cow<'static, str>,
    },
    /// The endpoint has not replayed everything that the session wrote or saw.
    BehindSession {
        /// The newest stamp that the endpoint covers.
        covered: WriteStamp,
        /// The stamp that the session needs.
        needed: WriteStamp,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NotPrimary => f.write_str("is not the primary"),
            Refusal::OnlyReplicas => f.write_str("is not to serve reads that replicas cannot"),
            Refusal::OtherGroup => f.write_str("is not among the replicas of its route"),
            Refusal::NotObserved => f.write_str("has not been observed yet"),
            Refusal::Down => f.write_str("is down"),
            Refusal::Probation => f.write_str("answers again, on probation"),
            Refusal::Ejected => {
                f.write_str("is ejected: reads that were sent to it did not succeed")
            }
            Refusal::Draining => f.write_str("is being drained"),
            Refusal::Foreign => f.write_str("holds another system's data"),
            Refusal::OtherDatabase => f.write_str("leads to another database"),
            Refusal::SameServer => f.write_str("is another address of a server that is in use"),
            Refusal::FiltersUnknown => f.write_str("may filter tables that are not known yet"),
            Refusal::MayDiffer => {
                f.write_str("may have other rows of what the transaction will read")
            }
            Refusal::StalePrimary => f.write_str("is a primary that was replaced"),
            Refusal::NotReplicating => f.write_str("does not replicate"),
            Refusal::OldTimeline => f.write_str("is on an old timeline"),
            Refusal::Lagging => f.write_str("is far behind, and others are less so"),
            Refusal::TooStale { staleness: Some(staleness), bound } => {
                write!(f, "may be {staleness:?} behind, {bound:?} is allowed")
            }
            Refusal::TooStale { staleness: None, bound } => {
                write!(f, "is behind by an unknown time, {bound:?} is allowed")
            }
            Refusal::Declined { why } => f.write_str(why),
            Refusal::BehindSession { covered, needed } => write!(
                f,
                "has not replayed what the session wrote or saw (write {} of {})",
                covered.number(),
                needed.number()
            ),
        }
    }
}

/// Whether an endpoint may serve a statement.
pub type Verdict = Result<(), Refusal>;
