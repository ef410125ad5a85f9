//! Whose data an address leads to, and who of several is the primary: servers that change
//! places, share one, or are not what their URL says.

#[path = "identity/ear.rs"]
mod ear;
#[path = "identity/proxy.rs"]
mod proxy;

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use sea_orm::{Database, entity::prelude::*};
use sealane::RoutedConnection;
use sealane_tests::{
    Cluster, Engine, Server, eventually,
    fleet::{self, boat, harbour, reads, reads_on_replica},
};
use tokio::time::sleep;

use crate::{ear::Ear, proxy::Proxy};

const SOON: Duration = Duration::from_secs(20);

fn condition(db: &RoutedConnection, name: &str) -> String {
    let endpoints = serde_json::to_value(db.status().endpoints).unwrap_or_default();
    let mut endpoints = endpoints.as_array().into_iter().flatten();
    let found = endpoints.find(|endpoint| endpoint["name"] == name);
    found.and_then(|it| it["condition"].as_str()).unwrap_or_default().to_owned()
}

async fn becomes(db: &RoutedConnection, name: &str, wanted: &str) -> anyhow::Result<()> {
    let check = async || {
        let found = condition(db, name);
        ensure!(found == wanted, "it is {found}");
        Ok(true)
    };
    eventually(SOON, &format!("{name} is {wanted}"), check).await
}

/// Waits until the endpoint `name` takes writes.
async fn writes_go_to(db: &RoutedConnection, name: &str) -> anyhow::Result<()> {
    let elected = async || Ok(db.status().primary.as_deref() == Some(name));
    eventually(SOON, &format!("{name} is the primary"), elected).await?;
    let writes = async || Ok(fleet::boat("Ida").insert(db).await.map(|_| true)?);
    eventually(SOON, &format!("writes go to {name}"), writes).await?;
    ensure!(db.status().primary.as_deref() == Some(name));
    Ok(())
}

/// `url` with another database.
fn in_database(url: &str, database: &str) -> anyhow::Result<String> {
    let (server, _) = url.rsplit_once('/').context("a URL with a database")?;
    Ok(format!("{server}/{database}"))
}

/// A database beside ours, made anew and without anything in it.
async fn create(primary: &Server, database: &str) -> anyhow::Result<()> {
    match primary.engine {
        // Each stands alone: neither can run in a transaction.
        Engine::Postgres => {
            primary.sql(&format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)")).await?;
            primary.sql(&format!("CREATE DATABASE {database}")).await
        }
        _ => {
            let again = format!(
                "DROP DATABASE IF EXISTS {database}; CREATE DATABASE {database}; \
                 GRANT ALL ON {database}.* TO sealane@'%'"
            );
            primary.sql(&again).await
        }
    }
}

async fn remove(primary: &Server, database: &str) -> anyhow::Result<()> {
    match primary.engine {
        Engine::Postgres => {
            primary.sql(&format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)")).await
        }
        _ => primary.sql(&format!("DROP DATABASE IF EXISTS {database}")).await,
    }
}

#[tokio::test]
async fn a_replica_url_with_another_database_is_told_and_never_read() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let primary = cluster.primary();
    create(primary, "elsewhere").await?;
    let mut there = primary.clone();
    there.admin_url = in_database(&primary.admin_url, "elsewhere")?;
    let table = "CREATE TABLE harbour (id int PRIMARY KEY, name varchar(99))";
    there.sql(table).await?;
    there.sql("INSERT INTO harbour VALUES (1, 'Atlantis')").await?;
    fleet::replayed(&cluster).await?;

    let (ear, _guard) = Ear::listen();
    let config = fleet::config_of(
        primary.url.clone(),
        [
            in_database(&cluster.server("replica-1").url, "elsewhere")?,
            cluster.server("replica-2").url.clone(),
        ],
    );
    let db = sealane::connect(fleet::patient(config)).await?;
    let told = ear.heard("replica-1 leads to another database");
    ensure!(told.len() == 1 && told[0].contains("elsewhere"), "{told:?}");
    becomes(&db, "replica-1", "other_database").await?;
    let serves = async || Ok(condition(&db, "replica-2") == "serving");
    eventually(SOON, "replica-2 serves", serves).await?;
    for _ in 0..100 {
        let session = db.session();
        let names: Vec<_> = harbour::Entity::find().all(&session).await?;
        ensure!(names.iter().all(|harbour| harbour.name != "Atlantis"), "{names:?}");
    }
    ensure!(reads(&db, "replica-1") == 0, "it was read");
    ensure!(reads(&db, "replica-2") >= 50, "nothing was read on the other one");
    let status = db.status();
    ensure!(status.endpoints[1].database.as_deref() == Some("elsewhere"));
    drop(db);
    remove(primary, "elsewhere").await
}

#[tokio::test]
async fn a_primary_with_another_database_than_the_first_url_is_refused() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    create(cluster.primary(), "elsewhere").await?;
    fleet::replayed(&cluster).await?;
    let config = fleet::config_of(
        cluster.server("replica-1").url.clone(),
        [in_database(&cluster.primary().url, "elsewhere")?],
    );
    let error = sealane::connect(config).await.err().context("connected")?.to_string();
    ensure!(error.contains("leads to the database elsewhere"), "{error}");
    remove(cluster.primary(), "elsewhere").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_was_created_a_moment_ago_is_soon_read_on_replicas() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    // A machine that is busy with much else gets more than one chance.
    let (mut attempts, mut is_soon) = (0, false);
    while !is_soon && attempts < 3 {
        attempts += 1;
        let mut took = Vec::new();
        for round in 0..7 {
            took.push(until_a_new_database_is_read(&cluster, round).await?);
        }
        took.sort_unstable();
        println!("until both replicas served: {took:?}");
        // Probes at their usual pace take about 700 ms.
        is_soon = took[3] < Duration::from_millis(450);
    }
    ensure!(is_soon, "most took longer, {attempts} times");
    Ok(())
}

/// How long it takes from when both replicas have a new database until both serve.
async fn until_a_new_database_is_read(cluster: &Cluster, round: usize) -> anyhow::Result<Duration> {
    let name = format!("tenant_{round}");
    remove(cluster.primary(), &name).await?;
    fleet::replayed(cluster).await?;
    cluster.pause_replay().await?;
    create(cluster.primary(), &name).await?;
    let url = |server: &Server| in_database(&server.admin_url, &name);
    let replicas = cluster.replicas().iter().map(url).collect::<anyhow::Result<Vec<_>>>()?;
    let config = fleet::config_of(url(cluster.primary())?, replicas.clone());
    let db = sealane::connect(config).await?;
    ensure!(condition(&db, "replica-1") == "down", "it has the database already");
    cluster.resume_replay().await?;
    let begun = Instant::now();
    let there = async {
        for url in replicas {
            while Database::connect(&url).await.is_err() {
                sleep(Duration::from_millis(5)).await;
            }
        }
        anyhow::Ok(begun.elapsed())
    };
    let serve = async {
        fleet::ready(&db).await?;
        Ok(begun.elapsed())
    };
    let (there, serve) = tokio::try_join!(there, serve)?;
    drop(db);
    remove(cluster.primary(), &name).await?;
    Ok(serve.saturating_sub(there))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_promotions_in_a_row_are_followed_and_who_returns_is_fenced() -> anyhow::Result<()> {
    let (cluster, db) = fleet::launch().await?;
    fleet::boat("Ida").insert(&db).await?;
    fleet::replayed(&cluster).await?;
    let [first, second] = ["replica-1", "replica-2"].map(|name| cluster.server(name));
    cluster.primary().kill().await?;
    first.promote().await?;
    writes_go_to(&db, "replica-1").await?;

    first.kill().await?;
    second.promote().await?;
    let begun = Instant::now();
    writes_go_to(&db, "replica-2").await?;
    println!("the second promotion was followed after {:?}", begun.elapsed());

    let before: i64 = second.query_scalar("SELECT count(*) FROM boat").await?;
    first.start().await?;
    becomes(&db, "replica-1", "stale_primary").await?;
    for written in 1..=50 {
        fleet::boat("Ida").insert(&db).await?;
        let there: i64 = second.query_scalar("SELECT count(*) FROM boat").await?;
        ensure!(there == before + written, "{there} boats, {before} and {written} expected");
    }
    ensure!(db.status().primary.as_deref() == Some("replica-2"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_addresses_that_lead_to_one_server_stop_no_writes() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let (primary, replica) = (cluster.primary(), cluster.server("replica-1"));
    // As a proxy does that sends to the primary when it has no replica left.
    let proxy = Proxy::to(replica).await?;
    let config = fleet::config_of(primary.url.clone(), [proxy.url(replica)?]);
    let db = sealane::connect(config.clone()).await?;
    fleet::ready(&db).await?;
    ensure!(reads_on_replica(&db.session()).await?);

    proxy.lead_to(primary)?;
    let (begun, mut written) = (Instant::now(), 0);
    while begun.elapsed() < Duration::from_secs(3) || written < 100 {
        fleet::boat("Ida").insert(&db).await?;
        written += 1;
    }
    becomes(&db, "replica-1", "same_server").await?;
    ensure!(db.status().primary.as_deref() == Some("primary"));
    ensure!(db.status().endpoints[1].same_server_as.as_deref() == Some("primary"));
    ensure!(boat::Entity::find().count(&db).await? == written);
    // Who begins now does not fail either.
    let other = sealane::connect(config).await?;
    fleet::boat("Ida").insert(&other).await?;
    becomes(&other, "replica-1", "same_server").await?;

    proxy.lead_to(replica)?;
    fleet::ready(&db).await?;
    let back = async || Ok(reads_on_replica(&db.session()).await?);
    eventually(SOON, "the replica serves again", back).await?;
    println!("{written} writes");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_go_on_by_another_address_of_the_same_primary() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let primary = cluster.primary();
    let by_proxy = Proxy::to(primary).await?;
    let db =
        sealane::connect(fleet::config_of(by_proxy.url(primary)?, [primary.url.clone()])).await?;
    writes_go_to(&db, "primary").await?;
    becomes(&db, "replica-1", "same_server").await?;
    drop(by_proxy);
    writes_go_to(&db, "replica-1").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_is_promoted_by_mistake_gets_no_writes() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let (primary, replica) = (cluster.primary(), cluster.server("replica-1"));
    let copy = cluster.server("replica-2");
    let address = Proxy::to(replica).await?;
    let db =
        sealane::connect(fleet::config_of(primary.url.clone(), [address.url(replica)?])).await?;
    fleet::ready(&db).await?;
    fleet::boat("Ida").insert(&db).await?;
    fleet::replayed(&cluster).await?;

    // What somebody restored from a backup, and made a primary, at the replica's address.
    copy.promote().await?;
    copy.sql("INSERT INTO harbour (name) VALUES ('Rungholt')").await?;
    address.lead_to(copy)?;
    let (begun, mut written) = (Instant::now(), 1);
    while begun.elapsed() < Duration::from_secs(4) || written < 100 {
        fleet::boat("Ida").insert(&db).await?;
        written += 1;
    }
    becomes(&db, "replica-1", "stale_primary").await?;
    let there: i64 = primary.query_scalar("SELECT count(*) FROM boat").await?;
    ensure!(there == written, "{there} of {written} boats are on the primary");
    ensure!(db.status().primary.as_deref() == Some("primary"));
    println!("{written} writes");
    Ok(())
}

#[test]
fn a_subscriber_may_ask_for_the_status() -> anyhow::Result<()> {
    let (done, told) = std::sync::mpsc::channel();
    // On a thread of its own: who waits for himself waits for ever.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let outcome = runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(asks()));
        let _ = done.send(outcome);
    });
    told.recv_timeout(Duration::from_secs(90)).context("it waits for ever")?
}

async fn asks() -> anyhow::Result<()> {
    let (ear, _guard) = Ear::listen();
    let (cluster, db) = fleet::launch().await?;
    ear.ask(&db);
    cluster.server("replica-1").kill().await?;
    let heard = async || Ok(!ear.heard("replica-1 is down").is_empty());
    eventually(SOON, "it is told", heard).await?;
    let told = ear.heard("replica-1 is down");
    ensure!(told[0].contains("(3 endpoints)"), "{told:?}");
    cluster.server("replica-1").start().await?;
    fleet::all_up(&db).await
}
