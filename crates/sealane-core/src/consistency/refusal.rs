//! Why an endpoint may not serve a statement.

use std::{borrow::Cow, fmt, time::Duration};

use serde::Serialize;

use crate::WriteStamp;

/// Why an endpoint may not serve a statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "refusal")]
#[non_exhaustive]
pub enum Refusal {
    /// The statement is for the primary, and this is not it.
    NotPrimary,
    /// It is the primary, and the read must not burden it.
    OnlyReplicas,
    /// It is not among the replicas that the statement may choose from, by its group or a policy.
    OtherGroup,
    /// It has not been observed yet.
    NotObserved,
    /// It does not answer.
    Down,
    /// It answers again and is not trusted yet.
    Probation,
    /// It is being drained.
    Draining,
    /// It holds another system's data.
    Foreign,
    /// Its URL names another database than the primary's.
    OtherDatabase,
    /// It is another address of a server that is in use.
    SameServer,
    /// It was seen to be a primary, but is not the one in charge.
    StalePrimary,
    /// It does not receive from a primary, and how far it is behind is unknown.
    NotReplicating,
    /// It is on a timeline that a promotion has ended: it cannot catch up. Eventual
    /// reads go there if there is no better replica.
    OldTimeline,
    /// It is far behind, and others are less so.
    Lagging,
    /// It is not proved to be fresh enough.
    TooStale {
        /// What is proved, if anything.
        staleness: Option<Duration>,
        /// What was asked for.
        bound: Duration,
    },
    /// A policy of the application's is against it.
    Declined {
        /// Why, in words that follow the endpoint's name, such as "is in another region".
        why: Cow<'static, str>,
    },
    /// It has not replayed what the session wrote or saw.
    BehindSession {
        /// The newest stamp it covers.
        covered: WriteStamp,
        /// The stamp the session needs.
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
            Refusal::Draining => f.write_str("is being drained"),
            Refusal::Foreign => f.write_str("holds another system's data"),
            Refusal::OtherDatabase => f.write_str("leads to another database"),
            Refusal::SameServer => f.write_str("is another address of a server that is in use"),
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
