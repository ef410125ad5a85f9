//! What the text of a statement shows: whether the statement reads, which tables it touches, and
//! how much work it may be. `sealane-sql` determines this.

mod cost;
mod intent;
mod table_set;
mod tables;
mod usage;

pub use cost::{Cost, CostClass, Limit};
pub use intent::Intent;
pub(crate) use table_set::SLOTS;
pub use table_set::TableSet;
pub use tables::{TableName, Tables};
pub use usage::{Usage, UsageCounts};
