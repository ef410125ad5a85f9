//! Connections that a server ends because nothing came over them for too long: MySQL tells so with
//! code 4031, and MariaDB only closes them, as a server that dies does: it is suspected until it answers.

use std::time::Duration;

use anyhow::{Context, ensure};
use sea_orm::{ConnectOptions, ConnectionTrait, DbBackend, Statement};
use sealane::RoundRobin;
use sealane_tests::{Cluster, Engine, Log, Server, eventually, fleet};

use crate::{case::nobody_went, eventual, serve};

const SOON: Duration = Duration::from_secs(20);
/// Longer than the monitor leaves its own connection idle.
const ALLOWED: &str = "SET GLOBAL wait_timeout = 2";

/// Connections of the application that its statements use: the monitor's are never idle for long.
async fn idle(server: &Server) -> anyhow::Result<i64> {
    server
        .query_scalar(
            "SELECT COUNT(*) FROM information_schema.processlist \
             WHERE user = 'sealane' AND command = 'Sleep' AND time >= 1",
        )
        .await
}

async fn read_on(cluster: &Cluster, log: &Log) -> anyhow::Result<()> {
    // Without the ping that otherwise finds such connections first.
    let options = |server: &Server| {
        let mut options = ConnectOptions::new(&server.url);
        options.test_before_acquire_if_idle_for(Duration::from_secs(3_600));
        options
    };
    let replicas = cluster.replicas().iter().map(options);
    let config = fleet::config_of(options(cluster.primary()), replicas)
        .balancer(RoundRobin::default())
        .ejection(fleet::never_ejected());
    let db = sealane::connect(config).await?;
    serve(&db).await?;
    let reader = eventual(&db);
    let read = async || {
        let read = Statement::from_string(DbBackend::MySql, "SELECT id FROM harbour WHERE id = 1");
        reader.query_one_raw(read).await
    };
    for _ in 0..8 {
        read().await?;
    }
    let ended = cluster.server("replica-1");
    eventually(SOON, "a connection is idle", async || Ok(idle(ended).await? > 0)).await?;
    eventually(SOON, "it is ended", async || Ok(idle(ended).await? == 0)).await?;
    log.forget();
    let mut events = db.events();
    for n in 0..8 {
        let found = read().await.with_context(|| format!("read {n}"))?;
        ensure!(found.is_some(), "no row");
    }
    if cluster.engine() == Engine::Mysql {
        nobody_went(&mut events, &db).await?;
        let told = log.failures("4031");
        ensure!(!told.is_empty(), "no read met an ended connection");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_was_idle_for_too_long_fails_no_read() -> anyhow::Result<()> {
    let log = Log::of_this_process();
    let cluster = fleet::moor().await?;
    let ended = cluster.server("replica-1");
    ended.sql(ALLOWED).await?;
    let outcome = read_on(&cluster, log).await;
    // Connections that are open keep their own setting.
    ended.sql("SET GLOBAL wait_timeout = DEFAULT").await?;
    outcome
}
