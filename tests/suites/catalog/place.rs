//! Where a statement goes: by its explanation, and by running it.

use std::time::Duration;

use anyhow::{Context, ensure};
use sea_orm::{ConnectionTrait, DbBackend, Statement, TryGetable};
use sealane::{Config, RoutedConnection};
use sealane_tests::{Cluster, eventually, fleet};

/// Loading the catalog takes milliseconds, at most every 200 of them.
pub const SOON: Duration = Duration::from_secs(10);

/// Where a statement belongs.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    Replica,
    /// And the reason names this.
    Primary(&'static str),
}

/// What all statements here select first: whether a replica answers.
const HERE: &str = "SELECT pg_is_in_recovery() AS here";

/// A healthy cluster with a larder, and a connection that knows its catalog.
pub async fn larder() -> anyhow::Result<(Cluster, RoutedConnection)> {
    let cluster = stocked().await?;
    let db = connected(fleet::config(&cluster)).await?;
    fleet::ready(&db).await?;
    Ok((cluster, db))
}

/// A healthy cluster with a larder on every server.
pub async fn stocked() -> anyhow::Result<Cluster> {
    let cluster = Cluster::healthy().await?;
    cluster.primary().sql(include_str!("larder.sql")).await?;
    fleet::replayed(&cluster).await?;
    Ok(cluster)
}

pub async fn connected(config: Config) -> anyhow::Result<RoutedConnection> {
    let db = sealane::connect(config).await?;
    let session = db.session();
    let knows = async || Ok(session.explain("SELECT larder.tasted('a')").intent.is_read());
    eventually(SOON, "the catalog is known", knows).await?;
    Ok(db)
}

/// Leaves nothing that would be in other suites' catalogs.
pub async fn clear(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.primary().sql("DROP SCHEMA larder CASCADE; DROP SCHEMA cellar CASCADE").await
}

/// Checks every statement, `SELECT` and the server first and then as given; names all that are
/// elsewhere than they should be.
pub async fn check(db: &RoutedConnection, expected: &[(&str, Place)]) -> anyhow::Result<()> {
    let mut wrong = Vec::new();
    for (rest, place) in expected {
        let sql = format!("{HERE}{rest}");
        if let Err(error) = check_one(db, &sql, *place).await {
            wrong.push(format!("{sql}: {error:#}"));
        }
    }
    ensure!(wrong.is_empty(), "{} of {} wrong:\n{}", wrong.len(), expected.len(), wrong.join("\n"));
    println!("{} statements are where they belong", expected.len());
    Ok(())
}

async fn check_one(db: &RoutedConnection, sql: &str, place: Place) -> anyhow::Result<()> {
    // Sessions of their own: what others wrote does not keep their reads on the primary.
    let session = db.session();
    let explanation = session.explain(sql);
    let goes_to = explanation.first_choice().context("it goes nowhere")?.to_owned();
    let reason = explanation.reason;
    match place {
        Place::Replica => ensure!(goes_to != "primary", "goes to the primary: {reason}"),
        Place::Primary(word) => {
            ensure!(goes_to == "primary", "goes to {goes_to}: {reason}");
            ensure!(reason.contains(word), "does not name {word}: {reason}");
        }
    }
    let ran_on_replica = answer::<bool>(&session, sql, "here").await?;
    let belongs_there = matches!(place, Place::Replica);
    ensure!(ran_on_replica == belongs_there, "ran on a replica: {ran_on_replica}");
    Ok(())
}

/// One column of the only row.
pub async fn answer<T: TryGetable>(
    db: &impl ConnectionTrait,
    sql: &str,
    column: &str,
) -> anyhow::Result<T> {
    let row = db.query_one_raw(Statement::from_string(DbBackend::Postgres, sql)).await?;
    Ok(row.context("no row")?.try_get("", column)?)
}
