//! Series into which statements record, in OpenTelemetry's vocabulary for clients of databases.
//!
//! A statement must not look up a series by its labels, so whoever runs statements keeps a handle for
//! each series. Without the feature `metrics` the handles record nothing.

use std::time::Duration;

use sealane_core::{Engine, Role};

/// The bounds that OpenTelemetry advises for the buckets of `db.client.operation.duration`, in
/// seconds.
pub const OPERATION_DURATION_BUCKETS: [f64; 9] =
    [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];

/// What the statements of one series have in common.
#[derive(Debug, Clone, Copy)]
pub struct OperationLabels<'a> {
    /// The engine of the database.
    pub engine: Engine,
    /// The name of the endpoint that ran the statements.
    pub endpoint: &'a str,
    /// The role in which the endpoint ran them.
    pub role: Role,
    /// Whether they are proved reads.
    pub is_read: bool,
}

/// The durations of some statements.
#[derive(Clone)]
pub struct OperationSeries {
    #[cfg(feature = "metrics")]
    pub(crate) answered: ::metrics::Histogram,
    #[cfg(feature = "metrics")]
    pub(crate) failed: ::metrics::Histogram,
}

/// The count of reads that took one kind of detour.
#[derive(Clone)]
pub struct DetourSeries {
    #[cfg(feature = "metrics")]
    pub(crate) count: ::metrics::Counter,
}

#[cfg_attr(not(feature = "metrics"), allow(unused_variables, reason = "for metrics"))]
impl OperationSeries {
    /// Records a statement that was answered after this time.
    #[inline]
    pub fn answered(&self, took: Duration) {
        #[cfg(feature = "metrics")]
        self.answered.record(took);
    }

    /// Records a statement that its endpoint has not answered, after this time.
    pub fn failed(&self, took: Duration) {
        #[cfg(feature = "metrics")]
        self.failed.record(took);
    }
}

impl DetourSeries {
    /// Counts one.
    #[inline]
    pub fn add(&self) {
        #[cfg(feature = "metrics")]
        self.count.increment(1);
    }
}

impl std::fmt::Debug for OperationSeries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OperationSeries").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for DetourSeries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DetourSeries").finish_non_exhaustive()
    }
}
