//! The server's own relations that describe a session or one server instead of the data.
//!
//! They show what a session, or this one server, is doing right now. On a replica they would
//! describe the replica. But an application that reads `pg_stat_activity` or `pg_locks` through the
//! routed connection means the primary.

use crate::dialect::Dialect;
use sealane_core::TableName;

/// PostgreSQL 18, "System Views" and "The Cumulative Statistics System". A name that ends in `*` is
/// a prefix. `pg_stats` describes the data, so it is not in this list.
const POSTGRES: &[&str] = &[
    "pg_aios",
    "pg_available_extension*",
    "pg_backend_memory_contexts",
    "pg_config",
    "pg_cursors",
    "pg_dsm_registry_allocations",
    "pg_file_settings",
    "pg_hba_file_rules",
    "pg_ident_file_mappings",
    "pg_locks",
    "pg_prepared_statements",
    "pg_prepared_xacts",
    "pg_replication_origin_status",
    "pg_replication_slots",
    "pg_sequences",
    "pg_settings",
    "pg_shmem_allocations*",
    "pg_stat_*",
    "pg_statio_*",
    "pg_temp*",
    // Files of this server, and a setting of the session.
    "pg_timezone_*",
    "pg_toast_temp*",
    "pg_wait_events",
];

/// The tables of MySQL's and MariaDB's `information_schema` that describe definitions and rights
/// (MySQL 8.0 to 9, chapter 28; MariaDB 10.6 to 11.8, "Information Schema Tables"). This is an
/// allow-list, because plugins and new versions add tables of other kinds: counters, settings,
/// sessions, build options. `events` is missing because a replica shows events as disabled.
const MYSQL_SCHEMA: &[&str] = &[
    "character_sets",
    "check_constraints",
    "collation_character_set_applicability",
    "collations",
    "column_privileges",
    "column_statistics",
    "columns",
    "columns_extensions",
    "geometry_columns",
    "key_column_usage",
    "key_period_usage",
    "keywords",
    "parameters",
    "partitions",
    "periods",
    "referential_constraints",
    "routines",
    "schema_privileges",
    "schemata",
    "schemata_extensions",
    "spatial_ref_sys",
    "sql_functions",
    "st_geometry_columns",
    "st_spatial_reference_systems",
    "st_units_of_measure",
    "statistics",
    "table_constraints",
    "table_constraints_extensions",
    "table_privileges",
    "tables",
    "tables_extensions",
    "triggered_update_columns",
    "triggers",
    "user_attributes",
    "user_privileges",
    "view_routine_usage",
    "view_table_usage",
    "views",
];

/// The tables of the schema `mysql` that are replicated: users, their rights, routines, help and
/// time zones. The others hold logs, positions, plugins, costs and statistics of one server.
const MYSQL_REPLICATED: &[&str] = &[
    "columns_priv",
    "db",
    "default_roles",
    "func",
    "global_grants",
    "global_priv",
    "help_*",
    "password_history",
    "proc",
    "procs_priv",
    "proxies_priv",
    "role_edges",
    "roles_mapping",
    "tables_priv",
    "time_zone*",
    "user",
];

/// Why a read of `table` must stay on the primary: it describes one session or one server.
pub(crate) fn refusal(table: &TableName, dialect: Dialect) -> Option<&'static str> {
    let (schema, name) = (table.schema().unwrap_or_default(), table.name());
    let is_local = match dialect {
        // A listed name without a schema is refused, because the server searches pg_catalog first.
        Dialect::PostgreSql => {
            schema.starts_with("pg_temp")
                || (matches!(schema, "" | "pg_catalog") && listed(POSTGRES, name))
        }
        Dialect::MySql => {
            let is = |own: &str| schema.eq_ignore_ascii_case(own);
            match () {
                () if is("information_schema") => !listed(MYSQL_SCHEMA, name),
                () if is("mysql") => !listed(MYSQL_REPLICATED, name),
                () => is("performance_schema") || is("sys") || is("ndbinfo"),
            }
        }
        Dialect::Sqlite => {
            let own = ["sqlite_temp_master", "sqlite_temp_schema", "sqlite_stmt", "sqlite_memstat"];
            schema == "temp" || own.contains(&name)
        }
    };
    is_local.then_some("a relation of this session or server")
}

/// Whether `list` holds `name`, or holds a prefix of it followed by `*`. Ignores case: PostgreSQL's
/// names arrive in lower case, and MySQL ignores case in the names of its own tables.
pub(crate) fn listed(list: &[&str], name: &str) -> bool {
    list.iter().any(|entry| match entry.strip_suffix('*') {
        Some(beginning) => {
            name.get(..beginning.len()).is_some_and(|start| start.eq_ignore_ascii_case(beginning))
        }
        None => entry.eq_ignore_ascii_case(name),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_of_the_data_are_read_and_those_of_the_server_are_not() {
        let refused =
            |schema, name| refusal(&TableName::new(schema, name), Dialect::PostgreSql).is_some();
        assert!(refused(None, "pg_stat_activity"));
        assert!(refused(Some("pg_catalog"), "pg_locks"));
        assert!(refused(Some("pg_temp_3"), "t"));
        assert!(!refused(None, "pg_stats"));
        assert!(!refused(None, "pg_class"));
        assert!(!refused(Some("public"), "pg_stat_activity"));
    }
}
