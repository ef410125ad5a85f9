//! The `tracing` span of a probe.
//!
//! Each probe is one span with level debug and target `sealane::probe`. Its fields have
//! OpenTelemetry's names where these exist
//! (<https://opentelemetry.io/docs/specs/semconv/database/database-spans/>). Without a subscriber
//! the span is not created. Changes that follow from a probe are events with target
//! `sealane::topology`.

use std::time::Duration;

use sealane_core::{Endpoint, Failure, Outcome};
use tracing::{Span, field::Empty};

/// The span of a probe of `endpoint`, whose database system is `system`. `connects`: whether the
/// probe must connect first.
pub(crate) fn open(endpoint: &Endpoint, system: &'static str, connects: bool) -> Span {
    let (host, port) = endpoint.host_and_port();
    tracing::debug_span!(
        target: "sealane::probe",
        "probe",
        otel.kind = "client",
        db.system.name = system,
        server.address = host,
        server.port = port,
        sealane.endpoint = endpoint.name(),
        sealane.probe.connects = connects,
        sealane.probe.outcome = Empty,
        sealane.probe.latency_us = Empty,
        error.type = Empty,
    )
}

/// Whether a subscriber wants the span.
pub(crate) fn is_watched() -> bool {
    tracing::span_enabled!(target: "sealane::probe", tracing::Level::DEBUG)
}

/// Records the probe's outcome in its span.
pub(crate) fn close(span: &Span, outcome: &Outcome, latency: Duration) {
    span.record("sealane.probe.latency_us", u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    match outcome {
        Outcome::Answered(_) => {
            span.record("sealane.probe.outcome", "answered");
        }
        Outcome::Failed(failure) => {
            span.record("sealane.probe.outcome", "failed");
            span.record("error.type", kind(failure));
            span.in_scope(|| tracing::debug!(target: "sealane::probe", %failure, "probe failed"));
        }
    }
}

/// A failure in one word, for counting and grouping.
pub(crate) fn kind(failure: &Failure) -> &'static str {
    match failure {
        Failure::Connection(_) => "connection",
        Failure::Statement(_) => "statement",
        Failure::Timeout => "timeout",
        Failure::Misconfigured(_) => "misconfigured",
        Failure::NoDatabase(_) => "no_database",
        Failure::Unavailable(_) => "unavailable",
        // `Unexpected`, and failures that core may add later.
        _ => "unexpected",
    }
}
