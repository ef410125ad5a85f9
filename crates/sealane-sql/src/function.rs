//! Which functions a proved read may call.
//!
//! An allow-list per dialect, kept as data with its source beside this file: a
//! name that is not listed is not pure, whatever it sounds like. A deny-list
//! would be shorter and wrong the day a server or an extension adds a function.
//!
//! Names are all that is compared. A user's function that overloads a listed
//! name is beyond what the text shows; the [catalog](crate::Catalog) knows it.

use std::collections::HashSet;
use std::sync::LazyLock;

use sqlparser::ast::{Ident, ObjectName, ObjectNamePart};

use crate::catalog::{self, Catalog};
use crate::dialect::Dialect;
use crate::table_name::TableName;

static POSTGRES: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| names(include_str!("functions/postgres.txt")));
/// Functions of PostgreSQL's own that `(value).name` would call and that are not pure.
static POSTGRES_ATTRIBUTES: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| names(include_str!("functions/postgres_attributes.txt")));
static MYSQL: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| names(include_str!("functions/mysql.txt")));
static SQLITE: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| names(include_str!("functions/sqlite.txt")));

/// Names that MySQL takes for a built-in only when the parenthesis follows at
/// once; after a space they may be a stored function (manual, section 11.2.5; and
/// MariaDB's window functions).
const MYSQL_TIGHT: &[&str] = &[
    "adddate",
    "bit_and",
    "bit_or",
    "bit_xor",
    "cast",
    "count",
    "cume_dist",
    "curdate",
    "curtime",
    "date_add",
    "date_sub",
    "dense_rank",
    "extract",
    "first_value",
    "group_concat",
    "json_arrayagg",
    "json_objectagg",
    "lag",
    "last_value",
    "lead",
    "max",
    "median",
    "mid",
    "min",
    "now",
    "nth_value",
    "ntile",
    "percent_rank",
    "percentile_cont",
    "percentile_disc",
    "position",
    "rank",
    "row_number",
    "session_user",
    "st_collect",
    "std",
    "stddev",
    "stddev_pop",
    "stddev_samp",
    "subdate",
    "substr",
    "substring",
    "sum",
    "sysdate",
    "system_user",
    "trim",
    "var_pop",
    "var_samp",
    "variance",
];

/// What is known of calling a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purity {
    /// It has no side effect, and reads nothing but its arguments.
    Pure,
    /// It has no side effect, and may read any table: it is the user's, or may be, or tells
    /// of objects.
    PureReader,
    Unproved,
}

/// What is known of calling `name`.
pub(crate) fn purity(name: &ObjectName, dialect: Dialect, catalog: &Catalog) -> Purity {
    if !catalog.is_empty() {
        let Some(called) = TableName::of(name, dialect) else {
            return Purity::Unproved;
        };
        match catalog.function(called.schema(), called.name()) {
            catalog::Purity::Pure => return Purity::PureReader,
            catalog::Purity::Impure => return Purity::Unproved,
            catalog::Purity::Overloaded if is_pure_built_in(name, dialect) => {
                return Purity::PureReader;
            }
            catalog::Purity::Overloaded | catalog::Purity::Unknown => {}
        }
    }
    match is_pure_built_in(name, dialect) {
        true if tells_of_objects(name, dialect) => Purity::PureReader,
        true => Purity::Pure,
        false => Purity::Unproved,
    }
}

/// Sizes of tables, among others: `pg_relation_size('boat')`.
fn tells_of_objects(name: &ObjectName, dialect: Dialect) -> bool {
    let prefix = |function: &Ident| function.value.get(..3).map(str::to_ascii_lowercase);
    dialect == Dialect::PostgreSql
        && built_in(name, dialect).and_then(prefix).is_some_and(|prefix| prefix == "pg_")
}

fn is_pure_built_in(name: &ObjectName, dialect: Dialect) -> bool {
    let Some(function) = built_in(name, dialect) else {
        return false;
    };
    let set = match dialect {
        Dialect::PostgreSql => &*POSTGRES,
        Dialect::MySql => &*MYSQL,
        Dialect::Sqlite => &*SQLITE,
    };
    match function.quote_style {
        // A quoted name is itself, letter by letter; in MySQL it may be a stored function.
        Some(_) => dialect != Dialect::MySql && set.contains(function.value.as_str()),
        None => set.contains(function.value.to_ascii_lowercase().as_str()),
    }
}

/// Whether `value.name` may call a function that is not known to be pure: in
/// PostgreSQL an attribute that does not exist is a call. `name` is folded.
pub(crate) fn is_active_attribute(name: &str, dialect: Dialect, catalog: &Catalog) -> bool {
    dialect == Dialect::PostgreSql
        && (catalog.is_active_attribute(name) || POSTGRES_ATTRIBUTES.contains(name))
}

/// Whether MySQL may take `word` for a stored function when a space follows it.
pub(crate) fn needs_tight_parenthesis(word: &str) -> bool {
    MYSQL_TIGHT.iter().any(|name| name.eq_ignore_ascii_case(word))
}

/// The last part of a name that can only be the server's own function.
fn built_in(name: &ObjectName, dialect: Dialect) -> Option<&Ident> {
    match name.0.as_slice() {
        [ObjectNamePart::Identifier(function)] => Some(function),
        [ObjectNamePart::Identifier(schema), ObjectNamePart::Identifier(function)]
            if dialect == Dialect::PostgreSql && is_pg_catalog(schema) =>
        {
            Some(function)
        }
        _ => None,
    }
}

fn is_pg_catalog(schema: &Ident) -> bool {
    match schema.quote_style {
        Some(_) => schema.value == "pg_catalog",
        None => schema.value.eq_ignore_ascii_case("pg_catalog"),
    }
}

fn names(text: &'static str) -> HashSet<&'static str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_hold_lower_case_names_only_once_each() {
        for text in [
            include_str!("functions/postgres.txt"),
            include_str!("functions/mysql.txt"),
            include_str!("functions/sqlite.txt"),
            include_str!("functions/postgres_attributes.txt"),
        ] {
            let lines: Vec<&str> =
                text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
            for name in &lines {
                let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
                assert!(name.chars().all(plain), "{name:?}");
            }
            assert_eq!(lines.len(), names(text).len(), "a name is listed twice");
        }
    }

    #[test]
    fn no_function_is_pure_and_an_active_attribute() {
        assert!(POSTGRES.is_disjoint(&POSTGRES_ATTRIBUTES));
        for name in ["nextval", "pg_advisory_lock", "pg_sleep", "setseed", "pg_read_file"] {
            assert!(POSTGRES_ATTRIBUTES.contains(name), "{name}");
        }
    }

    #[test]
    fn functions_that_write_wait_or_ask_the_session_are_in_no_list() {
        for name in [
            "nextval",
            "setval",
            "currval",
            "lastval",
            "set_config",
            "setseed",
            "pg_sleep",
            "pg_notify",
            "pg_advisory_lock",
            "pg_try_advisory_lock",
            "pg_read_file",
            "lo_create",
            "lo_get",
            "txid_current",
            "pg_current_xact_id",
            "query_to_xml",
            "table_to_xml",
            "ts_stat",
            "ts_rewrite",
            "pg_export_snapshot",
            "pg_terminate_backend",
            "pg_promote",
            "pg_switch_wal",
            "dblink",
            "get_lock",
            "release_lock",
            "last_insert_id",
            "row_count",
            "found_rows",
            "sleep",
            "benchmark",
            "load_file",
            "master_pos_wait",
            "wait_for_executed_gtid_set",
            "master_gtid_wait",
            "uuid_short",
            "last_insert_rowid",
            "changes",
            "total_changes",
            "load_extension",
            "writefile",
            "pg_cancel_backend",
            "pg_logical_emit_message",
            "pg_reload_conf",
            "pg_stat_reset",
            "brin_summarize_range",
        ] {
            for set in [&*POSTGRES, &*MYSQL, &*SQLITE] {
                assert!(!set.contains(name), "{name} must never be listed");
            }
        }
    }
}
