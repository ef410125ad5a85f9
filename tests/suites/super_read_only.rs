//! What only MySQL has: replicas that refuse the writes of administrators, too.

use anyhow::ensure;
use sealane_tests::Cluster;

#[tokio::test]
async fn an_administrator_may_not_write_to_a_mysql_replica_either() -> anyhow::Result<()> {
    let cluster = Cluster::healthy().await?;
    let refusal = cluster.server("replica-1").sql("CREATE TABLE nowhere (id int)").await;
    let message = refusal.err().map(|error| format!("{error:#}")).unwrap_or_default();
    ensure!(message.contains("super-read-only"), "{message}");
    Ok(())
}
