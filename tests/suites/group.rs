//! Members of one group of primaries: Galera on MariaDB, Group Replication on MySQL. One of them takes
//! writes, and the others are read-only.

#![allow(clippy::print_stdout, reason = "figures are part of the result")]

use std::time::Duration;

use anyhow::{Context, ensure};
use sea_orm::entity::prelude::*;
use sealane::{Consistency, RoutedConnection};
use sealane_tests::{
    BROKEN_PROMISE, Cluster, Engine, eventually,
    fleet::{self, boat, reads_on_replica},
};

const SOON: Duration = Duration::from_secs(20);
/// How often a session writes and reads.
const WRITES: u32 = 60;

/// One test for everything, because it takes seconds to form a group, and to part with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn synced_members_serve_others_do_not_and_no_session_misses_its_write() -> anyhow::Result<()>
{
    let cluster = fleet::moor().await?;
    let outcome = async {
        cluster.form_group().await?;
        let db = sealane::connect(fleet::patient(fleet::config(&cluster))).await?;
        let eventual = db.with_consistency(Consistency::Eventual);
        let serves = async || Ok(reads_on_replica(&eventual).await?);
        eventually(SOON, "members serve", serves).await?;
        only_synced_members_serve(&cluster, &db).await?;
        numbers_prove_nothing(&cluster, &db).await?;
        if cluster.engine() == Engine::Mysql {
            a_primary_that_reaches_nobody_is_not_used(&cluster, &db).await?;
            a_primary_that_the_group_chose_is_followed(&cluster, &db).await?;
        }
        Ok(())
    };
    let outcome = outcome.await;
    // Its members are ordinary servers again, however it went.
    cluster.begin_anew().await?;
    outcome
}

/// What status says of the group of the endpoint called `name`, and whether it is up.
fn member(db: &RoutedConnection, name: &str) -> anyhow::Result<(String, bool)> {
    let status = serde_json::to_value(db.status().endpoints)?;
    let mut endpoints = status.as_array().into_iter().flatten();
    let found = endpoints.find(|it| it["name"] == name).context("no such endpoint")?;
    let group = found["group"].as_str().unwrap_or_default().to_owned();
    Ok((group, found["health"]["state"] == "up"))
}

async fn becomes(db: &RoutedConnection, name: &str, wanted: (&str, bool)) -> anyhow::Result<()> {
    eventually(SOON, &format!("{name} is {wanted:?}"), async || {
        let (group, is_up) = member(db, name)?;
        ensure!((&*group, is_up) == wanted, "it is {group:?}, {is_up}");
        Ok(true)
    })
    .await
}

/// And status names the group.
async fn only_synced_members_serve(cluster: &Cluster, db: &RoutedConnection) -> anyhow::Result<()> {
    let is_galera = cluster.engine() == Engine::Mariadb;
    let (first, synced, left) = match is_galera {
        true => ("Galera: Synced", "Galera: Synced", "Galera: Donor/Desynced"),
        false => (
            "Group Replication: ONLINE, PRIMARY",
            "Group Replication: ONLINE, SECONDARY",
            "Group Replication: OFFLINE, ",
        ),
    };
    becomes(db, "primary", (first, true)).await?;
    becomes(db, "replica-1", (synced, true)).await?;
    becomes(db, "replica-2", (synced, true)).await?;

    cluster.server("replica-2").desync().await?;
    eventually(SOON, "replica-2 is out of use", async || Ok(!member(db, "replica-2")?.1)).await?;
    let health = serde_json::to_string(&db.status().endpoints[2].health)?;
    ensure!(health.contains(left), "{health}");
    let reads = |place: usize| db.status().endpoints[place].reads;
    let (before, eventual) = (reads(2), db.with_consistency(Consistency::Eventual));
    for _ in 0..WRITES {
        fleet::boat("ours").insert(db).await?;
        ensure!(reads_on_replica(&eventual).await?, "the other member is synced");
    }
    ensure!(reads(2) == before, "{BROKEN_PROMISE}: a member that is not synced served reads");

    cluster.server("replica-2").resync().await?;
    becomes(db, "replica-2", (synced, true)).await?;
    let serves = async || {
        reads_on_replica(&eventual).await?;
        Ok(reads(2) > before)
    };
    eventually(SOON, "it serves again", serves).await
}

/// On Galera every member numbers by itself, so that one with a transaction of its own "covers" what it
/// lacks. On Group Replication a secondary may show what its primary does not know yet.
async fn numbers_prove_nothing(cluster: &Cluster, db: &RoutedConnection) -> anyhow::Result<()> {
    if cluster.engine() == Engine::Mariadb {
        let own = "SET wsrep_on = OFF; CREATE TABLE own (id int)";
        let own = format!("{own}{}", "; INSERT INTO own VALUES (1)".repeat(300));
        for replica in cluster.replicas() {
            replica.sql(&own).await?;
        }
    }
    let (mut missing, mut on_members) = (0, 0);
    for _ in 0..WRITES {
        let session = db.session();
        let id = fleet::boat("own").insert(&session).await?.id;
        for _ in 0..5 {
            let found = boat::Entity::find_by_id(id).one(&session).await?;
            missing += u32::from(found.is_none());
            on_members += u32::from(reads_on_replica(&session).await?);
        }
    }
    println!("{missing} of {} own reads missing, {on_members} on members", 5 * WRITES);
    ensure!(missing == 0, "{BROKEN_PROMISE}: {missing} own reads missing");
    ensure!(on_members == 0, "{on_members} own reads on members");
    // Numbers say nothing to people either.
    let staleness = db.status().endpoints[1].staleness_ms;
    ensure!(staleness.is_none(), "staleness {staleness:?}");
    Ok(())
}

/// The others may have chosen another primary.
async fn a_primary_that_reaches_nobody_is_not_used(
    cluster: &Cluster,
    db: &RoutedConnection,
) -> anyhow::Result<()> {
    for replica in cluster.replicas() {
        replica.freeze().await?;
    }
    let alone = eventually(SOON, "the primary is not used", async || {
        let health = serde_json::to_string(&db.status().endpoints[0].health)?;
        ensure!(health.contains("cut off from most members"), "{health}");
        Ok(true)
    });
    let alone = alone.await;
    for replica in cluster.replicas() {
        replica.thaw().await?;
    }
    alone?;
    becomes(db, "primary", ("Group Replication: ONLINE, PRIMARY", true)).await?;
    let writes = async || Ok(fleet::boat("again").insert(db).await.is_ok());
    eventually(SOON, "writes go on", writes).await
}

async fn a_primary_that_the_group_chose_is_followed(
    cluster: &Cluster,
    db: &RoutedConnection,
) -> anyhow::Result<()> {
    let uuid: String = cluster.server("replica-1").query_scalar("SELECT @@server_uuid").await?;
    let choose = format!("SELECT group_replication_set_as_primary('{uuid}')");
    cluster.primary().sql(&choose).await?;
    let followed = async || Ok(db.status().primary.as_deref() == Some("replica-1"));
    eventually(SOON, "replica-1 is the primary", followed).await?;
    for _ in 0..WRITES {
        let session = db.session();
        let id = fleet::boat("followed").insert(&session).await?.id;
        let found = boat::Entity::find_by_id(id).one(&session).await?;
        ensure!(found.is_some(), "{BROKEN_PROMISE}: an own read is missing");
    }
    becomes(db, "primary", ("Group Replication: ONLINE, SECONDARY", true)).await
}
