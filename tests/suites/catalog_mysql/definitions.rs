//! Views and functions that replication filters leave out: replicas keep the old ones for ever.

use anyhow::{Context, ensure};
use sealane::{CatalogState, RoutedConnection};
use sealane_tests::{BROKEN_PROMISE, Cluster, eventually, fleet};

use crate::filters::{OF_DATABASES, READS, all, clear, set, set_up, with_lookout};
use crate::{SOON, answer, leaves, stocked};

/// The filter of tables that fits neither view: the first.
const LEAVES_OUT_NO_VIEW: usize = 0;
/// A view for the filters of tables; a view and a function for those of databases.
const TABLE_READS: [&str; 1] = ["SELECT n FROM sealane.skipping"];
const DATABASE_READS: [&str; 2] = ["SELECT n FROM hold.skipping", "SELECT hold.rate()"];

/// Everything answers `n`. Changes of a schema are logged as statements of the database in use.
async fn define(cluster: &Cluster, n: i64) -> anyhow::Result<()> {
    let sql = format!(
        "USE sealane; CREATE OR REPLACE VIEW skipping AS SELECT {n} AS n; \
         USE hold; CREATE OR REPLACE VIEW skipping AS SELECT {n} AS n; \
         DROP FUNCTION IF EXISTS rate; \
         CREATE DEFINER = lookout@'%' FUNCTION rate() RETURNS bigint DETERMINISTIC RETURN {n}"
    );
    cluster.primary().sql(&sql).await?;
    fleet::replayed(cluster).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn views_and_functions_that_a_filter_leaves_out_are_never_old() -> anyhow::Result<()> {
    let cluster = stocked().await?;
    set_up(&cluster).await?;
    let outcome = each_filter(&cluster).await;
    cluster.primary().sql("DROP VIEW IF EXISTS sealane.skipping").await?;
    clear(&cluster).await?;
    outcome
}

async fn each_filter(cluster: &Cluster) -> anyhow::Result<()> {
    for (at, (filter, no_filter, _)) in all(cluster.engine()).iter().enumerate() {
        define(cluster, 1).await?;
        let db = with_lookout(cluster, "sealane").await?;
        for sql in TABLE_READS.into_iter().chain(DATABASE_READS) {
            ensure!(leaves(&db, sql), "without a filter: {}", db.explain(sql));
        }
        set(cluster, filter).await?;
        let outcome = is_never_old(cluster, at).await;
        set(cluster, no_filter).await?;
        outcome.with_context(|| (*filter).to_owned())?;
    }
    Ok(())
}

async fn is_never_old(cluster: &Cluster, at: usize) -> anyhow::Result<()> {
    let db = with_lookout(cluster, "sealane").await?;
    define(cluster, 2).await?;
    db.note_schema_change();
    let is_loaded = async || Ok(db.status().catalog == Some(CatalogState::Loaded));
    eventually(SOON, "the catalog is loaded", is_loaded).await?;
    let reads: &[&str] = if at < OF_DATABASES { &TABLE_READS } else { &DATABASE_READS };
    for sql in reads {
        is_new(&db, sql).await?;
        let there: i64 = cluster.server("replica-1").query_scalar(sql).await?;
        let is_old = there == 1;
        ensure!(is_old == (at != LEAVES_OUT_NO_VIEW), "the replica answers {there} to {sql}");
        ensure!(is_old != leaves(&db, sql), "{}", db.explain(sql));
    }
    Ok(())
}

async fn is_new(db: &RoutedConnection, sql: &str) -> anyhow::Result<()> {
    let mut old = 0;
    for _ in 0..READS {
        old += i32::from(answer::<i64>(db, sql).await? != 2);
    }
    ensure!(old == 0, "{BROKEN_PROMISE}: {old} of {READS} answers to {sql} are old");
    Ok(())
}
