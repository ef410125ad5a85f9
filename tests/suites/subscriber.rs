//! A logical subscriber serves the reads of its group, is never read too early, and never takes
//! writes, though it could.
//!
//! It is made of a replica that is promoted: its timeline is newer than the primary's, and its
//! system the same, so that whoever took it for a primary would let it win.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use sea_orm::{ConnectionTrait, EntityTrait, entity::prelude::*};
use sealane::{Condition, Config, Consistency, EndpointStatus, Replica, RoutedConnection};
use sealane_tests::{
    BROKEN_PROMISE, Cluster, Server, eventually,
    fleet::{self, boat},
};
use sqlx::{Connection, PgConnection};
use tokio::task::JoinSet;

const SOON: Duration = Duration::from_secs(10);
const NAME: &str = "replica-2";
const SUBSCRIBE: &str = "CREATE SUBSCRIPTION reports CONNECTION \
     'host=primary user=sealane password=sealane dbname=sealane' PUBLICATION reports";

/// A cluster with a server that holds what is published, and does not subscribe to it yet.
async fn published() -> anyhow::Result<Cluster> {
    let cluster = fleet::moor().await?;
    let primary = cluster.primary();
    primary.sql("DROP PUBLICATION IF EXISTS reports").await?;
    primary
        .sql("INSERT INTO boat (harbour_id, name) SELECT 1, n FROM generate_series(1, 400) n")
        .await?;
    fleet::replayed(&cluster).await?;
    let subscriber = cluster.server(NAME);
    subscriber.promote().await?;
    subscriber.sql("TRUNCATE boat, harbour").await?;
    primary.sql("CREATE PUBLICATION reports FOR TABLE boat, harbour").await?;
    Ok(cluster)
}

fn config(cluster: &Cluster) -> Config {
    // Only one server may serve most of the reads, so that it must not be out of use for a moment.
    fleet::patient(fleet::config_of(
        Replica::new(&*cluster.primary().url),
        [Replica::new(&*cluster.server("replica-1").url), subscriber(&cluster.server(NAME).url)],
    ))
}

fn subscriber(url: &str) -> Replica {
    Replica::new(url).subscription("reports").group("reports")
}

async fn launch() -> anyhow::Result<(Cluster, RoutedConnection)> {
    let cluster = published().await?;
    cluster.server(NAME).sql(SUBSCRIBE).await?;
    let db = sealane::connect(config(&cluster)).await?;
    served(&db).await?;
    Ok((cluster, db))
}

/// Waits until the subscriber serves a session that wrote nothing.
async fn served(db: &RoutedConnection) -> anyhow::Result<()> {
    let session = db.session();
    let check = async || {
        let explanation = session.explain("/* sealane: group=reports */ SELECT 1");
        Ok(explanation.first_choice() == Some(NAME))
    };
    eventually(SOON, "the subscriber serves", check).await
}

/// The boat's voyages, read in the group, and the address of the server that was read on.
async fn voyages(db: &RoutedConnection, id: i32) -> anyhow::Result<(i64, String)> {
    let sql = format!(
        "/* sealane: group=reports */ \
         SELECT voyages, host(inet_server_addr()) AS address FROM boat WHERE id = {id}"
    );
    let row = db.query_one_raw(fleet::raw(db, &sql)).await?.context("no boat")?;
    Ok((row.try_get("", "voyages")?, row.try_get("", "address")?))
}

async fn sail(db: &RoutedConnection, id: i32, voyages: i64) -> anyhow::Result<()> {
    boat::Entity::update_many()
        .col_expr(boat::Column::Voyages, Expr::value(voyages))
        .filter(boat::Column::Id.eq(id))
        .exec(db)
        .await?;
    Ok(())
}

fn status(db: &RoutedConnection, name: &str) -> anyhow::Result<EndpointStatus> {
    let found = db.status().endpoints.into_iter().find(|endpoint| endpoint.name == name);
    found.context("no such endpoint")
}

/// Of `server`, in the words of [`voyages`].
async fn address(server: &Server) -> anyhow::Result<String> {
    server.query_scalar("SELECT host(inet_server_addr())").await
}

/// What became of pairs of a write and a read.
#[derive(Debug, Default)]
struct Log {
    stale: usize,
    on_subscriber: usize,
    reads: usize,
}

/// `pairs` writes, each by a session of its own, which reads back what it wrote after `delay`
/// further writes; four at once.
async fn log(
    cluster: &Cluster,
    db: &RoutedConnection,
    pairs: usize,
    delay: usize,
) -> anyhow::Result<Log> {
    const WORKERS: usize = 4;
    let subscriber = address(cluster.server(NAME)).await?;
    let mut sailing = JoinSet::new();
    for worker in 0..WORKERS {
        let (db, subscriber) = (db.clone(), subscriber.clone());
        sailing.spawn(async move {
            let (mut log, mut waiting) = (Log::default(), VecDeque::new());
            for n in 0..pairs / WORKERS + delay {
                if n < pairs / WORKERS {
                    let id = i32::try_from(1 + worker * 100 + n % 100)?;
                    let (session, written) = (db.session(), i64::try_from(n)? + 1);
                    sail(&session, id, written).await?;
                    waiting.push_back((session, id, written));
                }
                if n >= delay
                    && let Some((session, id, written)) = waiting.pop_front()
                {
                    let (read, address) = voyages(&session, id).await?;
                    log.reads += 1;
                    log.stale += usize::from(read < written);
                    log.on_subscriber += usize::from(address == subscriber);
                }
            }
            anyhow::Ok(log)
        });
    }
    let mut all = Log::default();
    while let Some(log) = sailing.join_next().await {
        let log = log??;
        all.stale += log.stale;
        all.on_subscriber += log.on_subscriber;
        all.reads += log.reads;
    }
    Ok(all)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_of_the_group_are_served_by_the_subscriber_and_no_others() -> anyhow::Result<()> {
    let (cluster, db) = launch().await?;
    let subscriber = address(cluster.server(NAME)).await?;
    for id in 1..100 {
        ensure!(voyages(&db.session(), id).await?.1 == subscriber);
        let here =
            fleet::whereabouts::Entity::find().one(&db.session()).await?.context("no row")?;
        ensure!(here.address != subscriber, "a read that asked for no group");
    }
    let (known, primary) = (status(&db, NAME)?, status(&db, "primary")?);
    println!("{}", serde_json::to_string_pretty(&known)?);
    ensure!(known.condition == Condition::Serving && known.writable == Some(true));
    ensure!(known.version.is_some_and(|version| version.starts_with("PostgreSQL 1")));
    ensure!((known.receives, known.applies) == (Some(true), Some(true)));
    ensure!(primary.writable == Some(true) && primary.identity.is_some());
    let replica = status(&db, "replica-1")?;
    ensure!(
        (replica.writable, replica.receives, replica.applies)
            == (Some(false), Some(true), Some(true))
    );
    ensure!(replica.identity == primary.identity && replica.reported_lag_ms.is_some());
    ensure!(db.status().primary.as_deref() == Some("primary"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_writes_are_read_back_and_mostly_on_the_subscriber() -> anyhow::Result<()> {
    let (cluster, db) = launch().await?;
    let begun = Instant::now();
    let at_once = log(&cluster, &db, 2_000, 0).await?;
    println!("read at once: {at_once:?} in {:?}", begun.elapsed());
    ensure!(at_once.stale == 0, "{BROKEN_PROMISE}: {} stale reads", at_once.stale);
    let begun = Instant::now();
    let later = log(&cluster, &db, 10_000, 50).await?;
    println!("read 50 writes later: {later:?} in {:?}", begun.elapsed());
    ensure!(later.stale == 0, "{BROKEN_PROMISE}: {} stale reads", later.stale);
    ensure!(later.reads == 10_000 && later.on_subscriber > 5_000, "{later:?}");
    Ok(())
}

/// That the test above would find a stale read if there was one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eventual_reads_of_a_disabled_subscription_are_found_to_be_stale() -> anyhow::Result<()> {
    let (cluster, db) = launch().await?;
    cluster.server(NAME).sql("ALTER SUBSCRIPTION reports DISABLE").await?;
    let stopped = async || Ok(status(&db, NAME)?.condition == Condition::NotReplicating);
    eventually(SOON, "it is found not to replicate", stopped).await?;
    let eventual = db.with_consistency(Consistency::Eventual);
    let found = log(&cluster, &eventual, 100, 0).await?;
    ensure!(found.stale == 100 && found.on_subscriber == 100, "{found:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disabled_subscription_is_noticed_and_reads_go_to_the_primary() -> anyhow::Result<()> {
    let (cluster, db) = launch().await?;
    let subscriber = address(cluster.server(NAME)).await?;
    let bounded = db.with_consistency(Consistency::BoundedStaleness(Duration::from_millis(1_500)));
    ensure!(voyages(&bounded, 1).await?.1 == subscriber);
    let (tight, mut served_there) = (Duration::from_millis(300), 0);
    let tight = db.with_consistency(Consistency::BoundedStaleness(tight));
    for _ in 0..200 {
        served_there += i32::from(voyages(&tight, 1).await?.1 == subscriber);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!("{served_there} of 200 reads within 300 ms of the primary are on the subscriber");
    ensure!(served_there >= 150, "{served_there} of 200");

    cluster.server(NAME).sql("ALTER SUBSCRIPTION reports DISABLE").await?;
    let begun = Instant::now();
    let session = db.session();
    sail(&session, 1, 7).await?;
    ensure!(voyages(&session, 1).await?.0 == 7);
    let left = async || Ok(voyages(&bounded, 1).await?.1 != subscriber);
    eventually(SOON, "bounded reads leave it", left).await?;
    println!("left {:?} after it was disabled", begun.elapsed());
    for _ in 0..100 {
        ensure!(voyages(&bounded, 1).await?.1 != subscriber);
        let (read, address) = voyages(&session, 1).await?;
        ensure!(read == 7 && address != subscriber);
    }
    ensure!(status(&db, NAME)?.condition == Condition::NotReplicating);

    cluster.server(NAME).sql("ALTER SUBSCRIPTION reports ENABLE").await?;
    let back = async || Ok(voyages(&session, 1).await? == (7, subscriber.clone()));
    eventually(SOON, "the session reads on it", back).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_that_are_not_copied_yet_are_not_read() -> anyhow::Result<()> {
    let cluster = published().await?;
    let subscriber = cluster.server(NAME);
    let here = address(subscriber).await?;
    // The copy waits for it.
    let mut lock = PgConnection::connect(&subscriber.url).await?;
    sqlx::raw_sql("BEGIN; LOCK TABLE boat IN SHARE ROW EXCLUSIVE MODE").execute(&mut lock).await?;
    subscriber.sql(SUBSCRIBE).await?;
    let db = sealane::connect(config(&cluster)).await?;
    let eventual = db.with_consistency(Consistency::Eventual);
    let copying = async || Ok(status(&db, NAME)?.condition == Condition::Copying);
    eventually(SOON, "it is found to be copying", copying).await?;
    for id in 1..100 {
        let (_, address) = voyages(&eventual, id).await?;
        ensure!(address != here, "read while its tables are copied");
    }
    ensure!(status(&db, NAME)?.condition == Condition::Copying, "the copy was held up");
    sqlx::raw_sql("COMMIT").execute(&mut lock).await?;
    served(&db).await?;
    ensure!(voyages(&db.session(), 400).await?.1 == here);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_an_idle_primary_a_session_is_soon_read_for_on_the_subscriber() -> anyhow::Result<()> {
    let (cluster, db) = launch().await?;
    let subscriber = address(cluster.server(NAME)).await?;
    cluster.primary().sql("CREATE TABLE IF NOT EXISTS unpublished (id int)").await?;
    for (what, sql) in [
        ("a published table", "UPDATE boat SET voyages = voyages + 1 WHERE id = 1"),
        ("an unpublished one", "INSERT INTO unpublished VALUES (1)"),
    ] {
        let mut delays = Vec::new();
        for _ in 0..100 {
            let session = db.session();
            session.execute_unprepared(sql).await?;
            let written = Instant::now();
            while voyages(&session, 1).await?.1 != subscriber {
                ensure!(written.elapsed() < SOON, "{what}: never read on the subscriber");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            delays.push(written.elapsed());
        }
        delays.sort_unstable();
        println!(
            "after a write to {what}: {:?} (median), {:?}, {:?} (worst)",
            delays[50], delays[90], delays[99]
        );
        // Without what is confirmed, some wait for a keepalive: for half a minute, or until
        // the server has something of its own to write.
        ensure!(delays[99] < Duration::from_secs(3), "{delays:?}");
    }
    cluster.primary().sql("DROP TABLE unpublished").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_subscriber_costs_no_read_and_comes_back() -> anyhow::Result<()> {
    let (cluster, db) = launch().await?;
    let subscriber = cluster.server(NAME);
    let here = address(subscriber).await?;
    let session = db.session();
    sail(&session, 1, 3).await?;
    subscriber.kill().await?;
    for _ in 0..200 {
        let (read, address) = voyages(&session, 1).await?;
        ensure!(read == 3 && address != here);
    }
    ensure!(status(&db, NAME)?.condition == Condition::Down);
    sail(&session, 1, 4).await?;
    subscriber.start().await?;
    let back = async || {
        let (read, address) = voyages(&session, 1).await?;
        ensure!(read == 4, "{read} instead of 4");
        Ok(address == here)
    };
    eventually(SOON * 2, "the session reads on it", back).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ordinary_role_is_enough() -> anyhow::Result<()> {
    let cluster = published().await?;
    for server in [cluster.primary(), cluster.server(NAME)] {
        server.sql("DROP OWNED BY clerk; DROP ROLE clerk").await.ok();
        server
            .sql("CREATE ROLE clerk LOGIN PASSWORD 'clerk'; GRANT SELECT ON boat TO clerk")
            .await?;
    }
    let server = cluster.server(NAME);
    server.sql(SUBSCRIBE).await?;
    let url = |server: &Server| fleet::url_as(&server.url, "clerk");
    let misspelt = Replica::new(url(server)).name("misspelt").subscription("rapports");
    let config = Config::new(url(cluster.primary()))
        .replica(subscriber(&url(server)).name(NAME))
        .replica(misspelt.group("others"));
    let db = sealane::connect(config).await?;
    served(&db).await?;
    ensure!(voyages(&db.session(), 1).await?.1 == address(server).await?);
    let told = serde_json::to_string(&status(&db, "misspelt")?.health)?;
    ensure!(told.contains("there is no subscription called rapports"), "{told}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_never_becomes_the_primary_nor_proves_what_a_promotion_made()
-> anyhow::Result<()> {
    let (cluster, db) = launch().await?;
    let here = address(cluster.server(NAME)).await?;
    cluster.primary().kill().await?;
    let noticed = async || Ok(status(&db, "primary")?.condition == Condition::Down);
    eventually(SOON, "the primary is found to be down", noticed).await?;
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        ensure!(db.status().primary.as_deref() == Some("primary"), "nobody was promoted");
        ensure!(sail(&db, 1, 1).await.is_err(), "somebody takes writes");
    }
    cluster.server("replica-1").promote().await?;
    let followed = async || Ok(db.status().primary.as_deref() == Some("replica-1"));
    eventually(SOON, "the promotion is followed", followed).await?;
    let session = db.session();
    sail(&session, 1, 5).await?;
    let ended = async || Ok(status(&db, NAME)?.condition == Condition::OldTimeline);
    eventually(SOON, "the subscriber is on an old timeline", ended).await?;
    for _ in 0..100 {
        let (read, address) = voyages(&session, 1).await?;
        ensure!(read == 5 && address != here);
        ensure!(voyages(&db.session(), 1).await?.1 != here);
    }
    Ok(())
}
