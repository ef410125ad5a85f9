//! Where results go: text for people, or JSON for programs.

use std::io::{self, Write};

use sealane_core::printable;
use serde::Serialize;

/// The output of one command.
pub(crate) struct Output<'o> {
    out: &'o mut dyn Write,
    is_json: bool,
}

impl<'o> Output<'o> {
    pub(crate) fn new(out: &'o mut dyn Write, is_json: bool) -> Self {
        Output { out, is_json }
    }

    /// Whether programs read it.
    pub(crate) fn is_json(&self) -> bool {
        self.is_json
    }

    /// Shows a result: as one JSON value, or as `text` writes it.
    pub(crate) fn show(
        &mut self,
        value: &impl Serialize,
        text: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        if self.is_json {
            serde_json::to_writer_pretty(&mut *self.out, value)?;
            writeln!(self.out)?;
        } else {
            text(&mut *self.out)?;
        }
        self.out.flush()
    }

    /// Shows one of several results as they come: JSON has one line for each.
    pub(crate) fn line(
        &mut self,
        value: &impl Serialize,
        text: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        if self.is_json {
            serde_json::to_writer(&mut *self.out, value)?;
            writeln!(self.out)?;
        } else {
            text(&mut *self.out)?;
        }
        self.out.flush()
    }

    /// Writes bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.out.flush()
    }
}

/// A table for people: columns as wide as their longest cell.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(heading: &[&str]) -> Self {
        Table { rows: vec![heading.iter().map(|it| (*it).to_uppercase()).collect()] }
    }

    /// Adds a row. Servers name things as they like, so what a terminal would obey is escaped.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells.iter().map(|cell| printable(cell).to_string()).collect());
    }

    pub(crate) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
        };
        let widths: Vec<_> = (0..columns).map(width).collect();
        for (number, row) in self.rows.iter().enumerate() {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            let text = cells.collect::<Vec<_>>().join("  ");
            let style = if number == 0 { crate::style::HEADING } else { anstyle::Style::new() };
            writeln!(out, "{style}{}{style:#}", text.trim_end())?;
        }
        Ok(())
    }
}

/// An endpoint for people: its name and address, or only the address if the name is a part of it.
pub(crate) fn named(name: &str, address: &str) -> String {
    match address.starts_with(name) {
        true => address.to_owned(),
        false => format!("{name} ({address})"),
    }
}

/// What is unknown, in a cell.
pub(crate) const UNKNOWN: &str = "?";

/// Milliseconds for people.
pub(crate) fn millis(millis: Option<u64>) -> String {
    match millis {
        None => UNKNOWN.to_owned(),
        Some(millis @ 0..10_000) => format!("{millis} ms"),
        Some(millis) => format!("{} s", millis / 1_000),
    }
}

/// Bytes for people.
pub(crate) fn bytes(bytes: u64) -> String {
    match bytes {
        0..=0xfff => format!("{bytes} B"),
        0x1000..=0xf_ffff => format!("{} kB", bytes >> 10),
        0x10_0000..=0x3fff_ffff => format!("{} MB", bytes >> 20),
        _ => format!("{} GB", bytes >> 30),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned_and_a_terminal_obeys_nothing_in_it() {
        let mut table = Table::new(&["name", "lag"]);
        table.row(vec!["replica-1".into(), "5 ms".into()]);
        table.row(vec!["\u{1b}[2J".into(), String::new()]);
        let mut out = anstream::StripStream::new(Vec::new());
        table.write(&mut out).unwrap();
        let text = String::from_utf8(out.into_inner()).unwrap();
        assert_eq!(text, "NAME       LAG\nreplica-1  5 ms\n\\u{1b}[2J\n");
    }
}
