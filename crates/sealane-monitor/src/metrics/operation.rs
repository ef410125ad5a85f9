//! What is published of statements and of pools.
//!
//! The names are those of OpenTelemetry's semantic conventions for clients of databases, with the
//! endings that Prometheus expects.

use metrics::{
    Counter, Histogram, Label, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};
use sealane_core::{Engine, Role};

use super::Metrics;
use crate::series::OperationLabels;

const DURATION: &str = "db.client.operation.duration_seconds";
const CONNECTIONS: &str = "db.client.connection.count";
const PENDING: &str = "db.client.connection.pending_requests";
const DETOURS: &str = "sealane.reads.detours_total";

/// Describes all of them.
pub(super) fn describe() {
    describe_histogram!(DURATION, Unit::Seconds, "how long statements took on their endpoints");
    describe_gauge!(CONNECTIONS, "open connections of the pools, by state");
    describe_gauge!(PENDING, "statements that wait for a connection");
    describe_counter!(
        DETOURS,
        Unit::Count,
        "reads that did not simply run on a replica, by reason"
    );
}

impl Metrics {
    /// The durations of the statements with these labels, and with the label `error.type` if they
    /// failed.
    pub(crate) fn operations(
        &self,
        labels: &OperationLabels<'_>,
        error: Option<&'static str>,
    ) -> Histogram {
        let mut all = vec![
            Label::new("db.system.name", system(labels.engine)),
            Label::new("database", self.database.clone()),
            Label::new("endpoint", labels.endpoint.to_owned()),
            Label::new("role", role(labels.role)),
            Label::new("intent", if labels.is_read { "read" } else { "write" }),
        ];
        all.extend(error.map(|kind| Label::new("error.type", kind)));
        histogram!(DURATION, all)
    }

    /// How many reads took this detour. The counter is there with 0 before it counts.
    pub(crate) fn detours(&self, detour: &'static str) -> Counter {
        let counter = counter!(DETOURS, "database" => self.database.clone(), "detour" => detour);
        counter.increment(0);
        counter
    }

    /// Sets the gauges of the pools of one endpoint.
    pub(crate) fn connections(&self, endpoint: &str, used: u32, idle: u32, waiting: u32) {
        for (state, connections) in [("used", used), ("idle", idle)] {
            gauge!(
                CONNECTIONS,
                "database" => self.database.clone(), "endpoint" => endpoint.to_owned(),
                "state" => state
            )
            .set(connections);
        }
        gauge!(
            PENDING,
            "database" => self.database.clone(), "endpoint" => endpoint.to_owned()
        )
        .set(waiting);
    }
}

/// The engine as OpenTelemetry calls it. MariaDB speaks MySQL's protocol and counts as MySQL.
fn system(engine: Engine) -> &'static str {
    match engine {
        Engine::Postgres => "postgresql",
        Engine::MySql => "mysql",
        Engine::Sqlite => "sqlite",
        // Engines that core may add later.
        _ => "other_sql",
    }
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Primary => "primary",
        // Statements run in one of two roles.
        _ => "replica",
    }
}
