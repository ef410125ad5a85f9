//! Shows the text of a statement with a caret under each finding.

use std::fmt;

use crate::finding::Finding;
use crate::place::Place;

/// A longer line is cut to this many characters around the finding's place.
const LINE_CHARS: usize = 100;
/// How many findings an annotation shows.
const SHOWN: usize = 4;

/// Shows each finding at its place in the text, a few lines for each. Made by
/// [`Classification::annotate`](crate::Classification::annotate).
#[derive(Debug, Clone, Copy)]
pub struct Annotation<'a> {
    sql: &'a str,
    findings: &'a [Finding],
}

impl<'a> Annotation<'a> {
    pub(crate) fn new(sql: &'a str, findings: &'a [Finding]) -> Self {
        Self { sql, findings }
    }
}

impl fmt::Display for Annotation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, finding) in self.findings.iter().take(SHOWN).enumerate() {
            if at > 0 {
                writeln!(f)?;
            }
            let place = finding.place.and_then(|place| Line::of(self.sql, place));
            match place {
                None => write!(f, "  {}", finding.reason)?,
                Some(line) => {
                    writeln!(f, "  {}", line.text)?;
                    let (before, under) = (line.before, line.under.max(1));
                    write!(f, "  {:before$}{:^<under$} {}", "", "", finding.reason)?;
                }
            }
        }
        match self.findings.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}

/// One line of the text, cut around the place.
struct Line {
    text: String,
    /// Number of characters before the place (`before`) and in the place (`under`).
    before: usize,
    under: usize,
}

impl Line {
    /// `None` if `place` does not lie in `sql`: the finding belongs to another text.
    fn of(sql: &str, place: Place) -> Option<Self> {
        let (head, tail) = (sql.get(..place.start)?, sql.get(place.start..)?);
        let placed = sql.get(place.range())?;
        let start = head.rfind('\n').map_or(0, |at| at + 1);
        let end = place.start + tail.find('\n').unwrap_or(tail.len());
        let before = head[start..].chars().count();
        let under = placed.lines().next().unwrap_or_default().chars().count();
        let skipped = if before + under > LINE_CHARS { before.saturating_sub(20) } else { 0 };
        let mut text = String::new();
        let mut cut = 0;
        if skipped > 0 {
            text.push('…');
            cut = skipped - 1;
        }
        let line = sql[start..end].trim_end_matches('\r');
        let rest = line.chars().skip(skipped);
        // A tab becomes one blank, so that the caret stands under the right character.
        text.extend(rest.take(LINE_CHARS).map(|c| if c.is_control() { ' ' } else { c }));
        if line.chars().count() > skipped + LINE_CHARS {
            text.push('…');
        }
        Some(Self { text, before: before - cut, under: under.min(LINE_CHARS - 20) })
    }
}

#[cfg(test)]
mod tests {
    use sealane_core::Intent;

    use super::*;
    use crate::finding::Reason;

    fn shown(sql: &str, word: &str) -> String {
        let start = sql.find(word).expect("the word");
        let place = Some(Place { start, end: start + word.len() });
        let finding = Finding { intent: Intent::Write, reason: Reason::Into, place };
        Annotation::new(sql, &[finding]).to_string()
    }

    #[test]
    fn the_caret_stands_under_the_place() {
        assert_eq!(
            shown("SELECT 'é',\n\ta INTO t\nFROM u", "INTO"),
            "   a INTO t\n     ^^^^ INTO stores the result"
        );
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let sql = format!("SELECT {}a INTO t{}", "b, ".repeat(200), " ".repeat(300));
        let shown = shown(&sql, "INTO");
        let (line, carets) = shown.split_once('\n').expect("two lines");
        assert!(line.chars().count() <= LINE_CHARS + 4, "{line}");
        let column = carets.find('^').expect("a caret");
        let under: String = line.chars().skip(column).take(4).collect();
        assert_eq!(under, "INTO");
    }

    #[test]
    fn a_place_outside_of_the_text_is_not_shown() {
        let place = Some(Place { start: 90, end: 99 });
        let finding = Finding { intent: Intent::Write, reason: Reason::Into, place };
        assert_eq!(Annotation::new("SELECT 1", &[finding]).to_string(), "  INTO stores the result");
    }
}
