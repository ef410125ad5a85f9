//! Reads that are under way when their server vanishes.

use std::time::Duration;

use anyhow::{Context, ensure};
use rstest::rstest;
use sea_orm::entity::prelude::*;
use sealane::Config;
use sealane_tests::{
    Cluster,
    crew::Crew,
    eventually,
    fleet::{self, boat, is_up},
};

use crate::promotion::promote;

const SOON: Duration = Duration::from_secs(20);
const READERS: usize = 8;
/// All reads that were under way end so soon after another primary is known.
const END: Duration = Duration::from_secs(5);

/// Past Docker's proxies, which accept connections to servers that are gone.
pub async fn direct(cluster: &Cluster) -> anyhow::Result<Config> {
    let mut replicas = Vec::new();
    for replica in cluster.replicas() {
        replicas.push(replica.direct_url().await?);
    }
    Ok(fleet::config_of(cluster.primary().direct_url().await?, replicas))
}

/// How the primary vanishes.
#[derive(Clone, Copy, Debug)]
enum Vanishes {
    /// Nothing reaches it, and nobody is told.
    FromNetwork,
    /// It accepts connections and says nothing: SIGSTOP.
    Hangs,
    /// SIGKILL.
    Dies,
}

#[rstest]
#[case::from_the_network(Vanishes::FromNetwork)]
#[case::by_hanging(Vanishes::Hangs)]
#[case::by_dying(Vanishes::Dies)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_on_a_primary_that_vanished_end_and_go_on_after_a_promotion(
    #[case] vanishes: Vanishes,
) -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let db = sealane::connect(direct(&cluster).await?).await?;
    fleet::ready(&db).await?;
    // Half of them read on the primary because they want to, half because no replica has what
    // they wrote.
    cluster.pause_replay().await?;
    let crew = {
        let db = db.clone();
        let written = db.session();
        fleet::boat("Ida").insert(&written).await?;
        Crew::start(READERS, move |member, _| {
            let db = if member % 2 == 0 { db.on_primary() } else { written.clone() };
            async move { boat::Entity::find().count(&db).await.map(drop) }
        })
    };
    crew.more(200).await?;
    match vanishes {
        Vanishes::FromNetwork => cluster.primary().blackhole().await?,
        Vanishes::Hangs => cluster.primary().freeze().await?,
        Vanishes::Dies => cluster.primary().kill().await?,
    }
    eventually(SOON, "it is noticed", async || Ok(!is_up(&db, "primary"))).await?;
    ensure!(crew.running() >= READERS / 2, "only {} reads are under way", crew.running());
    let promotion = promote(&cluster, &db).await?;
    let gone_on = crew.more(200).await;
    let done = crew.stop(END).await?;
    let spanning = done.iter().filter(|done| done.spans(promotion.began));
    let mut spanning: Vec<_> =
        spanning.map(|done| done.ended.saturating_duration_since(promotion.known)).collect();
    spanning.sort();
    let failed = done.iter().filter(|done| done.failure.is_some()).count();
    println!(
        "{} reads were under way when a replica was promoted, the last ended {:?} after that was known; {failed} failed",
        spanning.len(),
        spanning.last()
    );
    gone_on.context("reads do not go on")?;
    ensure!(spanning.len() >= READERS / 4, "{} were under way", spanning.len());
    ensure!(spanning.last().is_some_and(|last| *last <= END), "{spanning:?}");
    ensure!(failed == 0, "{failed}: {:?}", done.iter().find_map(|done| done.failure.as_ref()));
    Ok(())
}
