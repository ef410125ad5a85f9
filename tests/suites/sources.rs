//! Servers that follow a second one: what comes from the second one proves nothing of the primary, and
//! does no harm.

#![allow(clippy::print_stdout, reason = "figures are part of the result")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::ensure;
use sea_orm::entity::prelude::*;
use sealane::RoutedConnection;
use sealane_tests::{
    BROKEN_PROMISE, Cluster, Engine, Server, eventually,
    fleet::{self, boat, reads_on_replica},
};

const SOON: Duration = Duration::from_secs(20);
/// How often a session writes and reads.
const WRITES: u32 = 60;

/// `replica-2` becomes a server by itself with a database of its own, and `follower` follows it besides
/// what it follows already.
async fn follow_two(cluster: &Cluster, follower: &Server) -> anyhow::Result<()> {
    let second = cluster.server("replica-2");
    let tides =
        "CREATE DATABASE tides; CREATE TABLE tides.tide (id int AUTO_INCREMENT PRIMARY KEY)";
    let (part, follow) = match cluster.engine() {
        Engine::Mariadb => (
            "STOP REPLICA; RESET REPLICA ALL; SET GLOBAL read_only = OFF; RESET MASTER; \
             SET GLOBAL gtid_slave_pos = ''; SET GLOBAL gtid_domain_id = 2",
            "CHANGE MASTER 'second' TO MASTER_HOST = 'replica-2', MASTER_SSL = 0, \
             MASTER_USER = 'sealane_replication', MASTER_PASSWORD = 'sealane_replication', \
             MASTER_USE_GTID = slave_pos; START REPLICA 'second'",
        ),
        _ => (
            "STOP REPLICA; RESET REPLICA ALL; SET GLOBAL super_read_only = OFF; \
             SET GLOBAL read_only = OFF",
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST = 'replica-2', SOURCE_SSL = 0, GET_SOURCE_PUBLIC_KEY = 1, \
             SOURCE_USER = 'sealane_replication', SOURCE_PASSWORD = 'sealane_replication', \
             SOURCE_AUTO_POSITION = 1 FOR CHANNEL 'second'; START REPLICA FOR CHANNEL 'second'",
        ),
    };
    second.sql(part).await?;
    second.sql(tides).await?;
    follower.sql(follow).await?;
    let there = "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = 'tides'";
    let follows = async || Ok(follower.query_scalar::<i64>(there).await? == 1);
    eventually(SOON, "it follows both", follows).await
}

/// Writes on `server` until told to stop, and returns how often.
async fn keep_writing(server: Server, goes_on: Arc<AtomicBool>) -> anyhow::Result<u32> {
    let mut written = 0;
    while goes_on.load(Ordering::Relaxed) {
        server.sql("INSERT INTO tides.tide VALUES (), (), ()").await?;
        written += 1;
    }
    Ok(written)
}

/// How many reads of a session miss what it wrote, and how many run on the replica.
async fn write_and_read(db: &RoutedConnection, waits: bool) -> anyhow::Result<(u32, u32)> {
    let (mut missing, mut on_replica) = (0, 0);
    for _ in 0..WRITES {
        let session = db.session();
        let id = fleet::boat("own").insert(&session).await?.id;
        for _ in 0..3 {
            missing += u32::from(boat::Entity::find_by_id(id).one(&session).await?.is_none());
            on_replica += u32::from(reads_on_replica(&session).await?);
        }
        if waits {
            let proved = async || Ok(reads_on_replica(&session).await?);
            eventually(SOON, "the replica is proved to have the write", proved).await?;
            missing += u32::from(boat::Entity::find_by_id(id).one(&session).await?.is_none());
        }
    }
    Ok((missing, on_replica))
}

/// The primary itself receives from another server, and goes on to take writes.
async fn reads_behind_a_primary_with_a_source(cluster: &Cluster) -> anyhow::Result<()> {
    let replica = cluster.server("replica-1");
    follow_two(cluster, cluster.primary()).await?;
    let db = sealane::connect(fleet::config_of(&*cluster.primary().url, [&*replica.url])).await?;
    fleet::ready(&db).await?;
    let goes_on = Arc::new(AtomicBool::new(true));
    let second = cluster.server("replica-2").clone();
    let writer = tokio::spawn(keep_writing(second, Arc::clone(&goes_on)));
    let outcome = write_and_read(&db, true).await;
    goes_on.store(false, Ordering::Relaxed);
    let written = writer.await??;
    let (missing, on_replica) = outcome?;
    println!("{missing} own reads missing, {on_replica} at once on the replica");
    ensure!(written > 10, "the second server wrote only {written} times");
    ensure!(missing == 0, "{BROKEN_PROMISE}: {missing} own reads missing");
    ensure!(db.status().primary.as_deref() == Some("primary"), "{:?}", db.status().primary);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_receives_from_another_server_is_followed() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let outcome = reads_behind_a_primary_with_a_source(&cluster).await;
    cluster.begin_anew().await?;
    outcome
}

async fn reads_beside_the_second(cluster: &Cluster) -> anyhow::Result<()> {
    follow_two(cluster, cluster.server("replica-1")).await?;
    let follower = cluster.server("replica-1");
    let db = sealane::connect(fleet::config_of(&*cluster.primary().url, [&*follower.url])).await?;
    fleet::ready(&db).await?;
    let goes_on = Arc::new(AtomicBool::new(true));
    let second = cluster.server("replica-2").clone();
    let writer = tokio::spawn(keep_writing(second, Arc::clone(&goes_on)));
    let outcome = async {
        let (missing, on_replica) = write_and_read(&db, true).await?;
        println!("both arrive: {missing} own reads missing, {on_replica} at once on the replica");
        ensure!(missing == 0, "{BROKEN_PROMISE}: {missing} own reads missing");

        // Only what comes from the second one is applied.
        follower
            .sql(match cluster.engine() {
                Engine::Mariadb => "STOP REPLICA '' SQL_THREAD",
                _ => "STOP REPLICA SQL_THREAD FOR CHANNEL ''",
            })
            .await?;
        let count = "SELECT COUNT(*) FROM tides.tide";
        let before: i64 = follower.query_scalar(count).await?;
        let (missing, on_replica) = write_and_read(&db, false).await?;
        let arrives = async || Ok(follower.query_scalar::<i64>(count).await? > before);
        eventually(SOON, "the second one's writes arrive", arrives).await?;
        println!("the second's arrive: {missing} own reads missing, {on_replica} on the replica");
        ensure!(missing == 0, "{BROKEN_PROMISE}: {missing} own reads missing");
        ensure!(on_replica == 0, "{BROKEN_PROMISE}: {on_replica} own reads on the replica");
        Ok(())
    };
    let outcome = outcome.await;
    goes_on.store(false, Ordering::Relaxed);
    let written = writer.await??;
    ensure!(written > 10, "the second server wrote only {written} times");
    outcome
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_of_two_servers_serves_and_no_session_misses_its_write() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let outcome = reads_beside_the_second(&cluster).await;
    cluster.begin_anew().await?;
    outcome
}
