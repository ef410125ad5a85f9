//! Keeps the classifier up to date with the primary's catalog.
//!
//! The catalog is loaded at the start, after each schema change through sealane, and once a minute.
//! Views are printed a hundred at a time and with a short `lock_timeout`: printing a view locks
//! what the view reads, and a migration must not become the victim of a deadlock with us. The
//! definitions of views, policies and domains are judged on the client, like any text.
//!
//! # Filters
//! Where servers may filter what they replicate, the catalog is also loaded after a failover, and
//! servers are asked for their filters when the topology [says so](Topology::asking_for_filters). They
//! are asked beside the loads, each by itself: a load may hang at a primary that is gone, and needs a
//! primary, while most servers have no filter or one that the catalog includes already. Only a new
//! filter waits for a load. A server that does not answer is asked again, ever less often, and gets no
//! reads. The primary is an exception: if it cannot tell the filters of its log, they count as they were.
//! Otherwise, all reads would run on a primary that perhaps has no connection left to be asked on.

mod known_filters;

use std::{fmt, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use sealane_core::{EndpointId, Failure, Topology};
use sealane_sql::{Catalog, Classifier};
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
    time::{Instant, timeout},
};

use crate::TopologyStore;

pub use known_filters::{KnownFilters, ServerFilters};

/// Time between loads without a known change: other processes change schemas too.
const IDLE: Duration = Duration::from_secs(60);
/// Least time between two loads: a migration changes the schema many times.
const SOONEST: Duration = Duration::from_millis(200);
/// Delay after the first failed attempt; it doubles up to [`IDLE`].
const RETRY: Duration = Duration::from_secs(1);
/// Delay after the first question to a server that it does not answer; it doubles up to
/// [`ASK_AT_LEAST`].
const ASK_AGAIN: Duration = Duration::from_millis(250);
/// The longest time between two such questions.
const ASK_AT_LEAST: Duration = Duration::from_secs(5);
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

    /// Asks a server for its filters, to answer the question of this number.
    fn ask(&self, server: EndpointId, question: u32) -> impl Future<Output = Told> + Send {
        let _ = (server, question);
        std::future::ready(Told::Included)
    }
}

/// A catalog, and which servers were asked for their filters.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The catalog.
    pub catalog: Catalog,
    /// The questions that are answered. See [`Topology::filter_questions`].
    pub answered: Vec<(EndpointId, u32)>,
    /// Whether a server has filters that the catalog before did not include.
    pub has_new_filters: bool,
}

/// What a server said of its filters between two loads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// The last catalog includes all of them.
    Included,
    /// The last catalog does not include all of them.
    New,
    /// Nothing, for this reason.
    Nothing(String),
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
        let news = Notify::new();
        let keeper = Keeper { store, classifier: Arc::clone(&classifier), source, done, news };
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

    /// Whether the catalog was loaded after the last schema change that was reported.
    #[must_use]
    pub fn is_current(&self) -> bool {
        let changes = *self.changes.borrow();
        self.loaded.borrow().is_some_and(|loaded| loaded >= changes)
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
    /// A server has filters that the last catalog does not include.
    news: Notify,
    done: watch::Sender<Option<u64>>,
}

impl<S: CatalogSource> Keeper<S> {
    async fn run(self, told: watch::Receiver<u64>) {
        tokio::select! {
            biased;
            () = self.load_again_and_again(told) => {}
            () = self.ask_for_filters(), if S::HAS_FILTERS => {}
        }
    }

    async fn load_again_and_again(&self, mut told: watch::Receiver<u64>) {
        let mut retry = RETRY;
        let mut loaded = Instant::now();
        loop {
            // These are read before the load, because the load may miss a later change.
            let (changes, began) = (*told.borrow_and_update(), Instant::now());
            let before = Topology::clone(&self.store.topology());
            let result = self.load(before.primary()).await;
            let failed = result.is_err();
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
            let returns = failed && !before.has_usable_primary();
            let is_other = |topology: &Topology| {
                let is_new = topology.primary().is_some() && topology.primary() != before.primary();
                is_new || (returns && topology.has_usable_primary())
            };
            tokio::select! {
                biased;
                () = tokio::time::sleep(rest) => {}
                () = self.store.until(is_other), if S::HAS_FILTERS => {}
                () = self.news.notified() => {}
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
        let Loaded { catalog, answered, has_new_filters } =
            timeout(LOAD_LIMIT, self.source.load(primary))
                .await
                .unwrap_or(Err(Failure::Timeout))?;
        tracing::debug!(target: "sealane::catalog", known = catalog.len(), "loaded");
        self.say_where_transactions_run(&catalog);
        self.classifier.set_catalog(catalog, doubts);
        let since = has_new_filters.then(|| self.classifier.generation());
        self.store.note_filters(&answered, since);
        Ok(())
    }

    /// Says that with this new catalog read-only transactions begin to stay on the primary, or no
    /// longer do.
    fn say_where_transactions_run(&self, catalog: &Catalog) {
        let difference = catalog.difference();
        let did_differ = self.classifier.replicas_may_differ();
        match difference {
            Some(why) if !did_differ => tracing::warn!(
                target: "sealane::catalog",
                why,
                "read-only transactions run on the primary, because replicas may have other rows"
            ),
            None if did_differ => tracing::info!(
                target: "sealane::catalog",
                "read-only transactions may run on replicas again"
            ),
            _ => {}
        }
    }

    /// Asks servers for their filters as long as there are questions. Never ends.
    async fn ask_for_filters(&self) {
        let mut asking = FuturesUnordered::new();
        let mut asked = Vec::new();
        loop {
            let questions: Vec<_> = self.store.topology().filter_questions().collect();
            for question in questions {
                if !asked.contains(&question) {
                    asked.push(question);
                    asking.push(self.ask(question));
                }
            }
            let is_new = |topology: &Topology| {
                topology.filter_questions().any(|question| !asked.contains(&question))
            };
            let ended = tokio::select! {
                biased;
                Some(ended) = asking.next(), if !asking.is_empty() => Some(ended),
                () = self.store.until(is_new) => None,
            };
            asked.retain(|question| Some(*question) != ended);
        }
    }

    /// Asks a server until it has answered this question, or nobody asks it any more.
    async fn ask(&self, question: (EndpointId, u32)) -> (EndpointId, u32) {
        let (server, number) = question;
        let mut pause = ASK_AGAIN;
        let mut is_first = true;
        loop {
            match self.source.ask(server, number).await {
                Told::Included => self.store.note_filters(&[question], None),
                Told::New => self.news.notify_one(),
                Told::Nothing(why) => self.note_silence(question, is_first, &why),
            }
            is_first = false;
            let is_over =
                |topology: &Topology| topology.filter_questions().all(|open| open != question);
            if timeout(pause, self.store.until(is_over)).await.is_ok() {
                return question;
            }
            pause = (pause * 2).min(ASK_AT_LEAST);
        }
    }

    /// A server does not tell its filters.
    fn note_silence(&self, question: (EndpointId, u32), is_first: bool, why: &str) {
        let topology = self.store.topology();
        let is_primary = topology.primary() == Some(question.0);
        if is_first && let Some(state) = topology.get(question.0) {
            tracing::warn!(
                target: "sealane::catalog",
                endpoint = state.endpoint.name(),
                why,
                "{}",
                match is_primary {
                    true => "cannot ask the primary for the filters of its log, which count as \
                             they were until the next load of the catalog",
                    false => "cannot ask this server for its filters of replication; it gets no \
                              reads until it has told them",
                }
            );
        }
        if is_primary {
            self.store.note_filters(&[question], None);
        }
    }
}

#[cfg(test)]
mod tests;
