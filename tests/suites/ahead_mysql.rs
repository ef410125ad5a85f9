//! Replica first, primary second, with the ways to commit that MySQL and MariaDB have. With
//! semi-synchronous replication (AFTER_SYNC) a replica shows what the primary, which waits for an
//! answer, does not show yet.

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    time::Duration,
};

use anyhow::{Context, ensure};
use sealane::{FallbackPolicy, WhenAhead};
use sealane_tests::{
    BROKEN_PROMISE, Cluster, Engine,
    ahead::{
        Compared, Crossings, PATIENCE, Pairs, Sight, Then, Writers, connect, connect_in_groups,
        moor, waits_no_longer_than_it_must,
    },
    eventually,
};

/// A cluster whose primary waits for an answer of a replica.
async fn semi_synchronous() -> anyhow::Result<Cluster> {
    let cluster = moor().await?;
    cluster.replicate_synchronously().await?;
    Ok(cluster)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_wait_never_go_back_with_semi_synchronous_replicas() -> anyhow::Result<()> {
    let compared = Compared::on(&semi_synchronous().await?, None).await?;
    println!("{compared}");
    compared.judge()
}

/// Asynchronous replicas are seldom ahead, so nobody says that one was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_wait_never_go_back_whenever_the_log_is_synced() -> anyhow::Result<()> {
    for sync_binlog in [0, 1] {
        let cluster = moor().await?;
        cluster.primary().sql(&format!("SET GLOBAL sync_binlog = {sync_binlog}")).await?;
        let compared = Compared::on(&cluster, None).await?;
        println!("sync_binlog = {sync_binlog}\n{compared}");
        ensure!(compared.waiting.back == 0, "{} pairs went back", compared.waiting.back);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_never_go_back_while_the_primary_waits_for_replicas() -> anyhow::Result<()> {
    let crossings = Crossings::on(&semi_synchronous().await?).await?;
    println!("{crossings}");
    crossings.judge()
}

/// Commits that wait for others to share their write to the disk. On MySQL replicas have them by then,
/// and `gtid_executed` does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_never_go_back_while_commits_wait_for_their_group() -> anyhow::Result<()> {
    let cluster = moor().await?;
    let (wait, no_wait) = match cluster.engine() {
        Engine::Mysql => (
            "SET GLOBAL binlog_group_commit_sync_delay = 100000",
            "SET GLOBAL binlog_group_commit_sync_delay = 0",
        ),
        _ => (
            "SET GLOBAL binlog_commit_wait_count = 1000, GLOBAL binlog_commit_wait_usec = 100000",
            "SET GLOBAL binlog_commit_wait_count = 0, GLOBAL binlog_commit_wait_usec = 100000",
        ),
    };
    cluster.primary().sql(wait).await?;
    let outcome = cross_beside_groups(&cluster).await;
    cluster.primary().sql(no_wait).await?;
    outcome
}

#[allow(clippy::print_stdout, reason = "figures of a test")]
async fn cross_beside_groups(cluster: &Cluster) -> anyhow::Result<()> {
    let (primary, replica) = (cluster.primary(), cluster.server("replica-1"));
    let ahead = Cell::new(0);
    let looking = async {
        while cluster.engine() == Engine::Mysql {
            let shown = replica.position().await?;
            ahead.set(ahead.get() + u32::from(!primary.has_replayed(&shown).await?));
        }
        std::future::pending::<anyhow::Result<Infallible>>().await
    };
    let crossings = tokio::select! {
        crossings = Crossings::on(cluster) => crossings?,
        looked = looking => match looked? {},
    };
    println!("{crossings}; a replica was ahead of gtid_executed {} times", ahead.get());
    if cluster.engine() == Engine::Mysql {
        ensure!(ahead.get() >= 10, "replicas were never ahead, so this test shows nothing");
    }
    crossings.judge()
}

/// What the primary waits with is no part of `gtid_executed`, which the other replica covers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_lacks_what_another_has_shown_does_not_serve_who_saw_it()
-> anyhow::Result<()> {
    let cluster = semi_synchronous().await?;
    let db = connect_in_groups(&cluster).await?;
    let [ahead, behind] = ["replica-1", "replica-2"];
    let told = async || Ok(db.status().endpoints.iter().all(|it| it.semi_sync == Some(true)));
    eventually(Duration::from_secs(5), "status shows that it is semi-synchronous", told).await?;
    cluster.acknowledge_nothing().await?;
    cluster.server(behind).pause_replay().await?;
    let before = Sight::of(&db.on_primary()).await?;
    let writers = Writers::start(&cluster, None).await?;
    let session = db.session();
    eventually(PATIENCE, "a replica shows a commit", async || {
        let sight = Sight::of(&session.group(ahead)).await?;
        Ok(sight.on_replica && before.is_older_than(&sight))
    })
    .await?;
    let seen = Sight::of(&session.group(ahead)).await?;
    ensure!(seen.on_replica && before.is_older_than(&seen), "{seen:?} after {before:?}");
    // It looks for proofs all this time.
    let patient = session.fallback(FallbackPolicy::Wait(Duration::from_millis(500)));
    let now = Sight::of(&patient.group(behind)).await?;
    ensure!(!now.on_replica, "{now:?} after {seen:?}");
    cluster.server(behind).resume_replay().await?;
    let now = RefCell::new(None);
    eventually(PATIENCE, "the other replica serves", async || {
        let sight = Sight::of(&patient.group(behind)).await?;
        let on_replica = sight.on_replica;
        now.replace(on_replica.then_some(sight));
        Ok(on_replica)
    })
    .await?;
    let now = now.take().context("nothing was seen")?;
    ensure!(!now.is_older_than(&seen), "{BROKEN_PROMISE}: {now:?} after {seen:?}");
    drop(writers);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_no_replica_answers_a_session_waits_for_its_limit_and_no_longer() -> anyhow::Result<()>
{
    let cluster = semi_synchronous().await?;
    let db = connect(&cluster).await?;
    let before = Sight::of(&db.on_primary()).await?;
    cluster.acknowledge_nothing().await?;
    let writers = Writers::start(&cluster, None).await?;
    let session = db.session().when_ahead(WhenAhead::Wait(PATIENCE));
    eventually(PATIENCE, "a replica shows a commit", async || {
        let sight = Sight::of(&session).await?;
        Ok(sight.on_replica && before.is_older_than(&sight))
    })
    .await?;

    let at_once = Pairs::sail(db.clone(), 100, Then::Transaction).await?;
    println!("at once: {at_once}");
    ensure!(at_once.back > 0, "the primary shows what waits for a replica");
    let limited =
        waits_no_longer_than_it_must(&db, &session, async || cluster.heal().await).await?;
    println!("with a limit: {limited}");
    drop(writers);
    Ok(())
}
