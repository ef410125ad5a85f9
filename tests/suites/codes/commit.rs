//! A COMMIT that an administrator ends while it waits for a lock.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, ensure};
use sea_orm::{DbErr, TransactionTrait, entity::prelude::*};
use sealane::{Error, RoutedConnection};
use sealane_tests::{
    Cluster, eventually,
    fleet::{self, boat},
};

use crate::{admin, case::code_of};

const SOON: Duration = Duration::from_secs(10);
const WAITING: &str = "SELECT CAST(COALESCE(MAX(id), 0) AS SIGNED) FROM information_schema.processlist \
     WHERE user = 'sealane' AND info = 'COMMIT'";

/// The error of a COMMIT that waits for a lock until somebody ends it with `how`.
async fn ended(cluster: &Cluster, db: &RoutedConnection, how: &str) -> anyhow::Result<DbErr> {
    let primary = cluster.primary();
    let transaction = db.begin().await?;
    fleet::boat("waiting").insert(&transaction).await?;
    let mut admin = admin(primary).await?;
    sqlx::raw_sql("FLUSH TABLES WITH READ LOCK").execute(&mut admin).await?;
    let commit = tokio::spawn(transaction.commit());
    let ended = async {
        let waits = async || Ok(primary.query_scalar::<i64>(WAITING).await? != 0);
        eventually(SOON, "the COMMIT waits", waits).await?;
        let thread: i64 = primary.query_scalar(WAITING).await?;
        primary.sql(&format!("KILL {how} {thread}")).await?;
        commit.await?.err().context("it succeeded")
    };
    let ended = ended.await;
    sqlx::raw_sql("UNLOCK TABLES").execute(&mut admin).await?;
    ended
}

/// The code of the server's answer, wherever it stands in the error.
fn answered(error: &DbErr) -> Option<u16> {
    match Error::of(error) {
        Some(Error::OutcomeUnknown { cause, .. }) => cause.as_ref().and_then(code_of),
        _ => code_of(error),
    }
}

/// Whether it was carried out is unknown then, whatever the server says. Whoever ends only the
/// statement gets the server's own answer: the transaction was rolled back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_outcome_of_a_commit_whose_connection_is_ended_is_unknown() -> anyhow::Result<()> {
    let (cluster, db) = fleet::launch().await?;
    let mut codes = BTreeSet::new();
    for (how, is_unknown) in [("CONNECTION", true), ("QUERY", false)] {
        let error = ended(&cluster, &db, how).await.context(how)?;
        println!("KILL {how}: {error}");
        codes.extend(answered(&error));
        let found = matches!(Error::of(&error), Some(Error::OutcomeUnknown { .. }));
        ensure!(found == is_unknown, "KILL {how}: {error:?}");
    }
    println!("codes provoked at COMMIT: {codes:?}");
    let there = boat::Entity::find().filter(boat::Column::Name.eq("waiting"));
    let there = there.count(&db.on_primary()).await?;
    ensure!(there == 0, "{there} of 2 are there");
    Ok(())
}
