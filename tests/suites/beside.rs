//! A session beside its own open transaction or stream: what those have shown, the session
//! does not read older.

use std::time::Duration;

use anyhow::{Context, ensure};
use futures_util::TryStreamExt;
use rstest::rstest;
use sea_orm::{
    AccessMode, ConnectionTrait, DatabaseTransaction, IsolationLevel, StreamTrait,
    TransactionTrait, entity::prelude::*,
};
use sealane::{RoutedConnection, RoutedTransaction};
use sealane_tests::{
    Cluster, Server, eventually,
    fleet::{self, boat, reads_on_replica, whereabouts},
};

const SOON: Duration = Duration::from_secs(10);
/// Of transactions, each with as many reads.
const ROUNDS: usize = 8;
/// Of reads in each transaction or stream.
const READS: i64 = 4;

/// How a transaction shows something.
#[derive(Clone, Copy, Debug)]
enum Way {
    Statement,
    Nested,
    Stream,
    AsSeaOrmsOwn,
    NestedAsSeaOrmsOwn,
}

fn own(transaction: &RoutedTransaction) -> &DatabaseTransaction {
    transaction
}

async fn voyages(db: &impl ConnectionTrait, id: i32) -> anyhow::Result<i64> {
    Ok(boat::Entity::find_by_id(id).one(db).await?.context("the boat")?.voyages)
}

async fn streamed(db: &RoutedTransaction, id: i32) -> anyhow::Result<i64> {
    let mut rows = boat::Entity::find_by_id(id).stream(db).await?;
    Ok(rows.try_next().await?.context("the boat")?.voyages)
}

/// Writes by somebody of whom no session here knows.
async fn sail(cluster: &Cluster, id: i32, voyages: i64) -> anyhow::Result<()> {
    let sailed = format!("UPDATE boat SET voyages = {voyages} WHERE id = {id}");
    cluster.primary().sql(&sailed).await
}

/// A read of `session` after one of `transaction` for each of [`READS`] writes of others:
/// in which of them the session went back.
async fn goes_back(
    cluster: &Cluster,
    session: &RoutedConnection,
    transaction: &RoutedTransaction,
    (way, id): (Way, i32),
) -> anyhow::Result<usize> {
    let mut back = 0;
    let nested = match way {
        Way::Nested | Way::NestedAsSeaOrmsOwn => Some(transaction.begin().await?),
        Way::Statement | Way::Stream | Way::AsSeaOrmsOwn => None,
    };
    let inner = nested.as_ref().unwrap_or(transaction);
    // Lent once, and used for as long as it is there.
    let lent = matches!(way, Way::AsSeaOrmsOwn | Way::NestedAsSeaOrmsOwn).then(|| own(inner));
    for read in 1..=READS {
        sail(cluster, id, read).await?;
        let shown = async || match (lent, way) {
            (Some(lent), _) => voyages(lent, id).await,
            (None, Way::Stream) => streamed(inner, id).await,
            (None, _) => voyages(inner, id).await,
        };
        // A replica shows it a little later.
        let mut seen = shown().await?;
        while seen < read {
            tokio::task::yield_now().await;
            seen = shown().await?;
        }
        back += usize::from(voyages(session, id).await? < seen);
    }
    if let Some(nested) = nested {
        nested.commit().await?;
        back += usize::from(voyages(session, id).await? < READS);
    }
    Ok(back)
}

async fn reset(cluster: &Cluster, id: i32) -> anyhow::Result<()> {
    cluster.resume_replay().await?;
    sail(cluster, id, 0).await?;
    fleet::replayed(cluster).await
}

#[rstest]
#[case::by_a_statement(Way::Statement)]
#[case::nested(Way::Nested)]
#[case::by_a_stream_in_it(Way::Stream)]
#[case::used_as_seaorms_own_type(Way::AsSeaOrmsOwn)]
#[case::nested_and_used_as_seaorms_own_type(Way::NestedAsSeaOrmsOwn)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_beside_its_own_open_transaction_does_not_go_back(
    #[case] way: Way,
) -> anyhow::Result<()> {
    let (cluster, db) = fleet::launch().await?;
    let id = fleet::boat("beside").insert(db.primary()).await?.id;
    let mut back = 0;
    for _ in 0..ROUNDS {
        reset(&cluster, id).await?;
        fleet::ready(&db).await?;
        cluster.pause_replay().await?;
        let session = db.session();
        ensure!(voyages(&session, id).await? == 0);
        // Each statement has a snapshot of its own, on all engines.
        let level = Some(IsolationLevel::ReadCommitted);
        let transaction = session.begin_with_config(level, None).await?;
        back += goes_back(&cluster, &session, &transaction, (way, id)).await?;
        transaction.rollback().await?;
        back += usize::from(voyages(&session, id).await? < READS);
    }
    println!("{way:?}: went back {back} times in {ROUNDS} transactions of {READS} reads");
    ensure!(back == 0, "{way:?}: {back}");
    Ok(())
}

/// The replica on which `transaction` is, and the other one.
async fn on_which<'a>(
    cluster: &'a Cluster,
    transaction: &RoutedTransaction,
) -> anyhow::Result<[&'a Server; 2]> {
    let here = whereabouts::Entity::find().one(transaction).await?.context("whereabouts")?;
    ensure!(here.in_recovery, "it is on the primary");
    let [one, two] = [&cluster.replicas()[0], &cluster.replicas()[1]];
    Ok(if fleet::address(one).await? == here.address { [one, two] } else { [two, one] })
}

#[rstest]
#[case::by_a_statement(Way::Statement)]
#[case::nested(Way::Nested)]
#[case::by_a_stream_in_it(Way::Stream)]
#[case::used_as_seaorms_own_type(Way::AsSeaOrmsOwn)]
#[case::nested_and_used_as_seaorms_own_type(Way::NestedAsSeaOrmsOwn)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_beside_its_own_open_read_only_transaction_does_not_go_back(
    #[case] way: Way,
) -> anyhow::Result<()> {
    let (cluster, db) = fleet::launch().await?;
    let id = fleet::boat("beside").insert(db.primary()).await?.id;
    let mut back = 0;
    for _ in 0..ROUNDS {
        reset(&cluster, id).await?;
        fleet::ready(&db).await?;
        let session = db.session();
        let level = Some(IsolationLevel::ReadCommitted);
        let transaction = session.begin_with_config(level, Some(AccessMode::ReadOnly)).await?;
        let [_, other] = on_which(&cluster, &transaction).await?;
        // Or the session would stay where its transaction is in any case. What the primary
        // logs by itself, meanwhile, must not be missing.
        let serves = async || {
            other.resume_replay().await?;
            fleet::replayed(&cluster).await?;
            other.pause_replay().await?;
            // A statement that waits makes probes quick.
            reads_on_replica(&session.fork()).await?;
            Ok(session.explain("SELECT 1").choices.iter().all(|choice| choice.refusal.is_none()))
        };
        eventually(SOON, "both replicas may serve the session", serves).await?;
        back += goes_back(&cluster, &session, &transaction, (way, id)).await?;
        transaction.commit().await?;
        back += usize::from(voyages(&session, id).await? < READS);
    }
    println!("{way:?}: went back {back} times in {ROUNDS} transactions of {READS} reads");
    ensure!(back == 0, "{way:?}: {back}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_beside_its_own_open_stream_does_not_go_back() -> anyhow::Result<()> {
    let (cluster, db) = fleet::launch().await?;
    let id = fleet::boat("beside").insert(db.primary()).await?.id;
    let mut back = 0;
    for round in 0..ROUNDS {
        reset(&cluster, id).await?;
        fleet::ready(&db).await?;
        cluster.pause_replay().await?;
        sail(&cluster, id, 1001).await?;
        let session = db.session();
        ensure!(voyages(&session, id).await? == 0, "round {round}: replay is not paused");
        let sql = format!("SELECT voyages FROM boat WHERE id = {id} FOR UPDATE");
        let mut rows = session.stream_raw(fleet::raw(&session, &sql)).await?;
        let seen: i64 = rows.try_next().await?.context("the boat")?.try_get("", "voyages")?;
        ensure!(seen == 1001, "{seen}");
        back += usize::from(voyages(&session, id).await? < seen);
        drop(rows);
        back += usize::from(voyages(&session, id).await? < seen);
    }
    println!("went back {back} times beside {ROUNDS} streams");
    ensure!(back == 0, "{back}");
    Ok(())
}
