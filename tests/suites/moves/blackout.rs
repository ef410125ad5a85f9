//! A replica whose network is gone for some seconds.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use sea_orm::entity::prelude::*;
use sealane::RoutedConnection;
use sealane_tests::{
    Cluster, Control,
    crew::Crew,
    eventually,
    fleet::{self, harbour, is_up, reads},
};
use tokio::time::{sleep, sleep_until, timeout};

use crate::reads::direct;

const SOON: Duration = Duration::from_secs(20);
/// What was lost is sent again after 0.2 s, 0.6 s, 1.4 s, 3 s, 6.2 s and 12.6 s: old connections
/// stay mute for some seconds more.
const BLACKOUT: Duration = Duration::from_secs(7);
/// More than the replica's pool has connections.
const READERS: usize = 24;
/// So soon after its return the replica serves quickly.
const RECOVERY: Duration = Duration::from_secs(2);
const OBSERVED: Duration = Duration::from_secs(4);
/// So many reads of the replica are observed.
const FLOOR: u64 = 100;
/// A read of one small table takes some milliseconds, but the machine may be busy. Whoever waits
/// for a connection that does not come waits a second.
const QUICK: Duration = Duration::from_millis(700);
const CLOSE: Duration = Duration::from_secs(10);

async fn launch() -> anyhow::Result<(Cluster, RoutedConnection, Crew)> {
    let cluster = fleet::moor().await?;
    let db = sealane::connect(direct(&cluster).await?).await?;
    fleet::ready(&db).await?;
    let crew = {
        let db = db.clone();
        Crew::start(READERS, move |_, _| {
            let session = db.session();
            async move { harbour::Entity::find().all(&session).await.map(drop) }
        })
    };
    crew.more(1_000).await?;
    Ok((cluster, db, crew))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_whose_network_was_gone_serves_quickly_when_it_is_back() -> anyhow::Result<()> {
    let (cluster, db, crew) = launch().await?;
    let replica = cluster.server("replica-1");
    replica.blackhole().await?;
    sleep(BLACKOUT).await;
    ensure!(!is_up(&db, "replica-1"), "nobody noticed");
    replica.unblackhole().await?;
    let back = Instant::now();
    eventually(SOON, "it is up again", async || Ok(is_up(&db, "replica-1"))).await?;
    let up_after = back.elapsed();
    sleep_until((back + RECOVERY.max(up_after)).into()).await;
    let control = Control::of(cluster.primary()).await?;
    let both = || ["replica-1", "replica-2"].map(|name| reads(&db, name));
    let (before, observed_from) = (both(), Instant::now());
    sleep(OBSERVED).await;
    let [served, by_other] = [0, 1].map(|place| both()[place] - before[place]);
    let control = control.end().await?;
    let done = crew.stop(SOON).await?;
    let failed = done.iter().filter(|done| done.failure.is_some()).count();
    let later = done.iter().filter(|done| done.began >= observed_from);
    let mut took: Vec<Duration> = later.map(|done| done.took()).collect();
    took.sort();
    let longest = took.last().copied().unwrap_or_default();
    let slow = took.iter().filter(|took| **took > QUICK).count();
    println!(
        "up {up_after:?} after its return; then {served} reads there, the longest of {} took \
         {longest:?}, {slow} more than {QUICK:?}, the primary {control:?} at most to answer others; \
         {failed} failed",
        took.len()
    );
    let closes = Instant::now();
    let closed = timeout(CLOSE, db.close()).await;
    println!("closed after {:?}", closes.elapsed());
    // Its share grows for ten seconds.
    ensure!(served >= FLOOR, "{served} reads on the replica");
    ensure!(served * 8 >= by_other, "{served} reads on the replica, {by_other} on the other one");
    ensure!(failed == 0, "{failed}: {:?}", done.iter().find_map(|done| done.failure.as_ref()));
    ensure!(longest <= QUICK + control, "{slow} reads took long, {longest:?} at most");
    closed.context("it does not close")??;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handle_can_be_closed_while_a_replicas_network_is_gone() -> anyhow::Result<()> {
    let (cluster, db, crew) = launch().await?;
    cluster.server("replica-1").blackhole().await?;
    eventually(SOON, "it is noticed", async || Ok(!is_up(&db, "replica-1"))).await?;
    crew.stop(SOON).await?;
    let closes = Instant::now();
    timeout(CLOSE, db.close()).await.context("it does not close")??;
    println!("closed after {:?}", closes.elapsed());
    Ok(())
}
