//! What a recorder receives.

use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use sealane_core::{
    Endpoint, Failure, HealthPolicy, Incarnation, Lsn, Position, Report, Role, WriteStamp,
};

use crate::TopologyStore;

use super::*;

/// What a recorder has received after `deal` has run on a store.
fn found(deal: impl FnOnce(&TopologyStore)) -> Vec<String> {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || {
        let topology = Topology::always_current(vec![Endpoint::new("db-1", "here")]);
        deal(&TopologyStore::of_database("shop", topology, HealthPolicy::default()));
    });
    lines(&snapshotter)
}

/// What was received, one line for each series.
fn lines(snapshotter: &Snapshotter) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for (key, _, _, value) in snapshotter.snapshot().into_vec() {
        let labels: Vec<String> =
            key.key().labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        let value = match value {
            DebugValue::Counter(count) => count.to_string(),
            DebugValue::Gauge(value) => value.to_string(),
            DebugValue::Histogram(values) => format!("{} values", values.len()),
        };
        found.push(format!("{}{{{}}} {value}", key.key().name(), labels.join(",")));
    }
    found.sort();
    found
}

#[test]
fn a_failed_probe_is_counted_and_its_endpoint_no_longer_serves() {
    let found = found(|store| {
        store.apply(&Observation {
            endpoint: EndpointId::FIRST,
            started: Moment::default(),
            finished: Moment::from_origin(Duration::from_secs(1)),
            stamp: WriteStamp::NONE,
            outcome: Outcome::Failed(Failure::Timeout),
        });
    });
    for wanted in [
        "sealane.endpoint.up{database=shop,endpoint=db-1} 0",
        "sealane.endpoint.serving{database=shop,endpoint=db-1} 0",
        "sealane.endpoint.staleness_seconds{database=shop,endpoint=db-1} NaN",
        "sealane.endpoint.lag_seconds{database=shop,endpoint=db-1} NaN",
        "sealane.probes_total{database=shop,endpoint=db-1} 1",
        "sealane.probe.failures_total{database=shop,endpoint=db-1,error.type=timeout} 1",
        "sealane.topology.changes_total{database=shop,event=down} 1",
    ] {
        assert!(found.iter().any(|line| line == wanted), "{wanted} is not in {found:#?}");
    }
}

/// Replicas that were far behind before this process started have no known lag.
#[test]
fn a_lag_that_nothing_proves_is_published_by_what_it_is_at_least() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let names = ["db-1", "db-2"].map(|name| Endpoint::new(name, "here"));
    metrics::with_local_recorder(&recorder, || {
        let topology = Topology::new(names.to_vec());
        let store = TopologyStore::of_database("shop", topology, HealthPolicy::default());
        for (seconds, place, role, bytes) in [
            (1, 0, Role::Primary, 500),
            (2, 1, Role::Replica, 100),
            (61, 0, Role::Primary, 600),
            (62, 1, Role::Replica, 200),
        ] {
            let at = Moment::from_origin(Duration::from_secs(seconds));
            let lsn = Lsn::from_bytes(bytes);
            let report = Report {
                position: Some(Position::Wal { system: 1, timeline: 1, lsn }),
                ..Report::new(role, Incarnation::new("first"))
            };
            store.apply(&Observation {
                endpoint: EndpointId::from_index(place).unwrap(),
                started: at,
                finished: at,
                stamp: WriteStamp::NONE,
                outcome: Outcome::Answered(report),
            });
        }
    });
    let found = lines(&snapshotter);
    for wanted in [
        "sealane.endpoint.lag_seconds{database=shop,endpoint=db-2} NaN",
        "sealane.endpoint.least_lag_seconds{database=shop,endpoint=db-2} 60",
        "sealane.endpoint.least_lag_seconds{database=shop,endpoint=db-1} 0",
    ] {
        assert!(found.iter().any(|line| line == wanted), "{wanted} is not in {found:#?}");
    }
}

#[test]
fn an_ejection_is_counted_and_with_it_all_reads_are_on_the_primary() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let names = ["db-1", "db-2"].map(|name| Endpoint::new(name, "here"));
    let store = TopologyStore::new(Topology::always_current(names.to_vec()));
    let endpoint = EndpointId::from_index(1).unwrap();
    metrics::with_local_recorder(&recorder, || {
        store.announce(Event::Ejected { endpoint, for_ms: 1_000 });
    });
    let is_one = |name: &str, snapshot: &[(_, _, _, DebugValue)]| {
        let value = |key: &metrics_util::CompositeKey, value: &DebugValue| match value {
            DebugValue::Gauge(value) => key.key().name() == name && value.0 == 1.0,
            DebugValue::Counter(count) => key.key().name() == name && *count == 1,
            DebugValue::Histogram(_) => false,
        };
        snapshot.iter().any(|(key, _, _, it)| value(key, it))
    };
    let snapshot = snapshotter.snapshot().into_vec();
    assert!(is_one("sealane.reads.on_primary", &snapshot));
    let counted: Vec<_> = snapshot
        .iter()
        .filter_map(|(key, ..)| {
            key.key().labels().find(|it| it.key() == "event").map(|it| it.value().to_owned())
        })
        .collect();
    assert!(counted.contains(&"ejected".to_owned()), "{counted:?}");
    assert!(counted.contains(&"reads_on_primary".to_owned()), "{counted:?}");
}

#[test]
fn without_the_last_replica_reads_are_not_on_the_primary_for_ever() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let names = ["db-1", "db-2"].map(|name| Endpoint::new(name, "here"));
    let store = TopologyStore::new(Topology::always_current(names.to_vec()));
    let endpoint = EndpointId::from_index(1).unwrap();
    let gauge = || {
        let found = snapshotter.snapshot().into_vec().into_iter();
        let mut of_reads = found.filter(|(key, ..)| key.key().name() == "sealane.reads.on_primary");
        match of_reads.next() {
            Some((.., DebugValue::Gauge(value))) => Some(value.0),
            _ => None,
        }
    };
    metrics::with_local_recorder(&recorder, || {
        store.announce(Event::Ejected { endpoint, for_ms: 1_000 });
        assert_eq!(gauge(), Some(1.0));
        store.remove(endpoint);
        assert!(gauge().is_some_and(f64::is_nan));
    });
}

/// A service may use several databases, also on the same servers.
#[test]
fn databases_of_one_process_do_not_overwrite_each_other() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || {
        let [shop, blog] = ["shop", "blog"].map(|database| {
            let names = ["db-1", "db-2"].map(|name| Endpoint::new(name, "here"));
            let topology = Topology::always_current(names.to_vec());
            TopologyStore::of_database(database, topology, HealthPolicy::default())
        });
        let failure = Failure::Connection("reset".to_owned());
        shop.suspect(EndpointId::FIRST, Moment::default(), failure);
        let endpoint = EndpointId::from_index(1).unwrap();
        blog.announce(Event::Ejected { endpoint, for_ms: 1_000 });
    });
    let found = lines(&snapshotter);
    for wanted in [
        "sealane.endpoint.up{database=shop,endpoint=db-1} 0",
        "sealane.endpoint.suspicions_total{database=shop,endpoint=db-1} 1",
        "sealane.endpoint.suspicions_total{database=blog,endpoint=db-1} 0",
        "sealane.reads.on_primary{database=blog} 1",
        "sealane.topology.changes_total{database=blog,event=ejected} 1",
        "sealane.topology.changes_total{database=shop,event=ejected} 0",
    ] {
        assert!(found.iter().any(|line| line == wanted), "{wanted} is not in {found:#?}");
    }
    assert!(!found.iter().any(|line| line == "sealane.reads.on_primary{database=shop} 1"));
}

#[test]
fn every_event_is_counted_from_zero_on() {
    let found = found(|_| {});
    for name in EVENTS {
        let wanted = format!("sealane.topology.changes_total{{database=shop,event={name}}} 0");
        assert!(found.contains(&wanted), "{wanted} is not in {found:#?}");
    }
    let endpoint = EndpointId::FIRST;
    // Those that other tests need.
    for known in [Event::Readmitted { endpoint }, Event::Up { endpoint }] {
        assert!(EVENTS.contains(&event(&known)));
    }
}

#[test]
fn a_failed_statement_is_no_failed_probe() {
    let found = found(|store| {
        let failure = Failure::Connection("reset".to_owned());
        store.suspect(EndpointId::FIRST, Moment::default(), failure);
    });
    for wanted in [
        "sealane.endpoint.up{database=shop,endpoint=db-1} 0",
        "sealane.endpoint.suspicions_total{database=shop,endpoint=db-1} 1",
    ] {
        assert!(found.iter().any(|line| line == wanted), "{wanted} is not in {found:#?}");
    }
    assert!(!found.iter().any(|line| line.starts_with("sealane.probe")), "{found:#?}");
}

#[test]
fn a_drained_endpoint_is_told_and_a_removed_one_leaves_nothing_that_looks_alive() {
    let drained = found(|store| store.set_draining(EndpointId::FIRST, true));
    for wanted in [
        "sealane.endpoint.draining{database=shop,endpoint=db-1} 1",
        "sealane.endpoint.serving{database=shop,endpoint=db-1} 0",
    ] {
        assert!(drained.iter().any(|line| line == wanted), "{wanted} is not in {drained:#?}");
    }
    let removed = found(|store| {
        store.set_draining(EndpointId::FIRST, true);
        store.remove(EndpointId::FIRST);
    });
    let gauges: Vec<_> =
        removed.iter().filter(|line| line.starts_with("sealane.endpoint.")).collect();
    assert_eq!(gauges.len(), 10, "{removed:#?}");
    let is_nothing = |line: &&String| line.ends_with(" 0") || line.ends_with(" NaN");
    assert!(gauges.iter().all(is_nothing), "{removed:#?}");
    assert!(
        removed
            .iter()
            .any(|line| line == "sealane.topology.changes_total{database=shop,event=removed} 1")
    );
}

/// A recorder that reads the store whenever it records something.
struct Looks(std::sync::Arc<TopologyStore>);

impl Looks {
    fn look(&self) {
        let lags = self.0.lags(EndpointId::FIRST, Duration::from_secs(60));
        assert!(lags.is_some());
    }
}

impl metrics::Recorder for Looks {
    fn describe_counter(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: SharedString) {}
    fn register_counter(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Counter {
        self.look();
        metrics::Counter::noop()
    }
    fn register_gauge(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Gauge {
        self.look();
        metrics::Gauge::noop()
    }
    fn register_histogram(
        &self,
        _: &metrics::Key,
        _: &metrics::Metadata<'_>,
    ) -> metrics::Histogram {
        self.look();
        metrics::Histogram::noop()
    }
}

#[test]
fn a_recorder_may_read_the_store() {
    let (done, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let store =
            TopologyStore::new(Topology::always_current(vec![Endpoint::new("db-1", "here")]));
        let recorder = Looks(std::sync::Arc::clone(&store));
        metrics::with_local_recorder(&recorder, || {
            let failure = Failure::Connection("reset".to_owned());
            store.suspect(EndpointId::FIRST, Moment::default(), failure);
        });
        let _ = done.send(());
    });
    assert!(told.recv_timeout(Duration::from_secs(10)).is_ok(), "the store waits for its own lock");
}
