//! Which reads the primary serves.

use std::time::Duration;

use anyhow::{Context, ensure};
use sea_orm::EntityTrait;
use sealane::{Config, Consistency, Error, PrimaryReads, Random};
use sealane_tests::{
    Cluster,
    crew::Crew,
    eventually,
    fleet::{self, boat},
};

use super::{READS, connected, light, served, served_by};

const READERS: usize = 4;
const SOON: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_millis(300);

fn config(cluster: &Cluster, reads: PrimaryReads) -> Config {
    fleet::config(cluster).primary_reads(reads).balancer(Random)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_primary_takes_its_turn_and_its_death_costs_no_read() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let db = connected(config(&cluster, PrimaryReads::Fallback)).await?;
    ensure!(served_by(&db, async || light(&db).await).await?[0] == 0, "the primary served a read");
    let db = connected(config(&cluster, PrimaryReads::Always)).await?;
    let before = db.status().reads;
    let each = served_by(&db, async || light(&db).await).await?;
    ensure!(each.iter().all(|it| *it >= READS / 10), "{each:?}");
    let after = db.status().reads;
    ensure!(after.shared_with_primary - before.shared_with_primary == each[0], "{after:?}");
    ensure!(after.fell_back_to_primary == before.fell_back_to_primary, "{after:?}");
    let crew = {
        let db = db.clone();
        Crew::start(READERS, move |_, _| {
            let db = db.clone();
            async move { boat::Entity::find_by_id(1).one(&db).await.map(drop) }
        })
    };
    crew.more(READS as usize).await?;
    cluster.primary().kill().await?;
    crew.more(READS as usize).await?;
    let lost = served(&db)[0];
    crew.more(READS as usize).await?;
    ensure!(served(&db)[0] == lost, "a dead primary served a read");
    let failed = crew.stop(SOON).await?.into_iter().find_map(|read| read.failure);
    ensure!(failed.is_none(), "{failed:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_for_intended_reads_only_serves_no_others() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let config = config(&cluster, PrimaryReads::Intended).primary_wait(PATIENCE);
    let db = connected(config).await?;
    light(&db).await?;
    for replica in cluster.replicas() {
        replica.kill().await?;
    }
    eventually(SOON, "no replica is left", async || {
        let status = db.status();
        Ok(status
            .endpoints
            .iter()
            .filter(|it| it.role == sealane::Role::Replica)
            .all(|it| it.condition != sealane::Condition::Serving))
    })
    .await?;
    let error = light(&db).await.err().context("the primary served a read")?;
    let error = error.downcast_ref().and_then(Error::of).context("another error")?;
    ensure!(matches!(error, Error::Shed { limit: 0, .. }), "{error}");
    light(&db.with_consistency(Consistency::Strong)).await
}
