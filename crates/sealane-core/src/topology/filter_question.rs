//! What a server is to be asked before it gets reads.

use crate::Moment;

/// A question for the replication filters of a server. When one is asked: `topology/reducer/filters`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilterQuestion {
    /// Its number. No two questions have the same.
    pub number: u32,
    /// Since when the server is to be asked.
    pub since: Moment,
}
