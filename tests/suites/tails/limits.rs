//! Reads that are cut off, by a time limit or by their callers.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use sealane::{Condition, EndpointStatus, Error, Replica};
use sealane_tests::{Cluster, Server, eventually, fleet};

use super::{
    NOISE,
    load::{launch, look, looks},
};

/// More than any machine can do in time.
const ENDLESS: usize = 6;
const LIMIT: Duration = Duration::from_millis(400);
const SOON: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_ends_at_its_limit_and_its_servers_end_it_too() -> anyhow::Result<()> {
    let (cluster, db) = fleet::launch().await?;
    launch(&db, &cluster).await?;
    let began = Instant::now();
    let error = look(&db.session().read_timeout(LIMIT), ENDLESS).await.err().context("it ended")?;
    let took = began.elapsed();
    ensure!(matches!(Error::of(&error), Some(Error::ReadTimeout { .. })), "{error}");
    ensure!(took >= LIMIT && took <= LIMIT + NOISE, "it took {took:?}");
    ensure!(db.status().reads.timed_out == 1, "{:?}", db.status().reads);
    none_goes_on(&cluster).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_leaves_a_replica_at_the_replicas_own_limit_and_only_once() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let limited = |server: &Server| Replica::from(server.url.clone()).read_timeout(LIMIT / 4);
    let replicas = cluster.replicas().iter().map(limited);
    let primary = Replica::from(cluster.primary().url.clone());
    let db = sealane::connect(fleet::config_of(primary, replicas)).await?;
    fleet::ready(&db).await?;
    launch(&db, &cluster).await?;
    // Nobody knows how long it takes, so of its own time it would spend all on the first replica.
    let session = db.session().read_timeout(LIMIT * 10);
    let error = look(&session, ENDLESS).await.err().context("it ended")?;
    ensure!(matches!(Error::of(&error), Some(Error::ReadTimeout { .. })), "{error}");
    let (reads, endpoints) = (db.status().reads, db.status().endpoints);
    ensure!(reads.overdue >= 1 && reads.timed_out == 1, "{reads:?}");
    // The read takes a whole core, and leaves a server that is silent because of that too. Such a
    // server is ejected; one that is only slow is not, after one read.
    let is_away = |it: &EndpointStatus| it.ejected || it.condition != Condition::Serving;
    let was_silent = endpoints.iter().any(|it| it.name != "primary" && is_away(it));
    ensure!(reads.overdue == 1 || was_silent, "{reads:?}: {endpoints:?}");
    none_goes_on(&cluster).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_read_ends_on_its_server_too() -> anyhow::Result<()> {
    let (cluster, db) = fleet::launch().await?;
    launch(&db, &cluster).await?;
    let reading = tokio::spawn(async move { look(&db.session(), ENDLESS).await });
    eventually(SOON, "a replica runs the read", async || {
        let mut running = 0;
        for replica in cluster.replicas() {
            running += looks(replica, cluster.engine()).await?;
        }
        Ok(running == 1)
    })
    .await?;
    reading.abort();
    none_goes_on(&cluster).await
}

async fn none_goes_on(cluster: &Cluster) -> anyhow::Result<()> {
    for server in cluster.servers() {
        eventually(SOON, "the server runs no such read", async || {
            Ok(looks(server, cluster.engine()).await? == 0)
        })
        .await?;
    }
    Ok(())
}
