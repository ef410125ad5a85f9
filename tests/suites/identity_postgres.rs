//! What only PostgreSQL tells of a server's identity: timelines, and the search path.

#[path = "identity/ear.rs"]
mod ear;

use std::time::Duration;

use anyhow::ensure;
use sea_orm::{EntityTrait, entity::prelude::*};
use sealane::Consistency;
use sealane_tests::{
    eventually,
    fleet::{self, harbour, reads_on_replica},
};

use crate::ear::Ear;

const SOON: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_promotion_nobody_reads_on_the_ended_timeline_unasked() -> anyhow::Result<()> {
    let (cluster, db) = fleet::launch().await?;
    cluster.primary().kill().await?;
    cluster.server("replica-1").promote().await?;
    let followed = async || Ok(db.status().primary.as_deref() == Some("replica-1"));
    eventually(SOON, "the promotion is followed", followed).await?;
    fleet::boat("Ida").insert(&db).await?;
    // Replica-2 still waits for the old primary.
    let (mut on_ended, mut others) = (0, 0);
    for _ in 0..200 {
        match reads_on_replica(&db.session()).await? {
            true => on_ended += 1,
            false => others += 1,
        }
    }
    ensure!(on_ended == 0, "{on_ended} of 200 new sessions read on the ended timeline");
    ensure!(others == 200);
    let bounded = db.with_consistency(Consistency::BoundedStaleness(Duration::from_secs(600)));
    for _ in 0..50 {
        ensure!(!reads_on_replica(&bounded).await?, "a bounded read on the ended timeline");
    }
    let eventual = db.with_consistency(Consistency::Eventual);
    let there = async || Ok(reads_on_replica(&eventual).await?);
    eventually(SOON, "it is the last resort of eventual reads", there).await
}

#[tokio::test]
async fn a_search_path_that_differs_is_told_once() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let (ear, _guard) = Ear::listen();
    let odd = format!("{}?options=-csearch_path%3Ddrydock", cluster.server("replica-1").url);
    let config =
        fleet::config_of(&*cluster.primary().url, [&*odd, &*cluster.server("replica-2").url]);
    let db = sealane::connect(config).await?;
    let told = async || Ok(!ear.heard("the search path on").is_empty());
    eventually(SOON, "it is told", told).await?;
    tokio::time::timeout(Duration::from_secs(3), async {
        loop {
            harbour::Entity::find().count(&db.on_primary()).await.ok();
        }
    })
    .await
    .ok();
    let told = ear.heard("the search path on");
    ensure!(told.len() == 1, "{told:?}");
    ensure!(told[0].contains("replica-1 is drydock") && told[0].contains("public"), "{told:?}");
    Ok(())
}
