//! Sessions that travel, and what becomes of reads that no replica can serve.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use sea_orm::{ActiveValue::Set, entity::prelude::*};
use sealane::{Condition, Config, Consistency, FallbackPolicy, RoutedConnection, TokenRefusal};
use sealane_tests::{
    BROKEN_PROMISE, Cluster, Control, eventually,
    fleet::{self, boat, reads_on_replica, whereabouts},
};

const SOON: Duration = Duration::from_secs(10);
const KEY: &str = "a key that only the tests of sealane have";

fn config(cluster: &Cluster) -> Config {
    // Each reader has one replica, so that it must not be out of use for a moment.
    fleet::patient(fleet::config(cluster)).token_key(KEY)
}

/// Two connections that know nothing of each other, as two processes have them.
async fn two_processes() -> anyhow::Result<(Cluster, RoutedConnection, RoutedConnection)> {
    let cluster = fleet::moor().await?;
    let one = sealane::connect(config(&cluster)).await?;
    let two = sealane::connect(config(&cluster)).await?;
    fleet::ready(&one).await?;
    fleet::ready(&two).await?;
    Ok((cluster, one, two))
}

async fn is_there(db: &RoutedConnection, id: i32) -> anyhow::Result<bool> {
    Ok(boat::Entity::find_by_id(id).one(db).await?.is_some())
}

async fn leaves_the_primary(db: &RoutedConnection) -> anyhow::Result<()> {
    eventually(SOON, "replicas serve", async || Ok(reads_on_replica(db).await?)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_takes_a_write_to_another_process() -> anyhow::Result<()> {
    let (cluster, one, two) = two_processes().await?;
    cluster.pause_replay().await?;
    let writer = one.session();
    let id = fleet::boat("far").insert(&writer).await?.id;
    let token = writer.token().await.context("a session that wrote has something to tell")?;
    let resumed = two.resume(&token);
    ensure!(resumed.refused.is_none(), "{:?}", resumed.refused);
    let reader = resumed.session;
    ensure!(is_there(&reader, id).await?, "{BROKEN_PROMISE}: the write was not read");
    // Without it, another process knows nothing: the check is alive.
    ensure!(!is_there(&two.session(), id).await?, "replay is not paused");
    cluster.resume_replay().await?;
    leaves_the_primary(&reader).await?;
    ensure!(
        is_there(&reader, id).await?,
        "{BROKEN_PROMISE}: the write was lost on the way to a replica"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_takes_a_reader_back_to_his_replica() -> anyhow::Result<()> {
    let (_cluster, one, two) = two_processes().await?;
    let mut on_replica = 0;
    for round in 0..20 {
        let reader = one.session();
        let address = async |db: &RoutedConnection| -> anyhow::Result<String> {
            let here = whereabouts::Entity::find().one(db).await?.context("whereabouts")?;
            Ok(here.address)
        };
        ensure!(reads_on_replica(&reader).await?, "round {round}: nothing was written");
        let before = address(&reader).await?;
        let token = reader.token().await.context("a session that read has something to tell")?;
        let resumed = two.resume(&token).session;
        let before_reading = resumed.progress();
        on_replica += i32::from(address(&resumed).await? == before);
        ensure!(resumed.progress() == before_reading, "the same replica is nothing new to tell");
    }
    println!("{on_replica} of 20 readers went on where they were");
    ensure!(on_replica == 20, "{on_replica}");
    Ok(())
}

/// A user whose every request is served by another process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_goes_to_and_fro_misses_nothing_and_leaves_the_primary() -> anyhow::Result<()>
{
    let (_cluster, one, two) = two_processes().await?;
    let id = fleet::boat("ferry").insert(&one.session()).await?.id;
    let (mut token, mut on_replica, mut tokens) = (None::<String>, 0, 0);
    let mut voyages = 0;
    for round in 0..400 {
        let process = if round % 2 == 0 { &one } else { &two };
        let session = match &token {
            None => process.session(),
            Some(token) => process.resume(token).session,
        };
        let before = session.progress();
        if round % 10 == 0 {
            voyages += 1;
            let sailed =
                boat::ActiveModel { id: Set(id), voyages: Set(voyages), ..Default::default() };
            boat::Entity::update(sailed).exec_without_returning(&session).await?;
        }
        let seen = boat::Entity::find_by_id(id).one(&session).await?.context("the ferry")?;
        ensure!(seen.voyages == voyages, "round {round}: {} of {voyages}", seen.voyages);
        on_replica += i32::from(reads_on_replica(&session).await?);
        if session.progress() != before {
            token = session.token().await;
            tokens += 1;
        }
        // A user's pause, much shortened.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!("400 requests, 40 of them writing: {on_replica} ended on a replica, {tokens} tokens");
    ensure!(on_replica > 200, "{on_replica} of 400 ended on a replica");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_token_reads_what_the_primary_has_and_leaves_it() -> anyhow::Result<()> {
    let (cluster, one, two) = two_processes().await?;
    cluster.pause_replay().await?;
    let writer = one.session();
    let id = fleet::boat("forged").insert(&writer).await?.id;
    let token = writer.token().await.context("a token")?;
    let forged: String = token.chars().rev().collect();
    let keyless = sealane::connect(fleet::config(&cluster)).await?;
    for (process, token, refusal) in
        [(&two, &forged, TokenRefusal::Forged), (&keyless, &token, TokenRefusal::NoKey)]
    {
        let resumed = process.resume(token);
        ensure!(resumed.refused == Some(refusal), "{:?}", resumed.refused);
        ensure!(
            is_there(&resumed.session, id).await?,
            "{BROKEN_PROMISE}: a refused token must not be stale"
        );
    }
    let resumed = two.resume(&forged).session;
    cluster.resume_replay().await?;
    leaves_the_primary(&resumed).await
}

/// As while replicas are being introduced: one instance knows of them, another one does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_a_process_without_replicas_is_good_for_one_that_has_them() -> anyhow::Result<()>
{
    let (cluster, _one, routed) = two_processes().await?;
    let alone = Config::new(&*cluster.primary().url).token_key(KEY);
    let alone = sealane::connect(alone).await?;
    cluster.pause_replay().await?;
    let writer = alone.session();
    let id = fleet::boat("alone").insert(&writer).await?.id;
    let resumed = routed.resume(&writer.token().await.context("a token")?);
    ensure!(resumed.refused.is_none(), "{:?}", resumed.refused);
    ensure!(is_there(&resumed.session, id).await?, "the write was not read");
    ensure!(!is_there(&routed.session(), id).await?, "replay is not paused");
    cluster.resume_replay().await?;
    leaves_the_primary(&resumed.session).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_does_not_wait_for_replicas_that_are_down() -> anyhow::Result<()> {
    let (cluster, one, two) = two_processes().await?;
    for replica in cluster.replicas() {
        replica.kill().await?;
    }
    let down = async || {
        let endpoints = one.status().endpoints;
        Ok(endpoints.iter().skip(1).all(|replica| replica.condition == Condition::Down))
    };
    eventually(SOON, "both replicas are down", down).await?;
    let writer = one.session();
    let mut times = Vec::new();
    let control = Control::of(cluster.primary()).await?;
    for _ in 0..5 {
        let id = fleet::boat("lonely").insert(&writer).await?.id;
        let begun = Instant::now();
        let token = writer.token().await.context("a token")?;
        times.push(begun.elapsed());
        let is_read = is_there(&two.resume(&token).session, id).await?;
        ensure!(is_read, "{BROKEN_PROMISE}: the write was not read");
    }
    let control = control.end().await?;
    times.sort();
    println!(
        "a token without any replica: {:?} (median of 5), an answer {control:?} at most",
        times[2]
    );
    // Past 250 ms it would say that it does not know.
    ensure!(times[2] < Duration::from_millis(100) + control, "{times:?}");
    Ok(())
}

/// Writes, reads at once with this way out, and tells how long it took, whether a replica served, and
/// whether the write is there.
async fn read_after_write(
    db: &RoutedConnection,
    fallback: FallbackPolicy,
) -> anyhow::Result<(Duration, bool, bool)> {
    let session = db.session();
    // Without RETURNING, SeaORM reads what it inserted: not that is to wait.
    let id = fleet::boat("late").insert(&session).await?.id;
    let reader = session.fallback(fallback);
    let begun = Instant::now();
    let on_replica = reads_on_replica(&reader).await?;
    let elapsed = begun.elapsed();
    Ok((elapsed, on_replica, is_there(&reader, id).await?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_waits_for_a_replica_where_that_can_pay() -> anyhow::Result<()> {
    let (cluster, db) = fleet::launch().await?;
    for replica in cluster.replicas() {
        // MySQL and MariaDB count by whole seconds: it is one at least.
        replica.delay_replay(Duration::from_secs(2)).await?;
    }
    // Somebody writes, so that the monitor sees how far behind they are.
    let (other, missed) = (db.session(), Cell::new(0));
    let learned = async || {
        fleet::boat("early").insert(&other).await?;
        reads_on_replica(&other).await?;
        let (elapsed, on_replica, is_there) =
            read_after_write(&db, FallbackPolicy::Wait(Duration::from_millis(100))).await?;
        missed.set(missed.get() + u32::from(!is_there));
        Ok(!on_replica && elapsed < Duration::from_millis(90))
    };
    eventually(SOON, "a wait that is too short is not begun", learned).await?;
    // As long as they fall back, they may as well stand still: the pace shows a little later.
    let waited = Cell::new(Duration::ZERO);
    let pays = async || {
        fleet::boat("early").insert(&other).await?;
        reads_on_replica(&other).await?;
        let patience = FallbackPolicy::Wait(Duration::from_secs(8));
        let (elapsed, on_replica, is_there) = read_after_write(&db, patience).await?;
        missed.set(missed.get() + u32::from(!is_there));
        waited.set(elapsed);
        Ok(on_replica)
    };
    eventually(2 * SOON, "a wait that can pay is begun", pays).await?;
    ensure!(missed.get() == 0, "{BROKEN_PROMISE}: {} writes were not read", missed.get());
    let waited = waited.get();
    println!("two seconds behind, eight to wait: waited {waited:?}");
    ensure!(waited > Duration::from_millis(500), "{waited:?}: replay is not delayed");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_that_runs_out_ends_on_the_primary() -> anyhow::Result<()> {
    let (cluster, db) = fleet::launch().await?;
    // Frozen, nobody can tell that waiting is in vain.
    for replica in cluster.replicas() {
        replica.pause_replay().await?;
    }
    let patience = Duration::from_millis(300);
    let session = db.session().fallback(FallbackPolicy::Wait(patience));
    let id = fleet::boat("never").insert(&session).await?.id;
    let begun = Instant::now();
    ensure!(is_there(&session, id).await?, "the primary has it");
    ensure!(begun.elapsed() < patience + Duration::from_secs(2), "{:?}", begun.elapsed());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_must_not_burden_the_primary_fails_instead() -> anyhow::Result<()> {
    let (cluster, db) = fleet::launch().await?;
    let session = db.session();
    let strict = session.fallback(FallbackPolicy::Fail);
    ensure!(reads_on_replica(&strict).await?, "nothing was written");
    cluster.pause_replay().await?;
    // Without RETURNING, SeaORM reads what it inserted.
    let id = fleet::boat("strict").insert(&session).await?.id;
    // A write is none of its business, nor is a read that asks for the primary.
    let sailed = boat::ActiveModel { id: Set(id), voyages: Set(1), ..Default::default() };
    boat::Entity::update(sailed).exec_without_returning(&strict).await?;
    ensure!(is_there(&strict.on_primary(), id).await?, "the primary has it");
    let error = boat::Entity::find_by_id(id).one(&strict).await.unwrap_err().to_string();
    ensure!(error.contains("no replica is fresh enough"), "{error}");
    let explanation = strict.explain("SELECT 1");
    ensure!(explanation.first_choice().is_none(), "{explanation}");
    let eventual = strict.with_consistency(Consistency::Eventual);
    ensure!(!is_there(&eventual, id).await?, "an eventual read is served by a paused replica");
    cluster.resume_replay().await?;
    let served = async || Ok(boat::Entity::find_by_id(id).one(&strict).await?.is_some());
    eventually(SOON, "a replica serves it", served).await
}
