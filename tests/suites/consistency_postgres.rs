//! What only PostgreSQL's log can do to proofs of freshness.

#![allow(clippy::print_stdout, reason = "figures are part of the result")]

use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

use anyhow::ensure;
use sea_orm::{ConnectionTrait, EntityTrait};
use sealane_tests::{
    Cluster, Markers, eventually,
    fleet::{self, boat, reads_on_replica},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_nobody_writes_out_does_not_keep_reads_on_the_primary() -> anyhow::Result<()> {
    let (cluster, db) = fleet::launch().await?;
    // A record without a commit, which stays in the primary's memory.
    let unflushed = "SELECT pg_logical_emit_message(false, 'sealane', 'unflushed')";
    for _ in 0..5 {
        cluster.primary().sql(unflushed).await?;
        let session = db.session();
        session.note_write();
        let what = "the session reads on a replica";
        eventually(Duration::from_secs(2), what, async || Ok(reads_on_replica(&session).await?))
            .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_primary_shows_no_lag_at_the_end_of_a_segment() -> anyhow::Result<()> {
    let (cluster, db) = fleet::launch_patient().await?;
    // The record that ends at a segment's end: the next position is a page header.
    cluster.primary().sql("SELECT pg_switch_wal()").await?;
    let most = fleet::shows_no_lag(&db, Duration::from_secs(5)).await?;
    println!("at most {most:?} stale");
    Ok(())
}

/// The messages that the monitor committed to have the log written out. Before they were
/// conditional each call was one.
const FLUSHES: &str = "SELECT coalesce(sum(rows), 0)::bigint FROM pg_stat_statements \
     WHERE query LIKE 'SELECT set_config(%pg_logical_emit_message(%'";

/// Transactions that write for a while before they commit, so that what they logged waits.
const WRITES: &str = "BEGIN; \
     INSERT INTO boat (harbour_id, name) SELECT 1, 'Ida' FROM generate_series(1, 20); \
     SELECT pg_sleep(0.01); UPDATE harbour SET name = name WHERE id = 2; COMMIT";

async fn keep_busy(cluster: &Cluster) -> anyhow::Result<Infallible> {
    let others = sea_orm::Database::connect(&*cluster.primary().url).await?;
    loop {
        others.execute_unprepared(WRITES).await?;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_of_a_busy_primary_is_not_written_out_for_the_sake_of_probes() -> anyhow::Result<()>
{
    let (cluster, db) = fleet::launch().await?;
    let _markers = Markers::start(&cluster).await?;
    fleet::forget_statements(&cluster).await?;
    let (begun, during, most) = (Instant::now(), Duration::from_secs(6), Duration::from_secs(60));
    let user = async || {
        let (mut writes, mut replica_reads) = (0, 0);
        // A slow machine takes longer for as much.
        let is_enough = |writes| writes > 50 || begun.elapsed() > most;
        while begun.elapsed() < during || !is_enough(writes) {
            let session = db.session();
            boat::Entity::insert(fleet::boat("Ida")).exec(&session).await?;
            writes += 1;
            for _ in 0..20 {
                replica_reads += u32::from(reads_on_replica(&session).await?);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        anyhow::Ok((writes, replica_reads))
    };
    let (writes, replica_reads) = tokio::select! {
        done = user() => done?,
        ended = keep_busy(&cluster) => match ended? {},
        ended = keep_busy(&cluster) => match ended? {},
    };
    let flushes: i64 = cluster.primary().query_scalar(FLUSHES).await?;
    #[allow(clippy::cast_precision_loss, reason = "a rate")]
    let rate = flushes as f64 / begun.elapsed().as_secs_f64();
    println!("{rate:.2} flushes/s beside {writes} writes, {replica_reads} reads on replicas");
    ensure!(writes > 50 && replica_reads > 100, "{writes} writes, {replica_reads} reads");
    ensure!(rate < 0.5, "{rate:.1} flushes/s");
    Ok(())
}
