//! Publishes the monitor's knowledge as gauges, counters and histograms of the `metrics` facade. An
//! application that installs a recorder (Prometheus, OpenTelemetry, …) gets them.
//!
//! | name | kind | unit |
//! |---|---|---|
//! | `sealane.endpoint.up` | gauge, 1 if the endpoint answers and is in use | |
//! | `sealane.endpoint.serving` | gauge, 1 if nothing is wrong with the endpoint | |
//! | `sealane.endpoint.primary` | gauge, 1 for the current primary | |
//! | `sealane.endpoint.lag` | gauge; NaN while unknown | seconds |
//! | `sealane.endpoint.staleness` | gauge; NaN while unknown | seconds |
//! | `sealane.endpoint.suspicions` | counter of statements that failed because of the endpoint | |
//! | `sealane.probes` | counter of all probes, answered or not | |
//! | `sealane.probe.duration` | histogram of answered probes | seconds |
//! | `sealane.probe.failures` | counter with the label `error.type` | |
//! | `sealane.topology.changes` | counter with the label `event` | |
//! | `sealane.endpoint.draining` | gauge, 1 while the endpoint is drained | |
//! | `sealane.endpoint.stale_primary` | gauge, 1 while it claims to be primary and is not in charge | |
//! | `sealane.endpoint.present` | gauge, 1 until the endpoint is removed | |
//! | `sealane.reads.on_primary` | gauge, 1 while no replica takes reads; absent or NaN without replicas | |
//!
//! All but `sealane.topology.changes` and `sealane.reads.on_primary` carry the label `endpoint` with
//! the endpoint's name. An unknown value is NaN, never zero. The facade cannot withdraw a series:
//! after an endpoint was removed, its gauges stay at 0 and NaN. A counter is there with 0 before it
//! first counts: a counter that appears with 1 has not grown in the eyes of Prometheus, and no alert
//! would see it.

use std::time::Duration;

use metrics::{SharedString, counter, gauge, histogram};
use sealane_core::{
    Condition, EndpointId, EndpointState, Event, Health, Moment, Observation, Outcome, Topology,
};

use crate::span;

/// The events of `sealane.topology.changes`.
const EVENTS: [&str; 25] = [
    "added",
    "removed",
    "draining",
    "undrained",
    "up",
    "down",
    "ejected",
    "readmitted",
    "probation",
    "role_changed",
    "primary_changed",
    "primary_conflict",
    "replication_changed",
    "restarted",
    "foreign",
    "other_database",
    "same_server",
    "search_path_differs",
    "fenced",
    "replaced",
    "old_timeline",
    "lagging",
    "recovered",
    "reads_on_primary",
    "reads_on_replicas",
];

/// Makes the counters of changes, with 0.
pub(crate) fn begin() {
    for event in EVENTS {
        counter!("sealane.topology.changes", "event" => event).increment(0);
    }
}

/// Counts a probe.
pub(crate) fn probed(topology: &Topology, observation: &Observation) {
    let Some(name) = topology.get(observation.endpoint).map(name) else { return };
    counter!("sealane.probes", "endpoint" => name.clone()).increment(1);
    match &observation.outcome {
        Outcome::Answered(_) => {
            let took = observation.finished.since(observation.started);
            histogram!("sealane.probe.duration", "endpoint" => name).record(took);
        }
        Outcome::Failed(failure) => {
            let kind = span::kind(failure);
            counter!("sealane.probe.failures", "endpoint" => name, "error.type" => kind)
                .increment(1);
        }
    }
}

/// Counts a statement whose failure makes its endpoint suspect.
pub(crate) fn suspected(topology: &Topology, id: EndpointId) {
    if let Some(name) = topology.get(id).map(name) {
        counter!("sealane.endpoint.suspicions", "endpoint" => name).increment(1);
    }
}

/// Updates the gauges and counters after one observation.
pub(crate) fn observed(
    topology: &Topology,
    endpoint: EndpointId,
    at: Moment,
    changes: &[Event],
    reads_on_primary: Option<bool>,
) {
    match reads_on_primary {
        Some(on_primary) => gauge!("sealane.reads.on_primary").set(truth(on_primary)),
        // It may have been the last replica. The last value would stay for ever.
        None if changes.iter().any(|change| matches!(change, Event::Removed { .. })) => {
            gauge!("sealane.reads.on_primary").set(f64::NAN);
        }
        None => {}
    }
    for change in changes {
        if let Event::Removed { name, .. } = change {
            removed(name);
        }
        counter!("sealane.topology.changes", "event" => event(change)).increment(1);
    }
    if changes.is_empty() {
        standing(topology, endpoint, at);
    } else {
        // The change may concern another endpoint: a new primary replaces the old one.
        topology.iter().for_each(|(id, _)| standing(topology, id, at));
    }
}

fn standing(topology: &Topology, id: EndpointId, at: Moment) {
    let Some(state) = topology.get(id) else { return };
    let (name, condition) = (name(state), topology.condition(id));
    let seconds = |time: Option<Duration>| time.map_or(f64::NAN, |time| time.as_secs_f64());
    let gauges = [
        ("sealane.endpoint.up", truth(state.health == Health::Up)),
        ("sealane.endpoint.serving", truth(condition == Condition::Serving)),
        ("sealane.endpoint.draining", truth(state.draining)),
        ("sealane.endpoint.present", 1.0),
        ("sealane.endpoint.primary", truth(topology.primary() == Some(id))),
        ("sealane.endpoint.stale_primary", truth(condition == Condition::StalePrimary)),
        ("sealane.endpoint.lag", seconds(topology.lag(id))),
        ("sealane.endpoint.staleness", seconds(topology.staleness(id, at))),
    ];
    for (gauge, value) in gauges {
        gauge!(gauge, "endpoint" => name.clone()).set(value);
    }
    counter!("sealane.endpoint.suspicions", "endpoint" => name).increment(0);
}

fn truth(holds: bool) -> f64 {
    if holds { 1.0 } else { 0.0 }
}

/// Resets all gauges of a removed endpoint, so that they report nothing.
fn removed(name: &str) {
    let name = SharedString::from(name.to_owned());
    let nothing = [
        ("sealane.endpoint.up", 0.0),
        ("sealane.endpoint.serving", 0.0),
        ("sealane.endpoint.draining", 0.0),
        ("sealane.endpoint.present", 0.0),
        ("sealane.endpoint.primary", 0.0),
        ("sealane.endpoint.stale_primary", 0.0),
        ("sealane.endpoint.lag", f64::NAN),
        ("sealane.endpoint.staleness", f64::NAN),
    ];
    for (gauge, value) in nothing {
        gauge!(gauge, "endpoint" => name.clone()).set(value);
    }
}

fn name(state: &EndpointState) -> SharedString {
    state.endpoint.name().to_owned().into()
}

/// The event's name, the same as in its serialised form.
fn event(event: &Event) -> &'static str {
    match event {
        Event::Added { .. } => "added",
        Event::Removed { .. } => "removed",
        Event::Draining { .. } => "draining",
        Event::Undrained { .. } => "undrained",
        Event::Up { .. } => "up",
        Event::Down { .. } => "down",
        Event::Probation { .. } => "probation",
        Event::RoleChanged { .. } => "role_changed",
        Event::PrimaryChanged { .. } => "primary_changed",
        Event::PrimaryConflict { .. } => "primary_conflict",
        Event::ReplicationChanged { .. } => "replication_changed",
        Event::Restarted { .. } => "restarted",
        Event::Foreign { .. } => "foreign",
        Event::OtherDatabase { .. } => "other_database",
        Event::SameServer { .. } => "same_server",
        Event::SearchPathDiffers { .. } => "search_path_differs",
        Event::Fenced { .. } => "fenced",
        Event::Replaced { .. } => "replaced",
        Event::OldTimeline { .. } => "old_timeline",
        Event::Lagging { .. } => "lagging",
        Event::Recovered { .. } => "recovered",
        Event::Ejected { .. } => "ejected",
        Event::Readmitted { .. } => "readmitted",
        Event::ReadsOnPrimary {} => "reads_on_primary",
        Event::ReadsOnReplicas {} => "reads_on_replicas",
        // Events that core may add later.
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use metrics_util::debugging::{DebugValue, DebuggingRecorder};
    use sealane_core::{Endpoint, Failure, WriteStamp};

    use crate::TopologyStore;

    use super::*;

    /// What a recorder has received after `deal` has run on a store.
    fn found(deal: impl FnOnce(&TopologyStore)) -> Vec<String> {
        let recorder = DebuggingRecorder::new();
        let snapshotter = recorder.snapshotter();
        metrics::with_local_recorder(&recorder, || {
            let store =
                TopologyStore::new(Topology::always_current(vec![Endpoint::new("db-1", "here")]));
            deal(&store);
        });
        let mut found: Vec<String> = Vec::new();
        for (key, _, _, value) in snapshotter.snapshot().into_vec() {
            let labels: Vec<String> = key
                .key()
                .labels()
                .map(|label| format!("{}={}", label.key(), label.value()))
                .collect();
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
            "sealane.endpoint.up{endpoint=db-1} 0",
            "sealane.endpoint.serving{endpoint=db-1} 0",
            "sealane.endpoint.staleness{endpoint=db-1} NaN",
            "sealane.endpoint.lag{endpoint=db-1} NaN",
            "sealane.probes{endpoint=db-1} 1",
            "sealane.probe.failures{endpoint=db-1,error.type=timeout} 1",
            "sealane.topology.changes{event=down} 1",
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
            let mut of_reads =
                found.filter(|(key, ..)| key.key().name() == "sealane.reads.on_primary");
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

    #[test]
    fn every_event_is_counted_from_zero_on() {
        let found = found(|_| {});
        for name in EVENTS {
            let wanted = format!("sealane.topology.changes{{event={name}}} 0");
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
        for wanted in
            ["sealane.endpoint.up{endpoint=db-1} 0", "sealane.endpoint.suspicions{endpoint=db-1} 1"]
        {
            assert!(found.iter().any(|line| line == wanted), "{wanted} is not in {found:#?}");
        }
        assert!(!found.iter().any(|line| line.starts_with("sealane.probe")), "{found:#?}");
    }

    #[test]
    fn a_drained_endpoint_is_told_and_a_removed_one_leaves_nothing_that_looks_alive() {
        let drained = found(|store| store.set_draining(EndpointId::FIRST, true));
        for wanted in [
            "sealane.endpoint.draining{endpoint=db-1} 1",
            "sealane.endpoint.serving{endpoint=db-1} 0",
        ] {
            assert!(drained.iter().any(|line| line == wanted), "{wanted} is not in {drained:#?}");
        }
        let removed = found(|store| {
            store.set_draining(EndpointId::FIRST, true);
            store.remove(EndpointId::FIRST);
        });
        let gauges: Vec<_> =
            removed.iter().filter(|line| line.starts_with("sealane.endpoint.")).collect();
        assert_eq!(gauges.len(), 9, "{removed:#?}");
        let is_nothing = |line: &&String| line.ends_with(" 0") || line.ends_with(" NaN");
        assert!(gauges.iter().all(is_nothing), "{removed:#?}");
        assert!(removed.iter().any(|line| line == "sealane.topology.changes{event=removed} 1"));
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
        fn describe_counter(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: SharedString) {
        }
        fn describe_gauge(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: SharedString) {}
        fn describe_histogram(
            &self,
            _: metrics::KeyName,
            _: Option<metrics::Unit>,
            _: SharedString,
        ) {
        }
        fn register_counter(
            &self,
            _: &metrics::Key,
            _: &metrics::Metadata<'_>,
        ) -> metrics::Counter {
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
        assert!(
            told.recv_timeout(Duration::from_secs(10)).is_ok(),
            "the store waits for its own lock"
        );
    }
}
