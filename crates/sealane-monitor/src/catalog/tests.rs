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
    async fn load(&self, _: EndpointId) -> Result<Catalog, Failure> {
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
        Ok(Catalog::new(&facts))
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

/// A source that asks all servers.
struct Everywhere(Source);

impl CatalogSource for Everywhere {
    const ASKS_ALL: bool = true;

    async fn load(&self, endpoint: EndpointId) -> Result<Catalog, Failure> {
        self.0.load(endpoint).await
    }
}

/// The loads before and after a second server answers for the first time.
async fn loads_around_an_answer(source: impl CatalogSource, counter: &Source) -> [u64; 2] {
    let names = ["primary", "replica"].map(|name| Endpoint::new(name, name));
    let store = TopologyStore::new(Topology::new(names.to_vec()));
    let answers = |place, role| {
        let endpoint = EndpointId::from_index(place).unwrap();
        let lsn = Lsn::from_bytes(100);
        let position = Some(Position::Wal { system: 1, timeline: 1, lsn });
        let report = Report { position, ..Report::new(role, Incarnation::new("first")) };
        let (started, finished) = (store.now(), store.now());
        let (stamp, outcome) = (WriteStamp::NONE, Outcome::Answered(report));
        store.apply(&Observation { endpoint, started, finished, stamp, outcome });
    };
    answers(0, Role::Primary);
    let classifier = Arc::new(Classifier::new(Dialect::PostgreSql));
    let watch = CatalogWatch::spawn(Arc::clone(&store), classifier, source);
    assert!(watch.current(LONG).await);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = counter.loads();
    answers(1, Role::Replica);
    tokio::time::sleep(Duration::from_secs(5)).await;
    [before, counter.loads()]
}

#[tokio::test(start_paused = true)]
async fn a_source_that_asks_all_servers_is_asked_again_once_another_answers() {
    let source = Source::default();
    assert_eq!(loads_around_an_answer(source.clone(), &source).await, [1, 1]);
    let source = Source::default();
    assert_eq!(loads_around_an_answer(Everywhere(source.clone()), &source).await, [1, 2]);
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
