//! Keeps the classifier up to date with the primary's catalog.
//!
//! The catalog is loaded at the start, after each schema change through sealane, and once a minute. If
//! servers may filter what they replicate, it is also loaded after a failover, and each new run of a
//! server is asked for its filters. Until the catalog includes them, no replica with such a run gets
//! reads, and after a restart of the primary none does ([`Topology::asking_for_filters`]): what a
//! filter leaves out is then already read on the primary when the server gets its first read. A run
//! whose filters the catalog includes already, mostly because it has none, does not wait for a load,
//! which needs a primary.
//!
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
/// Time between two questions to a server that does not tell its filters.
const ASK_AGAIN: Duration = Duration::from_millis(250);
/// If no load that began in this time succeeds, the facts that allow something no longer count: other
/// processes change schemas too. With a last load that hangs, these are three minutes.
const BELIEVED: Duration = Duration::from_secs(150);
/// Time limit for one load. A catalog of thousands of views takes a second or two.
const LOAD_LIMIT: Duration = Duration::from_secs(30);

/// A source to load catalogs from.
pub trait CatalogSource: Send + Sync + 'static {
    /// Whether servers may filter what they replicate.
    const HAS_FILTERS: bool = false;

    /// Loads the current catalog of the primary.
    ///
    /// # Errors
    /// The server cannot be asked, or its answer is not understood.
    fn load(&self, primary: EndpointId) -> impl Future<Output = Result<Loaded, Failure>> + Send;

    /// Asks servers for their filters, and returns what it found about those that answered.
    fn ask(&self, servers: Vec<EndpointId>) -> impl Future<Output = Asked> + Send {
        let _ = servers;
        std::future::ready(Asked::default())
    }
}

/// A catalog, and the runs of servers whose filters it includes.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The catalog.
    pub catalog: Catalog,
    /// Endpoints, each with its [run](sealane_core::EndpointState::run) when it was asked.
    pub runs: Vec<(EndpointId, u32)>,
    /// Whether a server has filters that the catalog before did not include.
    pub has_new_filters: bool,
}

/// What servers said about their filters between two loads.
#[derive(Debug, Default)]
pub struct Asked {
    /// The runs whose filters the last catalog includes.
    pub included: Vec<(EndpointId, u32)>,
    /// Whether another server has filters that the last catalog does not include.
    pub is_news: bool,
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
        let keeper = Keeper { store, classifier: Arc::clone(&classifier), source, done };
        CatalogWatch { classifier, changes, loaded, task: tokio::spawn(keeper.run(told)) }
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
    done: watch::Sender<Option<u64>>,
}

impl<S: CatalogSource> Keeper<S> {
    async fn run(self, mut told: watch::Receiver<u64>) {
        let mut retry = RETRY;
        let mut loaded = Instant::now();
        loop {
            // These are read before the load, because the load may miss a later change.
            let (changes, began) = (*told.borrow_and_update(), Instant::now());
            let primary = self.store.topology().primary();
            let result = self.load(primary).await;
            let is_loaded = result.is_ok();
            let rest = match result {
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
                () = self.has_news(primary, is_loaded), if S::HAS_FILTERS => {}
                told = told.changed() => {
                    // The watch was dropped, so nobody needs the catalog any more.
                    if told.is_err() {
                        return;
                    }
                }
            }
        }
    }

    async fn load(&self, primary: Option<EndpointId>) -> Result<(), Failure> {
        let doubts = self.classifier.doubts();
        let Some(primary) = primary else {
            return Err(Failure::Unavailable(
                "there is no primary to load the catalog from".to_owned(),
            ));
        };
        let Loaded { catalog, runs, has_new_filters } =
            timeout(LOAD_LIMIT, self.source.load(primary))
                .await
                .unwrap_or(Err(Failure::Timeout))?;
        tracing::debug!(target: "sealane::catalog", known = catalog.len(), "loaded");
        self.classifier.set_catalog(catalog, doubts);
        let since = has_new_filters.then(|| self.classifier.generation());
        self.store.note_filters(&runs, since);
        Ok(())
    }

    /// Waits until another server than `primary` is the primary, or, after a successful load, a server
    /// has filters that the load does not include. Servers without such filters get reads meanwhile.
    async fn has_news(&self, primary: Option<EndpointId>, is_loaded: bool) {
        let is_other =
            |topology: &Topology| topology.primary().is_some_and(|now| Some(now) != primary);
        tokio::select! {
            () = self.store.until(is_other) => {}
            () = self.ask_new_runs(is_loaded) => {}
        }
    }

    /// Asks each new run for its filters, until one has filters that count only after a load.
    async fn ask_new_runs(&self, is_loaded: bool) {
        loop {
            self.store.until(|topology| !topology.with_unknown_filters().is_empty()).await;
            let topology = Topology::clone(&self.store.topology());
            let new: Vec<_> = topology.members(topology.with_unknown_filters()).collect();
            let asked = self.source.ask(new.clone()).await;
            self.store.note_filters(&asked.included, None);
            if asked.is_news && is_loaded {
                return;
            }
            if asked.included.len() < new.len() {
                tokio::time::sleep(ASK_AGAIN).await;
            }
        }
    }
}

#[cfg(test)]
mod tests;
