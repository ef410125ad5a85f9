//! Keeps what statements are judged by up to date with the primary's catalog.

use std::{fmt, sync::Arc, time::Duration};

use sealane_core::{EndpointId, Failure};
use sealane_sql::{Catalog, Classifier};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, timeout},
};

use crate::Board;

/// Between loads when nothing is known to have changed: others change schemas too.
const IDLE: Duration = Duration::from_secs(60);
/// Between loads at least: a migration changes the schema many times.
const SOONEST: Duration = Duration::from_millis(200);
/// Between attempts that fail, at first; it doubles up to [`IDLE`].
const RETRY: Duration = Duration::from_secs(1);
/// A catalog that could not be loaded again for so long is no longer believed where
/// it allows something: others change schemas too.
const BELIEVED: Duration = Duration::from_secs(180);
/// A catalog of thousands of views takes a second or two.
const LOAD_LIMIT: Duration = Duration::from_secs(30);

/// Where a catalog is loaded from.
pub trait CatalogSource: Send + Sync + 'static {
    /// The catalog as `endpoint` has it now.
    ///
    /// # Errors
    /// The server cannot be asked, or what it says is not understood.
    fn load(&self, endpoint: EndpointId) -> impl Future<Output = Result<Catalog, Failure>> + Send;
}

/// Loads the primary's catalog into a [`Classifier`]: at once, after each change of
/// the schema that it is told of, and once a minute. Ends when dropped.
pub struct CatalogWatch {
    classifier: Arc<Classifier>,
    /// How many changes were told of.
    changes: watch::Sender<u64>,
    /// How many of them the last load came after; `None` before the first.
    loaded: watch::Receiver<Option<u64>>,
    task: JoinHandle<()>,
}

impl CatalogWatch {
    /// Begins to load. Must be called within a tokio runtime.
    pub fn spawn(
        board: Arc<Board>,
        classifier: Arc<Classifier>,
        source: impl CatalogSource,
    ) -> Self {
        let (changes, told) = watch::channel(0);
        let (done, loaded) = watch::channel(None);
        let keeper = Keeper { board, classifier: Arc::clone(&classifier), source, told, done };
        CatalogWatch { classifier, changes, loaded, task: tokio::spawn(keeper.run()) }
    }

    /// The schema has changed: what only the catalog knew to be pure is not, until
    /// it is loaded again, which begins now.
    pub fn schema_changed(&self) {
        self.classifier.doubt_catalog();
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Waits until the catalog was loaded after every change told of before this
    /// call, `patience` at most; whether it was. Cancel safe.
    pub async fn current(&self, patience: Duration) -> bool {
        let changes = *self.changes.borrow();
        let mut loaded = self.loaded.clone();
        let current = loaded.wait_for(|loaded| loaded.is_some_and(|loaded| loaded >= changes));
        matches!(timeout(patience, current).await, Ok(Ok(_)))
    }

    /// Ends loading; what is known stays.
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

/// The task.
struct Keeper<S> {
    board: Arc<Board>,
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
            // In this order: a change that comes after is one that the load may miss.
            let changes = *self.told.borrow_and_update();
            let rest = match self.load().await {
                Ok(()) => {
                    let _ = self.done.send_replace(Some(changes));
                    (retry, loaded) = (RETRY, Instant::now());
                    IDLE
                }
                Err(error) => {
                    tracing::warn!(target: "sealane::catalog", %error, "cannot load the catalog");
                    if loaded.elapsed() > BELIEVED {
                        self.classifier.doubt_catalog();
                    }
                    let rest = retry;
                    retry = (retry * 2).min(IDLE);
                    rest
                }
            };
            tokio::time::sleep(SOONEST).await;
            let jittered = rest.mul_f64(0.9 + 0.2 * fastrand::f64());
            tokio::select! {
                () = tokio::time::sleep(jittered) => {}
                told = self.told.changed() => {
                    // Whoever told is gone, and so is the need.
                    if told.is_err() {
                        return;
                    }
                }
            }
        }
    }

    async fn load(&self) -> Result<(), Failure> {
        let doubts = self.classifier.doubts();
        let Some(primary) = self.board.topology().primary() else {
            return Err(Failure::Unavailable("there is no primary to ask".to_owned()));
        };
        let catalog = timeout(LOAD_LIMIT, self.source.load(primary))
            .await
            .unwrap_or(Err(Failure::Timeout))?;
        tracing::debug!(target: "sealane::catalog", known = catalog.len(), "loaded");
        self.classifier.set_catalog(catalog, doubts);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
