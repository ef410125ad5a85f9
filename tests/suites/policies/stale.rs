//! Reads that are served stale, where their callers allow it.

use std::time::Duration;

use anyhow::{Context, ensure};
use sea_orm::{ActiveModelTrait, EntityTrait};
use sealane::{Consistency, Error, FallbackPolicy, PrimaryReads, RoutedConnection};
use sealane_tests::{
    Cluster, eventually,
    fleet::{self, boat},
};

use super::{connected, served};

const BOUND: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_millis(300);
const SOON: Duration = Duration::from_secs(20);
const ANY: FallbackPolicy = FallbackPolicy::Stale { at_most: None };

/// Pauses replay and writes a boat, and returns its number when no replica is fresh enough for `db`
/// any more.
async fn fall_behind(cluster: &Cluster, db: &RoutedConnection) -> anyhow::Result<i32> {
    cluster.pause_replay().await?;
    // MySQL and MariaDB read back what they insert: not with a bound.
    let writer = db.session().with_consistency(Consistency::Strong);
    let id = fleet::boat("new").insert(&writer).await?.id;
    eventually(SOON, "no replica is fresh enough", async || {
        let replicas = db.status().endpoints.into_iter().filter(|it| it.name != "primary");
        let staleness: Vec<_> = replicas.map(|it| it.staleness_ms).collect();
        Ok(staleness.iter().all(|it| it.is_none_or(|ms| ms > 4 * BOUND.as_millis() as u64)))
    })
    .await?;
    Ok(id)
}

async fn read(db: &RoutedConnection, id: i32) -> anyhow::Result<Option<boat::Model>> {
    Ok(boat::Entity::find_by_id(id).one(db).await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_is_served_stale_only_if_it_allows_that_and_the_primary_has_no_place()
-> anyhow::Result<()> {
    for reads in [PrimaryReads::Intended, PrimaryReads::Fallback] {
        let cluster = fleet::moor().await?;
        // Without any place for reads that fall back, the limit of `Fallback` is always reached.
        let config = fleet::config(&cluster).fallback_limit(0).primary_reads(reads);
        let db = connected(config.primary_wait(PATIENCE)).await?;
        let db = db.with_consistency(Consistency::BoundedStaleness(BOUND));
        let id = fall_behind(&cluster, &db).await?;
        let before = served(&db)[0];
        let error = read(&db, id).await.err().context("it was served unasked")?;
        let is_shed = matches!(error.downcast_ref().and_then(Error::of), Some(Error::Shed { .. }));
        ensure!(is_shed, "{error}");
        let little = db.fallback(FallbackPolicy::Stale { at_most: Some(2 * BOUND) });
        ensure!(read(&little, id).await.is_err(), "it was served staler than allowed");
        ensure!(db.status().reads.served_stale == 0, "{:?}", db.status().reads);

        let stale = db.fallback(ANY);
        ensure!(read(&stale, id).await?.is_none(), "the replicas are not behind");
        let much = db.fallback(FallbackPolicy::Stale { at_most: Some(SOON) });
        ensure!(read(&much, id).await?.is_none(), "the replicas are not behind");
        ensure!(served(&db)[0] == before, "the primary served a read");
        // One that was overdue on one replica ran on another one as well.
        ensure!(db.status().reads.served_stale >= 2, "{:?}", db.status().reads);
        let explained = stale.explain("SELECT 1");
        ensure!(explained.is_served_stale, "{explained}");
        ensure!(!db.explain("SELECT 1").is_served_stale, "it was not asked for");
        let strong = stale.with_consistency(Consistency::Strong);
        ensure!(read(&strong, id).await?.is_some(), "a strong read was served stale");

        cluster.resume_replay().await?;
        eventually(SOON, "replicas are fresh again", async || {
            Ok(!stale.explain("SELECT 1").is_served_stale && read(&stale, id).await?.is_some())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_primary_has_a_place_nothing_is_served_stale() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let db = connected(fleet::config(&cluster)).await?;
    let stale = db.with_consistency(Consistency::BoundedStaleness(BOUND)).fallback(ANY);
    let id = fall_behind(&cluster, &stale).await?;
    ensure!(read(&stale, id).await?.is_some(), "it was served stale");
    let reads = db.status().reads;
    cluster.resume_replay().await?;
    ensure!((reads.served_stale, reads.fell_back_to_primary) == (0, 1), "{reads:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_allows_it_reads_on_while_its_primary_is_away() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let db = connected(fleet::config(&cluster).primary_wait(PATIENCE)).await?;
    let session = db.session().with_consistency(Consistency::ReadYourWrites);
    let stale = session.fallback(ANY);
    cluster.pause_replay().await?;
    let id = fleet::boat("own").insert(&session).await?.id;
    ensure!(read(&stale, id).await?.is_some(), "the primary serves a session's own writes");
    cluster.primary().kill().await?;
    eventually(SOON, "the primary is missed", async || {
        let primary = db.status().endpoints.into_iter().find(|it| it.name == "primary");
        Ok(primary.is_some_and(|it| it.condition != sealane::Condition::Serving))
    })
    .await?;
    let error = read(&session, id).await.err().context("it was served unasked")?;
    let is_away = matches!(error.downcast_ref().and_then(Error::of), Some(Error::NoPrimary { .. }));
    ensure!(is_away, "{error}");
    ensure!(read(&stale, id).await?.is_none(), "the replicas are not behind");
    ensure!(db.status().reads.served_stale >= 1, "{:?}", db.status().reads);
    cluster.resume_replay().await
}
