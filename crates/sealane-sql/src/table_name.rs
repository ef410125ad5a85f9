//! The names of tables in a text, as the server would look them up.

use sealane_core::TableName;
use sqlparser::ast::{Ident, ObjectName, ObjectNamePart};

use crate::dialect::Dialect;

/// The last two parts of `name`. `None` if a part is computed or `name` is empty.
pub(crate) fn table_name(name: &ObjectName, dialect: Dialect) -> Option<TableName> {
    let part = |part: &ObjectNamePart| match part {
        ObjectNamePart::Identifier(ident) => Some(folded(ident, dialect)),
        ObjectNamePart::Function(_) => None,
    };
    let (last, before) = name.0.split_last()?;
    let schema = match before.last() {
        Some(schema) => Some(part(schema)?),
        None => None,
    };
    Some(TableName::from_parts(schema, part(last)?))
}

/// Whether both are the same name to the server.
pub(crate) fn is_same_name(one: &Ident, other: &Ident, dialect: Dialect) -> bool {
    let (one_folds, other_folds) = (folds(one, dialect), folds(other, dialect));
    let (one, other) = (kept(&one.value, dialect), kept(&other.value, dialect));
    match (one_folds, other_folds) {
        (true, true) => one.eq_ignore_ascii_case(other),
        (false, false) => one == other,
        (true, false) => one.to_ascii_lowercase() == other,
        (false, true) => one == other.to_ascii_lowercase(),
    }
}

/// An identifier as the server looks it up.
pub(crate) fn folded(ident: &Ident, dialect: Dialect) -> Box<str> {
    let kept = kept(&ident.value, dialect);
    if folds(ident, dialect) { kept.to_ascii_lowercase().into() } else { kept.into() }
}

/// The part of a name that the server keeps: PostgreSQL cuts a name after 63 bytes, between two
/// characters.
pub(crate) fn kept(name: &str, dialect: Dialect) -> &str {
    match dialect {
        Dialect::PostgreSql => &name[..name.floor_char_boundary(63)],
        Dialect::MySql | Dialect::Sqlite => name,
    }
}

/// Whether the server folds upper case letters to lower case. Callers fold ASCII letters only; for
/// other letters PostgreSQL's locale decides.
fn folds(ident: &Ident, dialect: Dialect) -> bool {
    match dialect {
        Dialect::PostgreSql => ident.quote_style.is_none(),
        Dialect::MySql => false,
        Dialect::Sqlite => true,
    }
}
