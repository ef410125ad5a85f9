//! A row whose values are text.

use std::{collections::BTreeMap, str::FromStr};

use sqlx::{Column, ColumnIndex, Database, Decode, Row};

/// A row by the names of its columns. NULL is like a column that does not exist.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TextRow(BTreeMap<String, String>);

impl TextRow {
    pub(super) fn of<R>(row: &R) -> TextRow
    where
        R: Row,
        for<'r> String: Decode<'r, R::Database>,
        usize: ColumnIndex<R>,
        <R::Database as Database>::Column: Column,
    {
        let value = |(index, column): (usize, &<R::Database as Database>::Column)| {
            let text = row.try_get_unchecked::<Option<String>, _>(index).ok()??;
            Some((column.name().to_owned(), text))
        };
        TextRow(row.columns().iter().enumerate().filter_map(value).collect())
    }

    /// The value of a column.
    pub(crate) fn text(&self, column: &str) -> Option<&str> {
        self.0.get(column).map(String::as_str)
    }

    /// The value of a row with one column.
    pub(crate) fn only(&self) -> Option<&str> {
        self.0.values().next().map(String::as_str).filter(|_| self.0.len() == 1)
    }

    /// The value of the first of these columns that exists: versions name them differently.
    pub(crate) fn any(&self, columns: &[&str]) -> Option<&str> {
        columns.iter().find_map(|column| self.text(column))
    }

    /// The value of a column as a number.
    pub(crate) fn number<N: FromStr>(&self, column: &str) -> Option<N> {
        self.text(column)?.trim().parse().ok()
    }

    /// The value of a column as yes or no, in any of the engines' spellings.
    pub(crate) fn truth(&self, column: &str) -> Option<bool> {
        self.text(column).and_then(truth)
    }
}

/// Yes or no, in any of the engines' spellings.
pub(crate) fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "t" | "true" | "on" | "yes" | "1" => Some(true),
        "f" | "false" | "off" | "no" | "0" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
impl<const N: usize> From<[(&str, &str); N]> for TextRow {
    fn from(columns: [(&str, &str); N]) -> Self {
        TextRow(columns.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_unknown_and_not_zero() {
        let row = TextRow::from([("lag", " 7"), ("runs", "Yes"), ("odd", "perhaps")]);
        assert_eq!((row.number("lag"), row.number::<u64>("gap")), (Some(7_u64), None));
        assert_eq!(
            (row.truth("runs"), row.truth("odd"), row.truth("gap")),
            (Some(true), None, None)
        );
        assert_eq!(row.any(&["gap", "runs"]), Some("Yes"));
    }
}
