use std::sync::Mutex;

use sealane_core::{
    Endpoint, Incarnation, Lsn, Observation, Outcome, Position, Report, Role, WriteStamp,
};
use sealane_sql::{CatalogFacts, Dialect, FunctionFact, Intent};

use super::*;

const SQL: &str = "SELECT price(id) FROM cake";

/// A source of a catalog with one function. It may fail, and it counts its loads.
#[derive(Clone, Default)]
struct Source(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    volatile: bool,
    fails: bool,
    loads: u64,
    /// Puts this classifier's catalog in doubt during the next load.
    changes_meanwhile: Option<Arc<Classifier>>,
}

impl Source {
    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.lock().unwrap());
    }

    fn loads(&self) -> u64 {
        self.0.lock().unwrap().loads
    }
}

impl CatalogSource for Source {
    async fn load(&self, _: EndpointId) -> Result<Loaded, Failure> {
        let mut state = self.0.lock().unwrap();
        state.loads += 1;
        if state.fails {
            return Err(Failure::Timeout);
        }
        if let Some(classifier) = state.changes_meanwhile.take() {
            classifier.doubt_catalog();
        }
        let price = FunctionFact {
            schema: "public".to_owned(),
            name: "price".to_owned(),
            volatile: state.volatile,
            shadowed: false,
            takes_one: false,
            definitions: Vec::new(),
        };
        let mut facts = CatalogFacts::default();
        facts.functions.push(price);
        Ok(Loaded { catalog: Catalog::new(&facts), ..Loaded::default() })
    }
}

fn start(source: &Source) -> (CatalogWatch, Arc<Classifier>) {
    let topology = Topology::always_current(vec![Endpoint::new("primary", "here")]);
    let classifier = Arc::new(Classifier::new(Dialect::PostgreSql));
    let watch =
        CatalogWatch::spawn(TopologyStore::new(topology), Arc::clone(&classifier), source.clone());
    (watch, classifier)
}

const LONG: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn a_function_is_pure_once_the_catalog_says_so() {
    let (watch, classifier) = start(&Source::default());
    assert_eq!(classifier.intent(SQL), Intent::Unknown);
    assert!(watch.current(LONG).await);
    assert_eq!(classifier.intent(SQL), Intent::Read);
}

#[tokio::test(start_paused = true)]
async fn after_a_schema_change_the_catalog_is_in_doubt_until_it_is_loaded() {
    let source = Source::default();
    let (watch, classifier) = start(&source);
    assert!(watch.current(LONG).await);
    source.set(|state| state.volatile = true);
    watch.schema_changed();
    assert_eq!(classifier.intent(SQL), Intent::Unknown);
    assert!(watch.current(LONG).await);
    assert_eq!(classifier.intent(SQL), Intent::Unknown);
    source.set(|state| state.volatile = false);
    watch.schema_changed();
    assert!(watch.current(LONG).await);
    assert_eq!(classifier.intent(SQL), Intent::Read);
}

#[tokio::test(start_paused = true)]
async fn a_catalog_loaded_before_a_change_stays_in_doubt() {
    let source = Source::default();
    let (watch, classifier) = start(&source);
    assert!(watch.current(LONG).await);
    source.set(|state| state.changes_meanwhile = Some(Arc::clone(&classifier)));
    watch.schema_changed();
    assert!(watch.current(LONG).await);
    assert_eq!(classifier.intent(SQL), Intent::Unknown);
}

/// Servers of which the second may filter something, and a classifier that knows a little function.
struct Fleet {
    store: Arc<TopologyStore>,
    source: Filtered,
    watch: CatalogWatch,
    classifier: Arc<Classifier>,
}

/// A source of servers that filter.
#[derive(Clone)]
struct Filtered {
    inner: Source,
    servers: Arc<Mutex<Servers>>,
    store: Arc<TopologyStore>,
}

#[derive(Default)]
struct Servers {
    /// Whether the replica has a filter.
    filters: bool,
    /// Whether the last load included it.
    is_known: bool,
    /// The server that does not tell its filters.
    silent: Option<usize>,
    /// Whether loads hang.
    hangs: bool,
    questions: u64,
}

impl Filtered {
    fn set(&self, change: impl FnOnce(&mut Servers)) {
        change(&mut self.servers.lock().unwrap());
    }

    fn questions(&self) -> u64 {
        self.servers.lock().unwrap().questions
    }
}

impl CatalogSource for Filtered {
    const HAS_FILTERS: bool = true;

    async fn load(&self, primary: EndpointId) -> Result<Loaded, Failure> {
        let loaded = self.inner.load(primary).await?;
        if self.servers.lock().unwrap().hangs {
            std::future::pending::<()>().await;
        }
        let mut servers = self.servers.lock().unwrap();
        let has_new_filters = servers.filters && !servers.is_known;
        servers.is_known = servers.filters;
        let topology = self.store.topology();
        let answered = topology.filter_questions();
        let answered = answered.filter(|(of, _)| Some(of.place()) != servers.silent).collect();
        Ok(Loaded { answered, has_new_filters, ..loaded })
    }

    async fn ask(&self, server: EndpointId, _: u32) -> Told {
        let mut servers = self.servers.lock().unwrap();
        servers.questions += 1;
        if servers.silent == Some(server.place()) {
            return Told::Nothing("there is no room for it".to_owned());
        }
        let is_news = server.place() == REPLICA && servers.filters && !servers.is_known;
        if is_news { Told::New } else { Told::Included }
    }
}

const PRIMARY: usize = 0;
const REPLICA: usize = 1;

fn id(place: usize) -> EndpointId {
    EndpointId::from_index(place).unwrap()
}

impl Fleet {
    /// A primary that answers, and its loaded catalog.
    async fn start() -> Self {
        let names = ["primary", "replica"].map(|name| Endpoint::new(name, name));
        let topology = Topology::new(names.to_vec()).asking_for_filters();
        let store = TopologyStore::new(topology);
        answers(&store, PRIMARY, "first");
        let (inner, servers) = (Source::default(), Arc::default());
        let source = Filtered { inner, servers, store: Arc::clone(&store) };
        let classifier = Arc::new(Classifier::new(Dialect::PostgreSql));
        let watch =
            CatalogWatch::spawn(Arc::clone(&store), Arc::clone(&classifier), source.clone());
        assert!(watch.current(LONG).await);
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(source.inner.loads(), 1);
        Fleet { store, source, watch, classifier }
    }

    fn is_in_use(&self) -> bool {
        self.store.topology().replicas_in_use().contains(id(REPLICA))
    }

    fn is_primary_known(&self) -> bool {
        self.store.topology().filter_questions().all(|(of, _)| of != id(PRIMARY))
    }
}

/// An answer of this run of a server.
fn answers(store: &TopologyStore, place: usize, run: &str) {
    let role = if place == PRIMARY { Role::Primary } else { Role::Replica };
    let position = Some(Position::Wal { system: 1, timeline: 1, lsn: Lsn::from_bytes(100) });
    tell(
        store,
        place,
        Outcome::Answered(Report { position, ..Report::new(role, Incarnation::new(run)) }),
    );
}

fn tell(store: &TopologyStore, place: usize, outcome: Outcome) {
    let (started, finished) = (store.now(), store.now());
    let stamp = WriteStamp::NONE;
    store.apply(&Observation { endpoint: id(place), started, finished, stamp, outcome });
}

#[tokio::test(start_paused = true)]
async fn a_replica_without_filters_serves_as_soon_as_it_was_asked_and_without_a_load() {
    let fleet = Fleet::start().await;
    answers(&fleet.store, REPLICA, "first");
    assert!(!fleet.is_in_use(), "before it was asked");
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(fleet.is_in_use());
    assert_eq!((fleet.source.inner.loads(), fleet.source.questions()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_replica_with_filters_serves_once_the_catalog_includes_them() {
    let fleet = Fleet::start().await;
    fleet.source.set(|it| it.filters = true);
    let before = fleet.classifier.generation();
    // The catalog with its filter is another one.
    fleet.source.inner.set(|it| it.volatile = true);
    answers(&fleet.store, REPLICA, "first");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(fleet.is_in_use());
    assert_eq!(fleet.source.inner.loads(), 2);
    let topology = Topology::clone(&fleet.store.topology());
    assert!(!topology.includes_filters(before), "of statements judged before");
    assert!(topology.includes_filters(fleet.classifier.generation()));
    // The same filters after a restart need no load.
    answers(&fleet.store, REPLICA, "second");
    assert!(!fleet.is_in_use());
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(fleet.is_in_use());
    assert_eq!(fleet.source.inner.loads(), 2);
}

#[tokio::test(start_paused = true)]
async fn while_no_load_succeeds_only_replicas_without_new_filters_serve() {
    let fleet = Fleet::start().await;
    fleet.source.inner.set(|it| it.fails = true);
    fleet.watch.schema_changed();
    tokio::time::sleep(Duration::from_secs(5)).await;
    answers(&fleet.store, REPLICA, "first");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(fleet.is_in_use());
    fleet.source.set(|it| it.filters = true);
    answers(&fleet.store, REPLICA, "second");
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(!fleet.is_in_use());
    assert!(fleet.source.inner.loads() < 20, "{} loads", fleet.source.inner.loads());
    fleet.source.inner.set(|it| it.fails = false);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(fleet.is_in_use());
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_does_not_tell_its_filters_is_asked_again_and_serves_nothing_meanwhile() {
    let fleet = Fleet::start().await;
    fleet.source.set(|it| it.silent = Some(REPLICA));
    let asked = fleet.source.questions();
    answers(&fleet.store, REPLICA, "first");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!fleet.is_in_use());
    let asked = fleet.source.questions() - asked;
    assert!((10..=20).contains(&asked), "asked {asked} times in a minute");
    fleet.source.set(|it| it.silent = None);
    tokio::time::sleep(ASK_AT_LEAST).await;
    assert!(fleet.is_in_use());
}

#[tokio::test(start_paused = true)]
async fn a_load_that_hangs_delays_no_question() {
    let fleet = Fleet::start().await;
    fleet.source.set(|it| it.hangs = true);
    fleet.watch.schema_changed();
    tokio::time::sleep(Duration::from_secs(1)).await;
    answers(&fleet.store, REPLICA, "first");
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(fleet.is_in_use());
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_of_the_primary_replicas_wait_until_it_was_asked_once() {
    let fleet = Fleet::start().await;
    answers(&fleet.store, REPLICA, "first");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(fleet.is_in_use());
    answers(&fleet.store, PRIMARY, "second");
    assert!(!fleet.is_in_use());
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(fleet.is_in_use());
    // If it has no room for a question, its filters count as they were.
    fleet.source.set(|it| it.silent = Some(PRIMARY));
    answers(&fleet.store, PRIMARY, "third");
    assert!(!fleet.is_primary_known());
    assert!(!fleet.is_in_use());
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(fleet.is_in_use());
}

#[tokio::test(start_paused = true)]
async fn after_failed_loads_the_catalog_is_loaded_as_soon_as_the_primary_is_back() {
    let fleet = Fleet::start().await;
    fleet.source.inner.set(|it| it.fails = true);
    let gone = Failure::Unavailable("gone".to_owned());
    (0..3).for_each(|_| tell(&fleet.store, PRIMARY, Outcome::Failed(gone.clone())));
    assert!(!fleet.store.topology().has_usable_primary());
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(fleet.classifier.intent(SQL), Intent::Unknown);
    fleet.source.inner.set(|it| it.fails = false);
    answers(&fleet.store, PRIMARY, "first");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(fleet.classifier.intent(SQL), Intent::Read);
}

#[tokio::test(start_paused = true)]
async fn servers_without_filters_are_not_asked() {
    let source = Source::default();
    let names = ["primary", "replica"].map(|name| Endpoint::new(name, name));
    let store = TopologyStore::new(Topology::new(names.to_vec()));
    answers(&store, PRIMARY, "first");
    let classifier = Arc::new(Classifier::new(Dialect::PostgreSql));
    let watch = CatalogWatch::spawn(Arc::clone(&store), classifier, source.clone());
    assert!(watch.current(LONG).await);
    answers(&store, REPLICA, "first");
    assert!(store.topology().replicas_in_use().contains(id(REPLICA)));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(source.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn many_changes_are_answered_by_few_loads() {
    let source = Source::default();
    let (watch, _) = start(&source);
    assert!(watch.current(LONG).await);
    for _ in 0..100 {
        watch.schema_changed();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(watch.current(LONG).await);
    assert!(source.loads() <= 8, "{} loads in a second", source.loads());
}

#[tokio::test(start_paused = true)]
async fn a_failed_load_is_repeated_and_the_old_catalog_counts_for_a_while() {
    let source = Source::default();
    let (watch, classifier) = start(&source);
    assert!(watch.current(LONG).await);
    source.set(|state| state.fails = true);
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(classifier.intent(SQL), Intent::Read);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(classifier.intent(SQL), Intent::Unknown, "three minutes after the last load");
    tokio::time::sleep(Duration::from_secs(420)).await;
    assert_eq!(classifier.intent(SQL), Intent::Unknown);
    assert!(source.loads() < 30, "{} loads in ten minutes", source.loads());
    watch.schema_changed();
    assert!(!watch.current(Duration::from_secs(5)).await);
    assert_eq!(classifier.intent(SQL), Intent::Unknown);
    source.set(|state| state.fails = false);
    assert!(watch.current(LONG).await);
    assert_eq!(classifier.intent(SQL), Intent::Read);
}

#[tokio::test(start_paused = true)]
async fn schema_changes_of_other_processes_are_seen_after_about_a_minute() {
    let source = Source::default();
    let (watch, classifier) = start(&source);
    assert!(watch.current(LONG).await);
    source.set(|state| state.volatile = true);
    tokio::time::sleep(Duration::from_secs(70)).await;
    assert_eq!(classifier.intent(SQL), Intent::Unknown);
    drop(watch);
    let loads = source.loads();
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(source.loads(), loads);
}
