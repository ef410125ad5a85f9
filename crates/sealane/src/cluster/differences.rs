//! What replicas may show differently from the primary, as far as the catalog and filters tell.

use std::time::Duration;

use sealane_core::Topology;
use sealane_sql::Dialect;

use super::Cluster;

impl Cluster {
    /// Whether replicas may have other rows of some table, and show them without an error.
    pub(crate) fn replicas_may_differ(&self) -> bool {
        let Some(classifier) = &self.classifier else { return false };
        // Only MySQL and MariaDB have such tables. The newest one is perhaps not known yet.
        let may_have_new = classifier.dialect() == Dialect::MySql
            && self.catalog.as_ref().is_some_and(|catalog| !catalog.is_current());
        classifier.replicas_may_differ() || may_have_new
    }

    /// Waits until all servers have told their filters, for `limit` at most. Returns whether there
    /// was anything to wait for.
    pub(crate) async fn await_filters(&self, limit: Duration) -> bool {
        let is_asked = |topology: &Topology| topology.filter_questions().next().is_none();
        if is_asked(&self.store().topology()) {
            return false;
        }
        // If they have not told them, the next plan says so.
        let _ = tokio::time::timeout(limit, self.store().until(is_asked)).await;
        true
    }

    /// The same for the catalog after a schema change.
    pub(crate) async fn await_catalog(&self, limit: Duration) -> bool {
        match &self.catalog {
            Some(catalog) if !catalog.is_current() => {
                catalog.current(limit).await;
                true
            }
            Some(_) | None => false,
        }
    }
}
