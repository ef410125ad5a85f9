//! Turns SQL text and a dialect into an access intent, with its reason.
//!
//! A statement may leave the primary only if it is *proved* to be a read. So the question is never
//! "does this look like a write?" but "is every part of it known to be pure?". Regular expressions
//! and keyword lists answer the first question. Wherever they were tried, they let writes through:
//! inside a common table expression, behind a function, in the second statement of a text. So this
//! crate parses the text, and every node of the tree must be on an allow-list. A statement that is
//! not understood is [`Intent::Unknown`] and runs on the primary.
//!
//! # What the text cannot show
//! A view, an operator, a cast or a domain may hide a volatile function. A user's function may be
//! pure. A table may be unlogged. The database's catalog knows all this: pass a [`Catalog`] to
//! [`classify_with`] or [`Classifier::set_catalog`]. If a write still slips through, the replica
//! refuses it, because sessions on replicas are read-only, and [`Classifier::learn_write`]
//! remembers the text. A replica does not refuse a lock or a wait. Therefore, users' functions stay
//! unknown without facts from the catalog.
//!
//! # What else comes out
//! A classification also holds the [place](Place) of each finding, the [tables](Tables) that the
//! statement reads and writes, and a [cost class](CostClass). These are for people and for routing
//! rules; only [`Classification::may_leave_primary`] is a promise.
//!
//! ```
//! use sealane_sql::{Classifier, Dialect, Intent};
//!
//! let classifier = Classifier::new(Dialect::PostgreSql);
//! let read = classifier.classify(r#"SELECT "id" FROM "cake" WHERE "id" = $1"#);
//! assert!(read.may_leave_primary());
//! assert_eq!(read.tables.read[0].name(), "cake");
//!
//! let sql = "SELECT nextval('cake_id_seq')";
//! let write = classifier.classify(sql);
//! assert_eq!(write.intent, Intent::Unknown);
//! assert_eq!(
//!     write.annotate(sql).to_string(),
//!     "  SELECT nextval('cake_id_seq')\n         \
//!      ^^^^^^^ calls nextval, which is not known to be pure",
//! );
//! ```

mod aggregate;
mod annotation;
mod backstop;
mod bounds;
mod catalog;
mod classification;
mod classifier;
mod classify;
mod conclusion;
mod determinism;
mod dialect;
mod fast_path;
mod finding;
mod first_words;
mod function;
mod hint;
mod lexer;
mod place;
mod pragma;
mod prover;
mod relation;
mod sketch;
mod sketches;
mod spelling;
mod table_name;
mod temporary;

pub use annotation::Annotation;
pub use catalog::{
    Catalog, CatalogFacts, FunctionFact, OperatorFact, RelationFact, ReplicationFilter, TableFact,
    TypeFact,
};
pub use classification::Classification;
pub use classifier::Classifier;
pub use classify::{classify, classify_with};
pub use determinism::{Determinism, determinism};

pub use dialect::Dialect;
pub use finding::{Finding, Reason};
pub use first_words::{is_single_write, may_change_schema};
pub use hint::is_group_name;
pub use place::Place;
pub use sealane_core::{Cost, CostClass, Intent, Limit, TableName, Tables};
pub use sketch::Sketch;
pub use sketches::Sketches;
pub use temporary::TemporaryTables;
