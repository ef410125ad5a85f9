//! SeaORM's metric callback, called once per statement, however many attempts it takes.
//!
//! SeaORM keeps the callback in the pool's handle and calls it from the driver. Our handles share
//! their pools, and one statement may use several of them. So the callback is kept in the handle
//! and called where a statement ends. The duration therefore contains what SeaORM's leaves out:
//! the wait for a connection, for a replica and for a primary, and all attempts.

use std::{fmt, sync::Arc};

use sea_orm::{DbErr, Statement, metric::Info};
use sealane_core::Moment;

use crate::cluster::Cluster;

type Callback = dyn Fn(&Info<'_>) + Send + Sync;

/// The callback of a handle, if it has one.
#[derive(Clone, Default)]
pub(crate) struct Metric(Option<Arc<Callback>>);

/// A stream that runs. The callback is called when this is dropped.
pub(crate) struct Measured {
    callback: Arc<Callback>,
    cluster: Arc<Cluster>,
    began: Moment,
    statement: Statement,
    failed: bool,
}

impl Metric {
    pub(crate) fn new(callback: impl Fn(&Info<'_>) + Send + Sync + 'static) -> Self {
        Metric(Some(Arc::new(callback)))
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.is_some()
    }

    /// When a statement begins; `None` without a callback.
    pub(crate) fn begins(&self, cluster: &Cluster) -> Option<Moment> {
        self.0.as_ref().map(|_| cluster.store().now())
    }

    /// Tells the callback how `statement` ended, which began at `began`.
    pub(crate) fn ends<T>(
        &self,
        began: Option<Moment>,
        cluster: &Cluster,
        statement: &Statement,
        result: &Result<T, DbErr>,
    ) {
        if let (Some(callback), Some(began)) = (&self.0, began) {
            let elapsed = cluster.store().now().since(began);
            callback(&Info { elapsed, statement, failed: result.is_err() });
        }
    }

    /// Begins to measure a stream, from its opening to its end.
    pub(crate) fn begin(&self, cluster: &Arc<Cluster>, statement: &Statement) -> Option<Measured> {
        let callback = Arc::clone(self.0.as_ref()?);
        let (cluster, statement) = (Arc::clone(cluster), statement.clone());
        let began = cluster.store().now();
        Some(Measured { callback, cluster, began, statement, failed: false })
    }
}

impl Measured {
    /// Notes whether something of the stream failed.
    pub(crate) fn note<T>(measured: &mut Option<Self>, result: &Result<T, DbErr>) {
        if let Some(measured) = measured {
            measured.failed |= result.is_err();
        }
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        let elapsed = self.cluster.store().now().since(self.began);
        let info = Info { elapsed, statement: &self.statement, failed: self.failed };
        (self.callback)(&info);
    }
}

impl fmt::Debug for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Metric").field(&self.0.is_some()).finish()
    }
}
