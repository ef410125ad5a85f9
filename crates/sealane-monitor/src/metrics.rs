//! Publishes the monitor's knowledge as gauges, counters and histograms of the `metrics` facade. An
//! application that installs a recorder (Prometheus, OpenTelemetry, …) gets them.
//!
//! `description.rs` has their names, kinds and units. All carry the label `database`, so that
//! databases of one process have series of their own, and all but `sealane.topology.changes_total`
//! and `sealane.reads.on_primary` the label `endpoint` with the endpoint's name.
//!
//! An unknown value is NaN, never zero. The facade cannot withdraw a series: after an endpoint was
//! removed, its gauges stay at 0 and NaN. A counter is there with 0 before it first counts: a
//! counter that appears with 1 has not grown in the eyes of Prometheus, and no alert would see it.

mod description;
mod operation;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use metrics::{SharedString, counter, gauge, histogram};
use sealane_core::{
    Condition, EndpointId, EndpointState, Event, Health, Moment, Observation, Outcome, Topology,
};

use crate::span;
use description::{
    CHANGES, DRAINING, LAG, LEAST_LAG, PRESENT, PRIMARY, PROBE_DURATION, PROBE_FAILURES, PROBES,
    READS_ON_PRIMARY, SERVING, STALE_PRIMARY, STALENESS, SUSPICIONS, UP, describe,
};

/// The events of [`CHANGES`].
const EVENTS: [&str; 26] = [
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
    "shadow_differed",
];

/// Publishes what is known of one database.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// The label `database` of all series. It is shared, so a measurement only counts a reference.
    database: SharedString,
}

impl Metrics {
    /// Describes all metrics, and makes the counters of changes, with 0.
    pub(crate) fn begin(database: &str) -> Self {
        describe();
        operation::describe();
        let metrics = Metrics { database: SharedString::from_shared(Arc::from(database)) };
        EVENTS.into_iter().for_each(|event| metrics.changed(event, 0));
        metrics
    }

    /// Counts a probe.
    pub(crate) fn probed(&self, topology: &Topology, observation: &Observation) {
        let Some(endpoint) = topology.get(observation.endpoint).map(name) else { return };
        let database = || self.database.clone();
        counter!(PROBES, "database" => database(), "endpoint" => endpoint.clone()).increment(1);
        match &observation.outcome {
            Outcome::Answered(_) => {
                let took = observation.finished.since(observation.started);
                histogram!(PROBE_DURATION, "database" => database(), "endpoint" => endpoint)
                    .record(took);
            }
            Outcome::Failed(failure) => {
                let kind = span::kind(failure);
                counter!(
                    PROBE_FAILURES,
                    "database" => database(), "endpoint" => endpoint, "error.type" => kind
                )
                .increment(1);
            }
        }
    }

    /// Counts a statement whose failure makes its endpoint suspect.
    pub(crate) fn suspected(&self, topology: &Topology, id: EndpointId) {
        if let Some(name) = topology.get(id).map(name) {
            self.suspicions(name, 1);
        }
    }

    /// Updates the gauges and counters after one observation.
    pub(crate) fn observed(
        &self,
        topology: &Topology,
        endpoint: EndpointId,
        at: Moment,
        changes: &[Event],
        reads_on_primary: Option<bool>,
    ) {
        let reads = || gauge!(READS_ON_PRIMARY, "database" => self.database.clone());
        match reads_on_primary {
            Some(on_primary) => reads().set(truth(on_primary)),
            // It may have been the last replica. The last value would stay for ever.
            None if changes.iter().any(|change| matches!(change, Event::Removed { .. })) => {
                reads().set(f64::NAN);
            }
            None => {}
        }
        for change in changes {
            if let Event::Removed { name, .. } = change {
                self.removed(name);
            }
            self.changed(event(change), 1);
        }
        if changes.is_empty() {
            self.standing(topology, endpoint, at);
        } else {
            // The change may concern another endpoint: a new primary replaces the old one.
            topology.iter().for_each(|(id, _)| self.standing(topology, id, at));
        }
    }

    fn standing(&self, topology: &Topology, id: EndpointId, at: Moment) {
        let Some(state) = topology.get(id) else { return };
        let (name, condition) = (name(state), topology.condition(id));
        let seconds = |time: Option<Duration>| time.map_or(f64::NAN, |time| time.as_secs_f64());
        let gauges = [
            (UP, truth(state.health == Health::Up)),
            (SERVING, truth(condition == Condition::Serving)),
            (DRAINING, truth(state.draining)),
            (PRESENT, 1.0),
            (PRIMARY, truth(topology.primary() == Some(id))),
            (STALE_PRIMARY, truth(condition == Condition::StalePrimary)),
            (LAG, seconds(topology.lag(id))),
            (LEAST_LAG, seconds(topology.least_lag(id))),
            (STALENESS, seconds(topology.staleness(id, at))),
        ];
        self.set(&name, gauges);
        self.suspicions(name, 0);
    }

    /// Resets all gauges of a removed endpoint, so that they report nothing.
    fn removed(&self, name: &str) {
        let nothing = [
            (UP, 0.0),
            (SERVING, 0.0),
            (DRAINING, 0.0),
            (PRESENT, 0.0),
            (PRIMARY, 0.0),
            (STALE_PRIMARY, 0.0),
            (LAG, f64::NAN),
            (LEAST_LAG, f64::NAN),
            (STALENESS, f64::NAN),
        ];
        self.set(&SharedString::from(name.to_owned()), nothing);
    }

    fn set<const N: usize>(&self, endpoint: &SharedString, gauges: [(&'static str, f64); N]) {
        for (name, value) in gauges {
            let (database, endpoint) = (self.database.clone(), endpoint.clone());
            gauge!(name, "database" => database, "endpoint" => endpoint).set(value);
        }
    }

    fn suspicions(&self, endpoint: SharedString, more: u64) {
        let database = self.database.clone();
        counter!(SUSPICIONS, "database" => database, "endpoint" => endpoint).increment(more);
    }

    fn changed(&self, event: &'static str, times: u64) {
        let database = self.database.clone();
        counter!(CHANGES, "database" => database, "event" => event).increment(times);
    }
}

fn truth(holds: bool) -> f64 {
    if holds { 1.0 } else { 0.0 }
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
        Event::ShadowDiffered { .. } => "shadow_differed",
        // Events that core may add later.
        _ => "other",
    }
}
