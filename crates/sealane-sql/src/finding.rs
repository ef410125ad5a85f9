//! Reasons why a statement is not a proved read.
//!
//! A reason is a typed value, so that it can be counted and tested. It carries names (of a
//! function, a clause, a statement) but never a literal of the statement, so that it may be logged.

use std::fmt;

use sealane_core::Intent;
use serde::Serialize;

use crate::place::Place;

/// One thing that keeps a statement on the primary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The intent that this finding alone implies.
    pub intent: Intent,
    /// Why.
    pub reason: Reason,
    /// The place in the text, if the finding has one.
    pub place: Option<Place>,
}

/// Why a statement must run on the primary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", content = "detail", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// The text holds no statement.
    Empty,
    /// The text is too long to parse. Holds the limit in bytes.
    TooLong(usize),
    /// The text exceeds a limit on nesting, chaining or repetition. Names the limit.
    TooComplex(&'static str),
    /// The parser gave up.
    NotParsed,
    /// Server and parser might split the text into different tokens. Says why.
    Ambiguous(&'static str),
    /// A comment that MySQL or MariaDB executes.
    ExecutableComment,
    /// The statement locks rows. Names the clause.
    Locking(&'static str),
    /// The statement stores its result in a table, a file or variables.
    Into,
    /// A function that is not known to be pure.
    Function(String),
    /// An operator that is not known to be pure.
    Operator(String),
    /// A type whose conversion is not known to be pure.
    Type(String),
    /// A relation that a replica must not read, or that hides something.
    Relation {
        /// Its name.
        name: String,
        /// What the catalog says about the relation.
        why: String,
    },
    /// A statement that changes data, the schema or the server. Holds its name.
    Writes(&'static str),
    /// The statement reads or changes the state of the database session. Says which state.
    SessionState(&'static str),
    /// The statement begins, ends or configures a transaction. Holds its name.
    TransactionControl(&'static str),
    /// Another part that is not on the allow-list. Names the part.
    NotListed(&'static str),
    /// A server refused this text as a write.
    Learned,
    /// A leading hint that asks for the primary.
    HintPrimary,
    /// A leading hint that sealane does not understand.
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
