//! A report for people.

use std::{fmt, time::Duration};

use super::{EndpointReport, Report, StatementReport};
use crate::cluster::LatencyReport;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counted_for = Duration::from_millis(self.counted_for_ms);
        write!(f, "{} reads and {} writes in {counted_for:.0?}", self.reads, self.writes)?;
        if let Some(ratio) = self.replica_read_ratio {
            write!(f, "; {:.0} % of the reads on replicas", ratio * 100.0)?;
        }
        writeln!(f)?;
        self.endpoints.iter().try_for_each(|endpoint| write_endpoint(f, endpoint))?;
        let detours = &self.detours;
        writeln!(
            f,
            "reads on the primary: {} asked for it, {} pinned, {} fell back, {} in its turn",
            detours.asked_for_primary,
            detours.pinned_to_primary,
            detours.fell_back_to_primary,
            detours.shared_with_primary
        )?;
        writeln!(
            f,
            "reads: {} retried, {} hedged, {} overdue, {} timed out, {} shed, {} served stale",
            detours.retried,
            detours.hedged,
            detours.overdue,
            detours.timed_out,
            detours.shed,
            detours.served_stale
        )?;
        write_statements(f, "most time", &self.statements.by_total)?;
        write_statements(f, "slowest", &self.statements.by_mean)?;
        write_statements(f, "most often on the primary", &self.statements.on_primary)?;
        self.advice.iter().try_for_each(|advice| writeln!(f, "advice: {advice}"))
    }
}

fn write_endpoint(f: &mut fmt::Formatter<'_>, it: &EndpointReport) -> fmt::Result {
    let role = if it.is_primary { "primary" } else { "replica" };
    write!(f, "{} ({role}): {} reads", it.name, it.reads)?;
    if let Some(ratio) = it.read_ratio {
        write!(f, ", {:.0} %", ratio * 100.0)?;
    }
    write_latency(f, "reads", it.read_latency)?;
    write!(f, "; {} writes", it.writes)?;
    write_latency(f, "writes", it.write_latency)?;
    let connections = it.connections;
    writeln!(
        f,
        "; {} failures; connections: {} used, {} idle, {} waited for",
        it.failures,
        connections.used(),
        connections.idle,
        connections.waiting
    )
}

fn write_latency(
    f: &mut fmt::Formatter<'_>,
    what: &str,
    latency: Option<LatencyReport>,
) -> fmt::Result {
    let Some(LatencyReport { p50_us, p95_us, p99_us, .. }) = latency else { return Ok(()) };
    let [p50, p95, p99] = [p50_us, p95_us, p99_us].map(Duration::from_micros);
    write!(f, " ({what}: p50 {p50:.1?}, p95 {p95:.1?}, p99 {p99:.1?})")
}

fn write_statements(
    f: &mut fmt::Formatter<'_>,
    title: &str,
    statements: &[StatementReport],
) -> fmt::Result {
    // The first few are what matters on a terminal.
    for it in statements.iter().take(3) {
        let mean = Duration::from_micros(it.mean_us);
        write!(f, "{title}: {} reads of {mean:.1?}", it.reads)?;
        if let Some(why) = &it.why {
            write!(f, ", {} on the primary ({why})", it.on_primary())?;
        }
        writeln!(f, ": {}", it.text)?;
    }
    Ok(())
}
