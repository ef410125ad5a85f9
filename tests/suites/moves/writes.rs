//! Writes while the primary is replaced.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures_util::StreamExt;
use rstest::rstest;
use sea_orm::{
    ConnectOptions, DbErr, Statement, StreamTrait, TransactionTrait, entity::prelude::*,
};
use sealane_tests::{
    BROKEN_PROMISE, Cluster, Control, Server,
    crew::{Crew, Done, missing},
    eventually,
    fleet::{self, boat, is_up},
};
use tokio::time::{sleep, timeout};

use crate::{
    failure::{is_no_primary, is_outcome_unknown, is_transaction_lost},
    promotion::{Promotion, promote},
    reads::direct,
};

const SOON: Duration = Duration::from_secs(20);
/// More than a pool has connections, so that some wait for one.
const WRITERS: usize = 16;
/// So long the old primary is there again, and could be written to.
const RETURNED: Duration = Duration::from_secs(2);
/// Everything ends: longer than any wait of today's.
const LIMIT: Duration = Duration::from_secs(40);

/// What of `done` was acknowledged after `promotion` was known must be on the new primary.
#[allow(clippy::print_stdout, reason = "figures of a test")]
async fn judge(done: &[Done], promotion: Promotion, cluster: &Cluster) -> anyhow::Result<()> {
    let (old, new) = (cluster.primary(), cluster.server("replica-1"));
    let acknowledged = |done: &&Done| done.failure.is_none() && done.ended > promotion.known;
    let after: Vec<&Done> = done.iter().filter(acknowledged).collect();
    let waited: Vec<&Done> = done.iter().filter(|done| done.spans(promotion.began)).collect();
    let names = |done: &[&Done]| done.iter().map(|done| done.name.clone()).collect::<Vec<_>>();
    let lost = missing(new, &strs(&names(&after))).await?;
    let longest = waited.iter().map(|done| done.took()).max().unwrap_or_default();
    let failed = waited.iter().filter(|done| done.failure.is_some()).count();
    println!(
        "{} writes were under way when a replica was promoted ({failed} failed, the longest took \
         {longest:?}); {} were acknowledged afterwards, {lost} of them are lost",
        waited.len(),
        after.len(),
    );
    let answered_by_old = after.len() - missing(old, &strs(&names(&after))).await?;
    ensure!(lost == 0, "{BROKEN_PROMISE}: {lost} acknowledged writes are not on the new primary");
    ensure!(
        answered_by_old == 0,
        "{BROKEN_PROMISE}: the old primary acknowledged {answered_by_old}"
    );
    ensure!(waited.len() >= WRITERS / 2, "{} writes were under way", waited.len());
    ensure!(after.len() >= 50, "{} writes were acknowledged after the promotion", after.len());
    Ok(())
}

fn strs(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

/// Whether an application can write there.
async fn takes_writes(server: &Server) -> anyhow::Result<bool> {
    let insert = "INSERT INTO boat (harbour_id, name) VALUES (1, 'of nobody')";
    Ok(server.sql_as_application(insert).await.is_ok())
}

/// How the old primary ends.
#[derive(Clone, Copy, Debug)]
enum Ends {
    /// As an administrator ends it.
    Stopped,
    /// By SIGKILL.
    Killed,
}

#[rstest]
#[case::stopped(Ends::Stopped)]
#[case::killed(Ends::Killed)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waited_for_a_primary_that_ended_is_not_acknowledged_by_it_when_it_returns(
    #[case] ends: Ends,
) -> anyhow::Result<()> {
    let (cluster, db) = fleet::launch().await?;
    let crew = Crew::writing(&db, WRITERS);
    crew.more(200).await?;
    match ends {
        Ends::Stopped => cluster.primary().stop().await?,
        Ends::Killed => cluster.primary().kill().await?,
    }
    let waits = async || Ok(!is_up(&db, "primary") && crew.running() >= WRITERS / 2);
    eventually(SOON, "writes wait for a primary that is away", waits).await?;
    let promotion = promote(&cluster, &db).await?;
    cluster.primary().start().await?;
    eventually(SOON, "the old primary takes writes", async || {
        takes_writes(cluster.primary()).await
    })
    .await?;
    sleep(RETURNED).await;
    let done = crew.stop(LIMIT).await?;
    judge(&done, promotion, &cluster).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_sent_to_a_primary_that_hangs_is_not_acknowledged_by_it_when_it_goes_on()
-> anyhow::Result<()> {
    let (cluster, db) = fleet::launch().await?;
    let crew = Crew::writing(&db, WRITERS);
    crew.more(200).await?;
    // Two transactions: one is to be committed before anybody is promoted, the other afterwards.
    let mut begun = Vec::new();
    for name in ["early", "late"] {
        let transaction = db.begin().await?;
        fleet::boat(name).insert(&transaction).await?;
        begun.push(transaction);
    }
    cluster.primary().freeze().await?;
    let (late, early) = (begun.pop().context("late")?, begun.pop().context("early")?);
    let early = tokio::spawn(early.commit());
    eventually(SOON, "it is noticed", async || Ok(!is_up(&db, "primary"))).await?;
    let promotion = promote(&cluster, &db).await?;
    let late = tokio::spawn(late.commit());
    // Some are acknowledged by the new one, if it is used at all.
    sleep(RETURNED).await;
    let ended_early = [&early, &late].map(|commit| commit.is_finished());
    cluster.primary().thaw().await?;
    eventually(SOON, "the old primary takes writes", async || {
        takes_writes(cluster.primary()).await
    })
    .await?;
    sleep(RETURNED).await;
    let early = timeout(LIMIT, early).await.context("a COMMIT has no end")??;
    let late = timeout(LIMIT, late).await.context("a COMMIT has no end")??;
    println!("COMMITs: {early:?} and {late:?}, ended while the old primary hung: {ended_early:?}");
    let done = crew.stop(LIMIT).await?;
    let judged = judge(&done, promotion, &cluster).await;
    for (commit, why) in [(early, "that was under way"), (late, "that came later")] {
        let error = commit.err().with_context(|| format!("a COMMIT {why} returned Ok"))?;
        ensure!(is_outcome_unknown(&error) || is_transaction_lost(&error), "{error}");
    }
    judged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_sent_to_a_primary_without_a_network_is_not_acknowledged_by_it_when_it_returns()
-> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let db = sealane::connect(direct(&cluster).await?).await?;
    fleet::ready(&db).await?;
    let crew = Crew::writing(&db, WRITERS);
    crew.more(200).await?;
    cluster.primary().blackhole().await?;
    let hangs = async || Ok(!is_up(&db, "primary") && crew.running() >= WRITERS / 2);
    eventually(SOON, "writes hang", hangs).await?;
    let promotion = promote(&cluster, &db).await?;
    sleep(RETURNED).await;
    cluster.primary().unblackhole().await?;
    eventually(SOON, "the old primary takes writes", async || {
        takes_writes(cluster.primary()).await
    })
    .await?;
    sleep(RETURNED).await;
    let done = crew.stop(LIMIT).await?;
    judge(&done, promotion, &cluster).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_waits_for_a_primary_is_done_soon_after_a_promotion() -> anyhow::Result<()> {
    let (cluster, db) = fleet::launch().await?;
    // The pool has connections that die with the primary.
    let crew = Crew::writing(&db, WRITERS);
    crew.more(200).await?;
    crew.stop(LIMIT).await?;
    cluster.primary().kill().await?;
    eventually(SOON, "it is noticed", async || Ok(!is_up(&db, "primary"))).await?;
    let control = Control::of(cluster.server("replica-2")).await?;
    let waiting = Crew::writing(&db, 4);
    eventually(SOON, "they wait", async || Ok(waiting.running() == 4)).await?;
    let promotion = promote(&cluster, &db).await?;
    let began = Instant::now();
    let fresh = timeout(LIMIT, fleet::boat("fresh").insert(&db)).await;
    let fresh_took = began.elapsed();
    let done = waiting.stop(LIMIT).await?;
    let control = control.end().await?;
    let waited = done.iter().filter(|done| done.began < promotion.ended);
    let waited: Vec<&Done> = waited.collect();
    let since = |done: &&Done| done.ended.saturating_duration_since(promotion.ended);
    let first = waited.iter().map(since).min().context("nobody waited")?;
    let last = waited.iter().map(since).max().context("nobody waited")?;
    let failed: Vec<_> = done.iter().filter_map(|done| done.failure.as_ref()).collect();
    println!(
        "writes that waited were done {first:?} to {last:?} after the promotion, one that began \
         then took {fresh_took:?}, another server {control:?} at most to answer; {} of {} failed",
        failed.len(),
        done.len()
    );
    ensure!(waited.len() >= 4, "{} waited", waited.len());
    ensure!(failed.is_empty(), "{} writes failed: {}", failed.len(), failed[0]);
    fresh.context("it has no end")??;
    ensure!(last.max(fresh_took) <= Duration::from_secs(1) + control, "it took too long");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promotion_is_soon_seen_although_no_statement_waits() -> anyhow::Result<()> {
    let mut found = Vec::new();
    for _ in 0..2 {
        let (cluster, db) = fleet::launch().await?;
        cluster.primary().kill().await?;
        eventually(SOON, "it is noticed", async || Ok(!is_up(&db, "primary"))).await?;
        // Whatever it did when it noticed is over.
        sleep(RETURNED).await;
        let control = Control::of(cluster.server("replica-2")).await?;
        let promotion = promote(&cluster, &db).await?;
        let control = control.end().await?;
        found.push((promotion.known.saturating_duration_since(promotion.ended), control));
    }
    println!(
        "promotions were known so long after the server said that they were done, and another \
         server took so long to answer at most: {found:?}"
    );
    // It is looked for every tenth of a second.
    let soon = Duration::from_millis(400);
    ensure!(found.iter().all(|(known, control)| *known <= soon + *control), "{found:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_waits_for_a_primary_longer_than_its_pool_waits_for_a_connection()
-> anyhow::Result<()> {
    const PATIENCE: Duration = Duration::from_millis(300);
    let cluster = fleet::moor().await?;
    let mut options = ConnectOptions::new(&cluster.primary().url);
    options.acquire_timeout(PATIENCE);
    let replicas = cluster.replicas().iter().map(|it| ConnectOptions::new(&it.url));
    let config = fleet::config_of(options, replicas).primary_wait(LIMIT);
    let db = sealane::connect(config).await?;
    fleet::ready(&db).await?;
    cluster.primary().kill().await?;
    eventually(SOON, "it is noticed", async || Ok(!is_up(&db, "primary"))).await?;
    let waiting = {
        let db = db.clone();
        tokio::spawn(async move { fleet::boat("patient").insert(&db).await })
    };
    // Its pool has given up twice by then.
    sleep(PATIENCE * 3).await;
    ensure!(!waiting.is_finished(), "it has not waited");
    promote(&cluster, &db).await?;
    timeout(LIMIT, waiting).await.context("it has no end")???;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_writes_and_was_not_sent_moves_to_the_new_primary() -> anyhow::Result<()> {
    let (cluster, db) = fleet::launch().await?;
    let insert = "INSERT INTO boat (harbour_id, name) VALUES (1, 'unhurried')";
    let insert = Statement::from_string(db.get_database_backend(), insert);
    // It has a connection of the old primary, and is sent with the first look at its rows.
    let mut stream = db.stream_raw(insert).await?;
    cluster.primary().freeze().await?;
    eventually(SOON, "it is noticed", async || Ok(!is_up(&db, "primary"))).await?;
    promote(&cluster, &db).await?;
    let first = timeout(LIMIT, stream.next()).await.context("it has no end")?;
    ensure!(first.is_none(), "{:?}", first.map(|row| row.map(drop)));
    ensure!(
        missing(cluster.server("replica-1"), &["unhurried"]).await? == 0,
        "{BROKEN_PROMISE}: it is lost"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_without_any_primary_fails_after_five_seconds_and_says_so() -> anyhow::Result<()> {
    let (cluster, db) = fleet::launch().await?;
    fleet::boat("Ida").insert(&db).await?;
    fleet::replayed(&cluster).await?;
    cluster.primary().kill().await?;
    eventually(SOON, "it is noticed", async || Ok(!is_up(&db, "primary"))).await?;
    let began = Instant::now();
    let (written, begun) =
        tokio::join!(async { fleet::boat("Jolle").insert(&db).await.err() }, async {
            db.begin().await.err()
        });
    let took = began.elapsed();
    println!("after {took:?}: {written:?}, {begun:?}");
    for error in [written, begun] {
        let error: DbErr = error.context("it was written to a primary that is away")?;
        ensure!(is_no_primary(&error), "{error}");
    }
    ensure!(took > Duration::from_secs(4) && took < Duration::from_secs(8), "{took:?}");
    // Reads go on all the while.
    ensure!(boat::Entity::find().count(&db.session()).await? >= 1);
    Ok(())
}
