//! What is published: names, kinds, units and a line of help for each.
//!
//! The names follow Prometheus (counters end in `_total`, times are in seconds and end in
//! `_seconds`), so that they are the same with an exporter that adds such endings and with one that
//! does not. Exporters make underscores of the dots.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

pub(super) const UP: &str = "sealane.endpoint.up";
pub(super) const SERVING: &str = "sealane.endpoint.serving";
pub(super) const PRIMARY: &str = "sealane.endpoint.primary";
pub(super) const STALE_PRIMARY: &str = "sealane.endpoint.stale_primary";
pub(super) const DRAINING: &str = "sealane.endpoint.draining";
pub(super) const PRESENT: &str = "sealane.endpoint.present";
pub(super) const LAG: &str = "sealane.endpoint.lag_seconds";
pub(super) const LEAST_LAG: &str = "sealane.endpoint.least_lag_seconds";
pub(super) const STALENESS: &str = "sealane.endpoint.staleness_seconds";
pub(super) const SUSPICIONS: &str = "sealane.endpoint.suspicions_total";
pub(super) const PROBES: &str = "sealane.probes_total";
pub(super) const PROBE_FAILURES: &str = "sealane.probe.failures_total";
pub(super) const PROBE_DURATION: &str = "sealane.probe.duration_seconds";
pub(super) const CHANGES: &str = "sealane.topology.changes_total";
pub(super) const READS_ON_PRIMARY: &str = "sealane.reads.on_primary";

/// Describes everything to the installed recorder. It is enough to do this once.
pub(super) fn describe() {
    for (name, help) in [
        (UP, "1 if the endpoint answers and is in use"),
        (SERVING, "1 if nothing is wrong with the endpoint"),
        (PRIMARY, "1 for the current primary"),
        (STALE_PRIMARY, "1 while the endpoint claims to be primary and is not in charge"),
        (DRAINING, "1 while the endpoint is drained"),
        (PRESENT, "1 until the endpoint is removed"),
        (READS_ON_PRIMARY, "1 while no replica takes reads; absent or NaN without replicas"),
    ] {
        describe_gauge!(name, help);
    }
    for (name, help) in [
        (LAG, "how far the endpoint is behind the primary's newest sample; NaN while unknown"),
        (LEAST_LAG, "the lag, or the least that it can be while it is unknown"),
        (STALENESS, "the most that a read on the endpoint may miss; NaN while unknown"),
    ] {
        describe_gauge!(name, Unit::Seconds, help);
    }
    for (name, help) in [
        (SUSPICIONS, "statements that failed because of their endpoint"),
        (PROBES, "probes, answered or not"),
        (PROBE_FAILURES, "probes that failed, by reason"),
        (CHANGES, "changes of the topology, by event"),
    ] {
        describe_counter!(name, Unit::Count, help);
    }
    describe_histogram!(PROBE_DURATION, Unit::Seconds, "how long answered probes took");
}
