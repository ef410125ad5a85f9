//! Replica first, primary second, with PostgreSQL's ways to commit: how often a session goes back in
//! time, that it does not where it waits, and what holds it up.

use std::time::Duration;

use anyhow::ensure;
use sea_orm::{ConnectionTrait, Database, IsolationLevel, TransactionTrait};
use sealane::WhenAhead;
use sealane_tests::{
    Cluster,
    ahead::{
        Compared, PATIENCE, Pairs, Sight, Then, WRITERS, Writers, connect, moor,
        waits_no_longer_than_it_must,
    },
    eventually,
};

/// How commits and replicas hang together.
#[derive(Clone, Copy)]
enum Mode {
    Asynchronous,
    AnyOne,
    FirstTwoApplied,
}

impl Mode {
    async fn set_up(self, cluster: &Cluster) -> anyhow::Result<Option<&'static str>> {
        let (standbys, first) = match self {
            Mode::Asynchronous => return Ok(None),
            Mode::AnyOne => {
                cluster.replicate_synchronously().await?;
                return Ok(None);
            }
            Mode::FirstTwoApplied => {
                ("FIRST 2 (\"replica-1\", \"replica-2\")", "SET synchronous_commit = remote_apply")
            }
        };
        wait_for_standbys(cluster, standbys).await?;
        Ok(Some(first))
    }
}

async fn wait_for_standbys(cluster: &Cluster, standbys: &str) -> anyhow::Result<()> {
    let set = format!("ALTER SYSTEM SET synchronous_standby_names = '{standbys}'");
    cluster.primary().sql(&set).await?;
    cluster.primary().sql("SELECT pg_reload_conf()").await
}

async fn under(mode: Mode) -> anyhow::Result<Compared> {
    let cluster = moor().await?;
    let first = mode.set_up(&cluster).await?;
    Compared::on(&cluster, first).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_wait_never_go_back_with_asynchronous_replicas() -> anyhow::Result<()> {
    let compared = under(Mode::Asynchronous).await?;
    println!("{compared}");
    compared.judge()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_wait_never_go_back_with_any_one_replica_synchronous() -> anyhow::Result<()> {
    let compared = under(Mode::AnyOne).await?;
    println!("{compared}");
    compared.judge()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_wait_never_go_back_with_two_replicas_that_apply() -> anyhow::Result<()> {
    let compared = under(Mode::FirstTwoApplied).await?;
    println!("{compared}");
    compared.judge()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_synchronous_replica_is_away_a_session_waits_for_its_limit_and_no_longer()
-> anyhow::Result<()> {
    let cluster = moor().await?;
    let db = connect(&cluster).await?;
    let replicas = cluster.replicas().iter().map(|replica| format!("\"{}\"", replica.name));
    let standbys: Vec<_> = replicas.chain(["away".to_owned()]).collect();
    let standbys = format!("FIRST {} ({})", standbys.len(), standbys.join(", "));
    wait_for_standbys(&cluster, &standbys).await?;
    let before = Sight::of(&db.on_primary()).await?;
    let writers = Writers::start(&cluster, None).await?;
    let session = db.session().when_ahead(WhenAhead::Wait(PATIENCE));
    eventually(PATIENCE, "replicas show the commits", async || {
        let sight = Sight::of(&session).await?;
        let count = sight.voyages.iter().zip(&before.voyages).filter(|(now, then)| now > then);
        Ok(sight.on_replica && count.count() == WRITERS)
    })
    .await?;

    let at_once = Pairs::sail(db.clone(), 100, Then::Transaction).await?;
    println!("at once: {at_once}");
    ensure!(at_once.back == 100, "the primary shows what waits for a replica");
    // As if the replica had come back.
    let limited =
        waits_no_longer_than_it_must(&db, &session, async || wait_for_standbys(&cluster, "").await)
            .await?;
    println!("with a limit: {limited}");
    drop(writers);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_transaction_that_only_reads_holds_nobody_up_and_one_that_wrote_does()
-> anyhow::Result<()> {
    const LIMIT: Duration = Duration::from_millis(500);
    let cluster = moor().await?;
    let db = connect(&cluster).await?;
    let waiting = db.when_ahead(WhenAhead::Wait(LIMIT));
    let other = Database::connect(&*cluster.primary().url).await?;
    let snapshot = Some(IsolationLevel::RepeatableRead);
    for (sql, is_held_up) in [
        ("SELECT count(*) FROM boat", false),
        ("SELECT id FROM boat WHERE id = 1 FOR KEY SHARE", true),
        ("UPDATE boat SET voyages = 1 WHERE id = 1", true),
    ] {
        let open = other.begin_with_config(snapshot, None).await?;
        open.execute_unprepared(sql).await?;
        let pairs = Pairs::sail(waiting.clone(), 20, Then::Transaction).await?;
        println!("beside `{sql}`: {pairs}");
        let median = pairs.waits[pairs.waits.len() / 2];
        ensure!((median >= LIMIT) == is_held_up, "beside `{sql}`: {median:?}");
        open.rollback().await?;
    }
    Ok(())
}
