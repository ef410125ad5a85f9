//! What suites on MySQL and MariaDB expect of their cluster beyond what every engine has.

use std::time::{Duration, Instant};

use anyhow::ensure;
use sealane_tests::{Cluster, Engine, Server, eventually};

const SOON: Duration = Duration::from_secs(10);

async fn uptime(server: &Server) -> anyhow::Result<i64> {
    let sql = "SELECT CAST(variable_value AS SIGNED) \
        FROM performance_schema.global_status WHERE variable_name = 'Uptime'";
    server.query_scalar(sql).await
}

/// A server whose clock was set to before its start tells an uptime that is negative, as an unsigned
/// number. Its run is computed from that.
#[tokio::test]
async fn a_negative_uptime_is_read_as_such() -> anyhow::Result<()> {
    let cluster = Cluster::healthy().await?;
    let sql = "SELECT CAST('18446744073709548016' AS SIGNED)";
    let uptime: i64 = cluster.primary().query_scalar(sql).await?;
    ensure!(uptime == -3_600, "{uptime}");
    Ok(())
}

#[tokio::test]
async fn transactions_have_gtids_and_servers_have_numbers() -> anyhow::Result<()> {
    let cluster = Cluster::healthy().await?;
    for (index, server) in cluster.servers().iter().enumerate() {
        let id: i64 = server.query_scalar("SELECT CAST(@@global.server_id AS SIGNED)").await?;
        ensure!(usize::try_from(id)? == index + 1, "{} has the number {id}", server.name);
        let strict = match server.engine {
            Engine::Mysql => {
                "SELECT @@global.gtid_mode = 'ON' AND @@global.enforce_gtid_consistency = 'ON'"
            }
            _ => "SELECT @@global.gtid_strict_mode = 1",
        };
        ensure!(server.query_scalar::<bool>(strict).await?, "{}: {strict}", server.name);
    }
    Ok(())
}

#[tokio::test]
async fn positions_grow_with_writes_on_the_primary_only() -> anyhow::Result<()> {
    let cluster = Cluster::healthy().await?;
    let primary = cluster.primary();
    let before = primary.position().await?;
    primary.sql("CREATE TABLE IF NOT EXISTS ids (id int); DROP TABLE ids").await?;
    let after = primary.position().await?;
    ensure!(!after.is_empty() && before != after, "{before} and {after}");
    for server in cluster.servers() {
        server.sql("SELECT 1").await?;
    }
    ensure!(primary.position().await? == after);
    Ok(())
}

#[tokio::test]
async fn statements_are_counted_on_every_server() -> anyhow::Result<()> {
    let cluster = Cluster::healthy().await?;
    let sql = "SELECT CAST(coalesce(sum(count_star), 0) AS SIGNED) \
        FROM performance_schema.events_statements_summary_by_digest \
        WHERE digest_text LIKE '%`marker`%' AND digest_text NOT LIKE '%count_star%'";
    for server in cluster.servers() {
        let before: i64 = server.query_scalar(sql).await?;
        server.sql("SELECT 1 AS `marker`").await?;
        let after: i64 = server.query_scalar(sql).await?;
        ensure!(after == before + 1, "{}: {before} and {after}", server.name);
    }
    Ok(())
}

#[tokio::test]
async fn a_crash_ends_the_server_and_not_its_container() -> anyhow::Result<()> {
    let cluster = Cluster::healthy().await?;
    let replica = cluster.server("replica-1");
    eventually(SOON, "it has run for 3 s", async || Ok(uptime(replica).await? >= 3)).await?;
    replica.crash().await?;
    let crashed = Instant::now();
    // One that had not crashed would have run for three seconds more than that.
    let began_anew =
        async || Ok(uptime(replica).await? < i64::try_from(crashed.elapsed().as_secs())? + 2);
    eventually(3 * SOON, "it began anew", began_anew).await
}

#[tokio::test]
async fn healing_takes_back_what_was_written_to_a_replica() -> anyhow::Result<()> {
    let cluster = Cluster::healthy().await?;
    let replica = cluster.server("replica-1");
    replica.sql("SET GLOBAL read_only = OFF").await?;
    replica.sql_as_application("CREATE TABLE strayed (id int)").await?;
    replica.sql("SET GLOBAL read_only = ON").await?;
    // The primary's numbers must not hide the replica's own.
    cluster.primary().sql("CREATE TABLE IF NOT EXISTS ids (id int); DROP TABLE ids").await?;
    cluster.heal().await?;
    ensure!(replica.sql("SELECT * FROM strayed").await.is_err());
    ensure!(replica.in_recovery().await? && replica.is_streaming().await?);
    Ok(())
}
