//! Probes health, role, position and lag, and keeps the topology made from them.
//!
//! One task per endpoint asks its server over a separate connection, so that an exhausted
//! application pool is not mistaken for a dead server. All tasks feed the one reducer in the
//! [`TopologyStore`]. Statements read its snapshot with one atomic load. When the [`Monitor`] is
//! dropped, its tasks end.
//!
//! Each probe is a `tracing` span. With the feature `metrics`, the probes' results also go to the
//! recorder that the application has installed. A [`CatalogWatch`] keeps the classifier up to date
//! with the primary's catalog.

mod catalog;
mod caught;
mod clock;
mod entropy;
mod footing;
mod guard;
#[cfg(feature = "metrics")]
mod metrics;
mod monitor;
#[cfg(feature = "mysql")]
pub mod mysql;
#[cfg(feature = "postgres")]
pub mod postgres;
mod probe;
mod probe_schedule;
mod series;
mod span;
mod telling;
mod topology_store;

pub use catalog::{CatalogSource, CatalogWatch, KnownFilters, Loaded, ServerFilters, Told};
pub use entropy::Entropy;
pub use footing::{Footing, Stage};
pub use guard::{Admission, RunGuard};
pub use monitor::Monitor;
pub use probe::{BoxProbe, Probe};
pub use probe_schedule::ProbeSchedule;
pub use series::{DetourSeries, OPERATION_DURATION_BUCKETS, OperationLabels, OperationSeries};
pub use topology_store::TopologyStore;
