//! Why a statement is not proved to be a read.
//!
//! A reason is a typed value, so that it can be counted and tested; it carries
//! names (of a function, a clause, a statement) and never a literal of the
//! statement, so that it may be logged.

use std::fmt;

use sealane_core::Intent;
use serde::Serialize;

use crate::place::Place;

/// One thing that keeps a statement on the primary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What the statement wants to do, by this finding alone.
    pub intent: Intent,
    /// Why.
    pub reason: Reason,
    /// Where in the text, if it is about one place.
    pub place: Option<Place>,
}

/// Why a statement is for the primary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", content = "detail", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// There is no statement in the text.
    Empty,
    /// The text is longer than is worth parsing; the bound, in bytes.
    TooLong(usize),
    /// Nested, chained or repeated past the bound; which bound.
    TooComplex(&'static str),
    /// The parser gave up.
    NotParsed,
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
    /// An operator that is not known to be pure.
    Operator(String),
    /// A type whose conversion is not known to be pure.
    Type(String),
    /// A relation that must not be read on a replica, or that hides something.
    Relation {
        /// Its name.
        name: String,
        /// What the catalog says of it.
        why: String,
    },
    /// A statement that changes data, schema or the server; its name.
    Writes(&'static str),
    /// Reads or changes the state of the session; what.
    SessionState(&'static str),
    /// Begins, ends or configures a transaction; the statement's name.
    TransactionControl(&'static str),
    /// Some other part that is not on the allow-list; what.
    NotListed(&'static str),
    /// A server refused this text as a write, so it is one.
    Learned,
    /// A leading hint that asks for the primary.
    HintPrimary,
    /// A leading hint that is none of ours; what it may say.
    HintNotUnderstood,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Empty => f.write_str("no statement in the text"),
            Reason::TooLong(limit_bytes) => write!(f, "longer than {limit_bytes} bytes"),
            Reason::TooComplex(bound) => write!(f, "too complex: {bound}"),
            Reason::NotParsed => f.write_str("not parsed from here"),
            Reason::Ambiguous(why) => write!(f, "may be read in two ways: {why}"),
            Reason::ExecutableComment => f.write_str("executable comment"),
            Reason::Locking(clause) => write!(f, "locking clause {clause}"),
            Reason::Into => f.write_str("INTO stores the result"),
            Reason::Function(name) => {
                write!(f, "calls {name}, which is not known to be pure")
            }
            Reason::Operator(name) => {
                write!(f, "uses operator {name}, which is not known to be pure")
            }
            Reason::Type(name) => {
                write!(f, "converts to {name}, which is not known to be pure")
            }
            Reason::Relation { name, why } => write!(f, "reads {name}: {why}"),
            Reason::Writes(statement) => write!(f, "{statement} writes"),
            Reason::SessionState(what) => write!(f, "session state: {what}"),
            Reason::TransactionControl(statement) => {
                write!(f, "transaction control: {statement}")
            }
            Reason::NotListed(what) => write!(f, "{what} is not known to be pure"),
            Reason::Learned => f.write_str("a server refused it as a write"),
            Reason::HintPrimary => f.write_str("a hint asks for the primary"),
            Reason::HintNotUnderstood => {
                f.write_str("this hint is not understood; it may say `primary` or `group=NAME`")
            }
        }
    }
}
