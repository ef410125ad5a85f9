//! The tables that a statement touches.

use std::fmt;

use serde::{Serialize, Serializer};

/// The name of a table or view, as the server would look it up.
///
/// Letters that the server folds are lower case: all names of SQLite, and unquoted names of
/// PostgreSQL. MySQL's names stay as they were written, because the server's file system decides
/// about their case. Serialised as text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName {
    schema: Option<Box<str>>,
    name: Box<str>,
}

impl TableName {
    /// A name as the catalog spells it.
    #[must_use]
    pub fn new(schema: Option<&str>, name: &str) -> Self {
        Self { schema: schema.map(Into::into), name: name.into() }
    }

    /// The same as [`new`](Self::new), without copying the parts.
    #[must_use]
    pub fn from_parts(schema: Option<Box<str>>, name: Box<str>) -> Self {
        Self { schema, name }
    }

    /// The schema (in MySQL, the database), if the text names one.
    #[must_use]
    pub fn schema(&self) -> Option<&str> {
        self.schema.as_deref()
    }

    /// The name without its schema.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether both may be the same table: a name without a schema may be in any schema.
    #[must_use]
    pub fn may_be(&self, other: &TableName) -> bool {
        let same_schema = match (&self.schema, &other.schema) {
            (Some(one), Some(two)) => one == two,
            _ => true,
        };
        same_schema && self.name == other.name
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl Serialize for TableName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The tables of one text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tables {
    /// The tables that the text reads, sorted, each once. A view is listed by its own name and, if
    /// the catalog is known, with the tables that it reads.
    pub read: Vec<TableName>,
    /// The tables whose rows or definition the text changes, sorted, each once.
    pub written: Vec<TableName>,
    /// Whether the lists hold all tables that the text names. `false` if a part of the text was not
    /// understood or runs code that the text does not show. Triggers and cascading keys are never
    /// included, even if this is `true`.
    pub complete: bool,
}

impl Default for Tables {
    fn default() -> Self {
        Self { read: Vec::new(), written: Vec::new(), complete: true }
    }
}

impl Tables {
    /// Adds a table that is read.
    pub fn add_read(&mut self, name: TableName) {
        self.complete &= add(&mut self.read, name);
    }

    /// Adds a table that is written.
    pub fn add_written(&mut self, name: TableName) {
        self.complete &= add(&mut self.written, name);
    }

    /// Sorts the names.
    pub fn sort(&mut self) {
        self.read.sort();
        self.written.sort();
    }

    /// Adds the tables of one more statement in the same text.
    pub fn join(&mut self, other: Tables) {
        other.read.into_iter().for_each(|name| self.add_read(name));
        other.written.into_iter().for_each(|name| self.add_written(name));
        self.complete &= other.complete;
    }
}

/// The most tables in a list. A text with more tables is generated, and searching the list for each
/// of them must not take quadratic time.
const MAX_TABLES: usize = 256;

/// Adds `name` once. Returns false if the list is full.
fn add(names: &mut Vec<TableName>, name: TableName) -> bool {
    let has_room = names.len() < MAX_TABLES;
    if has_room && !names.contains(&name) {
        names.push(name);
    }
    has_room
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> TableName {
        match text.split_once('.') {
            Some((schema, name)) => TableName::new(Some(schema), name),
            None => TableName::new(None, text),
        }
    }

    #[test]
    fn a_name_without_a_schema_may_be_in_any() {
        assert!(table("boat").may_be(&table("harbour.boat")));
        assert!(table("harbour.boat").may_be(&table("harbour.boat")));
        assert!(!table("attic.boat").may_be(&table("harbour.boat")));
        assert!(!table("boat").may_be(&table("pier")));
    }

    #[test]
    fn a_table_is_listed_once() {
        let mut tables = Tables::default();
        tables.add_read(table("boat"));
        tables.add_read(table("boat"));
        assert_eq!(tables.read, [table("boat")]);
    }

    #[test]
    fn both_lists_are_sorted() {
        let mut tables = Tables::default();
        for name in ["pier", "boat"] {
            tables.add_read(table(name));
            tables.add_written(table(name));
        }
        tables.sort();
        let sorted = [table("boat"), table("pier")];
        assert_eq!((&tables.read[..], &tables.written[..]), (&sorted[..], &sorted[..]));
    }
}
