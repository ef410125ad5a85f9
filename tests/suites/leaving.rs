//! Work that leaves its session: tasks that are spawned, loaders that spawn, executors of
//! SeaORM's own, sessions that are merged into the handle for everybody.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use rstest::rstest;
use sea_orm::{
    ConnectionTrait, DatabaseExecutor, DbErr, IntoDatabaseExecutor, TransactionTrait,
    entity::prelude::*,
};
use sealane::{Config, Consistency, RoutedConnection, WriteTracking};
use sealane_tests::{
    BROKEN_PROMISE, Cluster, eventually,
    fleet::{self, boat, reads_on_replica},
};
use sealane_tower::SessionLayer;
use tokio::task::JoinHandle;

const SOON: Duration = Duration::from_secs(10);
const KEY: &str = "a key that only the tests of sealane have";
/// Pairs of a write and a read that each promise is held against.
const ROUNDS: usize = 120;

/// A cluster of which no replica shows anything new, and a handle for everybody.
async fn still(config: impl Fn(Config) -> Config) -> anyhow::Result<(Cluster, RoutedConnection)> {
    let cluster = fleet::moor().await?;
    let db = sealane::connect(config(fleet::config(&cluster)).token_key(KEY)).await?;
    fleet::ready(&db).await?;
    cluster.pause_replay().await?;
    Ok((cluster, db))
}

async fn is_there(db: &impl ConnectionTrait, id: i32) -> Result<bool, DbErr> {
    Ok(boat::Entity::find_by_id(id).one(db).await?.is_some())
}

/// Loads boats as a data loader of GraphQL does: in a task of its own.
struct Loader<S> {
    db: RoutedConnection,
    spawner: S,
}

type Load = std::pin::Pin<Box<dyn Future<Output = Result<bool, DbErr>> + Send>>;

impl<S: Fn(Load) -> JoinHandle<Result<bool, DbErr>>> Loader<S> {
    async fn load(&self, id: i32) -> anyhow::Result<bool> {
        let db = self.db.clone();
        Ok((self.spawner)(Box::pin(async move { is_there(&db, id).await })).await??)
    }
}

/// How many of the requests that write and then read in a spawned task miss their own write.
async fn misses_of_spawned_work(db: &RoutedConnection) -> anyhow::Result<usize> {
    let mut misses = 0;
    let loader = Loader { db: db.clone(), spawner: tokio::spawn::<Load> };
    for round in 0..ROUNDS {
        let request = async {
            let id = fleet::boat("spawned").insert(db).await?.id;
            if round % 2 == 0 {
                return loader.load(id).await;
            }
            let db = db.clone();
            anyhow::Ok(tokio::spawn(async move { is_there(&db, id).await }).await??)
        };
        misses += usize::from(!sealane::scope(db.session(), request).await?);
    }
    Ok(misses)
}

#[rstest]
#[case::by_tables(WriteTracking::Tables)]
#[case::as_a_whole(WriteTracking::Whole)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_leaves_its_scope_reads_what_was_written_in_it(
    #[case] tracking: WriteTracking,
) -> anyhow::Result<()> {
    let (cluster, db) = still(|config| config.write_tracking(tracking)).await?;
    ensure!(reads_on_replica(&db).await?, "nothing was written: the check is alive");
    let misses = misses_of_spawned_work(&db).await?;
    println!("{misses} of {ROUNDS} requests missed their own write in a spawned task");
    ensure!(misses == 0, "{BROKEN_PROMISE}: {misses} stale reads");
    cluster.resume_replay().await?;
    let leaves = async || Ok(reads_on_replica(&db).await?);
    eventually(SOON, "the shared handle leaves the primary", leaves).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_shared_handle_waits_for_no_session_spawned_work_misses_writes()
-> anyhow::Result<()> {
    let (_cluster, db) = still(|config| config.shared_waits_for_sessions(false)).await?;
    let misses = misses_of_spawned_work(&db).await?;
    println!("{misses} of {ROUNDS} requests missed their own write in a spawned task");
    // On a busy machine the replicas that stand still soon lag too far to be read at all.
    ensure!(misses >= 10, "{misses} of {ROUNDS}: does the setting do anything?");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shared_handle_waits_for_forks_and_resumed_sessions_too() -> anyhow::Result<()> {
    let (_cluster, db) = still(|config| config).await?;
    let writer = db.session();
    fleet::boat("first").insert(&writer).await?;
    let token = writer.token().await.context("a token")?;
    for session in [writer.fork(), db.fork(), db.resume(&token).session, db.resume("x").session] {
        let id = fleet::boat("another").insert(&session).await?.id;
        ensure!(is_there(&db, id).await?, "{BROKEN_PROMISE}: it missed the write of a session");
    }
    Ok(())
}

/// How many of [`ROUNDS`] spawned tasks missed what their user had written in another process, and
/// had told of with a token.
async fn misses_behind_a_token(
    here: &RoutedConnection,
    there: &RoutedConnection,
) -> anyhow::Result<usize> {
    let mut misses = 0;
    for _ in 0..ROUNDS {
        let session = there.session();
        let id = fleet::boat("elsewhere").insert(&session).await?.id;
        let token = session.token().await.context("a token")?;
        let resumed = here.resume(&token);
        ensure!(resumed.refused.is_none(), "{:?}", resumed.refused);
        let db = here.clone();
        let request = async { tokio::spawn(async move { is_there(&db, id).await }).await };
        misses += usize::from(!sealane::scope(resumed.session, request).await??);
    }
    Ok(misses)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_leaves_a_resumed_session_reads_what_was_written_elsewhere() -> anyhow::Result<()>
{
    let (cluster, here) = still(|config| config).await?;
    let there = sealane::connect(fleet::config(&cluster).token_key(KEY)).await?;
    ensure!(reads_on_replica(&here).await?, "nothing was written: the check is alive");
    let misses = misses_behind_a_token(&here, &there).await?;
    println!("{misses} of {ROUNDS} spawned tasks missed what a token told of");
    ensure!(misses == 0, "{BROKEN_PROMISE}: {misses} stale reads");
    cluster.resume_replay().await?;
    let leaves = async || Ok(reads_on_replica(&here).await?);
    eventually(SOON, "the shared handle leaves the primary", leaves).await?;

    let (cluster, here) = still(|config| config.shared_waits_for_sessions(false)).await?;
    let there = sealane::connect(fleet::config(&cluster).token_key(KEY)).await?;
    let misses = misses_behind_a_token(&here, &there).await?;
    ensure!(misses >= 10, "{misses} of {ROUNDS}: does the setting do anything?");
    Ok(())
}

/// Writes through SeaORM's executor, in the ways in which services do.
async fn write_by(executor: DatabaseExecutor<'_>, round: usize) -> Result<i32, DbErr> {
    if round.is_multiple_of(2) {
        return Ok(fleet::boat("executor").insert(&executor).await?.id);
    }
    let transaction = executor.begin().await?;
    let boat = fleet::boat("executor").insert(&transaction).await?;
    transaction.commit().await?;
    Ok(boat.id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_executor_wrote_is_read() -> anyhow::Result<()> {
    let (cluster, db) = still(|config| config).await?;
    ensure!(reads_on_replica(&db).await?, "nothing was written: the check is alive");
    let (mut misses, session) = (0, db.session());
    for round in 0..ROUNDS {
        let written = write_by((&session).into_database_executor(), round).await?;
        misses += usize::from(!is_there(&session, written).await?);
        // Work that has left the scope.
        misses += usize::from(!is_there(&db, written).await?);
        // In a scope, the handle for everybody stands for its session.
        let scoped = async {
            let written = write_by(DatabaseExecutor::from(&db), round).await?;
            is_there(&db, written).await
        };
        misses += usize::from(!sealane::scope(db.session(), scoped).await?);
        let written = write_by((&db).into_database_executor(), round).await?;
        misses += usize::from(!is_there(&db, written).await?);
    }
    println!("{misses} of {} reads missed what an executor wrote", 4 * ROUNDS);
    ensure!(misses == 0, "{BROKEN_PROMISE}: {misses} stale reads");
    // A write that ended while nothing was read counts, too.
    let executor: DatabaseExecutor<'_> = (&session).into();
    let written = fleet::boat("late").insert(&executor).await?.id;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    ensure!(
        is_there(&session, written).await?,
        "{BROKEN_PROMISE}: the last write of the time was missed"
    );
    let token = session.token().await.context("a token")?;
    ensure!(is_there(&db.resume(&token).session, written).await?, "the token does not know of it");
    cluster.resume_replay().await?;
    let leaves = async || Ok(reads_on_replica(&session).await? && reads_on_replica(&db).await?);
    eventually(SOON, "both leave the primary", leaves).await
}

/// Writes through a transaction of ours that SeaORM owns and commits.
async fn write_by_owned(db: &RoutedConnection) -> anyhow::Result<i32> {
    let executor = db.begin().await?.into_database_executor();
    let id = fleet::boat("owned").insert(&executor).await?.id;
    let DatabaseExecutor::OwnedTransaction(transaction) = executor else {
        bail!("it is not owned");
    };
    transaction.commit().await?;
    Ok(id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_transaction_wrote_that_was_given_away_is_read() -> anyhow::Result<()> {
    let (cluster, db) = still(|config| config).await?;
    ensure!(reads_on_replica(&db).await?, "nothing was written: the check is alive");
    let (mut misses, session) = (0, db.session());
    for _ in 0..ROUNDS / 2 {
        let written = write_by_owned(&session).await?;
        misses += usize::from(!is_there(&session, written).await?);
        misses += usize::from(!is_there(&db, written).await?);
        let written = write_by_owned(&db).await?;
        misses += usize::from(!is_there(&db, written).await?);
    }
    println!("{misses} of {} reads missed what an owned transaction wrote", 3 * ROUNDS / 2);
    ensure!(misses == 0, "{BROKEN_PROMISE}: {misses} stale reads");
    cluster.resume_replay().await?;
    let leaves = async || Ok(reads_on_replica(&session).await? && reads_on_replica(&db).await?);
    eventually(SOON, "both leave the primary", leaves).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_merged_session_has_seen_the_shared_handle_does_not_miss() -> anyhow::Result<()> {
    let (cluster, db) = still(|config| config).await?;
    let mut misses = 0;
    for _ in 0..ROUNDS / 4 {
        // Somebody else's write, of which only the reader knows.
        let id = fleet::boat("of another").insert(db.primary()).await?.id;
        let reader = db.session();
        ensure!(is_there(&reader.on_primary(), id).await?, "the primary has it");
        db.merge(&reader);
        misses += usize::from(!is_there(&db, id).await?);
    }
    println!("{misses} of {} merges lost what was seen", ROUNDS / 4);
    ensure!(misses == 0, "{BROKEN_PROMISE}: {misses} merges lost what was seen");
    cluster.resume_replay().await?;
    let leaves = async || Ok(reads_on_replica(&db).await?);
    eventually(SOON, "the shared handle leaves the primary", leaves).await
}

/// What is warned of.
const STRAY: &str = "a read outside any session follows a write";

/// What was written to a log.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn lines(&self, what: &str) -> Vec<String> {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&bytes);
        text.lines().filter(|line| line.contains(what)).map(str::to_owned).collect()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[rstest]
#[case::that_waits(true)]
#[case::that_does_not(false)]
// One thread, on which the log is kept.
#[tokio::test(flavor = "current_thread")]
async fn a_shared_read_that_would_miss_a_request_s_write_is_warned_of_once(
    #[case] waits: bool,
) -> anyhow::Result<()> {
    let (_cluster, db) = still(|config| config.shared_waits_for_sessions(waits)).await?;
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::DEBUG)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _logging = tracing_subscriber::util::SubscriberInitExt::set_default(subscriber);
    // A slow machine may be warned of for other reasons.
    let warnings = || -> Vec<String> {
        log.lines(STRAY).into_iter().filter(|line| line.contains(" WARN ")).collect()
    };
    misses_of_spawned_work(&db).await?;
    ensure!(warnings().is_empty(), "there is no layer: {:?}", warnings());
    let _layer = SessionLayer::new(&db)?;
    // Eventual reads may miss anything.
    fleet::boat("spawned").insert(&db.session()).await?;
    boat::Entity::find().all(&db.with_consistency(Consistency::Eventual)).await?;
    ensure!(warnings().is_empty(), "{:?}", warnings());
    misses_of_spawned_work(&db).await?;
    println!("{:?}", warnings());
    ensure!(warnings().len() == 1, "{:?}", warnings());
    for session in ["shared", "scoped", "own"] {
        let told = log.lines(&format!("session=\"{session}\""));
        ensure!(!told.is_empty(), "no route of a session that is {session}");
    }
    Ok(())
}
