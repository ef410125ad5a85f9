//! The functions that a proved read may call.
//!
//! Each dialect has an allow-list: a data file beside this one, which names its source. A name that
//! is not listed does not count as pure, whatever it sounds like. A deny-list would be shorter, but
//! wrong as soon as a server or an extension adds a function.
//!
//! Only names are compared. The text does not show a user's function that overloads a listed name;
//! the [catalog](crate::Catalog) does.

use std::collections::HashSet;
use std::sync::LazyLock;

use sqlparser::ast::{Ident, ObjectName, ObjectNamePart};

use crate::catalog::{self, Catalog};
use crate::dialect::Dialect;
use crate::relation::listed;
use crate::table_name::table_name;

static POSTGRES: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| names(include_str!("functions/postgres.txt")));
/// PostgreSQL's own functions that are not pure and that `(value).name` could call.
static POSTGRES_ATTRIBUTES: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| names(include_str!("functions/postgres_attributes.txt")));
static MYSQL: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| names(include_str!("functions/mysql.txt")));
static SQLITE: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| names(include_str!("functions/sqlite.txt")));

/// Names that mean a built-in function of MySQL only if the parenthesis follows directly. If a
/// space comes first, they may mean a stored function (manual, section 11.2.5; and MariaDB's window
/// functions).
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

/// What is known about a call of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purity {
    /// The call has no side effect and reads only its arguments.
    Pure,
    /// The call has no side effect but may read any table: the function is, or may be, a user's
    /// own, or it reports on database objects.
    PureReader,
    Unproved,
}

/// What is known about a call of `name`.
pub(crate) fn purity(name: &ObjectName, dialect: Dialect, catalog: &Catalog) -> Purity {
    if !catalog.is_empty() {
        let Some(called) = table_name(name, dialect) else {
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

/// Whether the function may report on database objects, like `pg_relation_size('boat')`.
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
        // A quoted name must match letter by letter. In MySQL it may be a stored function.
        Some(_) => dialect != Dialect::MySql && set.contains(function.value.as_str()),
        None => set.contains(function.value.to_ascii_lowercase().as_str()),
    }
}

/// Whether `value.name` may call a function that is not known to be pure. In PostgreSQL an
/// attribute that does not exist is a function call. `name` is already folded.
pub(crate) fn is_active_attribute(name: &str, dialect: Dialect, catalog: &Catalog) -> bool {
    dialect == Dialect::PostgreSql
        && (catalog.is_active_attribute(name) || POSTGRES_ATTRIBUTES.contains(name))
}

/// Whether MySQL may take `word` for a stored function when a space follows it.
pub(crate) fn needs_tight_parenthesis(word: &str) -> bool {
    MYSQL_TIGHT.iter().any(|name| name.eq_ignore_ascii_case(word))
}

/// Whether the server has a built-in function of this name (in lower case). A call without a schema
/// then means the built-in function, whatever the user has defined.
pub(crate) fn is_mysqls_own(name: &str) -> bool {
    MYSQL.contains(name) || listed(MYSQL_IMPURE, name)
}

/// Functions and function families of MySQL and MariaDB that are not pure, and that
/// `functions/mysql.txt` therefore leaves out. This list only serves to tell users' functions apart
/// from the server's own. A function that is missing here is harmless unless a user has defined one
/// of the same name.
const MYSQL_IMPURE: &[&str] = &[
    "asynchronous_connection_failover_*",
    "benchmark",
    "binlog_gtid_pos",
    "can_access_*",
    "connection_id",
    "decode*",
    "des_*",
    "encode",
    "encrypt",
    "found_rows",
    "get_*",
    "group_replication_*",
    "gtid_*",
    "internal_*",
    "is_free_lock",
    "is_used_lock",
    "is_visible_dd_object",
    "keyring_*",
    "last_insert_id",
    "lastval",
    "load_file",
    "master_*",
    "name_const",
    "nextval",
    "old_password",
    "password",
    "ps_*",
    "release_*",
    "roles_graphml",
    "row_count",
    "setval",
    "sleep",
    "source_pos_wait",
    "sys_get_config",
    "uuid_short",
    "validate_password_strength",
    "wait_*",
    "wsrep_*",
];

/// The function's own name, if `name` can only mean one of the server's functions.
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
    fn no_list_holds_a_function_that_writes_waits_or_reads_session_state() {
        for name in [
            "nextval",
            "current_schema",
            "current_schemas",
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
