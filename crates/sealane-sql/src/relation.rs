//! Relations of the server's own that say nothing about the data.
//!
//! What a session, or this one server, is doing right now: read on a replica they
//! answer, but for the replica. Whoever asks `pg_stat_activity` or `pg_locks`
//! through the routed connection means the primary.

use crate::dialect::Dialect;
use crate::table_name::TableName;

/// PostgreSQL 18, "System Views" and "The Cumulative Statistics System". Names
/// that end in `*` are beginnings. `pg_stats` is about the data and not here.
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
    "pg_toast_temp*",
    "pg_wait_events",
];

/// MySQL 9, chapters 28 to 30, and MariaDB's "Information Schema Tables".
const MYSQL: &[&str] = &[
    "applicable_roles",
    "enabled_roles",
    "feedback",
    "global_status",
    "global_variables",
    "innodb_*",
    "locales",
    "metadata_lock_info",
    "optimizer_trace",
    "plugins",
    "processlist",
    "profiling",
    "session_status",
    "session_variables",
    "system_variables",
    "thread_pool_*",
    "user_statistics",
    "user_variables",
];

/// Why `table` is a matter of one session or one server.
pub(crate) fn refusal(table: &TableName, dialect: Dialect) -> Option<&'static str> {
    let schema = table.schema().unwrap_or_default();
    let is_local = match dialect {
        // A name of ours alone is enough: without a schema, pg_catalog is searched first.
        Dialect::PostgreSql => {
            schema.starts_with("pg_temp")
                || (matches!(schema, "" | "pg_catalog") && listed(POSTGRES, table.name()))
        }
        Dialect::MySql => match schema.to_ascii_lowercase().as_str() {
            "performance_schema" | "sys" => true,
            "mysql" => {
                let name = table.name().to_ascii_lowercase();
                name.ends_with("_log") || name.starts_with("gtid_") || name.starts_with("slave_")
            }
            "information_schema" => listed(MYSQL, &table.name().to_ascii_lowercase()),
            _ => false,
        },
        Dialect::Sqlite => {
            schema == "temp"
                || matches!(
                    table.name(),
                    "sqlite_temp_master" | "sqlite_temp_schema" | "sqlite_stmt"
                )
        }
    };
    is_local.then_some("a relation of this session or server")
}

fn listed(list: &[&str], name: &str) -> bool {
    list.iter().any(|entry| match entry.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => *entry == name,
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
