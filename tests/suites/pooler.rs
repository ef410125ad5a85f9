//! Servers behind PgBouncer and HAProxy: replicas serve, nobody is taken to be down, sessions
//! read what they wrote, and what is known of the read-only guard is told.

#![allow(clippy::print_stdout, reason = "figures are part of the result")]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use rstest::rstest;
use sea_orm::{ActiveModelTrait, ConnectionTrait, EntityTrait};
use sealane::{Config, Event, Random, ReadOnly, Replica, RoutedConnection};
use sealane_tests::{
    Cluster, PgBouncer, Pooler, Server, eventually,
    fleet::{self, boat, whereabouts},
};

const PAIRS: usize = 200;
/// Since when PgBouncer knows prepared statements, and parameters beyond those that it tracks
/// itself.
const MODERN: [u32; 2] = [1, 21];

const SESSION: PgBouncer =
    PgBouncer { mode: "session", settings: "", ignores: "extra_float_digits" };
const TRANSACTION: PgBouncer = PgBouncer {
    mode: "transaction",
    settings: "max_prepared_statements = 100",
    ignores: "extra_float_digits",
};
const SESSION_DROPS: PgBouncer = PgBouncer { ignores: "extra_float_digits, options", ..SESSION };
const TRANSACTION_DROPS: PgBouncer =
    PgBouncer { ignores: "extra_float_digits, options", ..TRANSACTION };
const TRANSACTION_TRACKS: PgBouncer = PgBouncer {
    settings: "max_prepared_statements = 100\n\
               track_extra_parameters = default_transaction_read_only",
    ..TRANSACTION
};

/// Whether the image's PgBouncer can do that: the oldest release's hands out connections for
/// sessions only.
async fn is_possible(cluster: &Cluster, how: PgBouncer) -> anyhow::Result<bool> {
    let version = Pooler::pgbouncer_version(cluster.primary()).await?;
    let possible = version >= MODERN || how.settings.is_empty();
    println!("PgBouncer {version:?}, {how:?}: {}", if possible { "tried" } else { "cannot do it" });
    Ok(possible)
}

fn config(urls: &[String]) -> Config {
    // The default balancer sends single reads to the replica that is quicker just now, and round robin
    // falls into step with reads that only one replica may serve.
    fleet::config_of(&urls[0], &urls[1..]).balancer(Random)
}

/// What changed while somebody listened.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<Event>>>);

impl Told {
    fn by(db: &RoutedConnection) -> Self {
        let (mut events, told) = (db.events(), Self::default());
        let kept = told.clone();
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                println!("  {event}");
                kept.0.lock().unwrap_or_else(PoisonError::into_inner).push(event);
            }
        });
        told
    }

    /// How often somebody went or came.
    fn flaps(&self) -> usize {
        let told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let flap = |event: &&Event| matches!(event, Event::Up { .. } | Event::Down { .. });
        told.iter().filter(flap).count()
    }
}

/// Where reads were served, by address.
type Places = BTreeMap<String, usize>;

/// Writes, reads what it wrote, and reads where it is, `pairs` times: each with a session of
/// its own that leaves the primary in between as soon as it can.
async fn write_and_read(db: &RoutedConnection, pairs: usize) -> anyhow::Result<Places> {
    let mut places = Places::new();
    for round in 0..pairs {
        let session = db.session();
        let name = format!("Ida {round}");
        let written = fleet::boat(&name).insert(&session).await?;
        for pause_ms in [0, 5, 30] {
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
            let read = boat::Entity::find_by_id(written.id).one(&session).await?;
            let read = read.with_context(|| format!("write {round} is not seen"))?;
            ensure!(read.name == name, "write {round} reads {}", read.name);
            let here = whereabouts::Entity::find().one(&session).await?.context("no place")?;
            *places.entry(here.address).or_default() += 1;
        }
    }
    Ok(places)
}

fn guards(db: &RoutedConnection) -> Vec<Option<ReadOnly>> {
    db.status().endpoints.iter().map(|endpoint| endpoint.read_only_guard).collect()
}

async fn address(server: &Server) -> anyhow::Result<String> {
    fleet::address(server).await
}

/// A function that is declared to read, and writes: PostgreSQL believes it, and so do we.
const MISTAKEN: &str = "CREATE TABLE IF NOT EXISTS wrong (id int); TRUNCATE wrong; \
     CREATE OR REPLACE FUNCTION writes() RETURNS int LANGUAGE sql VOLATILE \
       AS 'INSERT INTO wrong VALUES (1); SELECT 1'; \
     CREATE OR REPLACE FUNCTION reads() RETURNS int LANGUAGE plpgsql STABLE \
       AS 'BEGIN PERFORM writes(); RETURN 1; END'";

#[rstest]
#[case::session(SESSION, ReadOnly::Server)]
#[case::session_that_drops_the_guard(SESSION_DROPS, ReadOnly::Server)]
#[case::transaction(TRANSACTION, ReadOnly::Server)]
#[case::transaction_that_drops_the_guard(TRANSACTION_DROPS, ReadOnly::Server)]
#[case::transaction_that_passes_the_guard_on(TRANSACTION_TRACKS, ReadOnly::Session)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_serve_behind_pgbouncer(
    #[case] how: PgBouncer,
    #[case] guard: ReadOnly,
) -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    if !is_possible(&cluster, how).await? {
        return Ok(());
    }
    cluster.primary().sql(MISTAKEN).await?;
    fleet::replayed(&cluster).await?;
    let pooler = Pooler::pgbouncer(cluster.servers(), how).await?;
    let db = sealane::connect(config(&pooler.urls).probe_timeout(fleet::PATIENCE)).await?;
    fleet::ready(&db).await?;
    ensure!(guards(&db).iter().all(|found| *found == Some(guard)), "{:?}", guards(&db));

    let told = Told::by(&db);
    let places = write_and_read(&db, PAIRS).await.with_context(|| pooler.logs())?;
    println!("served by {places:?}");
    for replica in cluster.replicas() {
        let here = address(replica).await?;
        let served = places.get(&here).copied().unwrap_or_default();
        ensure!(served >= PAIRS / 4, "{} served {served} of {} reads", replica.name, PAIRS * 3);
    }
    // A read that writes is refused where it must not write, and done where it may.
    for _ in 0..20 {
        db.session().query_one_raw(fleet::raw(&db, "SELECT reads()")).await?;
    }
    let wrong: i64 = cluster.primary().query_scalar("SELECT count(*) FROM wrong").await?;
    ensure!(wrong == 20, "{wrong} rows of 20 calls");
    ensure!(told.flaps() == 0, "somebody went or came {} times", told.flaps());
    Ok(())
}

#[rstest]
#[case::refuses_it(SESSION)]
#[case::drops_it(SESSION_DROPS)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_takes_writes_does_not_serve_without_a_guard(
    #[case] how: PgBouncer,
) -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let pooler = Pooler::pgbouncer(&cluster.replicas()[..1], how).await?;
    let subscriber = |url: &str| {
        let subscriber = Replica::new(url).subscription("shop_to_reports").group("reports");
        fleet::config_of(Replica::new(&*cluster.primary().url), [subscriber])
    };
    let failure = async |url: &str| {
        let db = sealane::connect(subscriber(url)).await?;
        let status = serde_json::to_value(&db.status().endpoints[1])?;
        anyhow::Ok(status["health"].to_string())
    };
    let behind = failure(&pooler.urls[0]).await?;
    ensure!(behind.contains("default_transaction_read_only"), "{behind}");
    // Nothing else is wrong than that there is no such subscription.
    let direct = failure(&cluster.replicas()[0].url).await?;
    ensure!(direct.contains("no subscription"), "{direct}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_serve_behind_haproxy() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let [primary, first, second] = sealane_tests::three(&cluster)?;
    let pooler = Pooler::haproxy(&[&[primary], &[first], &[second]]).await?;
    let db = sealane::connect(config(&pooler.urls).probe_timeout(fleet::PATIENCE)).await?;
    fleet::ready(&db).await?;
    ensure!(guards(&db).iter().all(|found| *found == Some(ReadOnly::Session)));
    let told = Told::by(&db);
    let places = write_and_read(&db, PAIRS).await?;
    println!("served by {places:?}");
    for replica in [first, second] {
        let served = places.get(&address(replica).await?).copied().unwrap_or_default();
        ensure!(served >= PAIRS / 4, "{} served {served}", replica.name);
    }
    ensure!(told.flaps() == 0, "somebody went or came {} times", told.flaps());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_haproxy_gives_to_another_server_keeps_the_promises() -> anyhow::Result<()>
{
    let cluster = fleet::moor().await?;
    let [primary, first, second] = sealane_tests::three(&cluster)?;
    let pooler = Pooler::haproxy(&[&[primary], &[first, second]]).await?;
    let db = sealane::connect(config(&pooler.urls)).await?;
    fleet::ready(&db).await?;
    let (at_first, at_second) = (address(first).await?, address(second).await?);
    let serves = async |place: &str| {
        let what = format!("reads are served by {place}");
        eventually(Duration::from_secs(20), &what, async || {
            Ok(write_and_read(&db, 1).await?.contains_key(place))
        })
        .await
    };
    let load = async |until: Instant| {
        let (mut places, mut pairs) = (Places::new(), 0);
        while Instant::now() < until {
            for (place, reads) in write_and_read(&db, 5).await? {
                *places.entry(place).or_default() += reads;
            }
            pairs += 5;
        }
        anyhow::Ok((places, pairs))
    };
    serves(&at_first).await?;
    let mut pairs = 0;
    for _ in 0..2 {
        let until = Instant::now() + Duration::from_secs(4);
        let ((places, done), ()) = tokio::try_join!(load(until), first.kill())?;
        println!("killed: {places:?}");
        pairs += done;
        serves(&at_second).await?;
        let until = Instant::now() + Duration::from_secs(4);
        let ((places, done), ()) = tokio::try_join!(load(until), first.start())?;
        println!("started: {places:?}");
        pairs += done;
        fleet::replayed(&cluster).await?;
        // Old connections may stay where they are; a new process finds the first server.
        let other = sealane::connect(config(&pooler.urls)).await?;
        let there = async || Ok(write_and_read(&other, 1).await?.contains_key(&at_first));
        eventually(Duration::from_secs(20), "HAProxy leads to the first server", there).await?;
    }
    println!("{pairs} pairs");
    ensure!(pairs >= PAIRS, "{pairs} pairs");
    Ok(())
}
