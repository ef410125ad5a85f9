//! Transactions and scripts that go wrong half-way: what is told of them is what became of them.

use std::{future::poll_fn, pin::Pin, task::Poll, time::Duration};

use anyhow::{Context, ensure};
use sea_orm::{
    ConnectOptions, ConnectionTrait, DbErr, PaginatorTrait, Statement, TransactionTrait,
    entity::prelude::*,
};
use sealane::{Error, RoutedConnection};
use sealane_tests::{
    Cluster, Engine, Relay,
    fleet::{self, boat},
};
use tokio::time::timeout;

/// Whatever ends does so in this time.
const SOON: Duration = Duration::from_secs(5);
const NO_TABLE: &str = "INSERT INTO no_such_table VALUES (1)";

/// A process with one connection to the primary, which is used again and again.
async fn launch() -> anyhow::Result<(Cluster, RoutedConnection)> {
    let cluster = fleet::moor().await?;
    let db = connect(&cluster, &cluster.primary().url).await?;
    Ok((cluster, db))
}

async fn connect(cluster: &Cluster, primary: &str) -> anyhow::Result<RoutedConnection> {
    let options = |url: &str| {
        let mut options = ConnectOptions::new(url);
        options.max_connections(1).acquire_timeout(SOON);
        options
    };
    let replicas = cluster.replicas().iter().map(|it| options(&it.url));
    let db = sealane::connect(fleet::config_of(options(primary), replicas)).await?;
    fleet::ready(&db).await?;
    Ok(db)
}

fn is_lost<T>(result: &Result<T, DbErr>) -> bool {
    let error = result.as_ref().err().and_then(Error::of);
    matches!(error, Some(Error::TransactionLost { .. }))
}

/// Whether `running` has no end yet, after one look at it.
async fn is_pending<T>(running: &mut (impl Future<Output = T> + Unpin)) -> bool {
    poll_fn(|context| Poll::Ready(Pin::new(&mut *running).poll(context).is_pending())).await
}

/// How many boats a plain connection finds on the primary.
async fn boats(cluster: &Cluster) -> anyhow::Result<i64> {
    cluster.primary().query_scalar("SELECT count(*) FROM boat").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nested_transaction_that_does_not_begin_ends_the_whole_one() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let relay = Relay::to(cluster.primary()).await?;
    let db = connect(&cluster, relay.url()).await?;
    let transaction = db.begin().await?;
    fleet::boat("Ida").insert(&transaction).await?;
    // A busy machine may answer before the first look is over.
    relay.swallow();
    {
        let mut nested = Box::pin(transaction.begin());
        ensure!(is_pending(&mut nested).await, "it has begun");
    }
    relay.pass();
    let later = fleet::boat("Una").insert(&transaction).await;
    ensure!(is_lost(&later), "it went on: {later:?}");
    let end = transaction.commit().await;
    ensure!(is_lost(&end), "it was committed: {end:?}");
    ensure!(boats(&cluster).await? == 0, "something was kept");
    fleet::boat("Eva").insert(&db).await?;
    ensure!(boats(&cluster).await? == 1, "the next write is not there");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_is_a_success_only_if_something_was_committed() -> anyhow::Result<()> {
    let (cluster, db) = launch().await?;
    let transaction = db.begin().await?;
    fleet::boat("Ida").insert(&transaction).await?;
    ensure!(transaction.execute_unprepared(NO_TABLE).await.is_err());
    let end = transaction.commit().await;
    let kept = boats(&cluster).await?;
    ensure!(end.is_ok() == (kept == 1), "{kept} boats are there: {end:?}");
    // PostgreSQL aborts a transaction with its first error.
    ensure!(end.is_ok() == (cluster.engine() != Engine::Postgres), "{end:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nested_rollback_takes_an_error_back() -> anyhow::Result<()> {
    let (cluster, db) = launch().await?;
    let transaction = db.begin().await?;
    fleet::boat("Ida").insert(&transaction).await?;
    let nested = transaction.begin().await?;
    ensure!(nested.execute_unprepared(NO_TABLE).await.is_err());
    nested.rollback().await?;
    transaction.commit().await?;
    ensure!(boats(&cluster).await? == 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_with_too_few_values_does_not_hang_its_transaction() -> anyhow::Result<()> {
    let (cluster, db) = launch().await?;
    let transaction = db.begin().await?;
    fleet::boat("Ida").insert(&transaction).await?;
    let value = if cluster.engine() == Engine::Postgres { "$1" } else { "?" };
    let sql = format!("INSERT INTO boat (harbour_id, name) VALUES (1, {value})");
    let few = Statement::from_sql_and_values(transaction.get_database_backend(), sql, []);
    ensure!(transaction.execute_raw(few).await.is_err());
    timeout(SOON, transaction.rollback()).await.context("the rollback hangs")??;
    ensure!(boats(&cluster).await? == 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_that_fails_half_way_keeps_no_later_writes_to_itself() -> anyhow::Result<()> {
    let (cluster, db) = launch().await?;
    let begin = if cluster.engine() == Engine::Postgres { "BEGIN" } else { "START TRANSACTION" };
    let insert = "INSERT INTO boat (harbour_id, name) VALUES (1, 'Ida')";
    let script = format!("{begin}; {insert}; {NO_TABLE}; COMMIT");
    ensure!(db.execute_unprepared(&script).await.is_err());
    fleet::boat("Una").insert(&db).await?;
    ensure!(boats(&cluster).await? == 1, "the write is in the transaction of the script");
    db.execute_unprepared(begin).await?;
    fleet::boat("Eva").insert(&db).await?;
    ensure!(boats(&cluster).await? == 2, "the write is in a transaction that nobody ends");
    ensure!(boat::Entity::find().count(&db.on_primary()).await? == 2);
    Ok(())
}

/// Its first row comes before its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_procedure_that_fails_after_its_first_row_is_no_success() -> anyhow::Result<()> {
    let (cluster, db) = launch().await?;
    if cluster.engine() == Engine::Postgres {
        let raises = "CREATE OR REPLACE FUNCTION raises() RETURNS int LANGUAGE plpgsql VOLATILE AS \
             'BEGIN RAISE EXCEPTION ''no''; END'";
        cluster.primary().sql(raises).await?;
    } else {
        cluster.primary().sql("DROP PROCEDURE IF EXISTS half_way").await?;
        let fails = "CREATE PROCEDURE half_way() BEGIN SELECT 1; \
             SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no'; END";
        cluster.primary().sql(fails).await?;
    }
    let calls = match cluster.engine() {
        Engine::Postgres => {
            "SELECT n, CASE WHEN n = 2 THEN raises() END FROM generate_series(1, 2) n"
        }
        _ => "CALL half_way()",
    };
    let backend = db.get_database_backend();
    let end = db.query_one_raw(Statement::from_string(backend, calls)).await;
    ensure!(end.is_err(), "it is a success");
    fleet::boat("Ida").insert(&db).await?;
    ensure!(boats(&cluster).await? == 1);
    Ok(())
}
