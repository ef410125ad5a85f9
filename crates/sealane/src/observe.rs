//! What people see of it: why a statement goes where it goes, how the endpoints stand, what changes.

mod events;
pub(crate) mod explain;
mod metric;
mod status;

pub use events::Events;
pub use explain::{Choice, Explanation};
pub(crate) use metric::{Measured, Metric};
pub use status::{CatalogState, EndpointStatus, LagMillis, Status};
