//! What suites on PostgreSQL expect of their cluster beyond what every engine has.

use std::time::Duration;

use anyhow::ensure;
use sealane_tests::{Cluster, eventually};
use sqlx::{Connection, PgConnection};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn every_replica_uses_its_slot() -> anyhow::Result<()> {
    let cluster = Cluster::healthy().await?;
    let sql = "SELECT count(*) FROM pg_replication_slots WHERE active";
    let slots: i64 = cluster.primary().query_scalar(sql).await?;
    ensure!(usize::try_from(slots)? == cluster.replicas().len(), "{slots} slots in use");
    Ok(())
}

#[tokio::test]
async fn statements_are_counted_on_every_server() -> anyhow::Result<()> {
    let cluster = Cluster::healthy().await?;
    for server in cluster.servers() {
        server.sql("SELECT count(*) FROM pg_stat_statements").await?;
    }
    Ok(())
}

#[tokio::test]
async fn stopped_queries_hang_while_new_connections_are_served() -> anyhow::Result<()> {
    let cluster = Cluster::healthy().await?;
    let replica = cluster.server("replica-1");
    let mut old = PgConnection::connect(&replica.url).await?;
    old.ping().await?;
    replica.stop_queries().await?;
    let hangs = timeout(Duration::from_secs(1), old.ping()).await;
    ensure!(hangs.is_err(), "{hangs:?}");
    ensure!(replica.in_recovery().await?);
    // As a test would that fails here.
    cluster.heal().await?;
    Ok(timeout(SOON, old.ping()).await??)
}

#[tokio::test]
async fn a_synchronous_write_waits_for_a_replica_and_the_successor_has_it() -> anyhow::Result<()> {
    let cluster = Cluster::healthy().await?;
    let primary = cluster.primary();
    primary.sql("DROP TABLE IF EXISTS smoke; CREATE TABLE smoke (id int)").await?;
    cluster.replicate_synchronously().await?;
    cluster.server("replica-1").stop_replication().await?;
    primary.sql("INSERT INTO smoke VALUES (1)").await?;
    let successor = cluster.choose_successor().await?;
    ensure!(successor.name == "replica-2", "{} has received most", successor.name);
    let waits = timeout(Duration::from_secs(1), primary.sql("INSERT INTO smoke VALUES (2)")).await;
    ensure!(waits.is_err(), "{waits:?}");
    successor.promote().await?;
    ensure!(successor.query_scalar::<i64>("SELECT count(*) FROM smoke").await? == 1);
    cluster.heal().await?;
    // What nobody was told of is there, too.
    let all = async || Ok(primary.query_scalar::<i64>("SELECT count(*) FROM smoke").await? == 2);
    eventually(SOON, "the write that waited is done", all).await
}
