//! How often the monitor asks real servers, and connects to those that are not there.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use sea_orm::{ActiveModelTrait, EntityTrait};
use sealane::RoutedConnection;
use sealane_tests::{
    eventually,
    fleet::{self, all_up, boat, statements},
    watch::probe_pattern,
};
use tokio::net::TcpListener;

/// The cap of the back-off, and what an attempt and its answer may take beyond.
const BACK_WITHIN: Duration = Duration::from_secs(5 + 4);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_connection_asks_each_server_at_most_once_a_second() -> anyhow::Result<()> {
    let (cluster, db) = fleet::launch().await?;
    all_up(&db).await?;
    // Nobody waits any more.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let begun = Instant::now();
    fleet::forget_statements(&cluster).await?;
    tokio::time::sleep(Duration::from_secs(15)).await;
    for server in cluster.servers() {
        let probes = statements(server, probe_pattern(cluster.engine())).await?;
        let elapsed = begun.elapsed();
        println!("{}: {probes} probes in {elapsed:.1?}", server.name);
        let most = i64::try_from(elapsed.as_secs())? + 1;
        ensure!(probes <= most, "{}: {probes} probes in {elapsed:?}", server.name);
        ensure!(probes * 2 >= most, "{}: {probes} probes in {elapsed:?}", server.name);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_replica_is_rarely_connected_to_and_soon_back() -> anyhow::Result<()> {
    let (cluster, db) = fleet::launch().await?;
    all_up(&db).await?;
    let replica = cluster.server("replica-1");
    replica.kill().await?;
    let address = replica.url.rsplit(['@', '/']).nth(1).context("a URL without an address")?;
    let attempts = async {
        // In the place of the server, so that attempts can be counted.
        let listener = TcpListener::bind(address).await?;
        let mut count = 0;
        let accepted = async {
            loop {
                listener.accept().await?;
                count += 1;
            }
        };
        let outcome: Result<anyhow::Result<()>, _> =
            tokio::time::timeout(Duration::from_secs(15), accepted).await;
        outcome.unwrap_or(Ok(())).map(|()| count)
    };
    let attempts: i32 = tokio::select! {
        count = attempts => count?,
        // Sessions that wait for replicas do not have the dead one asked.
        error = write_and_read(&db) => return error,
    };
    println!("{attempts} attempts to connect to a dead replica in 15 s");
    // After 0, 0.5, 1.5, 3.5, 6, 8.5, 11, 13.5 s at the earliest; and at once for a
    // statement that ran there when it died.
    ensure!((3..=10).contains(&attempts), "{attempts} attempts");

    replica.start().await?;
    let begun = Instant::now();
    let back = async || {
        let status = db.status();
        let state = status.endpoints.iter().find(|endpoint| endpoint.name == "replica-1");
        Ok(serde_json::to_value(state)?["health"]["state"] == "up")
    };
    eventually(BACK_WITHIN, "the replica is back in use", back).await?;
    println!("back in use {:?} after it answers", begun.elapsed());
    Ok(())
}

async fn write_and_read(db: &RoutedConnection) -> anyhow::Result<()> {
    loop {
        let session = db.session();
        fleet::boat("Ida").insert(&session).await?;
        boat::Entity::find().one(&session).await?;
    }
}
