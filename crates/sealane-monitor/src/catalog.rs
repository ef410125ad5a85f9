//! Keeps the classifier up to date with the primary's catalog.
//!
//! The catalog is loaded at the start, after each schema change through sealane, and once a minute. A
//! source that asks all servers is also asked again when the servers in use change.
//! Views are printed a hundred at a time and with a short `lock_timeout`: printing a view locks
//! what the view reads, and a migration must not become the victim of a deadlock with us. The
//! definitions of views, policies and domains are judged on the client, like any text.

use std::{fmt, sync::Arc, time::Duration};

use sealane_core::{EndpointId, Failure, Topology};
use sealane_sql::{Catalog, Classifier};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, timeout},
};

use crate::TopologyStore;

/// Time between loads without a known change: other processes change schemas too.
const IDLE: Duration = Duration::from_secs(60);
/// Least time between two loads: a migration changes the schema many times.
const SOONEST: Duration = Duration::from_millis(200);
/// Delay after the first failed attempt; it doubles up to [`IDLE`].
const RETRY: Duration = Duration::from_secs(1);
/// If no load that began in this time succeeds, the facts that allow something no longer count: other
/// processes change schemas too. With a last load that hangs, these are three minutes.
const BELIEVED: Duration = Duration::from_secs(150);
/// Time limit for one load. A catalog of thousands of views takes a second or two.
const LOAD_LIMIT: Duration = Duration::from_secs(30);

/// A source to load catalogs from.
pub trait CatalogSource: Send + Sync + 'static {
    /// Whether a load asks all servers. If so, it is repeated as soon as a server answers that did
    /// not, or another server is the primary.
    const ASKS_ALL: bool = false;

    /// Loads the current catalog of `endpoint`.
    ///
    /// # Errors
    /// The server cannot be asked, or its answer is not understood.
    fn load(&self, endpoint: EndpointId) -> impl Future<Output = Result<Catalog, Failure>> + Send;
}

/// Loads the primary's catalog into a [`Classifier`]: at the start, after each reported schema
/// change, and once a minute. Ends when dropped.
pub struct CatalogWatch {
    classifier: Arc<Classifier>,
    /// The number of reported changes.
    changes: watch::Sender<u64>,
    /// The number of changes reported before the last load; `None` before the first load.
    loaded: watch::Receiver<Option<u64>>,
    task: JoinHandle<()>,
}

impl CatalogWatch {
    /// Starts loading. Must be called within a tokio runtime.
    pub fn spawn(
        store: Arc<TopologyStore>,
        classifier: Arc<Classifier>,
        source: impl CatalogSource,
    ) -> Self {
        let (changes, told) = watch::channel(0);
        let (done, loaded) = watch::channel(None);
        let keeper = Keeper { store, classifier: Arc::clone(&classifier), source, told, done };
        CatalogWatch { classifier, changes, loaded, task: tokio::spawn(keeper.run()) }
    }

    /// Reports a schema change and starts a load. Until the catalog is loaded again, nothing counts
    /// as pure that only the catalog knows to be pure.
    pub fn schema_changed(&self) {
        self.classifier.doubt_catalog();
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Waits until the catalog includes every change that was reported before this call, `patience`
    /// at most. Returns whether it does. Cancel safe.
    pub async fn current(&self, patience: Duration) -> bool {
        let changes = *self.changes.borrow();
        let mut loaded = self.loaded.clone();
        let current = loaded.wait_for(|loaded| loaded.is_some_and(|loaded| loaded >= changes));
        matches!(timeout(patience, current).await, Ok(Ok(_)))
    }

    /// Stops loading; the classifier keeps the last catalog.
    pub fn stop(&self) {
        self.task.abort();
    }
}

impl Drop for CatalogWatch {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for CatalogWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CatalogWatch").field("loaded", &*self.loaded.borrow()).finish()
    }
}

/// The state of the loading task.
struct Keeper<S> {
    store: Arc<TopologyStore>,
    classifier: Arc<Classifier>,
    source: S,
    told: watch::Receiver<u64>,
    done: watch::Sender<Option<u64>>,
}

impl<S: CatalogSource> Keeper<S> {
    async fn run(mut self) {
        let mut retry = RETRY;
        let mut loaded = Instant::now();
        loop {
            // Both are read before the load, because the load may miss a later change.
            let (changes, began) = (*self.told.borrow_and_update(), Instant::now());
            let asked = Servers::of(&self.store.topology());
            let rest = match self.load().await {
                Ok(()) => {
                    let _ = self.done.send_replace(Some(changes));
                    (retry, loaded) = (RETRY, began);
                    IDLE
                }
                Err(error) => {
                    tracing::warn!(target: "sealane::catalog", %error, "cannot load the catalog");
                    if loaded.elapsed() >= BELIEVED {
                        self.classifier.doubt_catalog();
                    }
                    let rest = retry;
                    retry = (retry * 2).min(IDLE);
                    rest
                }
            };
            tokio::time::sleep(SOONEST).await;
            let jittered = rest.mul_f64(0.9 + 0.2 * self.store.entropy().ratio());
            // The last load before the catalog is doubted begins in time.
            let rest = match BELIEVED.saturating_sub(loaded.elapsed()) {
                Duration::ZERO => jittered,
                left => jittered.min(left),
            };
            tokio::select! {
                biased;
                () = tokio::time::sleep(rest) => {}
                () = self.store.until(|topology| asked.lack_any_of(topology)), if S::ASKS_ALL => {}
                told = self.told.changed() => {
                    // The watch was dropped, so nobody needs the catalog any more.
                    if told.is_err() {
                        return;
                    }
                }
            }
        }
    }

    async fn load(&self) -> Result<(), Failure> {
        let doubts = self.classifier.doubts();
        let Some(primary) = self.store.topology().primary() else {
            return Err(Failure::Unavailable(
                "there is no primary to load the catalog from".to_owned(),
            ));
        };
        let catalog = timeout(LOAD_LIMIT, self.source.load(primary))
            .await
            .unwrap_or(Err(Failure::Timeout))?;
        tracing::debug!(target: "sealane::catalog", known = catalog.len(), "loaded");
        self.classifier.set_catalog(catalog, doubts);
        Ok(())
    }
}

/// The servers that a load could ask.
struct Servers {
    primary: Option<EndpointId>,
    usable: Vec<EndpointId>,
}

impl Servers {
    fn of(topology: &Topology) -> Self {
        let usable = topology.iter().filter(|(_, state)| state.is_usable());
        Servers { primary: topology.primary(), usable: usable.map(|(id, _)| id).collect() }
    }

    /// Whether a server can be asked now that could not, or another one is the primary.
    fn lack_any_of(&self, topology: &Topology) -> bool {
        let mut usable = topology.iter().filter(|(_, state)| state.is_usable());
        let primary = topology.primary();
        usable.any(|(id, _)| !self.usable.contains(&id))
            || (primary.is_some() && primary != self.primary)
    }
}

#[cfg(test)]
mod tests;
