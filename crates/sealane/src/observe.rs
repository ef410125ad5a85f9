//! What people can observe: why a statement goes where it goes, the state of the endpoints, and
//! changes.

mod events;
pub(crate) mod explain;
mod metric;
#[cfg(feature = "metrics")]
pub(crate) mod pools;
mod report;
pub(crate) mod span;
mod status;

pub use events::Events;
pub use explain::{Choice, Explanation};
pub(crate) use metric::{Measured, Metric};
pub use report::{
    Advice, ConnectionReport, EndpointReport, Report, StatementReport, StatementReports,
};
pub use status::{CatalogState, EndpointStatus, LagMillis, Status};
