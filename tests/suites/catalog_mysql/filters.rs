//! Replication filters: what they leave out is read on the primary, and they are told.

use anyhow::{Context, ensure};
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use sealane::{Config, RoutedConnection};
use sealane_tests::{BROKEN_PROMISE, Cluster, Engine, Log, Server, eventually, fleet};

use crate::{SOON, connected, leaves, stocked};

/// Own reads with each filter.
const READS: usize = 12;
/// What the filters leave out.
const TABLES: [&str; 2] = ["sealane.skipped", "hold.skipped"];
/// `moved` gets the rows of a database under another name. Only rows are filtered by the databases of their
/// tables, and MariaDB logs most changes as statements unless told otherwise.
const SETUP: &str = "SET GLOBAL binlog_format = ROW; \
    CREATE DATABASE IF NOT EXISTS hold; CREATE DATABASE IF NOT EXISTS moved; \
    DROP TABLE IF EXISTS sealane.skipped, hold.skipped, moved.skipped; \
    CREATE TABLE sealane.skipped (id int PRIMARY KEY); \
    CREATE TABLE hold.skipped (id int PRIMARY KEY); \
    CREATE TABLE moved.skipped (id int PRIMARY KEY); \
    DROP USER IF EXISTS lookout@'%'; CREATE USER lookout@'%' IDENTIFIED BY 'lookout'; \
    GRANT ALL ON sealane.* TO lookout@'%'; GRANT ALL ON hold.* TO lookout@'%'";
const CLEAR: &str = "SET GLOBAL binlog_format = DEFAULT; DROP DATABASE hold; DROP DATABASE moved; \
    DROP TABLE sealane.skipped; DROP USER lookout@'%'";

/// A filter of replicas: how it is set and reset, and the table that it leaves out.
type Filter = (&'static str, &'static str, &'static str);
/// Which one leaves out the database `hold`.
const IGNORES_HOLD: usize = 4;

#[rustfmt::skip]
const OF_MYSQL: &[Filter] = &[
    ("REPLICATE_IGNORE_TABLE = (sealane.skipped)", "REPLICATE_IGNORE_TABLE = ()", TABLES[0]),
    ("REPLICATE_WILD_IGNORE_TABLE = ('sealane.skip%')", "REPLICATE_WILD_IGNORE_TABLE = ()", TABLES[0]),
    ("REPLICATE_DO_TABLE = (sealane.harbour, sealane.boat)", "REPLICATE_DO_TABLE = ()", TABLES[0]),
    ("REPLICATE_WILD_DO_TABLE = ('sealane.h%')", "REPLICATE_WILD_DO_TABLE = ()", TABLES[0]),
    ("REPLICATE_IGNORE_DB = (hold)", "REPLICATE_IGNORE_DB = ()", TABLES[1]),
    ("REPLICATE_DO_DB = (sealane)", "REPLICATE_DO_DB = ()", TABLES[1]),
    ("REPLICATE_REWRITE_DB = ((hold, moved))", "REPLICATE_REWRITE_DB = ()", TABLES[1]),
];

#[rustfmt::skip]
const OF_MARIADB: &[Filter] = &[
    ("replicate_ignore_table = 'sealane.skipped'", "replicate_ignore_table = ''", TABLES[0]),
    ("replicate_wild_ignore_table = 'sealane.skip%'", "replicate_wild_ignore_table = ''", TABLES[0]),
    ("replicate_do_table = 'sealane.harbour,sealane.boat'", "replicate_do_table = ''", TABLES[0]),
    ("replicate_wild_do_table = 'sealane.h%'", "replicate_wild_do_table = ''", TABLES[0]),
    ("replicate_ignore_db = 'hold'", "replicate_ignore_db = ''", TABLES[1]),
    ("replicate_do_db = 'sealane'", "replicate_do_db = ''", TABLES[1]),
    ("replicate_rewrite_db = 'hold->moved'", "replicate_rewrite_db = ''", TABLES[1]),
];

async fn set(cluster: &Cluster, filter: &str) -> anyhow::Result<()> {
    let change = match cluster.engine() {
        Engine::Mysql => format!("CHANGE REPLICATION FILTER {filter}"),
        _ => format!("SET GLOBAL {filter}"),
    };
    for replica in cluster.replicas() {
        replica.sql(&format!("STOP REPLICA; {change}; START REPLICA")).await?;
        eventually(SOON, "it streams again", async || replica.is_streaming().await).await?;
    }
    Ok(())
}

/// A connection of a role that may see filters. It uses `database`.
async fn with_lookout(cluster: &Cluster, database: &str) -> anyhow::Result<RoutedConnection> {
    let url = |server: &Server| {
        let url = fleet::url_as(&server.url, "lookout");
        url.rsplit_once('/').map_or(url.clone(), |(server, _)| format!("{server}/{database}"))
    };
    let first = Config::new(url(cluster.primary()));
    connected(cluster.replicas().iter().fold(first, |config, it| config.replica(url(it)))).await
}

/// A session reads what it wrote into `table`, of which replicas have nothing.
async fn misses_nothing(
    db: &RoutedConnection,
    cluster: &Cluster,
    table: &str,
) -> anyhow::Result<()> {
    let (session, mut missing) = (db.session(), 0);
    for id in 1..=READS {
        session.execute_unprepared(&format!("INSERT INTO {table} VALUES ({id})")).await?;
        fleet::replayed(cluster).await?;
        let sql = format!("SELECT id FROM {table} WHERE id = {id}");
        let read = Statement::from_string(DbBackend::MySql, sql);
        missing += i32::from(session.query_one_raw(read).await?.is_none());
    }
    ensure!(missing == 0, "{BROKEN_PROMISE}: {missing} of {READS} own reads are missing");
    for replica in cluster.replicas() {
        let rows: i64 = replica.query_scalar(&format!("SELECT count(*) FROM {table}")).await?;
        ensure!(rows == 0, "{} has {rows} rows, so this shows nothing", replica.name);
    }
    let explained = db.explain(&format!("SELECT * FROM {table}"));
    ensure!(explained.reason.contains("filter"), "{explained}");
    Ok(())
}

/// And other tables are still read on replicas.
async fn misses_nothing_else(cluster: &Cluster, table: &str, log: &Log) -> anyhow::Result<()> {
    cluster.primary().sql(&format!("TRUNCATE {table}")).await?;
    log.forget();
    let db = with_lookout(cluster, "sealane").await?;
    misses_nothing(&db, cluster, table).await?;
    ensure!(leaves(&db, "SELECT * FROM harbour"), "other tables are read on replicas");
    let told = log.lines("this server filters replication");
    ensure!(!told.is_empty(), "nobody was told");
    Ok(())
}

/// Of changes that are logged as statements, the database in use decides.
async fn misses_nothing_that_is_logged_as_a_statement(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.primary().sql("TRUNCATE sealane.skipped; SET GLOBAL binlog_format = STATEMENT").await?;
    let db = with_lookout(cluster, "hold").await?;
    let outcome = misses_nothing(&db, cluster, TABLES[0]).await;
    cluster.primary().sql("SET GLOBAL binlog_format = ROW").await?;
    outcome
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_filter_leaves_out_is_read_on_the_primary() -> anyhow::Result<()> {
    let log = Log::of_this_process();
    let cluster = stocked().await?;
    let (filters, grant) = match cluster.engine() {
        Engine::Mysql => (OF_MYSQL, "REPLICATION CLIENT"),
        _ => (OF_MARIADB, "SLAVE MONITOR, BINLOG MONITOR"),
    };
    let setup = format!("{SETUP}; GRANT {grant} ON *.* TO lookout@'%'");
    cluster.primary().sql(&setup).await?;
    fleet::replayed(&cluster).await?;
    log.forget();
    let db = with_lookout(&cluster, "sealane").await?;
    ensure!(leaves(&db, "SELECT * FROM skipped"), "{}", db.explain("SELECT * FROM skipped"));
    let told = log.lines("filters");
    ensure!(told.is_empty(), "without a filter: {told:?}");
    for (filter, no_filter, table) in filters {
        set(&cluster, filter).await?;
        let outcome = misses_nothing_else(&cluster, table, log).await;
        set(&cluster, no_filter).await?;
        outcome.with_context(|| (*filter).to_owned())?;
    }
    let (filter, no_filter, _) = filters[IGNORES_HOLD];
    set(&cluster, filter).await?;
    let outcome = misses_nothing_that_is_logged_as_a_statement(&cluster).await;
    set(&cluster, no_filter).await?;
    outcome.context("logged as statements")?;
    cluster.primary().sql(CLEAR).await
}

/// A role that may not see filters is told so once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_that_a_role_may_not_see_are_told() -> anyhow::Result<()> {
    let log = Log::of_this_process();
    let cluster = stocked().await?;
    log.forget();
    let db = connected(fleet::config(&cluster)).await?;
    let told = async || Ok(!log.lines("our role may not see this server's filters").is_empty());
    eventually(SOON, "it is told", told).await?;
    ensure!(leaves(&db, "SELECT * FROM harbour"));
    Ok(())
}

/// What the primary's binary log leaves out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_binary_log_leaves_out_is_read_on_the_primary() -> anyhow::Result<()> {
    let log = Log::of_this_process();
    let cluster = stocked().await?;
    let grant = match cluster.engine() {
        Engine::Mysql => "REPLICATION CLIENT",
        _ => "SLAVE MONITOR, BINLOG MONITOR",
    };
    let setup = format!("{SETUP}; GRANT {grant} ON *.* TO lookout@'%'");
    cluster.primary().sql(&setup).await?;
    fleet::replayed(&cluster).await?;
    for option in ["binlog_ignore_db = hold", "binlog_do_db = sealane"] {
        cluster.primary().restart_with(&[option, "binlog_format = ROW"]).await?;
        for replica in cluster.replicas() {
            eventually(SOON, "it streams again", async || replica.is_streaming().await).await?;
        }
        let outcome = misses_nothing_else(&cluster, TABLES[1], log).await.context(option);
        if outcome.is_err() {
            cluster.primary().restart_with(&[]).await?;
        }
        outcome?;
    }
    cluster.primary().restart_with(&[]).await?;
    cluster.primary().sql(CLEAR).await
}
