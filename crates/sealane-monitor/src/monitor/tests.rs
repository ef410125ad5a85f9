use std::sync::Mutex;

use sealane_core::{
    Endpoint, Event, Incarnation, Lsn, Position, Replication, Report, Role, ServerInfo, Severity,
    Transactions,
};

use super::*;
use crate::{Admission, RunGuard, Stage};

mod ahead;
mod cadence;
mod heard;
mod membership;
mod promotion;
mod stamp;
mod trace;
mod twins;

/// A simulated server.
#[derive(Clone)]
struct Server(Arc<Mutex<State>>);

struct State {
    role: Role,
    lsn: u64,
    timeline: u32,
    answers: bool,
    /// Refuses connections at once, like a machine without a server.
    refuses: bool,
    asked: u64,
    asked_at: Vec<tokio::time::Instant>,
    run: &'static str,
    /// The number of monitors that the server reports.
    monitors: Option<u32>,
    /// Panics instead of answering.
    panics: bool,
    lacks_database: bool,
    transactions: Option<Transactions>,
    is_connected: bool,
    /// How long a new connection takes.
    connects_in: Duration,
}

impl Server {
    fn new(role: Role, lsn: u64) -> Self {
        Server(Arc::new(Mutex::new(State {
            role,
            lsn,
            timeline: 1,
            answers: true,
            refuses: false,
            asked: 0,
            asked_at: Vec::new(),
            run: "first",
            monitors: None,
            panics: false,
            lacks_database: false,
            transactions: None,
            is_connected: false,
            connects_in: Duration::ZERO,
        })))
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.lock().unwrap());
    }

    fn asked(&self) -> u64 {
        self.0.lock().unwrap().asked
    }
}

impl Probe for Server {
    async fn ask(&mut self) -> Result<Report, Failure> {
        let (report, answers, connects_in) = {
            let mut state = self.0.lock().unwrap();
            state.asked += 1;
            state.asked_at.push(tokio::time::Instant::now());
            tracing::trace!("reading the numbers");
            if state.panics {
                drop(state);
                panic!("out of numbers");
            }
            if state.lacks_database {
                return Err(Failure::NoDatabase("no such database (3D000)".to_owned()));
            }
            if state.refuses {
                return Err(Failure::Connection("refused".to_owned()));
            }
            let report = Report {
                position: Some(Position::Wal {
                    system: 1,
                    timeline: state.timeline,
                    lsn: Lsn::from_bytes(state.lsn),
                }),
                replication: Replication::Running,
                info: ServerInfo { monitors: state.monitors, ..ServerInfo::default() },
                transactions: state.transactions.clone(),
                ..Report::new(state.role, Incarnation::new(state.run))
            };
            (report, state.answers, (!state.is_connected).then_some(state.connects_in))
        };
        if !answers {
            std::future::pending::<()>().await;
        }
        if let Some(time) = connects_in.filter(|time| !time.is_zero()) {
            tokio::time::sleep(time).await;
        }
        self.set(|state| state.is_connected = true);
        Ok(report)
    }

    fn disconnect(&mut self) {
        self.set(|state| state.is_connected = false);
    }

    fn is_connected(&self) -> bool {
        self.0.lock().unwrap().is_connected
    }

    fn system(&self) -> &'static str {
        "numbers"
    }
}

struct Bench {
    monitor: Monitor,
    primary: Server,
    replica: Server,
}

const REPLICA: usize = 1;

fn replica_id() -> EndpointId {
    EndpointId::from_index(REPLICA).unwrap()
}

async fn bench() -> Bench {
    let (primary, replica) = (Server::new(Role::Primary, 100), Server::new(Role::Replica, 100));
    let endpoints = vec![Endpoint::new("primary", "a"), Endpoint::new("replica", "b")];
    let store = TopologyStore::new(Topology::new(endpoints));
    let monitor =
        Monitor::spawn(store, vec![primary.clone(), replica.clone()], ProbeSchedule::default());
    monitor.first_round(Duration::from_secs(5)).await;
    Bench { monitor, primary, replica }
}

fn covered(store: &TopologyStore) -> WriteStamp {
    store.topology().get(replica_id()).unwrap().covered
}

#[tokio::test(start_paused = true)]
async fn a_waiting_session_is_served_within_a_few_quick_probes() {
    let bench = bench().await;
    let store = bench.monitor.store();
    bench.primary.set(|state| state.lsn = 200);
    let stamp = store.clock().tick();
    store.await_stamp(stamp);
    let begun = tokio::time::Instant::now();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(covered(store) < stamp, "the replica has not replayed the write");

    bench.replica.set(|state| state.lsn = 200);
    let resumed = tokio::time::Instant::now();
    store.until(|topology| topology.get(replica_id()).unwrap().covered >= stamp).await;
    assert!(resumed.elapsed() <= Duration::from_millis(25), "{:?}", resumed.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn many_refusals_are_answered_by_few_probes() {
    let bench = bench().await;
    let store = bench.monitor.store();
    let (before, begun) = (bench.primary.asked(), tokio::time::Instant::now());
    for _ in 0..1_000 {
        store.await_stamp(store.clock().tick());
        tokio::time::sleep(Duration::from_micros(100)).await;
    }
    let most = begun.elapsed().as_millis() / 5 + 1;
    let asked = bench.primary.asked() - before;
    assert!(u128::from(asked) <= most, "{asked} probes where {most} are allowed");
}

/// How long it takes until a primary is down that a statement finds silent, and that needed
/// `connects_in` for each connection before.
async fn found_silent_in(connects_in: Duration) -> Duration {
    let bench = bench().await;
    let store = bench.monitor.store();
    bench.primary.set(|state| state.connects_in = connects_in);
    let suspect =
        || store.suspect(EndpointId::FIRST, store.now(), Failure::Statement("silent".to_owned()));
    suspect();
    let is_up = |topology: &Topology| topology.get(EndpointId::FIRST).unwrap().is_usable();
    store.until(is_up).await;
    bench.primary.set(|state| state.answers = false);
    let begun = tokio::time::Instant::now();
    suspect();
    let is_silent = |topology: &Topology| {
        let health = &topology.get(EndpointId::FIRST).unwrap().health;
        *health == Health::Down { failure: Failure::Timeout }
    };
    store.until(is_silent).await;
    begun.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_server_that_connects_quickly_is_soon_found_silent() {
    let quickly = found_silent_in(Duration::from_millis(5)).await;
    assert!(quickly < Duration::from_millis(1_200), "{quickly:?}");
    // One that is far away needs longer to connect.
    let slowly = found_silent_in(Duration::from_millis(500)).await;
    assert!(slowly > Duration::from_millis(1_900), "{slowly:?}");
    let most = ProbeSchedule::default().timeout_with_connect();
    let very_slowly = found_silent_in(Duration::from_millis(2_500)).await;
    assert!((most..most + Duration::from_millis(200)).contains(&very_slowly), "{very_slowly:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_is_down_and_comes_back() {
    let bench = bench().await;
    let store = bench.monitor.store();
    let mut events = store.events();
    bench.replica.set(|state| state.answers = false);
    let down = Event::Down { endpoint: replica_id(), failure: Failure::Timeout };
    assert_eq!(events.recv().await.unwrap().event, down);
    let all_gone = events.recv().await.unwrap();
    assert_eq!((all_gone.event, all_gone.severity), (Event::ReadsOnPrimary {}, Severity::Warning));
    bench.replica.set(|state| state.answers = true);
    assert_eq!(events.recv().await.unwrap().event, Event::Up { endpoint: replica_id() });
}

#[tokio::test(start_paused = true)]
async fn after_a_probe_without_an_answer_the_next_one_connects_anew() {
    let bench = bench().await;
    assert!(bench.replica.is_connected());
    bench.replica.set(|state| state.answers = false);
    let is_down = |topology: &Topology| !topology.get(replica_id()).unwrap().is_usable();
    bench.monitor.store().until(is_down).await;
    assert!(!bench.replica.is_connected());
}

#[tokio::test(start_paused = true)]
async fn a_suspect_is_probed_at_once() {
    let bench = bench().await;
    let store = bench.monitor.store();
    store.suspect(replica_id(), store.now(), Failure::Connection("reset".into()));
    assert!(!store.topology().get(replica_id()).unwrap().is_usable());
    let begun = tokio::time::Instant::now();
    store.until(|topology| topology.get(replica_id()).unwrap().is_usable()).await;
    assert!(begun.elapsed() <= Duration::from_millis(10), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_connection_to_an_unknown_run_waits_for_the_store_and_belongs_to_the_next_generation() {
    let bench = bench().await;
    let store = bench.monitor.store();
    let guard = || RunGuard::new(Arc::clone(store), replica_id(), store.generation(replica_id()));
    let first = guard();
    assert_eq!(first.admit(&Incarnation::new("first")).await, Admission::Known);
    bench.replica.set(|state| state.run = "second");
    assert_eq!(first.admit(&Incarnation::new("second")).await, Admission::Replaced);
    assert_eq!(guard().admit(&Incarnation::new("second")).await, Admission::Known);
    assert_eq!(guard().admit(&Incarnation::new("first")).await, Admission::Replaced);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_on_a_replica_loses_its_footing_with_a_restart_and_with_silence() {
    let bench = bench().await;
    let store = bench.monitor.store();
    let stand = || store.footing(&store.topology(), replica_id(), Role::Replica).unwrap();
    let footing = stand();
    assert!(store.holds(&footing, Stage::Sent));
    bench.replica.set(|state| state.run = "second");
    store.moved(&footing, Stage::Sent).await;
    let footing = stand();
    bench.replica.set(|state| state.answers = false);
    store.moved(&footing, Stage::Sent).await;
    bench.replica.set(|state| state.answers = true);
    let is_up = |topology: &Topology| topology.get(replica_id()).unwrap().is_usable();
    store.until(is_up).await;
    assert!(!store.holds(&footing, Stage::Sent), "whoever waited may have waited in vain");
    assert!(store.holds(&stand(), Stage::Sent));
}

#[tokio::test(start_paused = true)]
async fn an_outage_renews_connections_and_a_missed_probe_does_not() {
    let bench = bench().await;
    let store = bench.monitor.store();
    let is_up = |topology: &Topology| topology.get(replica_id()).unwrap().is_usable();
    for (silence, renewed) in [(Duration::from_millis(1_500), 0), (Duration::from_secs(9), 1)] {
        let before = store.generation(replica_id());
        bench.replica.set(|state| state.answers = false);
        tokio::time::sleep(silence).await;
        bench.replica.set(|state| state.answers = true);
        store.until(is_up).await;
        assert_eq!(store.generation(replica_id()) - before, renewed, "{silence:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_of_the_primary_ends_waits_and_its_silence_does_not() {
    let bench = bench().await;
    let store = bench.monitor.store();
    let footing = store.footing(&store.topology(), EndpointId::FIRST, Role::Primary).unwrap();
    bench.primary.set(|state| state.answers = false);
    store.until(|topology| !topology.get(EndpointId::FIRST).unwrap().is_usable()).await;
    assert!(store.holds(&footing, Stage::Unsent) && store.holds(&footing, Stage::Sent));
    bench.primary.set(|state| (state.answers, state.run) = (true, "second"));
    store.moved(&footing, Stage::Sent).await;
    assert!(!store.holds(&footing, Stage::Unsent));
}

#[tokio::test(start_paused = true)]
async fn a_replaced_primary_stays_replaced_while_there_is_no_primary() {
    let bench = bench().await;
    let store = bench.monitor.store();
    let footing = store.footing(&store.topology(), EndpointId::FIRST, Role::Primary).unwrap();
    bench.primary.set(|state| state.answers = false);
    store.until(|topology| !topology.get(EndpointId::FIRST).unwrap().is_usable()).await;
    assert!(store.holds(&footing, Stage::Sent), "silence is no demotion");
    bench.replica.set(|state| (state.role, state.timeline) = (Role::Primary, 2));
    store.until(|topology| topology.primary() == Some(replica_id())).await;
    bench.replica.set(|state| state.role = Role::Replica);
    store.until(|topology| topology.primary().is_none()).await;
    assert!(!store.holds(&footing, Stage::Sent));
}

#[tokio::test(start_paused = true)]
async fn the_result_of_a_later_probe_is_returned() {
    let bench = bench().await;
    let store = bench.monitor.store();
    assert_eq!(store.heard_after(replica_id(), store.now()).await, Ok(()));
    bench.replica.set(|state| state.answers = false);
    assert_eq!(store.heard_after(replica_id(), store.now()).await, Err(Failure::Timeout));
}

#[tokio::test(start_paused = true)]
async fn the_tasks_end_with_the_monitor() {
    let Bench { monitor, primary, .. } = bench().await;
    drop(monitor);
    tokio::task::yield_now().await;
    let asked = primary.asked();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(primary.asked(), asked);
}

#[tokio::test(start_paused = true)]
async fn a_panicking_probe_is_reported_and_started_again() {
    let bench = bench().await;
    let store = bench.monitor.store();
    let mut events = store.events();
    bench.replica.set(|state| state.panics = true);
    let Event::Down { endpoint, failure } = events.recv().await.unwrap().event else {
        panic!("something else was told")
    };
    assert_eq!(endpoint, replica_id());
    assert!(failure.to_string().contains("out of numbers"), "{failure}");
    assert_eq!(events.recv().await.unwrap().event, Event::ReadsOnPrimary {});
    let (begun, before) = (tokio::time::Instant::now(), bench.replica.asked());
    tokio::time::sleep(Duration::from_secs(60)).await;
    let again = bench.replica.asked() - before;
    assert!((10..=60).contains(&again), "{again} times in a minute");
    bench.replica.set(|state| state.panics = false);
    assert_eq!(events.recv().await.unwrap().event, Event::Up { endpoint: replica_id() });
    assert!(begun.elapsed() <= Duration::from_secs(65), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_missing_database_is_asked_for_soon_and_then_rarely() {
    let bench = bench().await;
    let store = bench.monitor.store();
    bench.replica.set(|state| {
        state.lacks_database = true;
        state.asked_at.clear();
    });
    tokio::time::sleep(Duration::from_secs(600)).await;
    let asked_at = bench.replica.0.lock().unwrap().asked_at.clone();
    let delays: Vec<_> = asked_at.windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect();
    assert_eq!(delays[..5], [50, 100, 150, 200, 250], "{delays:?}");
    assert!(delays[100..].iter().all(|delay| (2_500..=5_000).contains(delay)), "{delays:?}");
    bench.replica.set(|state| state.lacks_database = false);
    store.until(|topology| topology.get(replica_id()).unwrap().is_usable()).await;
}

/// Runs `work` on a separate thread. Returns whether it ends.
fn ends(work: impl FnOnce() + Send + 'static) -> bool {
    let (done, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        work();
        let _ = done.send(());
    });
    told.recv_timeout(Duration::from_secs(10)).is_ok()
}

fn failed(store: &TopologyStore) -> Observation {
    let now = store.now();
    Observation {
        endpoint: replica_id(),
        started: now,
        finished: now,
        stamp: WriteStamp::NONE,
        outcome: Outcome::Failed(Failure::Timeout),
    }
}

fn a_store() -> Arc<TopologyStore> {
    TopologyStore::new(Topology::new(vec![
        Endpoint::new("primary", "a"),
        Endpoint::new("replica", "b"),
    ]))
}

#[test]
fn a_log_listener_may_read_the_store() {
    use tracing_subscriber::{Layer, layer::SubscriberExt};

    struct Looks(Arc<TopologyStore>, Arc<Mutex<u32>>);
    impl<S: tracing::Subscriber> Layer<S> for Looks {
        fn on_event(
            &self,
            event: &tracing::Event<'_>,
            _: tracing_subscriber::layer::Context<'_, S>,
        ) {
            if event.metadata().target() != "sealane::topology" {
                return;
            }
            let lags = self.0.lags(replica_id(), Duration::from_secs(60));
            assert!(lags.is_some() && self.0.position_at(WriteStamp::NONE).is_none());
            *self.1.lock().unwrap() += 1;
            // The event that a listener causes is told later.
            self.0.suspect(EndpointId::FIRST, self.0.now(), Failure::Timeout);
        }
    }

    let (store, looked) = (a_store(), Arc::new(Mutex::new(0)));
    let subscriber =
        tracing_subscriber::registry().with(Looks(Arc::clone(&store), Arc::clone(&looked)));
    let mut events = store.events();
    let applies = Arc::clone(&store);
    assert!(ends(move || {
        tracing::subscriber::with_default(subscriber, || applies.apply(&failed(&applies)));
    }));
    assert_eq!(*looked.lock().unwrap(), 2);
    let told = [events.try_recv().unwrap().event, events.try_recv().unwrap().event];
    let down = |endpoint| Event::Down { endpoint, failure: Failure::Timeout };
    assert_eq!(told, [down(replica_id()), down(EndpointId::FIRST)]);
}

#[test]
fn a_panicking_listener_does_not_stop_later_events() {
    use tracing_subscriber::{Layer, layer::SubscriberExt};

    struct Panics;
    impl<S: tracing::Subscriber> Layer<S> for Panics {
        fn on_event(&self, _: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
            panic!("no more");
        }
    }

    let store = a_store();
    let panicking = tracing_subscriber::registry().with(Panics);
    let applied = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        tracing::subscriber::with_default(panicking, || store.apply(&failed(&store)));
    }));
    assert!(applied.is_err());
    let mut events = store.events();
    store.suspect(EndpointId::FIRST, store.now(), Failure::Timeout);
    let told = events.try_recv().unwrap().event;
    assert!(matches!(told, Event::Down { endpoint: EndpointId::FIRST, .. }));
}
