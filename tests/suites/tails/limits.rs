//! Reads that are cut off, by a time limit or by their callers.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use sealane::Error;
use sealane_tests::{Cluster, eventually, fleet};

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
