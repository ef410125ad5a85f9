//! Which reads the primary serves.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use sea_orm::EntityTrait;
use sealane::{Condition, Config, Consistency, Error, PrimaryReads, Random, RoutedConnection};
use sealane_tests::{
    Cluster, Control,
    crew::{Crew, Done},
    eventually,
    fleet::{self, boat},
};

use super::{READS, connected, light, served, served_by};

const READERS: usize = 4;
const SOON: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_millis(300);
/// A read that is held by a server that hangs is looked into long before.
const MOVES_WITHIN: Duration = Duration::from_millis(1_500);

fn config(cluster: &Cluster, reads: PrimaryReads) -> Config {
    fleet::config(cluster).primary_reads(reads).balancer(Random)
}

fn readers(db: &RoutedConnection) -> Crew {
    let db = db.clone();
    Crew::start(READERS, move |_, _| {
        let db = db.clone();
        async move { boat::Entity::find_by_id(1).one(&db).await.map(drop) }
    })
}

fn none_failed(reads: &[Done]) -> anyhow::Result<()> {
    let failed = reads.iter().find_map(|read| read.failure.as_ref());
    ensure!(failed.is_none(), "{failed:?}");
    Ok(())
}

/// Waits until no replica serves.
async fn no_replica_left(db: &RoutedConnection) -> anyhow::Result<()> {
    eventually(SOON, "no replica is left", async || {
        let endpoints = db.status().endpoints;
        let mut replicas = endpoints.iter().filter(|it| it.name != "primary");
        Ok(replicas.all(|it| it.condition != Condition::Serving))
    })
    .await
}

/// Waits until no read needs to try the primary, which does not answer. It is ejected, or it is down
/// first: while a replica is ejected, it cannot be.
async fn primary_is_left(db: &RoutedConnection) -> anyhow::Result<()> {
    eventually(SOON, "the primary is ejected or down", async || {
        let endpoints = db.status().endpoints;
        let primary = endpoints.iter().find(|it| it.name == "primary").context("no primary")?;
        Ok(primary.ejected || primary.condition != Condition::Serving)
    })
    .await
}

fn shed(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref().and_then(Error::of);
    matches!(error, Some(Error::Shed { limit: 0, .. }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_primary_takes_its_turn_and_its_death_costs_no_read() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    // Who is ejected is not asked.
    let config = |reads| config(&cluster, reads).ejection(fleet::never_ejected());
    let db = connected(config(PrimaryReads::Fallback)).await?;
    ensure!(served_by(&db, async || light(&db).await).await?[0] == 0, "the primary served a read");
    let db = connected(config(PrimaryReads::Always)).await?;
    let before = db.status().reads;
    let each = served_by(&db, async || light(&db).await).await?;
    ensure!(each.iter().all(|it| *it >= READS / 10), "{each:?}");
    let after = db.status().reads;
    ensure!(after.shared_with_primary - before.shared_with_primary == each[0], "{after:?}");
    ensure!(after.fell_back_to_primary == before.fell_back_to_primary, "{after:?}");
    let only_replicas = served_by(&db, async || light(&db.on_replicas()).await).await?;
    ensure!(only_replicas[0] == 0, "reads for replicas ran on the primary: {only_replicas:?}");
    let crew = readers(&db);
    crew.more(READS as usize).await?;
    cluster.primary().kill().await?;
    primary_is_left(&db).await?;
    crew.more(READS as usize).await?;
    let lost = served(&db)[0];
    crew.more(READS as usize).await?;
    ensure!(served(&db)[0] == lost, "a dead primary served a read");
    none_failed(&crew.stop(SOON).await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_leave_a_primary_that_hangs_and_come_back_to_it() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let db = connected(config(&cluster, PrimaryReads::Always)).await?;
    let crew = readers(&db);
    // Their pace is known by then.
    crew.more(READS as usize * 5).await?;
    let control = Control::of(&cluster.replicas()[0]).await?;
    let frozen = Instant::now();
    cluster.primary().freeze().await?;
    primary_is_left(&db).await?;
    // Reads go on while the primary hangs: READERS of them would otherwise be held by it for good.
    crew.more(READS as usize * 5).await?;
    let left = served(&db)[0];
    crew.more(READS as usize * 5).await?;
    let asked = served(&db)[0];
    ensure!(asked == left, "{} reads were sent to a primary that hangs", asked - left);
    let thawed = Instant::now();
    cluster.primary().thaw().await?;
    eventually(SOON, "the primary takes its turn again", async || Ok(served(&db)[0] > asked))
        .await?;
    let reads = crew.stop(SOON).await?;
    let control = control.end().await?;
    none_failed(&reads)?;
    let during = reads.iter().filter(|it| it.ended > frozen && it.began < thawed);
    let longest = during.map(Done::took).max().context("no read ran meanwhile")?;
    println!(
        "a primary that hangs held reads for {longest:.0?} at most; a replica took {control:.0?} \
         at most to answer"
    );
    ensure!(longest < MOVES_WITHIN + control, "a read was held for {longest:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_for_intended_reads_only_serves_no_others() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let db = connected(config(&cluster, PrimaryReads::Intended).primary_wait(PATIENCE)).await?;
    light(&db).await?;
    for replica in cluster.replicas() {
        replica.kill().await?;
    }
    no_replica_left(&db).await?;
    let before = served(&db)[0];
    let error = light(&db).await.err().context("the primary served a read")?;
    ensure!(shed(&error), "{error}");
    ensure!(served(&db)[0] == before, "the primary served a read");
    let explained = db.explain("SELECT 1").to_string();
    ensure!(explained.contains("primary: no, it is not to serve reads"), "{explained}");
    light(&db.with_consistency(Consistency::Strong)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_is_kept_from_the_primary_is_served_by_a_replica_that_comes_back()
-> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let db = connected(config(&cluster, PrimaryReads::Intended).primary_wait(SOON)).await?;
    for replica in cluster.replicas() {
        replica.kill().await?;
    }
    no_replica_left(&db).await?;
    let before = served(&db);
    let crew = readers(&db);
    cluster.replicas()[0].start().await?;
    crew.more(READS as usize).await?;
    none_failed(&crew.stop(SOON).await?)?;
    let after = served(&db);
    ensure!(after[0] == before[0] && after[1] > before[1], "{before:?} then {after:?}");
    ensure!(db.status().primary.is_some(), "the primary was there all the time");
    cluster.replicas()[1].start().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_read_is_shed_while_a_replica_answers() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let db = connected(config(&cluster, PrimaryReads::Intended)).await?;
    let crew = readers(&db);
    crew.more(READS as usize * 5).await?;
    let before = served(&db)[0];
    cluster.replicas()[0].freeze().await?;
    crew.more(READS as usize * 5).await?;
    cluster.replicas()[0].thaw().await?;
    // The last one is killed, so that what it was running is lost, and comes back.
    cluster.replicas()[1].kill().await?;
    crew.more(READS as usize * 5).await?;
    cluster.replicas()[1].start().await?;
    none_failed(&crew.stop(SOON).await?)?;
    ensure!(served(&db)[0] == before, "the primary served a read");
    Ok(())
}
