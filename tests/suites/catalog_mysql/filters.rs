//! Replication filters: what they leave out is read on the primary, and they are told.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use sealane::{Config, Health, RoutedConnection};
use sealane_tests::{BROKEN_PROMISE, Cluster, Engine, Log, Server, eventually, fleet};

use crate::{SOON, connected, leaves, missed, stocked, transactions_leave};

/// Own reads with each filter.
pub(crate) const READS: usize = 12;
/// What the filters leave out.
pub(crate) const TABLES: [&str; 2] = ["sealane.skipped", "hold.skipped"];
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
pub(crate) type Filter = (&'static str, &'static str, &'static str);
/// Where those of databases begin: what they leave out is in `hold`.
pub(crate) const OF_DATABASES: usize = 4;
/// Which one gives `hold` another name.
const RENAMES: usize = 6;

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

/// Every filter of replicas that there is.
pub(crate) fn all(engine: Engine) -> &'static [Filter] {
    match engine {
        Engine::Mysql => OF_MYSQL,
        _ => OF_MARIADB,
    }
}

pub(crate) async fn set(cluster: &Cluster, filter: &str) -> anyhow::Result<()> {
    let change = match cluster.engine() {
        Engine::Mysql => format!("CHANGE REPLICATION FILTER {filter}"),
        _ => format!("SET GLOBAL {filter}"),
    };
    for replica in cluster.replicas() {
        replica.sql(&format!("STOP REPLICA; {change}; START REPLICA")).await?;
    }
    streaming(cluster).await
}

/// Waits until all replicas receive again.
async fn streaming(cluster: &Cluster) -> anyhow::Result<()> {
    for replica in cluster.replicas() {
        eventually(SOON, "it streams again", async || replica.is_streaming().await).await?;
    }
    Ok(())
}

/// The tables, and a role that may see filters.
pub(crate) async fn set_up(cluster: &Cluster) -> anyhow::Result<()> {
    let grant = match cluster.engine() {
        Engine::Mysql => "REPLICATION CLIENT",
        _ => "SLAVE MONITOR, BINLOG MONITOR",
    };
    let setup = format!("{SETUP}; GRANT {grant} ON *.* TO lookout@'%'");
    cluster.primary().sql(&setup).await?;
    fleet::replayed(cluster).await
}

pub(crate) async fn clear(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.primary().sql(CLEAR).await
}

/// The configuration for a role that may see filters. It uses `database`.
pub(crate) fn lookout(cluster: &Cluster, database: &str) -> Config {
    let url = |server: &Server| {
        let url = fleet::url_as(&server.url, "lookout");
        url.rsplit_once('/').map_or(url.clone(), |(server, _)| format!("{server}/{database}"))
    };
    fleet::config_as(cluster, url)
}

pub(crate) async fn with_lookout(
    cluster: &Cluster,
    database: &str,
) -> anyhow::Result<RoutedConnection> {
    connected(lookout(cluster, database)).await
}

/// A session reads what it wrote into `table`, of which these replicas have nothing.
pub(crate) async fn misses_nothing(
    db: &RoutedConnection,
    cluster: &Cluster,
    table: &str,
    without: &[Server],
) -> anyhow::Result<()> {
    let (session, mut missing) = (db.session(), 0);
    for id in 1..=READS {
        session.execute_unprepared(&format!("INSERT INTO {table} VALUES ({id})")).await?;
        // Whoever gets this has also got past the insert, for which a log may have no position.
        let next = format!("UPDATE sealane.harbour SET name = 'after {id}' WHERE id = 1");
        cluster.primary().sql(&next).await?;
        fleet::replayed(cluster).await?;
        let sql = format!("SELECT id FROM {table} WHERE id = {id}");
        missing += missed(&session, &sql).await?;
    }
    ensure!(missing == 0, "{BROKEN_PROMISE}: {missing} of {} own reads are missing", 3 * READS);
    for replica in without {
        let rows: i64 = replica.query_scalar(&format!("SELECT count(*) FROM {table}")).await?;
        ensure!(rows == 0, "{} has {rows} rows, so this shows nothing", replica.name);
    }
    let explained = db.explain(&format!("SELECT * FROM {table}"));
    ensure!(explained.reason.contains("a filter of replication"), "{explained}");
    Ok(())
}

/// And other tables are still read on replicas.
async fn misses_nothing_else(cluster: &Cluster, table: &str, log: &Log) -> anyhow::Result<()> {
    cluster.primary().sql(&format!("TRUNCATE {table}")).await?;
    log.forget();
    let db = with_lookout(cluster, "sealane").await?;
    misses_nothing(&db, cluster, table, cluster.replicas()).await?;
    ensure!(leaves(&db, "SELECT * FROM harbour"), "other tables are read on replicas");
    for words in ["this server filters replication", "read-only transactions run on the primary"] {
        ensure!(!log.lines(words).is_empty(), "nobody was told: {words}");
    }
    Ok(())
}

/// Of changes that are logged as statements, the database in use decides. Where it gets another name, names
/// with a database keep theirs.
async fn misses_nothing_that_is_logged_as_a_statement(
    cluster: &Cluster,
    is_renamed: bool,
) -> anyhow::Result<()> {
    let format = "TRUNCATE sealane.skipped; TRUNCATE hold.skipped; SET GLOBAL binlog_format";
    cluster.primary().sql(&format!("{format} = STATEMENT")).await?;
    let db = with_lookout(cluster, "hold").await?;
    if is_renamed {
        db.execute_unprepared("INSERT INTO skipped VALUES (0)").await?;
        fleet::replayed(cluster).await?;
        let sql = "SELECT count(*) FROM moved.skipped WHERE id = 0";
        let arrived: i64 = cluster.server("replica-1").query_scalar(sql).await?;
        ensure!(arrived == 1, "it has not arrived under the other name");
        let sql = "SELECT id FROM skipped WHERE id = 0";
        for _ in 0..READS {
            let read = Statement::from_string(DbBackend::MySql, sql);
            ensure!(db.session().query_one_raw(read).await?.is_some(), "{BROKEN_PROMISE}");
        }
        ensure!(db.explain(sql).reason.contains("a filter of replication"), "{}", db.explain(sql));
    } else {
        misses_nothing(&db, cluster, TABLES[0], cluster.replicas()).await?;
    }
    cluster.primary().sql(&format!("{format} = ROW")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_filter_leaves_out_is_read_on_the_primary() -> anyhow::Result<()> {
    let cluster = stocked().await?;
    set_up(&cluster).await?;
    let outcome = each_filter(&cluster).await;
    clear(&cluster).await?;
    outcome
}

async fn each_filter(cluster: &Cluster) -> anyhow::Result<()> {
    let log = Log::of_this_process();
    log.forget();
    let db = with_lookout(cluster, "sealane").await?;
    ensure!(leaves(&db, "SELECT * FROM skipped"), "{}", db.explain("SELECT * FROM skipped"));
    let told = log.lines("filters");
    ensure!(told.is_empty(), "without a filter: {told:?}");
    ensure!(transactions_leave(&db).await?, "a read-only transaction stays without a filter");
    for (at, (filter, no_filter, table)) in all(cluster.engine()).iter().enumerate() {
        set(cluster, filter).await?;
        let mut outcome = misses_nothing_else(cluster, table, log).await;
        if outcome.is_ok() && at >= OF_DATABASES {
            outcome = misses_nothing_that_is_logged_as_a_statement(cluster, at == RENAMES)
                .await
                .context("logged as statements");
        }
        set(cluster, no_filter).await?;
        outcome.with_context(|| (*filter).to_owned())?;
    }
    Ok(())
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
    let cluster = stocked().await?;
    set_up(&cluster).await?;
    let mut outcome = Ok(());
    for option in ["binlog_ignore_db = hold", "binlog_do_db = sealane"] {
        if outcome.is_ok() {
            outcome = with_option(&cluster, option).await.context(option);
        }
    }
    cluster.primary().restart_with(&[]).await?;
    streaming(&cluster).await?;
    clear(&cluster).await?;
    outcome
}

async fn with_option(cluster: &Cluster, option: &'static str) -> anyhow::Result<()> {
    cluster.primary().restart_with(&[option, "binlog_format = ROW"]).await?;
    streaming(cluster).await?;
    misses_nothing_else(cluster, TABLES[1], Log::of_this_process()).await?;
    misses_nothing_that_is_logged_as_a_statement(cluster, false)
        .await
        .context("logged as statements")
}

/// What the log of a replica leaves out does not arrive at another one that follows it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_log_of_a_replica_leaves_out_is_read_on_the_primary() -> anyhow::Result<()> {
    let cluster = stocked().await?;
    set_up(&cluster).await?;
    let (between, last) = (cluster.server("replica-1"), cluster.server("replica-2"));
    between.restart_with(&["binlog_ignore_db = hold"]).await?;
    last.follow_instead(between).await?;
    let outcome = behind_a_replica(&cluster, last).await;
    last.follow_instead(cluster.primary()).await?;
    between.restart_with(&[]).await?;
    streaming(&cluster).await?;
    clear(&cluster).await?;
    outcome
}

async fn behind_a_replica(cluster: &Cluster, last: &Server) -> anyhow::Result<()> {
    streaming(cluster).await?;
    let db = with_lookout(cluster, "sealane").await?;
    misses_nothing(&db, cluster, TABLES[1], std::slice::from_ref(last)).await?;
    ensure!(leaves(&db, "SELECT * FROM harbour"), "other tables are read on replicas");
    Ok(())
}

/// A replica that is down at the start says what it filters when it comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_of_a_replica_that_comes_later_count_soon() -> anyhow::Result<()> {
    let cluster = stocked().await?;
    set_up(&cluster).await?;
    let replica = cluster.server("replica-1");
    replica.restart_with(&["replicate_ignore_table = sealane.skipped"]).await?;
    let outcome = comes_later(&cluster, replica).await;
    replica.restart_with(&[]).await?;
    streaming(&cluster).await?;
    clear(&cluster).await?;
    outcome
}

/// No read misses anything before the filter counts.
#[allow(clippy::print_stdout, reason = "figures of a test")]
async fn comes_later(cluster: &Cluster, replica: &Server) -> anyhow::Result<()> {
    let sql = "SELECT * FROM sealane.skipped";
    streaming(cluster).await?;
    replica.kill().await?;
    let db = sealane::connect(lookout(cluster, "sealane")).await?;
    eventually(SOON, "it is read on the other", async || Ok(leaves(&db, sql))).await?;
    let session = db.session();
    session.execute_unprepared("INSERT INTO sealane.skipped VALUES (1000)").await?;
    let is_back = || {
        db.status().endpoints.iter().any(|it| it.name == replica.name && it.health == Health::Up)
    };
    let (started, mut back, mut reads, mut missing) = (Instant::now(), None, 0, 0);
    let reading = async {
        while !db.explain(sql).reason.contains("a filter of replication") {
            reads += 3;
            missing += missed(&session, sql).await?;
            back = back.or_else(|| is_back().then(Instant::now));
            ensure!(started.elapsed() < SOON * 4, "its filter does not count");
        }
        Ok(())
    };
    // It may say what it filters before its start has been seen to end.
    tokio::try_join!(replica.start(), reading)?;
    let took = back.map_or(Duration::ZERO, |back| back.elapsed());
    println!("its filter counts {took:?} after it was back; {missing} of {reads} own reads missed");
    // Ten rounds at least; a quick machine does a hundred times as much.
    ensure!(reads >= 30 && missing == 0, "{missing} of {reads} own reads missed it");
    // Otherwise the load of the next minute would find out.
    ensure!(took < Duration::from_secs(10), "{took:?}");
    streaming(cluster).await?;
    misses_nothing(&db, cluster, TABLES[0], std::slice::from_ref(replica)).await?;
    ensure!(leaves(&db, "SELECT * FROM harbour"), "other tables are read on replicas");
    Ok(())
}
