//! Reads that nobody waits for any more end on their servers, and nothing else does.

#[path = "tails/load.rs"]
mod load;

use std::time::Duration;

use anyhow::{Context, ensure};
use futures_util::TryStreamExt;
use load::{launch, look, looks};
use sea_orm::{ConnectionTrait, EntityTrait, StreamTrait};
use sealane::RoutedConnection;
use sealane_tests::{
    Cluster, Engine, eventually,
    fleet::{self, boat},
};

/// More than any machine can do in time.
const ENDLESS: usize = 6;
const SOON: Duration = Duration::from_secs(1);
const READERS: usize = 8;
/// How often each reader reads.
const READS: usize = 500;
const LONG_LOOKS: usize = 40;
/// The most that a quick read gets before it is dropped, and a long one.
const QUICK_MICROS: u64 = 3_000;
const LONG_MILLIS: u64 = 40;

/// No server runs a long read, also not one that waits for somebody to take its rows.
async fn none_goes_on(cluster: &Cluster) -> anyhow::Result<()> {
    let rows = "SELECT count(*) FROM information_schema.processlist \
                WHERE info LIKE '%a long look%' AND command <> 'Sleep' AND id <> connection_id()";
    eventually(SOON, "the servers run no such read", async || {
        let mut running = 0;
        for server in cluster.servers() {
            running += match cluster.engine() {
                Engine::Postgres => looks(server, cluster.engine()).await?,
                _ => server.query_scalar::<i64>(rows).await?,
            };
        }
        Ok(running == 0)
    })
    .await
}

async fn is_running(cluster: &Cluster) -> anyhow::Result<()> {
    eventually(SOON * 5, "a server runs the read", async || {
        let mut running = 0;
        for server in cluster.servers() {
            running += looks(server, cluster.engine()).await?;
        }
        Ok(running == 1)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_read_ends_on_replicas_and_on_the_primary() -> anyhow::Result<()> {
    let (cluster, db) = fleet::launch().await?;
    launch(&db, &cluster).await?;
    dropped_reads_end(&cluster, &db).await
}

/// The driver waits longer before it closes an encrypted connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_read_ends_also_if_its_connection_is_encrypted() -> anyhow::Result<()> {
    let (cluster, plain) = fleet::launch().await?;
    launch(&plain, &cluster).await?;
    let dropped = cluster.while_encrypted(async |authority| {
        let db = sealane::connect(authority.config(&cluster)?.strict()).await?;
        dropped_reads_end(&cluster, &db).await
    });
    dropped.await
}

async fn dropped_reads_end(cluster: &Cluster, db: &RoutedConnection) -> anyhow::Result<()> {
    for asked in [db.session(), db.session().on_primary()] {
        let reading = tokio::spawn(async move { look(&asked, ENDLESS).await });
        is_running(cluster).await?;
        reading.abort();
        none_goes_on(cluster).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_dropped_half_way_ends_and_all_rows_of_another_come() -> anyhow::Result<()> {
    let (cluster, db) = fleet::launch().await?;
    launch(&db, &cluster).await?;
    let each = (0..5).map(|number| format!("boat AS boat_{number}")).collect::<Vec<_>>();
    let sql = format!("/* a long look */ SELECT boat_0.id FROM {}", each.join(", "));
    for _ in 0..5 {
        let mut rows = db.stream_raw(fleet::raw(&db, &sql)).await?;
        ensure!(rows.try_next().await?.is_some());
        drop(rows);
    }
    none_goes_on(&cluster).await?;
    // All rows of a stream come, and in order.
    let sql = "SELECT id FROM boat WHERE name LIKE 'Ida %' ORDER BY id";
    let rows = db.stream_raw(fleet::raw(&db, sql)).await?;
    let ids: Vec<i32> =
        rows.and_then(async |row| row.try_get_by_index::<i32>(0)).try_collect().await?;
    ensure!(ids.len() == 60 && ids.is_sorted(), "{ids:?}");
    Ok(())
}

/// Reads, and drops some of the reads before they are answered. Returns how many were dropped.
async fn read(db: RoutedConnection) -> anyhow::Result<usize> {
    let mut dropped = 0;
    for number in 0..READS {
        let db = db.session();
        if number % 4 == 0 {
            let quick = boat::Entity::find().one(&db);
            let limit = Duration::from_micros(fastrand::u64(0..QUICK_MICROS));
            match tokio::time::timeout(limit, quick).await {
                Ok(found) => drop(found.context("a quick read")?),
                Err(_) => dropped += 1,
            }
        } else {
            boat::Entity::find().one(&db).await.context("a read that nobody drops")?;
        }
    }
    Ok(dropped)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_beside_dropped_ones_are_never_hit() -> anyhow::Result<()> {
    let (cluster, db) = fleet::launch().await?;
    launch(&db, &cluster).await?;
    let before = db.status().reads;
    let readers: Vec<_> = (0..READERS).map(|_| tokio::spawn(read(db.clone()))).collect();
    for _ in 0..LONG_LOOKS {
        let limit = Duration::from_millis(fastrand::u64(1..LONG_MILLIS));
        let looking = tokio::time::timeout(limit, look(&db.session(), ENDLESS)).await;
        ensure!(looking.is_err(), "a long read ended: {looking:?}");
    }
    let mut dropped = 0;
    for reader in readers {
        dropped += reader.await??;
    }
    ensure!(dropped > READERS, "only {dropped} quick reads were dropped");
    // A read whose session is ended is done again elsewhere, so it would not fail.
    let after = db.status().reads;
    ensure!(after.retried == before.retried, "{before:?} and {after:?}");
    db.execute_unprepared("DELETE FROM boat WHERE name = 'nobody'").await?;
    none_goes_on(&cluster).await
}
