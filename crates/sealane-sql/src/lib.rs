//! SQL text and dialect to an access intent, with its reason.
//!
//! A statement may leave the primary only if it is *proved* to be a read, so the
//! question here is never "does this look like a write?" but "is every part of
//! it known to be pure?". Regular expressions and keyword lists answer the first
//! question and have let writes through wherever they were tried: inside a
//! common table expression, behind a function, in the second statement of a
//! text. So the text is parsed, and every node of the tree has to be on an
//! allow-list; whatever is not understood is [`Intent::Unknown`], which is for
//! the primary.
//!
//! # What the text cannot show
//! A view, an operator, a cast or a domain may hide a volatile function, a
//! user's function may be pure, and a table may be unlogged. The catalog knows:
//! give [`classify_with`] or [`Classifier::set_catalog`] the [`Catalog`] of the
//! database. A write that still slips through is refused by the server, because
//! sessions on replicas are read-only, and [`Classifier::learn_write`] remembers it;
//! a lock or a wait is not refused, which is why absent facts make functions unknown.
//!
//! # What else comes out
//! The [places](Place) in the text of all that was found, the [tables](Tables)
//! read and written, and a [cost class](CostClass). All of it is for people and
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

mod annotation;
mod bounds;
mod catalog;
mod classification;
mod classifier;
mod classify;
mod cost;
mod dialect;
mod finding;
mod function;
mod hint;
mod leading;
mod lexer;
mod place;
mod plain;
mod pragma;
mod prover;
mod relation;
mod relation_query;
mod suspicion;
mod table_name;
mod temporary;
mod written;

pub use annotation::Annotation;
pub use catalog::{
    Catalog, CatalogFacts, FunctionFact, OperatorFact, RelationFact, TableFact, TypeFact,
};
pub use classification::Classification;
pub use classifier::Classifier;
pub use classify::{classify, classify_with};
pub use cost::{Cost, CostClass, Limit};
pub use dialect::Dialect;
pub use finding::{Finding, Reason};
pub use hint::is_group_name;
pub use leading::{is_single_write, may_change_schema};
pub use place::Place;
pub use sealane_core::Intent;
pub use table_name::{TableName, Tables};
pub use temporary::TemporaryTables;
