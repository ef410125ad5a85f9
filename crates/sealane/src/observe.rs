//! What people can observe: why a statement goes where it goes, the state of the endpoints, and
//! changes.

mod events;
pub(crate) mod explain;
mod metric;
pub(crate) mod span;
mod status;

pub use events::Events;
pub use explain::{Choice, Explanation};
pub(crate) use metric::{Measured, Metric};
pub use status::{CatalogState, EndpointStatus, LagMillis, Status};
