//! How much an event matters to the person on call.

use std::fmt;

use serde::Serialize;

/// How much an [`Event`](crate::Event) matters. The order is that of importance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Severity {
    /// Nothing is wrong, or something is right again.
    Info,
    /// A fault that statements get around: a person should look at it.
    Warning,
    /// Writes stop, or two histories may be written: a person should look at it now.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Error => "error",
        })
    }
}
