//! What suites on PostgreSQL expect of their cluster beyond what every engine has.

use anyhow::ensure;
use sealane_tests::Cluster;

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
