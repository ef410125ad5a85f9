//! What a statement does, as far as it is proved.

use serde::{Deserialize, Serialize};

/// What a statement does to the data, decided from its syntax tree.
///
/// Only [`Intent::Read`] may leave the primary, and it must be proved. A statement that is not
/// understood is [`Intent::Unknown`] and is treated as a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Intent {
    /// Every part of the statement is proved to be free of side effects.
    Read,
    /// The statement changes data or schema, or takes a lock.
    Write,
    /// The statement reads or changes the state of the session it runs in
    /// (variables, prepared statements, advisory locks, `LISTEN`).
    Session,
    /// The statement begins, ends or configures a transaction.
    Transaction,
    /// The statement was not understood.
    Unknown,
}

impl Intent {
    /// Whether the statement may run on a replica.
    #[must_use]
    pub fn is_read(self) -> bool {
        matches!(self, Intent::Read)
    }
}
