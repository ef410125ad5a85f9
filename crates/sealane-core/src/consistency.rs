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
