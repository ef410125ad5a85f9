//! Where statements and pools publish what they measure.

use super::TopologyStore;
use crate::series::{DetourSeries, OperationLabels, OperationSeries};

#[cfg_attr(
    not(feature = "metrics"),
    allow(unused_variables, clippy::unused_self, reason = "for metrics")
)]
impl TopologyStore {
    /// The series of statements with these labels.
    #[must_use]
    pub fn operation_series(&self, labels: &OperationLabels<'_>) -> OperationSeries {
        OperationSeries {
            #[cfg(feature = "metrics")]
            answered: self.metrics.operations(labels, None),
            #[cfg(feature = "metrics")]
            failed: self.metrics.operations(labels, Some("unanswered")),
        }
    }

    /// The series of reads that took this kind of detour, such as `retried`.
    #[must_use]
    pub fn detour_series(&self, detour: &'static str) -> DetourSeries {
        DetourSeries {
            #[cfg(feature = "metrics")]
            count: self.metrics.detours(detour),
        }
    }

    /// Publishes the connections of an endpoint: those that statements use, those that are idle, and
    /// how many statements wait for one.
    pub fn publish_connections(&self, endpoint: &str, used: u32, idle: u32, waiting: u32) {
        #[cfg(feature = "metrics")]
        self.metrics.connections(endpoint, used, idle, waiting);
    }
}
