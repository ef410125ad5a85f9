//! Servers far away, and what is on the way to them.

#![allow(clippy::print_stdout, reason = "figures are part of the result")]

use std::time::{Duration, Instant};

use anyhow::ensure;
use futures_util::future::try_join_all;
use sea_orm::{ConnectionTrait, EntityTrait};
use sealane::Event;
use sealane_tests::{
    Relay,
    fleet::{self, boat, harbour, reads, ready},
};

/// Each way: between Europe and the west of America.
const FAR: Duration = Duration::from_millis(75);
const READS: usize = 20;
/// Longer than between two probes of the monitor, so that its connection is never idle for so long.
const IDLE: Duration = Duration::from_millis(2_500);
/// Connections in a pool before they are forgotten.
const SEVERAL: usize = 4;
/// A statement may take so long where nothing is told. The driver's own limit is half a minute.
const SOON: Duration = Duration::from_secs(5);

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
    // Logins beside idle connections.
    let at_once = (0..READS).map(async |_| harbour::Entity::find().all(&db.session()).await);
    try_join_all(at_once).await?;
    let (served, all) = (reads(&db, "replica-1"), 2 * READS as u64);
    println!("{served} of {all} reads on the replica, the longest took {longest:?}");
    ensure!(served >= all, "the replica served {served} of {all} reads");
    let events = db.recent_events();
    let is_ejected = |event: &Event| matches!(event, Event::Ejected { .. });
    ensure!(!events.iter().any(|it| is_ejected(&it.event)), "{events:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_that_a_firewall_has_forgotten_hold_up_nobody_for_long()
-> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let to_primary = Relay::to(cluster.primary()).await?;
    let to_replica = Relay::to(&cluster.replicas()[0]).await?;
    let config = fleet::config_of(to_primary.url().to_owned(), [to_replica.url().to_owned()]);
    let db = sealane::connect(config.strict()).await?;
    ready(&db).await?;
    let write = async |name: &str| {
        let insert = boat::Entity::insert(fleet::boat(name));
        insert.exec_without_returning(&db.session()).await
    };
    let plain = db.primary();
    try_join_all((0..SEVERAL).map(async |_| write("early").await)).await?;
    try_join_all((0..SEVERAL).map(async |_| harbour::Entity::find().all(&db.session()).await))
        .await?;
    plain.execute_unprepared("SELECT 1").await?;

    tokio::time::sleep(IDLE * 2).await;
    let forgotten = (to_primary.forget(IDLE), to_replica.forget(IDLE));
    ensure!(forgotten.0 >= SEVERAL && forgotten.1 > 0, "only {forgotten:?} were idle");
    let began = Instant::now();
    write("late").await?;
    let written = began.elapsed();
    let began = Instant::now();
    harbour::Entity::find().all(&db.session()).await?;
    let read = began.elapsed();
    let began = Instant::now();
    plain.execute_unprepared("SELECT 1").await?;
    let asked = began.elapsed();
    println!(
        "{forgotten:?} connections forgotten: a write took {written:?}, a read {read:?}, SeaORM's own \
         connection {asked:?}"
    );
    ensure!(written < SOON && read < SOON && asked < SOON, "{written:?}, {read:?}, {asked:?}");
    // What is newer passes, and nothing was lost with the others.
    ensure!(db.status().primary.as_deref() == Some("primary"), "{:?}", db.status());
    write("again").await?;
    Ok(())
}
