//! Places in a statement's text.

use std::ops::Range;

use serde::Serialize;
use sqlparser::tokenizer::{Location, Span};

/// A stretch of the text, in bytes from its start; `end` is not part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Place {
    /// The first byte.
    pub start: usize,
    /// The byte after the last one.
    pub end: usize,
}

impl Place {
    /// The place as a range, for slicing the text.
    #[must_use]
    pub fn range(self) -> Range<usize> {
        self.start..self.end
    }

    /// Converts the parser's lines and columns (both from 1, in characters) into bytes of `sql`.
    /// `None` for an empty span.
    pub(crate) fn of(sql: &str, span: Span) -> Option<Self> {
        let start = offset(sql, span.start)?;
        let end = offset(sql, span.end).unwrap_or(start);
        Some(Self { start, end: end.max(start) })
    }

    /// The word that begins at `at`, or one character if no word begins there.
    pub(crate) fn at(sql: &str, at: Location) -> Option<Self> {
        let start = offset(sql, at)?;
        let rest = &sql[start..];
        let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let first = rest.chars().next().map_or(0, char::len_utf8);
        Some(Self { start, end: start + word.max(first) })
    }
}

fn offset(sql: &str, at: Location) -> Option<usize> {
    let line = usize::try_from(at.line.checked_sub(1)?).ok()?;
    let column = usize::try_from(at.column.checked_sub(1)?).ok()?;
    let mut start = 0;
    for _ in 0..line {
        start += sql[start..].find('\n')? + 1;
    }
    let rest = &sql[start..];
    Some(start + rest.char_indices().nth(column).map_or(rest.len(), |(at, _)| at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_become_bytes() {
        let sql = "SELECT 'é',\n  nextval('s')";
        let span = Span::new(Location::new(2, 3), Location::new(2, 10));
        let place = Place::of(sql, span).expect("a place");
        assert_eq!(&sql[place.range()], "nextval");
        let place = Place::at(sql, Location::new(1, 8)).expect("a place");
        assert_eq!(&sql[place.range()], "'");
        let past = Place::at(sql, Location::new(2, 99)).expect("the end");
        assert_eq!(past.range(), sql.len()..sql.len());
        assert_eq!(Place::of(sql, Span::empty()), None);
        assert_eq!(Place::at(sql, Location::new(9, 1)), None);
    }
}
