//! What MySQL and MariaDB tell of replication, to whom, and what follows from it.

use std::time::Duration;

use anyhow::ensure;
use sea_orm::ActiveModelTrait;
use sealane::{Config, Consistency, RoutedConnection};
use sealane_tests::{
    Cluster, Engine, Server, eventually,
    fleet::{self, reads_on_replica},
};

const SOON: Duration = Duration::from_secs(20);

/// A connection of a role that may see how replication goes.
async fn with_pilot(cluster: &Cluster) -> anyhow::Result<RoutedConnection> {
    let grant = match cluster.engine() {
        Engine::Mysql => "REPLICATION CLIENT",
        _ => "SLAVE MONITOR",
    };
    let create = format!(
        "DROP USER IF EXISTS pilot@'%'; CREATE USER pilot@'%' IDENTIFIED BY 'pilot'; \
         GRANT SELECT ON sealane.* TO pilot@'%'; GRANT {grant} ON *.* TO pilot@'%'"
    );
    cluster.primary().sql(&create).await?;
    fleet::replayed(cluster).await?;
    let url = |server: &Server| fleet::url_as(&server.url, "pilot");
    let config = cluster
        .replicas()
        .iter()
        .fold(Config::new(url(cluster.primary())), |config, replica| config.replica(url(replica)));
    let db = sealane::connect(config).await?;
    fleet::ready(&db).await?;
    Ok(db)
}

/// One field of the status of `replica-1`.
fn field(db: &RoutedConnection, name: &str) -> serde_json::Value {
    let endpoints = serde_json::to_value(db.status().endpoints).unwrap_or_default();
    endpoints[1][name].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_granted_role_sees_what_each_thread_does() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let db = with_pilot(&cluster).await?;
    let replica = cluster.server("replica-1");
    let shows = async |says: &str| {
        let check = async || Ok(field(&db, "replication") == says);
        eventually(SOON, &format!("replication is {says}"), check).await
    };
    shows("running").await?;
    replica.pause_replay().await?;
    shows("paused").await?;
    replica.resume_replay().await?;
    shows("running").await?;
    replica.stop_replication().await?;
    shows("stopped").await?;
    replica.resume_replication().await?;
    shows("running").await
}

/// Depending on who answers first: a conflict, or, since it holds nothing of its own, a
/// former primary that nobody uses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_was_made_writable_takes_no_writes() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    cluster.server("replica-1").sql("SET GLOBAL read_only = OFF").await?;
    match sealane::connect(fleet::config(&cluster)).await {
        Err(error) => {
            let error = error.to_string();
            ensure!(error.contains("primary, replica-1") && error.contains("read_only"), "{error}");
        }
        Ok(db) => {
            ensure!(db.status().primary.as_deref() == Some("primary"));
            for n in 1..=20 {
                fleet::boat(&format!("boat {n}")).insert(&db.session()).await?;
                reads_on_replica(&db.session()).await?;
            }
            let served = field(&db, "reads");
            ensure!(served == 0, "{served} reads on a server that may be written to");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_errant_transaction_on_a_replica_hides_none_of_the_primarys() -> anyhow::Result<()> {
    let (cluster, db) = fleet::launch().await?;
    let replica = cluster.server("replica-1");
    replica.pause_replay().await?;
    cluster.server("replica-2").stop().await?;
    let errant = "SET GLOBAL read_only = OFF; CREATE TABLE errant (id int); \
        DROP TABLE errant; SET GLOBAL read_only = ON";
    replica.sql(errant).await?;
    let session = db.session();
    for n in 1..=20 {
        fleet::boat(&format!("boat {n}")).insert(&session).await?;
        ensure!(!reads_on_replica(&session).await?, "a stale read");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promotion_is_followed_while_the_old_primary_is_away() -> anyhow::Result<()> {
    let (cluster, db) = fleet::launch().await?;
    fleet::boat("Ida").insert(&db).await?;
    fleet::replayed(&cluster).await?;
    cluster.primary().stop().await?;
    cluster.server("replica-1").promote().await?;
    let followed = async || Ok(db.status().primary.as_deref() == Some("replica-1"));
    eventually(SOON, "the promotion is seen", followed).await?;
    fleet::boat("Jolle").insert(&db.session()).await?;
    // The other one follows nobody: eventual reads at most, and no stale one by session.
    let session = db.session();
    fleet::boat("Kutter").insert(&session).await?;
    ensure!(!reads_on_replica(&session).await?, "a stale read");
    let eventual = db.with_consistency(Consistency::Eventual);
    reads_on_replica(&eventual.session()).await?;
    Ok(())
}
