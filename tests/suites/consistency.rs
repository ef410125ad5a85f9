//! Nobody reads the past by accident: read-your-writes, monotonic reads, bounded staleness, and how
//! much the replicas take over all the same.

#[path = "consistency/pool.rs"]
mod pool;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use sea_orm::{ActiveValue::Set, Database, DatabaseConnection, DbErr, entity::prelude::*};
use sealane::{Condition, Consistency, FallbackPolicy, RoutedConnection};
use sealane_tests::{
    BROKEN_PROMISE, Engine, eventually,
    fleet::{self, boat, harbour, reads_on_replica, statements, whereabouts},
    watch::probe_pattern,
};
use tokio::task::JoinSet;

/// Sets the boat's voyages and reads them back; `true` if the read was stale.
async fn sail(db: &RoutedConnection, id: i32, voyages: i64) -> Result<bool, DbErr> {
    set_voyages(db, id, voyages).await?;
    let read = boat::Entity::find_by_id(id).one(db).await?;
    Ok(read.is_none_or(|boat| boat.voyages < voyages))
}

/// `pairs` writes, each followed by a read, over `sessions` handles at once; how many were stale.
async fn stale_reads(handles: Vec<RoutedConnection>, pairs: i64) -> anyhow::Result<usize> {
    let mut sailing = JoinSet::new();
    for (n, db) in handles.into_iter().enumerate() {
        sailing.spawn(async move {
            // Without RETURNING, SeaORM reads back what it inserted.
            let careful = db.with_consistency(Consistency::ReadYourWrites);
            let id = fleet::boat(&format!("boat {n}")).insert(&careful).await?.id;
            let mut stale = 0;
            for voyages in 1..=pairs {
                stale += usize::from(sail(&db, id, voyages).await?);
            }
            Ok::<_, DbErr>(stale)
        });
    }
    let mut stale = 0;
    while let Some(sailed) = sailing.join_next().await {
        stale += sailed??;
    }
    Ok(stale)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_writes_are_read_back_while_replay_is_paused() -> anyhow::Result<()> {
    let (cluster, db) = fleet::launch().await?;
    cluster.pause_replay().await?;
    fleet::forget_statements(&cluster).await?;
    let begun = Instant::now();
    let stale = stale_reads((0..20).map(|_| db.session()).collect(), 500).await?;
    let elapsed = begun.elapsed();
    let primary = cluster.primary();
    // The last one first: counting is a statement, too.
    let all = statements(primary, "%").await?;
    let probes = statements(primary, probe_pattern(cluster.engine())).await?;
    let updates = statements(primary, "UPDATE \"boat\"%").await?;
    let mut asked_for = updates;
    for pattern in ["SELECT%FROM \"boat\"%", "INSERT INTO \"boat\"%"] {
        asked_for += statements(primary, pattern).await?;
    }
    let extra = all - asked_for;
    println!(
        "10,000 pairs in {elapsed:?}: {stale} stale; the primary ran {extra} statements that \
         nobody asked for, {probes} of them probes"
    );
    ensure!(stale == 0, "{BROKEN_PROMISE}: {stale} stale reads");
    ensure!(updates == 10_000, "{updates} updates arrived");
    let most = i64::try_from(elapsed.as_millis() / 5)? + 2;
    ensure!(extra <= most, "{extra} statements, {most} are allowed: one per fence interval");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handle_shared_by_all_reads_its_writes_too() -> anyhow::Result<()> {
    let (cluster, db) = fleet::launch().await?;
    cluster.pause_replay().await?;
    let stale = stale_reads(vec![db; 8], 100).await?;
    ensure!(stale == 0, "{BROKEN_PROMISE}: {stale} stale reads");
    Ok(())
}

/// That the tests above would find a stale read if there was one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eventual_reads_are_found_to_be_stale() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let db = sealane::connect(fleet::config(&cluster).ejection(fleet::never_ejected())).await?;
    fleet::ready(&db).await?;
    cluster.pause_replay().await?;
    let eventual = db.with_consistency(Consistency::Eventual);
    let stale = stale_reads((0..4).map(|_| eventual.session()).collect(), 25).await?;
    ensure!(stale == 100, "{stale} of 100 reads from paused replicas are stale");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_back_on_the_replicas_within_milliseconds_of_resuming() -> anyhow::Result<()> {
    let (cluster, db) = fleet::launch().await?;
    let mut delays = Vec::new();
    for round in 0..10 {
        cluster.pause_replay().await?;
        let session = db.session();
        fleet::boat(&format!("round {round}")).insert(&session).await?;
        ensure!(!reads_on_replica(&session).await?, "replay is paused");
        cluster.resume_replay().await?;
        let resumed = Instant::now();
        while !reads_on_replica(&session).await? {
            ensure!(resumed.elapsed() < Duration::from_secs(10), "never back");
            // A user's pause between two clicks, much shortened.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        delays.push(resumed.elapsed());
        fleet::replayed(&cluster).await?;
    }
    delays.sort_unstable();
    println!("back on a replica after {:?} (median), {:?} (worst)", delays[5], delays[9]);
    ensure!(delays[5] < Duration::from_millis(100), "{delays:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_sticks_to_the_primary_for_as_long_as_replay_takes() -> anyhow::Result<()> {
    const ROUNDS: usize = 101;
    let (cluster, db) = fleet::launch().await?;
    let id = fleet::boat("Ida").insert(&db).await?.id;
    let mut replicas = Vec::new();
    for replica in cluster.replicas() {
        replicas.push(Database::connect(&*replica.url).await?);
    }
    let [mut replay, mut waiting, mut asking] = [const { Vec::new() }; 3];
    let mut voyages = 0;
    for _ in 0..ROUNDS {
        // In turn, so that a busy machine is as busy for one as for the others.
        for (way, delays) in [&mut replay, &mut waiting, &mut asking].into_iter().enumerate() {
            voyages += 1;
            let session = db.session();
            set_voyages(&session, id, voyages).await?;
            let written = Instant::now();
            match way {
                0 => while !shown_by_one(&replicas, id, voyages).await? {},
                1 => {
                    let patient = session.fallback(FallbackPolicy::Wait(Duration::from_secs(5)));
                    ensure!(reads_on_replica(&patient).await?, "it would have waited for 5 s");
                }
                _ => while !reads_on_replica(&session).await? {},
            }
            delays.push(written.elapsed());
        }
    }
    let [replay, waiting, asking] = [replay, waiting, asking].map(median);
    println!(
        "from a write's return, medians of {ROUNDS}: a replica shows it after {replay:?}; the \
         session's first read on a replica has ended after {waiting:?} if it waits, after \
         {asking:?} if it reads on the primary meanwhile, without a pause"
    );
    let most = replay + Duration::from_millis(10);
    ensure!(waiting <= most, "{waiting:?}, {most:?} are allowed");
    Ok(())
}

async fn set_voyages(db: &impl ConnectionTrait, id: i32, voyages: i64) -> Result<(), DbErr> {
    let boat = boat::ActiveModel { id: Set(id), voyages: Set(voyages), ..Default::default() };
    boat::Entity::update(boat).exec_without_returning(db).await.map(drop)
}

/// Whether one of `replicas`, asked without us, shows that many voyages.
async fn shown_by_one(
    replicas: &[DatabaseConnection],
    id: i32,
    voyages: i64,
) -> Result<bool, DbErr> {
    for replica in replicas {
        let boat = boat::Entity::find_by_id(id).one(replica).await?;
        if boat.is_some_and(|boat| boat.voyages >= voyages) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn median(mut delays: Vec<Duration>) -> Duration {
    delays.sort_unstable();
    delays[delays.len() / 2]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_reads_without_pause_leaves_the_primary() -> anyhow::Result<()> {
    let (_cluster, db) = fleet::launch_patient().await?;
    let session = db.session();
    fleet::boat("Ida").insert(&session).await?;
    let begun = Instant::now();
    let mut reads = 1;
    while !reads_on_replica(&session).await? {
        reads += 1;
        ensure!(begun.elapsed() < Duration::from_secs(10), "{reads} reads, all on the primary");
    }
    println!("on a replica with read {reads}, {:?} after the write", begun.elapsed());
    for _ in 0..100 {
        ensure!(reads_on_replica(&session).await?, "back on the primary without a reason");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_serve_the_reads_of_a_mixed_load() -> anyhow::Result<()> {
    const USERS: usize = 500;
    const WORKERS: usize = 8;
    const OPERATIONS: usize = 40_000;
    let (cluster, db) = fleet::launch().await?;
    let boats = boat::Entity::insert_many((0..USERS).map(|n| fleet::boat(&format!("boat {n}"))));
    boats.exec_without_returning(&db).await?;
    fleet::replayed(&cluster).await?;
    let users: Arc<Vec<_>> =
        Arc::new((0..USERS).map(|_| (db.session(), AtomicU64::new(0))).collect());
    fleet::forget_statements(&cluster).await?;

    let (begun, before) = (Instant::now(), reads(&db));
    let mut workers = JoinSet::new();
    for worker in 0..WORKERS {
        let users = Arc::clone(&users);
        workers.spawn(async move {
            let mut stale = 0;
            for n in 0..OPERATIONS / WORKERS {
                // Each worker has users of its own, all of them in turn.
                let user = worker + WORKERS * (n % (USERS / WORKERS));
                let (session, voyages) = &users[user];
                let id = i32::try_from(user).expect("a few hundred") + 1;
                let expected = voyages.load(Ordering::Relaxed);
                // One write in ten operations of every user, at different times.
                if (n / (USERS / WORKERS) + user).is_multiple_of(10) {
                    let next = expected + 1;
                    boat::Entity::update_many()
                        .col_expr(
                            boat::Column::Voyages,
                            Expr::value(i64::try_from(next).expect("small")),
                        )
                        .filter(boat::Column::Id.eq(id))
                        .exec(session)
                        .await?;
                    voyages.store(next, Ordering::Relaxed);
                } else {
                    let boat = boat::Entity::find_by_id(id).one(session).await?;
                    stale += usize::from(boat.is_none_or(|b| b.voyages.cast_unsigned() < expected));
                }
            }
            Ok::<_, DbErr>(stale)
        });
    }
    let mut stale = 0;
    while let Some(worked) = workers.join_next().await {
        stale += worked??;
    }
    let elapsed = begun.elapsed();
    let (on_primary, on_replicas) = (reads(&db).0 - before.0, reads(&db).1 - before.1);
    let counted = statements(cluster.primary(), "SELECT%FROM \"boat\"%").await?;
    let share = 100.0 * on_replicas as f64 / (on_primary + on_replicas) as f64;
    println!(
        "{OPERATIONS} operations of {USERS} users, 90/10, in {elapsed:?}: {share:.2}% of reads on \
         replicas ({on_primary} on the primary, which counted {counted}), {stale} stale; {:?}",
        db.status().reads
    );
    ensure!(stale == 0, "{BROKEN_PROMISE}: {stale} stale reads");
    ensure!(i64::try_from(on_primary)? == counted, "the primary counted {counted}");
    ensure!(share >= 95.0, "{share:.2}% of reads on replicas");
    Ok(())
}

/// Reads on the primary and on replicas so far.
fn reads(db: &RoutedConnection) -> (u64, u64) {
    let endpoints = db.status().endpoints;
    (endpoints[0].reads, endpoints[1..].iter().map(|e| e.reads).sum())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_never_goes_back_in_time_between_replicas() -> anyhow::Result<()> {
    let (cluster, db) = fleet::launch().await?;
    let id = fleet::boat("Ida").insert(&db).await?.id;
    fleet::replayed(&cluster).await?;
    cluster.server("replica-2").pause_replay().await?;
    let mut seen_by_eventual = Vec::new();
    for voyages in 1..=20 {
        let session = db.session();
        // Another one writes, replica-1 replays it, replica-2 does not.
        cluster.primary().sql(&format!("UPDATE boat SET voyages = {voyages}")).await?;
        let position = cluster.primary().position().await?;
        let near = cluster.server("replica-1");
        let check = async || near.has_replayed(&position).await;
        eventually(Duration::from_secs(10), "replica-1 replays", check).await?;
        let mut newest = 0;
        for _ in 0..30 {
            let boat = boat::Entity::find_by_id(id).one(&session).await?.context("no boat")?;
            ensure!(
                boat.voyages >= newest,
                "{BROKEN_PROMISE}: back from {newest} to {}",
                boat.voyages
            );
            newest = boat.voyages;
            let eventual = session.with_consistency(Consistency::Eventual);
            // A session of its own: these reads must not count for the one above.
            let boat = boat::Entity::find_by_id(id).one(&eventual.session()).await?;
            seen_by_eventual.push(boat.context("no boat")?.voyages);
        }
    }
    // That the test would find it.
    ensure!(!seen_by_eventual.is_sorted(), "eventual reads never went back in time");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_no_longer_replicates_serves_no_bounded_reads() -> anyhow::Result<()> {
    let (cluster, db) = fleet::launch().await?;
    let bound = Duration::from_millis(1_500);
    let bounded = db.with_consistency(Consistency::BoundedStaleness(bound));
    let broken = cluster.server("replica-1");
    let broken_address = fleet::address(broken).await?;
    ensure!(reads_on_replica(&bounded).await?);

    broken.stop_replication().await?;
    cluster.primary().sql("UPDATE harbour SET name = name || '!'").await?;
    let refused = async || {
        let explanation = serde_json::to_value(bounded.explain("SELECT id FROM harbour"))?;
        let choices = explanation["choices"].as_array().context("no choices")?;
        Ok(choices.iter().any(|choice| {
            choice["endpoint"] == "replica-1" && choice["refusal"]["refusal"] == "too_stale"
        }))
    };
    let begun = Instant::now();
    eventually(Duration::from_secs(10), "replica-1 is found too stale", refused).await?;
    println!("found too stale {:?} after the write it lacks", begun.elapsed());
    for _ in 0..100 {
        let here = whereabouts::Entity::find().one(&bounded).await?.context("no row")?;
        ensure!(here.address != broken_address, "read from a replica that does not replicate");
    }
    broken.resume_replication().await?;
    fleet::replayed(&cluster).await?;
    let served = async || {
        let here = whereabouts::Entity::find().one(&bounded).await?.context("no row")?;
        Ok(here.address == broken_address)
    };
    eventually(Duration::from_secs(10), "replica-1 serves again", served).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bound_shorter_than_the_probes_interval_is_served_by_replicas() -> anyhow::Result<()> {
    let (_cluster, db) = fleet::launch().await?;
    let bounded = db.with_consistency(Consistency::BoundedStaleness(Duration::from_millis(200)));
    // On a machine that is busy with much else, probes themselves come later than that.
    let (mut shares, mut is_served) = (Vec::new(), false);
    while !is_served && shares.len() < 10 {
        let (begun, mut reads, mut on_replicas) = (Instant::now(), 0, 0);
        while begun.elapsed() < Duration::from_secs(3) {
            reads += 1;
            on_replicas += i32::from(reads_on_replica(&bounded).await?);
        }
        println!("{on_replicas} of {reads} reads within 200 ms of the primary are on replicas");
        is_served = on_replicas * 10 >= reads * 8;
        shares.push((on_replicas, reads));
    }
    ensure!(is_served, "never eight of ten: {shares:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_for_replication_finds_all_replicas_level() -> anyhow::Result<()> {
    let (cluster, db) = fleet::launch().await?;
    let paused = &cluster.replicas()[0];
    paused.pause_replay().await?;
    let name = "waited for";
    harbour::ActiveModel { name: Set(name.to_owned()), ..Default::default() }.insert(&db).await?;
    ensure!(!db.wait_for_replication(Duration::from_millis(300)).await, "one replica is paused");
    // The others do not tell an ordinary role.
    if cluster.engine() == Engine::Postgres {
        let shown = async || {
            let mut endpoints = db.status().endpoints.into_iter();
            let behind = endpoints.find(|it| it.name == paused.name);
            let condition = behind.context("the paused replica")?.condition;
            ensure!(condition == Condition::Paused, "{condition:?}");
            Ok(true)
        };
        eventually(Duration::from_secs(10), "it is seen to be paused", shown).await?;
    }
    paused.resume_replay().await?;
    ensure!(db.wait_for_replication(Duration::from_secs(10)).await, "both replay");
    for replica in cluster.replicas() {
        let sql = format!("SELECT count(*) FROM harbour WHERE name = '{name}'");
        ensure!(replica.query_scalar::<i64>(&sql).await? == 1, "{} lacks it", replica.name);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_primary_shows_no_lag() -> anyhow::Result<()> {
    let (_cluster, db) = fleet::launch_patient().await?;
    let most = fleet::shows_no_lag(&db, Duration::from_secs(10)).await?;
    println!("at most {most:?} stale");
    Ok(())
}
