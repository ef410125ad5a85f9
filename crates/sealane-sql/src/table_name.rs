//! The tables that a statement touches.

use std::fmt;

use serde::{Serialize, Serializer};
use sqlparser::ast::{Ident, ObjectName, ObjectNamePart};

use crate::dialect::Dialect;

/// The name of a table or view, as the server would look it up.
///
/// Letters that the server folds are lower case: all of SQLite's, and those of
/// PostgreSQL that are not quoted. MySQL's stay as they were written, because
/// its file system decides. Serialised as its text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName {
    schema: Option<Box<str>>,
    name: Box<str>,
}

impl TableName {
    /// A name in the form that the catalog holds.
    #[must_use]
    pub fn new(schema: Option<&str>, name: &str) -> Self {
        Self { schema: schema.map(Into::into), name: name.into() }
    }

    /// The schema (in MySQL, the database), where the text names one.
    #[must_use]
    pub fn schema(&self) -> Option<&str> {
        self.schema.as_deref()
    }

    /// The name without its schema.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether both may be the same table: a name without a schema may be in any.
    #[must_use]
    pub fn may_be(&self, other: &TableName) -> bool {
        let same_schema = match (&self.schema, &other.schema) {
            (Some(one), Some(two)) => one == two,
            _ => true,
        };
        same_schema && self.name == other.name
    }

    /// The last two parts of `name`. `None` if a part is computed, or there is none.
    pub(crate) fn of(name: &ObjectName, dialect: Dialect) -> Option<Self> {
        let part = |part: &ObjectNamePart| match part {
            ObjectNamePart::Identifier(ident) => Some(folded(ident, dialect)),
            ObjectNamePart::Function(_) => None,
        };
        let (last, before) = name.0.split_last()?;
        let schema = match before.last() {
            Some(schema) => Some(part(schema)?),
            None => None,
        };
        Some(Self { schema, name: part(last)? })
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
    /// Those that are read, sorted, each once. Views are here by their own name and,
    /// where the catalog is known, with what they read.
    pub read: Vec<TableName>,
    /// Those that are written, sorted, each once, or whose definition is changed.
    pub written: Vec<TableName>,
    /// Whether these are all that the text names. `false` if a part of it was
    /// not understood or runs code that is not in the text. Triggers and
    /// cascading keys are never seen, whatever it says.
    pub complete: bool,
}

impl Default for Tables {
    fn default() -> Self {
        Self { read: Vec::new(), written: Vec::new(), complete: true }
    }
}

impl Tables {
    pub(crate) fn add_read(&mut self, name: TableName) {
        self.complete &= add(&mut self.read, name);
    }

    pub(crate) fn add_written(&mut self, name: TableName) {
        self.complete &= add(&mut self.written, name);
    }

    pub(crate) fn sort(&mut self) {
        self.read.sort();
        self.written.sort();
    }

    pub(crate) fn join(&mut self, other: Tables) {
        other.read.into_iter().for_each(|name| self.add_read(name));
        other.written.into_iter().for_each(|name| self.add_written(name));
        self.complete &= other.complete;
    }
}

/// More distinct tables than this are not listed: a text with so many is
/// generated, and looking each up in the list must not take quadratic time.
const MAX_TABLES: usize = 256;

/// Whether there was room for it.
fn add(names: &mut Vec<TableName>, name: TableName) -> bool {
    let has_room = names.len() < MAX_TABLES;
    if has_room && !names.contains(&name) {
        names.push(name);
    }
    has_room
}

/// Whether the server takes both for the same name.
pub(crate) fn is_same_name(one: &Ident, other: &Ident, dialect: Dialect) -> bool {
    match (folds(one, dialect), folds(other, dialect)) {
        (true, true) => one.value.eq_ignore_ascii_case(&other.value),
        (false, false) => one.value == other.value,
        (true, false) => one.value.to_ascii_lowercase() == other.value,
        (false, true) => one.value == other.value.to_ascii_lowercase(),
    }
}

/// An identifier as the server looks it up.
pub(crate) fn folded(ident: &Ident, dialect: Dialect) -> Box<str> {
    let kept = kept(&ident.value, dialect);
    if folds(ident, dialect) { kept.to_ascii_lowercase().into() } else { kept.into() }
}

/// As much of a name as the server keeps: PostgreSQL cuts it after 63 bytes, between
/// two characters.
pub(crate) fn kept(name: &str, dialect: Dialect) -> &str {
    match dialect {
        Dialect::PostgreSql => &name[..name.floor_char_boundary(63)],
        Dialect::MySql | Dialect::Sqlite => name,
    }
}

/// Whether upper case letters become lower case. Only those of ASCII do so
/// everywhere; PostgreSQL's locale decides about the others.
fn folds(ident: &Ident, dialect: Dialect) -> bool {
    match dialect {
        Dialect::PostgreSql => ident.quote_style.is_none(),
        Dialect::MySql => false,
        Dialect::Sqlite => true,
    }
}
