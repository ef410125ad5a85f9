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
//! A view, an operator, a cast, a domain or an overload may hide a volatile
//! function, and a table may be temporary or unlogged. The catalog knows; this
//! crate does not ask it. The session on a replica is read-only, so the server
//! refuses what slips through, and [`Classifier::learn_write`] remembers it.
//!
//! ```
//! use sealane_sql::{Classifier, Dialect, Intent};
//!
//! let classifier = Classifier::new(Dialect::PostgreSql);
//! assert_eq!(classifier.intent(r#"SELECT "id" FROM "cake" WHERE "id" = $1"#), Intent::Read);
//!
//! let explained = classifier.classify("SELECT nextval('cake_id_seq')");
//! assert_eq!(explained.intent, Intent::Unknown);
//! assert_eq!(explained.reason.to_string(), "calls nextval, which is not known to be pure");
//! ```

mod bounds;
mod classification;
mod classifier;
mod classify;
mod dialect;
mod function;
mod lexer;
mod pragma;
mod prover;

pub use classification::{Classification, Reason};
pub use classifier::Classifier;
pub use classify::classify;
pub use dialect::Dialect;
pub use sealane_core::Intent;
