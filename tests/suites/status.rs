//! What a status page shows of every server, with a role that may see it all.

use std::time::Duration;

use anyhow::{Context, ensure};
use sealane::{ConnectError, EndpointStatus, RoutedConnection};
use sealane_tests::{Cluster, Engine, eventually, fleet};

const SOON: Duration = Duration::from_secs(10);

async fn launch() -> anyhow::Result<(Cluster, RoutedConnection)> {
    let cluster = fleet::moor().await?;
    let config = fleet::config_as(&cluster, |server| server.admin_url.clone());
    let db = sealane::connect(config).await?;
    fleet::ready(&db).await?;
    Ok((cluster, db))
}

fn status(db: &RoutedConnection, name: &str) -> anyhow::Result<EndpointStatus> {
    let found = db.status().endpoints.into_iter().find(|endpoint| endpoint.name == name);
    found.context("no such endpoint")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_server_says_what_it_is() -> anyhow::Result<()> {
    let (cluster, db) = launch().await?;
    let engine = match cluster.engine() {
        Engine::Mysql => "MySQL 9",
        Engine::Mariadb => "MariaDB 1",
        _ => "PostgreSQL 1",
    };
    for endpoint in db.status().endpoints {
        let (version, identity) = (endpoint.version.as_deref(), endpoint.identity.as_deref());
        println!("{}: {version:?}, {identity:?}", endpoint.name);
        ensure!(version.is_some_and(|version| version.starts_with(engine)), "{version:?}");
        ensure!(identity.is_some_and(|identity| !identity.is_empty()));
        ensure!(endpoint.writable == Some(endpoint.name == "primary"));
    }
    Ok(())
}

/// Waits until `name` says so of its two parts.
async fn says(
    db: &RoutedConnection,
    name: &str,
    receives: bool,
    applies: bool,
) -> anyhow::Result<()> {
    let what = format!("{name} receives: {receives}, applies: {applies}");
    let check = async || {
        let status = status(db, name)?;
        Ok((status.receives, status.applies) == (Some(receives), Some(applies)))
    };
    eventually(SOON, &what, check).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receiving_and_applying_are_told_apart() -> anyhow::Result<()> {
    let (cluster, db) = launch().await?;
    let (name, replica) = ("replica-1", cluster.server("replica-1"));
    says(&db, name, true, true).await?;
    let primary = status(&db, "primary")?;
    ensure!((primary.receives, primary.applies, primary.reported_lag_ms) == (None, None, None));
    let told = async || Ok(status(&db, name)?.reported_lag_ms.is_some());
    eventually(SOON, "it reports a lag", told).await?;
    println!("{:?} ms reported", status(&db, name)?.reported_lag_ms);
    replica.pause_replay().await?;
    says(&db, name, true, false).await?;
    replica.resume_replay().await?;
    says(&db, name, true, true).await?;
    replica.stop_replication().await?;
    let stopped = async || Ok(status(&db, name)?.receives == Some(false));
    eventually(SOON, "it does not receive", stopped).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_urls_of_one_server_are_refused_by_name() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let url = &*cluster.primary().url;
    let replica = &*cluster.server("replica-1").url;
    let refused = sealane::connect(fleet::config_of(url, [replica, url])).await.err();
    let Some(ConnectError::SamePrimary { endpoints }) = refused else {
        anyhow::bail!("{refused:?}");
    };
    ensure!(endpoints == "primary, replica-2", "{endpoints}");
    Ok(())
}
