//! A cluster of servers whose catalog is loaded.

use std::sync::Arc;

use sealane_monitor::{CatalogSource, CatalogWatch};
use sealane_sql::{Catalog, CatalogFacts, Classifier, Dialect};

use super::Cluster;
use crate::Config;

impl Cluster {
    /// The cluster with its catalog. Waits a moment until the replicas are proved and the catalog is
    /// loaded.
    pub(crate) async fn with_catalog(
        self,
        config: &Config,
        dialect: Dialect,
        source: impl CatalogSource,
    ) -> Cluster {
        let classifier = Arc::new(without_catalog(dialect));
        let store = Arc::clone(self.store());
        let catalog = CatalogWatch::spawn(store, Arc::clone(&classifier), source);
        // After the limit, reads begin on the primary and move when there is a proof.
        self.monitor.await_replication(config.schedule.quick * 10).await;
        // Without the catalog, statements that only it knows to be pure run on the primary for a
        // little longer.
        let patience = config.schedule.timeout_with_connect();
        catalog.current(patience).await;
        let asked = self.store().until(|topology| topology.filter_questions().next().is_none());
        let _ = tokio::time::timeout(patience, asked).await;
        Cluster { classifier: Some(classifier), catalog: Some(catalog), ..self }
    }
}

/// A classifier before the catalog is loaded.
fn without_catalog(dialect: Dialect) -> Classifier {
    let classifier = Classifier::new(dialect);
    if dialect == Dialect::MySql {
        // Before the first load, any name may be a view: all reads run on the primary.
        let mut nothing = CatalogFacts::default();
        nothing.has_all_relations = true;
        classifier.set_catalog(Catalog::of_mysql(&nothing).doubted(), 0);
    }
    classifier
}
