//! What servers have seen of their clients, statements and connections, in each engine's way.

use crate::{Cluster, Engine, Server};

/// How often the application has run statements like `pattern` on `server` since the last
/// [`forget_statements`]. Names are quoted as in PostgreSQL.
///
/// # Errors
/// As [`Server::sql`].
pub async fn statements(server: &Server, pattern: &str) -> anyhow::Result<i64> {
    let quoted = pattern.replace('"', "`");
    let count = match server.engine {
        Engine::Postgres => format!(
            "SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements \
             WHERE query LIKE '{pattern}'"
        ),
        // Prepared statements count when they are executed.
        Engine::Mysql => format!(
            "SELECT CAST(coalesce(sum(count_star), 0) AS SIGNED) \
             FROM performance_schema.events_statements_summary_by_digest \
             WHERE (digest_text LIKE '{quoted}' OR digest_text LIKE 'EXECUTE {quoted}') \
             AND digest_text NOT LIKE 'PREPARE %' AND digest_text NOT LIKE '%digest_text%'"
        ),
        // MariaDB makes no digests of prepared statements. Replicas also log statements of the
        // primary, so the user is part of the condition.
        Engine::Mariadb => format!(
            "SELECT count(*) FROM mysql.general_log WHERE command_type IN ('Query', 'Execute') \
             AND user_host LIKE 'sealane[%' AND CONVERT(argument USING utf8mb4) LIKE '{quoted}'"
        ),
    };
    server.query_scalar(&count).await
}

/// Restarts the counting of statements on all servers.
///
/// # Errors
/// As [`Server::sql`].
pub async fn forget_statements(cluster: &Cluster) -> anyhow::Result<()> {
    for server in cluster.servers() {
        server
            .sql(match server.engine {
                Engine::Postgres => "SELECT pg_stat_statements_reset()",
                Engine::Mysql => "TRUNCATE performance_schema.events_statements_summary_by_digest",
                Engine::Mariadb => {
                    "SET sql_log_bin = 0; SET GLOBAL general_log = OFF; \
                     SET GLOBAL log_output = 'TABLE'; TRUNCATE mysql.general_log; \
                     SET GLOBAL general_log = ON"
                }
            })
            .await?;
    }
    Ok(())
}

/// Stops the logging that [`forget_statements`] may have started, because it would slow other tests
/// down.
pub(crate) async fn stop(cluster: &Cluster) -> anyhow::Result<()> {
    for server in cluster.servers().iter().filter(|server| server.engine == Engine::Mariadb) {
        server.sql("SET GLOBAL general_log = OFF").await?;
    }
    Ok(())
}

/// A pattern for [`statements`] that finds the monitor's probes.
#[must_use]
pub fn probe_pattern(engine: Engine) -> &'static str {
    match engine {
        Engine::Postgres => "SELECT pg_is_in_recovery() AS in_recovery%",
        Engine::Mysql => "SELECT @@%gtid_executed% AS \"executed\"%",
        Engine::Mariadb => "SELECT @@global.gtid_slave_pos AS replayed%",
    }
}

/// The number of the monitor's connections to `server`. On engines that do not show the monitor's,
/// the number of all the application's connections.
///
/// # Errors
/// As [`Server::sql`].
pub async fn monitors(server: &Server) -> anyhow::Result<i64> {
    server
        .query_scalar(match server.engine {
            Engine::Postgres => {
                "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'sealane monitor%'"
            }
            Engine::Mysql | Engine::Mariadb => {
                "SELECT count(*) FROM information_schema.processlist WHERE user = 'sealane'"
            }
        })
        .await
}

/// The newest connection counted by [`monitors`]; 0 without any.
///
/// # Errors
/// As [`Server::sql`].
pub async fn newest_monitor(server: &Server) -> anyhow::Result<i64> {
    server
        .query_scalar(match server.engine {
            Engine::Postgres => {
                "SELECT coalesce((SELECT pid FROM pg_stat_activity WHERE application_name LIKE \
                 'sealane monitor%' ORDER BY backend_start DESC LIMIT 1), 0)::bigint"
            }
            Engine::Mysql | Engine::Mariadb => {
                "SELECT CAST(coalesce(max(id), 0) AS SIGNED) FROM information_schema.processlist \
                 WHERE user = 'sealane'"
            }
        })
        .await
}

/// Terminates the connection `number`.
///
/// # Errors
/// As [`Server::sql`].
pub async fn cut_connection(server: &Server, number: i64) -> anyhow::Result<()> {
    let cut = match server.engine {
        Engine::Postgres => format!("SELECT pg_terminate_backend({number})"),
        Engine::Mysql | Engine::Mariadb => format!("KILL CONNECTION {number}"),
    };
    server.sql(&cut).await
}
