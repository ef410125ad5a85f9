//! Reads whose connection is ended by a server on purpose, which only PostgreSQL can be made to
//! do by a read.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use sea_orm::ConnectionTrait;
use sealane::RoutedConnection;
use sealane_tests::{
    Cluster, Server, eventually,
    fleet::{self, raw, reads_on_replica},
};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(20);
/// An answer to whoever lost a connection for the second time, or by an administrator.
const ANSWER: Duration = Duration::from_secs(5);

/// Functions that call themselves reads. One ends the connection that it runs on, the other one
/// takes a while.
const FUNCTIONS: &str = "CREATE OR REPLACE FUNCTION scuttle() RETURNS boolean LANGUAGE plpgsql \
    STABLE AS $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(1); \
    RETURN true; END $$; \
    CREATE OR REPLACE FUNCTION report() RETURNS boolean LANGUAGE plpgsql STABLE AS \
    $$ BEGIN PERFORM pg_sleep(20); RETURN true; END $$";
const SCUTTLE: &str = "SELECT scuttle()";
const REPORT: &str = "SELECT report()";

/// A handle to the first of the cluster's servers, by whose lights both functions are reads.
async fn launch(servers: usize) -> anyhow::Result<(Cluster, RoutedConnection)> {
    let cluster = fleet::moor().await?;
    cluster.primary().sql(FUNCTIONS).await?;
    fleet::replayed(&cluster).await?;
    let replicas = cluster.replicas().iter().take(servers - 1);
    let config = fleet::config_of(&*cluster.primary().url, replicas.map(|it| &*it.url));
    let db = sealane::connect(config).await?;
    fleet::ready(&db).await?;
    for sql in [SCUTTLE, REPORT] {
        let choice = db.explain(sql);
        let choice = choice.first_choice();
        ensure!(choice.is_some_and(|name| name != "primary"), "{sql} runs on {choice:?}");
    }
    Ok((cluster, db))
}

/// How many of the server's processes were ended by somebody's order.
async fn killed(server: &Server) -> anyhow::Result<i64> {
    let sql = "SELECT sessions_killed FROM pg_stat_database WHERE datname = current_database()";
    server.query_scalar(sql).await
}

async fn all_killed(cluster: &Cluster) -> anyhow::Result<Vec<i64>> {
    let mut counts = Vec::new();
    for server in cluster.servers() {
        counts.push(killed(server).await?);
    }
    Ok(counts)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_ends_its_connection_visits_two_servers_and_not_the_primary()
-> anyhow::Result<()> {
    let (cluster, db) = launch(3).await?;
    let before = all_killed(&cluster).await?;
    let ended = timeout(SOON, db.session().query_all_raw(raw(&db, SCUTTLE))).await;
    let error = ended.context("it has no end")?.err().context("it succeeded")?;
    let visits = async || {
        let now = all_killed(&cluster).await?;
        anyhow::Ok(now.iter().zip(&before).map(|(now, before)| now - before).collect::<Vec<_>>())
    };
    eventually(SOON, "a visit is counted", async || Ok(visits().await?.iter().sum::<i64>() >= 1))
        .await?;
    // Those that came later are counted later.
    for _ in 0..10 {
        cluster.primary().sql("SELECT pg_sleep(0.1)").await?;
    }
    let visits = visits().await?;
    println!("visits, the primary's first: {visits:?}; `{error}`");
    ensure!(visits[0] == 0, "it reached the primary: {visits:?}");
    ensure!(visits.iter().sum::<i64>() <= 2, "{visits:?}");
    fleet::ready(&db).await?;
    ensure!(reads_on_replica(&db.session()).await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_that_an_administrator_ends_does_not_go_on_to_the_primary() -> anyhow::Result<()> {
    let (cluster, db) = launch(2).await?;
    let report = {
        let db = db.session();
        tokio::spawn(async move { db.query_all_raw(raw(&db, REPORT)).await.map(drop) })
    };
    let running = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT report()' AND state = 'active'";
    let runs = async |server: &Server| Ok(server.query_scalar::<i64>(running).await? > 0);
    let (primary, replica) = (cluster.primary(), cluster.server("replica-1"));
    eventually(SOON, "the report runs", async || runs(replica).await).await?;
    let end =
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'SELECT report()'";
    replica.sql(end).await?;
    let terminated = Instant::now();
    let mut on_primary = false;
    while terminated.elapsed() < ANSWER && !report.is_finished() {
        on_primary |= runs(primary).await?;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let answered = report.is_finished();
    println!("answered: {answered} after {:?}, on the primary: {on_primary}", terminated.elapsed());
    primary.sql(end).await?;
    let error = timeout(SOON, report).await.context("it has no end")??.err();
    ensure!(!on_primary, "it went on to the primary");
    ensure!(answered, "no answer after {ANSWER:?}");
    println!("`{}`", error.context("it succeeded")?);
    Ok(())
}
