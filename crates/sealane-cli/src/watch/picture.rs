//! The picture: from a snapshot to lines of text. Pure.
//!
//! The first line has the verdict, so that it is there on every terminal. The replicas hang under
//! the primary like branches. Everything is said in words; colours only repeat it.

use std::time::SystemTime;

use ratatui::text::{Line, Span};
use sealane::{Condition, EndpointStatus, Health, Role, Severity, Status, TimedEvent};

use super::{
    columns::{Column, GAP, columns},
    history::History,
    paint::{Paint, Tone},
    sparkline::sparkline,
    text::{cut, fitted, time_of_day, width},
};
use crate::output::millis;

/// With fewer lines, the table gets all of them.
const ROOMY: usize = 12;
/// So many events have a place below the longest table.
const EVENTS: usize = 3;

pub(super) const FOOTER: &str = "q, Esc or Ctrl-C ends. In flight: of this process alone.";

/// What the picture shows.
#[derive(Debug)]
pub(super) struct Picture<'a> {
    pub(super) status: &'a Status,
    pub(super) history: &'a History,
    /// The oldest first.
    pub(super) events: &'a [TimedEvent],
    pub(super) now: SystemTime,
    pub(super) paint: Paint,
    /// The last line: what keys do.
    pub(super) footer: &'a str,
}

impl Picture<'_> {
    /// The lines for a terminal of this size: at most `height`, none longer than `width`.
    pub(super) fn lines(&self, cells: usize, height: usize) -> Vec<Line<'static>> {
        let is_roomy = height >= ROOMY;
        let mut lines = vec![self.heading(cells)];
        let mut below = 0;
        if is_roomy {
            lines.push(Line::default());
            // A blank line, the heading, the events, and the footer.
            below = 2 + EVENTS + 1;
        }
        let room = height.saturating_sub(lines.len() + below);
        lines.extend(shortened(self.endpoints(cells), room, cells));
        if is_roomy {
            lines.push(Line::default());
            lines.push(self.line("LAST EVENTS", Tone::Heading, cells));
            let room = height.saturating_sub(lines.len() + 1);
            lines.extend(self.events(cells).into_iter().take(room));
            lines.resize(height - 1, Line::default());
            lines.push(self.line(self.footer, Tone::Plain, cells));
        }
        lines.truncate(height);
        lines
    }

    /// The verdict, and the time of day if there is room for it.
    fn heading(&self, cells: usize) -> Line<'static> {
        let (tone, verdict) = verdict(self.status);
        let since = self.now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let unix_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let time = format!("  {} UTC", time_of_day(unix_ms));
        match cells.checked_sub(width(&time)) {
            Some(left) if width(&verdict) <= left => {
                let verdict = self.piece(fitted(&verdict, left), tone);
                Line::from(vec![verdict, self.piece(time, Tone::Plain)])
            }
            _ => self.line(&verdict, tone, cells),
        }
    }

    fn endpoints(&self, cells: usize) -> Vec<Line<'static>> {
        let rows = self.rows();
        let columns = columns(cells, |column| {
            rows.iter().map(|row| width(&row.cell(column, 0))).max().unwrap_or_default()
        });
        let heading = columns.iter().map(|(column, cells)| fitted(&column.heading(*cells), *cells));
        let heading = heading.collect::<Vec<_>>().join(&" ".repeat(GAP));
        let mut lines = vec![self.line(&heading, Tone::Heading, cells)];
        for row in rows {
            let mut pieces = Vec::new();
            for (column, cells) in &columns {
                if !pieces.is_empty() {
                    pieces.push(Span::raw(" ".repeat(GAP)));
                }
                let tone = if *column == Column::Condition { row.tone } else { Tone::Plain };
                pieces.push(self.piece(fitted(&row.cell(*column, *cells), *cells), tone));
            }
            lines.push(Line::from(pieces));
            if let Some(why) = &row.why {
                lines.push(self.line(&format!("{}{why}", row.below), Tone::Wrong, cells));
            }
        }
        lines
    }

    /// The primary, and the others under it.
    fn rows(&self) -> Vec<Row<'_>> {
        let is_primary = |it: &&EndpointStatus| self.status.primary.as_ref() == Some(&it.name);
        let primary = self.status.endpoints.iter().find(is_primary);
        let others: Vec<_> = self.status.endpoints.iter().filter(|it| !is_primary(it)).collect();
        let mut rows = Vec::new();
        match primary {
            Some(primary) => {
                let below = if others.is_empty() { "    " } else { "│   " };
                rows.push(Row::of(primary, self, "", below));
            }
            None => rows.push(Row::no_primary()),
        }
        for (number, other) in others.iter().enumerate() {
            let is_last = number + 1 == others.len();
            let (branch, below) =
                if is_last { ("└─ ", "       ") } else { ("├─ ", "│      ") };
            rows.push(Row::of(other, self, branch, below));
        }
        rows
    }

    /// The last events, the newest first.
    fn events(&self, cells: usize) -> Vec<Line<'static>> {
        if self.events.is_empty() {
            return vec![self.line("nothing has changed since the start", Tone::Plain, cells)];
        }
        let event = |event: &TimedEvent| {
            let tone = match event.severity {
                Severity::Info => Tone::Plain,
                Severity::Warning => Tone::Risky,
                // Also what a later version adds.
                _ => Tone::Wrong,
            };
            let before = format!("{}  ", time_of_day(event.unix_ms));
            let left = cells.saturating_sub(width(&before));
            let text = cut(&format!("{:<7}  {}", event.severity.to_string(), event.text), left);
            Line::from(vec![self.piece(cut(&before, cells), Tone::Plain), self.piece(text, tone)])
        };
        self.events.iter().rev().map(event).collect()
    }

    fn line(&self, text: &str, tone: Tone, cells: usize) -> Line<'static> {
        Line::from(self.piece(cut(text, cells), tone))
    }

    fn piece(&self, text: String, tone: Tone) -> Span<'static> {
        Span::styled(text, self.paint.style(tone))
    }
}

/// The one line that answers whether all is well.
fn verdict(status: &Status) -> (Tone, String) {
    let all = status.endpoints.len();
    let is_probed = all > 1;
    let is_primary = |it: &&EndpointStatus| status.primary.as_ref() == Some(&it.name);
    let serves = |it: &&EndpointStatus| it.condition == Condition::Serving && !it.ejected;
    let unwell = if is_probed { all - status.endpoints.iter().filter(serves).count() } else { 0 };
    let count = match unwell {
        0 => String::new(),
        _ => format!("; {unwell} of {all} do not serve"),
    };
    match status.endpoints.iter().find(is_primary) {
        None => (Tone::Wrong, format!("there is no primary{count}")),
        Some(it) if is_probed && it.condition != Condition::Serving => {
            (Tone::Wrong, format!("the primary, {}, is {}{count}", it.name, it.condition))
        }
        Some(_) if status.reads_on_primary == Some(true) => {
            (Tone::Risky, format!("no replica takes reads{count}"))
        }
        Some(_) if unwell > 0 => (Tone::Risky, format!("{unwell} of {all} do not serve")),
        Some(_) => (Tone::Fine, "all serve".to_owned()),
    }
}

/// `lines` in `room` lines. The last one tells how many are missing.
fn shortened(mut lines: Vec<Line<'static>>, room: usize, cells: usize) -> Vec<Line<'static>> {
    let missing = lines.len().saturating_sub(room);
    if missing > 0 {
        let kept = room.saturating_sub(1);
        lines.truncate(kept);
        lines.push(Line::from(cut(&format!("… and {} more lines", missing + 1), cells)));
    }
    lines
}

/// One endpoint.
struct Row<'a> {
    /// `None`: the place of a primary that is not there.
    endpoint: Option<&'a EndpointStatus>,
    lags_ms: &'a [Option<u64>],
    is_primary: bool,
    name: String,
    condition: String,
    tone: Tone,
    /// Why it does not answer.
    why: Option<String>,
    /// What stands before the reason: the branch goes on.
    below: &'static str,
}

impl<'a> Row<'a> {
    fn of(
        it: &'a EndpointStatus,
        picture: &Picture<'a>,
        branch: &str,
        below: &'static str,
    ) -> Self {
        let is_alone = picture.status.endpoints.len() < 2;
        let (condition, tone) = match (it.condition, it.ejected) {
            _ if is_alone => ("not probed".to_owned(), Tone::Plain),
            (Condition::Serving, true) => ("ejected".to_owned(), Tone::Risky),
            (condition, true) => (format!("ejected, {condition}"), tone(condition)),
            (condition, false) => (condition.to_string(), tone(condition)),
        };
        Row {
            endpoint: Some(it),
            lags_ms: picture.history.of(&it.name),
            is_primary: picture.status.primary.as_ref() == Some(&it.name),
            name: format!("{branch}{}", it.name),
            condition,
            tone,
            why: match &it.health {
                Health::Down { failure } => Some(failure.to_string()),
                _ => None,
            },
            below,
        }
    }

    fn no_primary() -> Self {
        Row {
            endpoint: None,
            lags_ms: &[],
            is_primary: true,
            name: "(none)".to_owned(),
            condition: "takes no writes".to_owned(),
            tone: Tone::Wrong,
            why: None,
            below: "",
        }
    }

    /// The text in a column. The curve has as many characters as there are `cells`.
    fn cell(&self, column: Column, cells: usize) -> String {
        // What follows is measured against the primary.
        let has_lag = !self.is_primary;
        match (column, self.endpoint) {
            (Column::Name, _) => self.name.clone(),
            (Column::Condition, _) => self.condition.clone(),
            (Column::Role, it) => self.role(it.map(|it| it.role)).to_owned(),
            (Column::Lag, Some(it)) if has_lag => millis(it.lag_ms),
            (Column::Curve, Some(_)) if has_lag => sparkline(self.lags_ms, cells),
            (Column::Usual, Some(it)) if has_lag => {
                millis(it.lag_last_minute.and_then(|lags| lags.p95_ms))
            }
            (Column::Staleness, Some(it)) if has_lag => millis(it.staleness_ms),
            (Column::Probe, Some(it)) => millis(it.probe_ms),
            (Column::InFlight, Some(it)) => it.in_flight.to_string(),
            _ => String::new(),
        }
    }

    fn role(&self, role: Option<Role>) -> &'static str {
        match role {
            _ if self.is_primary => "primary",
            Some(Role::Primary) => "not in charge",
            Some(Role::Replica) => "replica",
            _ => "unknown",
        }
    }
}

/// As on the status page.
fn tone(condition: Condition) -> Tone {
    match condition {
        Condition::Serving => Tone::Fine,
        Condition::Unobserved
        | Condition::Probation
        | Condition::Draining
        | Condition::Copying
        | Condition::Paused
        | Condition::Lagging => Tone::Risky,
        _ => Tone::Wrong,
    }
}
