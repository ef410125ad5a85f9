//! Statements that fail by their own fault.

use std::time::Duration;

use anyhow::{Context, ensure};
use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement, entity::prelude::*};
use sealane::{Event, Failure, RoutedConnection};
use sealane_tests::{
    crew::Crew,
    fleet::{self, harbour},
};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(20);
const ROUNDS: usize = 20;
const LISTEN: Duration = Duration::from_millis(500);

/// A read with one value less than it has places.
async fn too_few(db: &RoutedConnection) -> Result<(), DbErr> {
    let backend = db.get_database_backend();
    let sql = match backend {
        DbBackend::MySql => "SELECT id FROM harbour WHERE id = ? AND id < ?",
        _ => "SELECT id FROM harbour WHERE id = $1 AND id < $2",
    };
    let statement = Statement::from_sql_and_values(backend, sql, [1.into()]);
    db.query_all_raw(statement).await.map(drop)
}

/// A read with more values than the protocol can count.
async fn too_many(db: &RoutedConnection) -> Result<(), DbErr> {
    harbour::Entity::find().filter(harbour::Column::Id.is_in(0..65_536)).all(db).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_with_too_few_values_takes_nobody_down() -> anyhow::Result<()> {
    takes_nobody_down(async |db| too_few(db).await).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_with_too_many_values_takes_nobody_down() -> anyhow::Result<()> {
    takes_nobody_down(async |db| too_many(db).await).await
}

#[allow(clippy::print_stdout, reason = "figures of a test")]
async fn takes_nobody_down(
    bad: impl AsyncFn(&RoutedConnection) -> Result<(), DbErr>,
) -> anyhow::Result<()> {
    let (_cluster, db) = fleet::launch().await?;
    let crew = {
        let db = db.clone();
        Crew::start(4, move |_, _| {
            let session = db.session();
            async move { harbour::Entity::find().all(&session).await.map(drop) }
        })
    };
    crew.more(200).await?;
    let on_primary = || db.status().endpoints[0].reads;
    let (mut events, before) = (db.events(), on_primary());
    let mut said = String::new();
    for _ in 0..ROUNDS {
        let ended = timeout(SOON, bad(&db.session())).await.context("it has no end")?;
        said = ended.err().context("the statement succeeded")?.to_string();
        crew.more(10).await?;
    }
    let mut changes = Vec::new();
    while let Ok(Some(event)) = timeout(LISTEN, events.next()).await {
        changes.push(event);
    }
    let innocent = on_primary() - before;
    let done = crew.stop(SOON).await?;
    let failed = done.iter().filter(|done| done.failure.is_some()).count();
    println!(
        "`{said}`: {} events, {innocent} reads on the primary, {failed} failed",
        changes.len()
    );
    // A probe that takes too long on a busy machine is not the statement's fault.
    let is_slow = |event: &&Event| matches!(event, Event::Down { failure: Failure::Timeout, .. });
    let mut downs = changes.iter().filter(|event| matches!(event, Event::Down { .. }));
    let down = downs.find(|event| !is_slow(event));
    ensure!(down.is_none(), "{ROUNDS} times `{said}`: {down:?}");
    // Its own may have been tried there.
    let own = u64::try_from(ROUNDS)?;
    ensure!(innocent <= own, "{innocent} reads went to the primary");
    ensure!(failed == 0, "{failed} reads of others failed");
    Ok(())
}
