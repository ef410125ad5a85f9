//! The role of a server.

use serde::{Deserialize, Serialize};

/// The role of a server as it was last observed, never as configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Role {
    /// Not observed yet.
    #[default]
    Unknown,
    /// Accepts writes.
    Primary,
    /// Replays what a primary wrote.
    Replica,
}
