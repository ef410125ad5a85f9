//! Encrypted connections on MySQL and MariaDB, where a primary can stop being one for a moment.

use std::time::Duration;

use anyhow::{Context, ensure};
use sea_orm::ConnectionTrait;
use sealane::RoutedConnection;
use sealane_tests::{Authority, Cluster, eventually, fleet};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_tries_again_soon_after_a_connection_that_it_may_not_use() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    cluster.while_encrypted(async |authority| tried_again(&cluster, authority).await).await
}

/// A pool of SeaORM's own type takes no connection to what is not the primary, and its driver tries
/// again after a pause of milliseconds. The pool itself waits for half a minute.
async fn tried_again(cluster: &Cluster, authority: &Authority) -> anyhow::Result<()> {
    let db = sealane::connect(authority.config(cluster)?.strict()).await?;
    let plain = db.primary().clone();
    cluster.primary().sql("SET GLOBAL read_only = ON").await?;
    let is_none = async || Ok(!has_primary(&db));
    eventually(SOON, "there is no primary", is_none).await?;
    let asking = tokio::spawn(async move { plain.execute_unprepared("SELECT 1").await });
    // Long enough for its first try, whose connection it must give up.
    tokio::time::sleep(Duration::from_millis(500)).await;
    ensure!(!asking.is_finished(), "it took a connection to what is not the primary");
    cluster.primary().sql("SET GLOBAL read_only = OFF").await?;
    eventually(SOON, "there is a primary", async || Ok(has_primary(&db))).await?;
    let asked = timeout(SOON, asking).await;
    asked.context("the pool waits for a goodbye")???;
    Ok(())
}

fn has_primary(db: &RoutedConnection) -> bool {
    db.status().primary.is_some()
}
