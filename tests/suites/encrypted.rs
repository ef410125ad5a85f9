//! Servers that take encrypted connections only, and certificates that prove nothing.

#![allow(clippy::print_stdout, reason = "figures are part of the result")]

use std::time::Duration;

use anyhow::{Context, ensure};
use sea_orm::{DbErr, entity::prelude::*};
use sealane::{Config, RoutedConnection};
use sealane_tests::{
    Authority, Cluster, Engine, Server,
    crew::Crew,
    eventually,
    fleet::{self, all_up, boat, harbour, is_up, reads},
    sealed,
    watch::cut_connection,
};

const SOON: Duration = Duration::from_secs(20);
/// How many write while a primary starts again, and how often it does.
const MEMBERS: usize = 4;
const STARTS: usize = 3;

fn plain(cluster: &Cluster) -> Config {
    let mode = match cluster.engine() {
        Engine::Postgres => "sslmode=disable",
        _ => "ssl-mode=DISABLED",
    };
    fleet::config_as(cluster, |server| format!("{}?{mode}", sealed(server)))
}

async fn write_and_read(db: &RoutedConnection, name: &str) -> Result<(), DbErr> {
    let session = db.session();
    boat::Entity::insert(fleet::boat(name)).exec_without_returning(&session).await?;
    let found = boat::Entity::find().filter(boat::Column::Name.eq(name)).one(&session).await?;
    found.map(drop).ok_or_else(|| DbErr::RecordNotFound(format!("{name}, which was just written")))
}

/// Waits until reads are served by the replica called `name`.
async fn serves(db: &RoutedConnection, name: &str) -> anyhow::Result<()> {
    let before = reads(db, name);
    let what = format!("{name} serves reads");
    let served = eventually(SOON, &what, async || {
        harbour::Entity::find().all(&db.session()).await?;
        Ok(reads(db, name) > before)
    });
    served.await.with_context(|| format!("{:#?}", db.status()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_works_where_servers_take_encrypted_connections_only() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    cluster.while_encrypted(async |authority| encrypted(&cluster, authority).await).await
}

async fn encrypted(cluster: &Cluster, authority: &Authority) -> anyhow::Result<()> {
    // The servers do refuse the others, and it is told.
    let told = sealane::connect(plain(cluster).strict()).await.err().context("not refused")?;
    println!("plain: {told}");
    // MySQL and MariaDB say no more of it than of a wrong password.
    let is_postgres = cluster.engine() == Engine::Postgres;
    let reason = if is_postgres { "no encryption" } else { "1045" };
    ensure!(told.to_string().contains(reason), "{told}");

    let db = sealane::connect(authority.config(cluster)?.strict().require_replicas(2)).await?;
    fleet::ready(&db).await?;
    for name in ["replica-1", "replica-2"] {
        serves(&db, name).await?;
    }
    for number in 0..100 {
        write_and_read(&db, &format!("sealed {number}")).await?;
    }

    // Writes follow a promotion.
    cluster.primary().kill().await?;
    cluster.server("replica-1").promote().await?;
    let number = std::sync::atomic::AtomicU32::new(0);
    eventually(SOON, "writes follow the promotion", async || {
        let number = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(write_and_read(&db, &format!("promoted {number}")).await.is_ok())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_whose_certificate_proves_nothing_serves_nothing() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    cluster.while_encrypted(async |authority| unproved(&cluster, authority).await).await
}

async fn unproved(cluster: &Cluster, authority: &Authority) -> anyhow::Result<()> {
    let replica = cluster.server("replica-1");
    let host = replica.host()?;
    let mut cases = vec![
        ("of another authority", Authority::new()?.certify(&host)?),
        ("of another host", authority.certify("db.example.com")?),
    ];
    // MySQL takes no such certificate.
    if cluster.engine() != Engine::Mysql {
        cases.push(("of the past", authority.certify_for_the_past(&host)?));
    }
    for (what, certificate) in cases {
        replica.encrypt(&certificate).await?;
        let told = sealane::connect(authority.config(cluster)?.strict()).await.err();
        let told = told.with_context(|| format!("a certificate {what} is believed"))?.to_string();
        println!("{what}: {told}");
        ensure!(told.contains("replica-1") && told.contains("certificate"), "{what}: {told}");
        ensure!(told.lines().count() == 1, "{told}");

        // Without `strict`, everything works but for this replica, which joins once it can.
        let db = sealane::connect(authority.config(cluster)?).await?;
        serves(&db, "replica-2").await?;
        for number in 0..50 {
            write_and_read(&db, &format!("{what} {number}")).await?;
        }
        ensure!(reads(&db, "replica-1") == 0, "it served reads with a certificate {what}");
        replica.encrypt(&authority.certify(&host)?).await?;
        serves(&db, "replica-1").await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_goes_bad_under_load_fails_no_read() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    cluster.while_encrypted(async |authority| gone_bad(&cluster, authority).await).await
}

async fn gone_bad(cluster: &Cluster, authority: &Authority) -> anyhow::Result<()> {
    let replica = cluster.server("replica-1");
    let host = replica.host()?;
    let db = sealane::connect(authority.config(cluster)?.strict()).await?;
    fleet::ready(&db).await?;
    let reading = db.clone();
    let crew = Crew::start(4, move |_, _| {
        let session = reading.session();
        async move { harbour::Entity::find().all(&session).await.map(drop) }
    });
    crew.more(200).await?;
    for _ in 0..3 {
        replica.encrypt(&Authority::new()?.certify(&host)?).await?;
        cut_all(replica).await?;
        eventually(SOON, "it is down", async || Ok(!is_up(&db, "replica-1"))).await?;
        crew.more(200).await?;
        replica.encrypt(&authority.certify(&host)?).await?;
        all_up(&db).await?;
        serves(&db, "replica-1").await?;
    }
    let done = crew.stop(SOON).await?;
    let failed: Vec<_> = done.iter().filter_map(|done| done.failure.as_ref()).collect();
    println!(
        "{} reads while a certificate went bad three times, {} failed",
        done.len(),
        failed.len()
    );
    ensure!(failed.is_empty(), "{failed:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_starts_again_is_written_to_at_once() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    cluster.while_encrypted(async |authority| started_again(&cluster, authority).await).await
}

async fn started_again(cluster: &Cluster, authority: &Authority) -> anyhow::Result<()> {
    // On a busy machine a start takes longer than writes usually wait.
    let config = authority.config(cluster)?.strict().primary_wait(SOON);
    let db = sealane::connect(config).await?;
    let crew = Crew::writing(&db, MEMBERS);
    for _ in 0..STARTS {
        crew.more(50).await?;
        cluster.primary().kill().await?;
        cluster.primary().start().await?;
        let answers = std::time::Instant::now();
        crew.more(1).await?;
        let first = answers.elapsed();
        crew.more(50).await?;
        println!("first {first:?}, fifty more {:?}", answers.elapsed());
        ensure!(first < SOON / 2, "the first write took {first:?}");
    }
    let done = crew.stop(SOON).await?;
    let longest = done.iter().map(|done| done.took()).max();
    let failed: Vec<_> = done.iter().filter_map(|done| done.failure.as_ref()).collect();
    println!("{} writes, {} failed, longest {longest:?}: {failed:?}", done.len(), failed.len());
    // Those that were under way, one of each member each time.
    ensure!(failed.len() <= MEMBERS * STARTS, "{failed:?}");
    Ok(())
}

/// Ends the application's connections until it has none. It gets no new one.
async fn cut_all(server: &Server) -> anyhow::Result<()> {
    let newest = match server.engine {
        Engine::Postgres => {
            "SELECT coalesce(max(pid), 0)::bigint FROM pg_stat_activity \
             WHERE usename = 'sealed'"
        }
        _ => {
            "SELECT CAST(coalesce(max(id), 0) AS SIGNED) FROM information_schema.processlist \
             WHERE user = 'sealed'"
        }
    };
    eventually(SOON, "no connection is left", async || {
        let newest: i64 = server.query_scalar(newest).await?;
        if newest > 0 {
            // It may have ended by itself.
            cut_connection(server, newest).await.ok();
        }
        Ok(newest == 0)
    })
    .await
}
