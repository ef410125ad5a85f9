//! Writes in several of MariaDB's domains, which a replica may apply in any order.

use std::time::Duration;

use anyhow::ensure;
use sea_orm::{ConnectionTrait, entity::prelude::*};
use sealane::RoutedConnection;
use sealane_tests::{
    BROKEN_PROMISE, Cluster, Server, eventually,
    fleet::{self, boat, raw, reads_on_replica},
};
use sqlx::{Connection, MySqlConnection};

const SOON: Duration = Duration::from_secs(20);

/// What `db` reads of the row that was written in another domain.
async fn buoyed(db: &RoutedConnection) -> anyhow::Result<i64> {
    let row = db.query_one_raw(raw(db, "SELECT depth FROM held WHERE id = 1")).await?;
    Ok(row.map_or(Ok(-1), |row| row.try_get("", "depth"))?)
}

/// A table with one row, for writes in another domain.
async fn hold(cluster: &Cluster) -> anyhow::Result<()> {
    let create = "DROP TABLE IF EXISTS held; CREATE TABLE held (id int PRIMARY KEY, depth bigint); \
                  INSERT INTO held VALUES (1, 0)";
    cluster.primary().sql(create).await?;
    fleet::replayed(cluster).await
}

async fn one_domain_waits(cluster: &Cluster) -> anyhow::Result<()> {
    let (primary, replica) = (cluster.primary(), cluster.server("replica-1"));
    hold(cluster).await?;
    replica.sql("STOP REPLICA; SET GLOBAL slave_parallel_threads = 4; START REPLICA").await?;
    let db = sealane::connect(fleet::config_of(&*primary.url, [&*replica.url])).await?;
    fleet::ready(&db).await?;

    let mut holder = MySqlConnection::connect(&replica.admin_url).await?;
    sqlx::raw_sql("BEGIN; SELECT * FROM held WHERE id = 1 FOR UPDATE").execute(&mut holder).await?;
    primary.sql("SET gtid_domain_id = 7; UPDATE held SET depth = 5 WHERE id = 1").await?;
    let session = db.session();
    session.note_write();
    let id = fleet::boat("after").insert(&session).await?.id;
    let after = format!("SELECT COUNT(*) FROM boat WHERE id = {id}");
    let goes_on = async || Ok(replica.query_scalar::<i64>(&after).await? == 1);
    eventually(SOON, "the first domain goes on", goes_on).await?;
    for _ in 0..40 {
        let depth = buoyed(&session).await?;
        ensure!(depth == 5, "{BROKEN_PROMISE}: it reads {depth}, which a domain's write replaced");
        ensure!(boat::Entity::find_by_id(id).one(&session).await?.is_some(), "its own write");
        ensure!(!reads_on_replica(&session).await?, "{BROKEN_PROMISE}: on the replica");
    }
    let held: i64 = replica.query_scalar("SELECT depth FROM held WHERE id = 1").await?;
    ensure!(held == 0, "nothing was held back, so this test shows nothing");
    sqlx::raw_sql("ROLLBACK").execute(&mut holder).await?;
    let proved = async || Ok(reads_on_replica(&session).await?);
    eventually(SOON, "the replica has both", proved).await?;
    ensure!(buoyed(&session).await? == 5, "{BROKEN_PROMISE}: the other domain's write is missing");
    Ok(())
}

/// Writes in both domains, in one session, and how many of three reads miss one of them.
async fn write_in_both(
    db: &RoutedConnection,
    primary: &Server,
    depth: i64,
) -> anyhow::Result<(u32, u32)> {
    let session = db.session();
    let update = format!("SET gtid_domain_id = 7; UPDATE held SET depth = {depth} WHERE id = 1");
    primary.sql(&update).await?;
    session.note_write();
    let id = fleet::boat("own").insert(&session).await?.id;
    let (mut missed, mut on_replica) = (0, 0);
    for _ in 0..3 {
        let boat = boat::Entity::find_by_id(id).one(&session).await?;
        missed += u32::from(boat.is_none() || buoyed(&session).await? != depth);
        on_replica += u32::from(reads_on_replica(&session).await?);
    }
    Ok((missed, on_replica))
}

/// The survivor has more of one domain than the promoted server. What that one then writes has the same
/// numbers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_survivor_that_is_ahead_in_one_domain_serves_nobody() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let [promoted, survivor] = ["replica-1", "replica-2"].map(|name| cluster.server(name));
    hold(&cluster).await?;
    let db = sealane::connect(fleet::config(&cluster)).await?;
    fleet::ready(&db).await?;
    promoted.stop_replication().await?;
    let session = db.session();
    for depth in 1..=60 {
        let update = format!("SET gtid_domain_id = 7; UPDATE held SET depth = {depth}");
        cluster.primary().sql(&update).await?;
    }
    session.note_write();
    fleet::replayed_by(cluster.primary(), survivor).await?;
    let seen = async || Ok(reads_on_replica(&session).await?);
    eventually(SOON, "it is seen to be ahead", seen).await?;
    cluster.primary().kill().await?;
    promoted.promote().await?;
    let elected = async || Ok(db.status().primary.as_deref() == Some("replica-1"));
    eventually(SOON, "replica-1 is the primary", elected).await?;
    let (mut missing, mut on_survivor) = (0, 0);
    for depth in 101..=140 {
        let (missed, on_replica) = write_in_both(&db, promoted, depth).await?;
        missing += missed;
        on_survivor += on_replica;
    }
    ensure!(missing == 0, "{BROKEN_PROMISE}: {missing} of 120 own reads missing");
    ensure!(on_survivor == 0, "{BROKEN_PROMISE}: {on_survivor} of 120 own reads on the survivor");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_is_awaited_in_its_own_domain_while_another_one_goes_on() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let outcome = one_domain_waits(&cluster).await;
    let back = "STOP REPLICA; SET GLOBAL slave_parallel_threads = DEFAULT; START REPLICA";
    cluster.server("replica-1").sql(back).await?;
    outcome
}
