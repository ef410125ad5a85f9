//! What was decided about a statement, and why.
//!
//! A reason is a typed value, so that it can be counted and tested; it carries
//! names (of a function, a clause, a statement) and never a literal of the
//! statement, so that it may be logged.

use std::fmt;

use sealane_core::Intent;
use serde::Serialize;

/// An intent with the reason that decided it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Classification {
    /// What the statement does, as far as that is proved.
    pub intent: Intent,
    /// Why.
    pub reason: Reason,
}

impl Classification {
    pub(crate) fn new(intent: Intent, reason: Reason) -> Self {
        Self { intent, reason }
    }

    pub(crate) fn read() -> Self {
        Self::new(Intent::Read, Reason::ProvedRead)
    }

    pub(crate) fn unknown(reason: Reason) -> Self {
        Self::new(Intent::Unknown, reason)
    }

    pub(crate) fn not_listed(what: impl Into<String>) -> Self {
        Self::unknown(Reason::NotListed(what.into()))
    }

    pub(crate) fn session(what: impl Into<String>) -> Self {
        Self::new(Intent::Session, Reason::SessionState(what.into()))
    }
}

impl fmt::Display for Classification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.intent, self.reason)
    }
}

/// Why a statement got its intent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", content = "detail", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// Every node of every statement is on the allow-list.
    ProvedRead,
    /// There is no statement in the text.
    Empty,
    /// The text is longer than is worth parsing; the bound, in bytes.
    TooLong(usize),
    /// Nested, chained or repeated past the bound; which bound.
    TooComplex(&'static str),
    /// The parser gave up; where.
    NotParsed(String),
    /// Server and parser might not cut the text into the same tokens; why.
    Ambiguous(&'static str),
    /// A comment that MySQL or MariaDB executes.
    ExecutableComment,
    /// Rows are locked; the clause.
    Locking(&'static str),
    /// The result goes into a table, a file or variables.
    Into,
    /// A function that is not known to be pure.
    Function(String),
    /// A statement that changes data, schema or the server; its name.
    Writes(&'static str),
    /// Reads or changes the state of the session; what.
    SessionState(String),
    /// Begins, ends or configures a transaction; the statement's name.
    TransactionControl(&'static str),
    /// Some other part that is not on the allow-list; what.
    NotListed(String),
    /// A server refused this text as a write, so it is one.
    Learned,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::ProvedRead => f.write_str("proved read"),
            Reason::Empty => f.write_str("no statement in the text"),
            Reason::TooLong(limit_bytes) => write!(f, "longer than {limit_bytes} bytes"),
            Reason::TooComplex(bound) => write!(f, "too complex: {bound}"),
            Reason::NotParsed(place) => write!(f, "not parsed: {place}"),
            Reason::Ambiguous(why) => write!(f, "may be read in two ways: {why}"),
            Reason::ExecutableComment => f.write_str("executable comment"),
            Reason::Locking(clause) => write!(f, "locking clause {clause}"),
            Reason::Into => f.write_str("INTO stores the result"),
            Reason::Function(name) => {
                write!(f, "calls {name}, which is not known to be pure")
            }
            Reason::Writes(statement) => write!(f, "{statement} writes"),
            Reason::SessionState(what) => write!(f, "session state: {what}"),
            Reason::TransactionControl(statement) => {
                write!(f, "transaction control: {statement}")
            }
            Reason::NotListed(what) => write!(f, "{what} is not known to be pure"),
            Reason::Learned => f.write_str("a server refused it as a write"),
        }
    }
}
