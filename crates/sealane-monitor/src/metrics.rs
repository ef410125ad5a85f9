//! What the monitor knows, as gauges, counters and histograms of the `metrics`
//! facade: whoever installs a recorder gets them (Prometheus, OpenTelemetry, …).
//!
//! | name | kind | unit |
//! |---|---|---|
//! | `sealane.endpoint.serving` | gauge, 1 if nothing is wrong with it | |
//! | `sealane.endpoint.primary` | gauge, 1 for the primary in charge | |
//! | `sealane.endpoint.lag` | gauge; NaN while unknown | seconds |
//! | `sealane.endpoint.staleness` | gauge; NaN while unknown | seconds |
//! | `sealane.probe.duration` | histogram, of probes that were answered | seconds |
//! | `sealane.probe.failures` | counter, with `error.type` | |
//! | `sealane.topology.changes` | counter | |
//!
//! All but the last carry `endpoint`, its name. Unknown is NaN, never zero.

use std::time::Duration;

use metrics::{SharedString, counter, gauge, histogram};
use sealane_core::{Condition, EndpointId, Failure, Observation, Outcome, Topology};

/// Tells what follows from one observation.
pub(crate) fn observed(topology: &Topology, observation: &Observation, changes: usize) {
    let Some(state) = topology.get(observation.endpoint) else {
        return;
    };
    let name: SharedString = state.endpoint.name().to_owned().into();
    match &observation.outcome {
        Outcome::Answered(_) => {
            let took = observation.finished.since(observation.started);
            histogram!("sealane.probe.duration", "endpoint" => name.clone()).record(took);
        }
        Outcome::Failed(failure) => {
            let kind = kind(failure);
            counter!("sealane.probe.failures", "endpoint" => name.clone(), "error.type" => kind)
                .increment(1);
        }
    }
    if changes > 0 {
        counter!("sealane.topology.changes").increment(changes as u64);
        // The change may be another endpoint's: a new primary ends the old one's term.
        topology.iter().for_each(|(id, _)| standing(topology, id, observation));
    } else {
        standing(topology, observation.endpoint, observation);
    }
}

fn standing(topology: &Topology, id: EndpointId, observation: &Observation) {
    let Some(state) = topology.get(id) else { return };
    let name: SharedString = state.endpoint.name().to_owned().into();
    let truth = |holds| if holds { 1.0 } else { 0.0 };
    let seconds = |time: Option<Duration>| time.map_or(f64::NAN, |time| time.as_secs_f64());
    let gauges = [
        ("sealane.endpoint.serving", truth(topology.condition(id) == Condition::Serving)),
        ("sealane.endpoint.primary", truth(topology.primary() == Some(id))),
        ("sealane.endpoint.lag", seconds(topology.lag(id))),
        ("sealane.endpoint.staleness", seconds(topology.staleness(id, observation.finished))),
    ];
    for (gauge, value) in gauges {
        gauge!(gauge, "endpoint" => name.clone()).set(value);
    }
}

fn kind(failure: &Failure) -> &'static str {
    match failure {
        Failure::Connection(_) => "connection",
        Failure::Timeout => "timeout",
        Failure::Misconfigured(_) => "misconfigured",
        Failure::Unavailable(_) => "unavailable",
        // Also what core may add.
        _ => "unexpected",
    }
}

#[cfg(test)]
mod tests {
    use metrics_util::debugging::{DebugValue, DebuggingRecorder};
    use sealane_core::{Endpoint, Moment, Topology, WriteStamp};

    use crate::Board;

    use super::*;

    #[test]
    fn a_failed_probe_is_counted_and_its_endpoint_no_longer_serves() {
        let recorder = DebuggingRecorder::new();
        let snapshotter = recorder.snapshotter();
        metrics::with_local_recorder(&recorder, || {
            let board = Board::new(Topology::always_current(vec![Endpoint::new("db-1", "here")]));
            board.apply(&Observation {
                endpoint: EndpointId::FIRST,
                started: Moment::default(),
                finished: Moment::from_origin(Duration::from_secs(1)),
                stamp: WriteStamp::NONE,
                outcome: Outcome::Failed(Failure::Timeout),
            });
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
        for wanted in [
            "sealane.endpoint.serving{endpoint=db-1} 0",
            "sealane.endpoint.staleness{endpoint=db-1} NaN",
            "sealane.probe.failures{endpoint=db-1,error.type=timeout} 1",
            "sealane.topology.changes{} 2",
        ] {
            assert!(found.iter().any(|line| line == wanted), "{wanted} is not in {found:#?}");
        }
    }
}
