//! The tables of a report: how the load is spread, which statements cost most, and what to do.

use std::fmt;

use sealane::{Advice, EndpointReport, LatencyReport, Report, StatementReport};

use crate::html::escaped;

/// Everything that the page shows of `report`.
pub(crate) fn spread(report: &Report) -> impl fmt::Display + '_ {
    fmt::from_fn(move |f| {
        write_load(f, report)?;
        write_advice(f, &report.advice)?;
        f.write_str("<h2>Statements</h2>")?;
        write_slowest(f, &report.statements.by_total)?;
        write_on_primary(f, &report.statements.on_primary)
    })
}

fn write_load(f: &mut fmt::Formatter<'_>, report: &Report) -> fmt::Result {
    f.write_str(
        "<h2>Load since the start</h2><div class=\"wide\"><table class=\"load\"><thead><tr>\
         <th>name</th><th class=\"n\">reads</th><th class=\"n\">share</th>\
         <th class=\"n\">half of them</th><th class=\"n\">95 %</th><th class=\"n\">99 %</th>\
         <th class=\"n\">writes</th><th class=\"n\">half of them</th><th class=\"n\">95 %</th>\
         <th class=\"n\">failures</th><th class=\"n\">connections used</th>\
         <th class=\"n\">idle</th><th class=\"n\">waited for</th></tr></thead><tbody>",
    )?;
    report.endpoints.iter().try_for_each(|endpoint| write_endpoint(f, endpoint))?;
    let detours = report.detours;
    write!(
        f,
        "</tbody></table></div><p class=\"detours\">Reads on the primary: {} asked for it, {} were \
         pinned by their session, {} fell back, {} ran there in turn. Reads that were retried: {}, \
         hedged: {}, overdue: {}, timed out: {}, shed: {}, served stale: {}.</p>",
        detours.asked_for_primary,
        detours.pinned_to_primary,
        detours.fell_back_to_primary,
        detours.shared_with_primary,
        detours.retried,
        detours.hedged,
        detours.overdue,
        detours.timed_out,
        detours.shed,
        detours.served_stale,
    )
}

fn write_endpoint(f: &mut fmt::Formatter<'_>, it: &EndpointReport) -> fmt::Result {
    let share = it.read_ratio.map(|ratio| format!("{:.0} %", ratio * 100.0)).unwrap_or_default();
    let [read_p50, read_p95, read_p99] = percentiles(it.read_latency);
    let [write_p50, write_p95, _] = percentiles(it.write_latency);
    write!(f, "<tr><th>{}</th>", escaped(&it.name))?;
    let cells = [
        it.reads.to_string(),
        share,
        read_p50,
        read_p95,
        read_p99,
        it.writes.to_string(),
        write_p50,
        write_p95,
        it.failures.to_string(),
        it.connections.used().to_string(),
        it.connections.idle.to_string(),
        it.connections.waiting.to_string(),
    ];
    cells.iter().try_for_each(|cell| write!(f, "<td class=\"n\">{cell}</td>"))?;
    f.write_str("</tr>")
}

fn percentiles(latency: Option<LatencyReport>) -> [String; 3] {
    let times = latency.map(|it| [it.p50_us, it.p95_us, it.p99_us].map(micros));
    times.unwrap_or_default()
}

fn write_advice(f: &mut fmt::Formatter<'_>, advice: &[Advice]) -> fmt::Result {
    if advice.is_empty() {
        return Ok(());
    }
    f.write_str("<ul class=\"advice\">")?;
    advice.iter().try_for_each(|it| write!(f, "<li>{}</li>", escaped(&it.to_string())))?;
    f.write_str("</ul>")
}

fn write_slowest(f: &mut fmt::Formatter<'_>, statements: &[StatementReport]) -> fmt::Result {
    f.write_str(
        "<div class=\"wide\"><table class=\"statements\"><caption>On which reads spent most time\
         </caption><thead><tr><th class=\"n\">time together</th><th class=\"n\">on average</th>\
         <th class=\"n\">reads</th><th>text</th></tr></thead><tbody>",
    )?;
    if statements.is_empty() {
        f.write_str("<tr><td colspan=\"4\">no read was answered since the start</td></tr>")?;
    }
    for it in statements {
        write!(
            f,
            "<tr><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td><code>{}</code></td></tr>",
            micros(it.total_ms.saturating_mul(1_000)),
            micros(it.mean_us),
            it.reads,
            escaped(&it.text),
        )?;
    }
    f.write_str("</tbody></table></div>")
}

fn write_on_primary(f: &mut fmt::Formatter<'_>, statements: &[StatementReport]) -> fmt::Result {
    f.write_str(
        "<div class=\"wide\"><table class=\"statements\"><caption>Reads, and what may be reads, \
         most often on the primary</caption><thead><tr><th class=\"n\">pinned</th>\
         <th class=\"n\">asked</th><th class=\"n\">fell back</th><th class=\"n\">not proved</th>\
         <th>why</th><th>text</th></tr></thead><tbody>",
    )?;
    if statements.is_empty() {
        f.write_str("<tr><td colspan=\"6\">none since the start</td></tr>")?;
    }
    for it in statements {
        write!(
            f,
            "<tr><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td><td>{}</td><td><code>{}</code></td></tr>",
            it.pinned_to_primary,
            it.asked_for_primary,
            it.fell_back_to_primary,
            it.unproved,
            escaped(it.why.as_deref().unwrap_or_default()),
            escaped(&it.text),
        )?;
    }
    f.write_str("</tbody></table></div>")
}

/// A time with two or three digits.
#[allow(clippy::cast_precision_loss, reason = "a few digits are enough")]
fn micros(micros: u64) -> String {
    let exact = micros as f64;
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..10_000 => format!("{:.1} ms", exact / 1e3),
        10_000..1_000_000 => format!("{:.0} ms", exact / 1e3),
        1_000_000..100_000_000 => format!("{:.1} s", exact / 1e6),
        _ => format!("{:.0} s", exact / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::micros;

    #[test]
    fn a_time_has_the_unit_that_suits_it() {
        let times = [0, 999, 1_000, 9_949, 42_000, 1_500_000, 250_000_000].map(micros);
        assert_eq!(times, ["0 µs", "999 µs", "1.0 ms", "9.9 ms", "42 ms", "1.5 s", "250 s"]);
    }
}
