//! What only PostgreSQL's log can do to proofs of freshness.

use std::time::Duration;

use sealane_tests::{
    eventually,
    fleet::{self, reads_on_replica},
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
    let (cluster, db) = fleet::launch().await?;
    // The record that ends at a segment's end: the next position is a page header.
    cluster.primary().sql("SELECT pg_switch_wal()").await?;
    let most = fleet::shows_no_lag(&db, Duration::from_secs(5)).await?;
    println!("at most {most:?} stale");
    Ok(())
}
