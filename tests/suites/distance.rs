//! Servers far away, and what is on the way to them.

#![allow(clippy::print_stdout, reason = "figures are part of the result")]

use std::time::{Duration, Instant};

use anyhow::ensure;
use sea_orm::EntityTrait;
use sealane::{Consistency, Event, RoutedConnection};
use sealane_tests::{
    Relay,
    fleet::{self, boat, harbour, ready},
};

/// Each way: between Europe and the west of America.
const FAR: Duration = Duration::from_millis(75);
const READS: usize = 20;

fn reads(db: &RoutedConnection, name: &str) -> u64 {
    db.status().endpoints.iter().filter(|e| e.name == name).map(|e| e.reads).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_in_another_part_of_the_world_serves() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let relay = Relay::to(&cluster.replicas()[0]).await?;
    relay.delay(FAR);
    let config = fleet::config_of(cluster.primary().url.clone(), [relay.url().to_owned()]);
    let db = sealane::connect(config.strict().require_replicas(1)).await?;
    ready(&db).await?;
    let mut longest = Duration::ZERO;
    for _ in 0..READS {
        let began = Instant::now();
        harbour::Entity::find().all(&db.session()).await?;
        longest = longest.max(began.elapsed());
    }
    let served = reads(&db, "replica-1");
    println!("{served} of {READS} reads on the replica, the longest took {longest:?}");
    ensure!(served >= READS as u64, "the replica served {served} of {READS} reads");
    let events = db.recent_events();
    let is_ejected = |event: &Event| matches!(event, Event::Ejected { .. });
    ensure!(!events.iter().any(|it| is_ejected(&it.event)), "{events:#?}");
    Ok(())
}

/// The time for a statement after all connections were forgotten on the way, and none of the ends told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_were_forgotten_on_the_way_hold_up_nobody_for_long() -> anyhow::Result<()>
{
    let cluster = fleet::moor().await?;
    let to_primary = Relay::to(cluster.primary()).await?;
    let to_replica = Relay::to(&cluster.replicas()[0]).await?;
    let config = fleet::config_of(to_primary.url().to_owned(), [to_replica.url().to_owned()]);
    let db = sealane::connect(config.strict()).await?;
    ready(&db).await?;
    // Several connections in each pool.
    for _ in 0..3 {
        let writes = (0..4).map(async |number| {
            boat::Entity::insert(fleet::boat(&format!("boat {number}")))
                .exec_without_returning(&db.session())
                .await
        });
        futures_util::future::try_join_all(writes).await?;
        let looks = (0..4).map(async |_| harbour::Entity::find().all(&db.session()).await);
        futures_util::future::try_join_all(looks).await?;
    }
    // Long enough for the pools to ask before they lend a connection.
    tokio::time::sleep(Duration::from_secs(2)).await;
    to_primary.forget();
    let began = Instant::now();
    boat::Entity::insert(fleet::boat("late")).exec_without_returning(&db.session()).await?;
    let written = began.elapsed();
    to_replica.forget();
    let began = Instant::now();
    harbour::Entity::find().all(&db.with_consistency(Consistency::Eventual)).await?;
    let read = began.elapsed();
    println!("a read took {read:?}, a write {written:?}");
    ensure!(
        read < Duration::from_secs(3) && written < Duration::from_secs(3),
        "{read:?}, {written:?}"
    );
    Ok(())
}
