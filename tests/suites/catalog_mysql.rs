//! What the catalog of MySQL and MariaDB knows and no text shows, over a routed connection.

#[path = "catalog_mysql/definitions.rs"]
mod definitions;
#[path = "catalog_mysql/engines.rs"]
mod engines;
#[path = "catalog_mysql/filters.rs"]
mod filters;

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use sea_orm::{AccessMode, ConnectionTrait, DbBackend, Statement, TransactionTrait, TryGetable};
use sealane::{Config, Error, RoutedConnection};
use sealane_tests::{BROKEN_PROMISE, Cluster, eventually, fleet};
use sqlx::{Connection, MySqlConnection};

/// Loading the catalog takes milliseconds, at most every 200 of them.
const SOON: Duration = Duration::from_secs(20);
/// For functions that the application has defined: it sees what they do.
const OWN: &str = "CREATE DEFINER = sealane@'%' FUNCTION";

/// A healthy cluster with views and functions on every server.
async fn stocked() -> anyhow::Result<Cluster> {
    let cluster = fleet::moor().await?;
    let sql = format!(
        "DROP VIEW IF EXISTS held, above_held, noted, priced, plain, hidden; \
         DROP TABLE IF EXISTS scratch, counter; DROP FUNCTION IF EXISTS price; \
         DROP FUNCTION IF EXISTS draw; DROP FUNCTION IF EXISTS unseen; \
         CREATE TABLE counter (number bigint); INSERT INTO counter VALUES (0); \
         {OWN} price(a int) RETURNS int DETERMINISTIC RETURN a * 2; \
         {OWN} draw() RETURNS bigint DETERMINISTIC BEGIN \
         UPDATE counter SET number = number + 1; RETURN (SELECT max(number) FROM counter); END; \
         CREATE FUNCTION unseen() RETURNS int DETERMINISTIC BEGIN DECLARE n int; SET n = 1; RETURN n; END; \
         CREATE VIEW held AS SELECT GET_LOCK('sealane', 0) AS got; \
         CREATE VIEW above_held AS SELECT got FROM held; \
         CREATE VIEW noted AS SELECT draw() AS number; \
         CREATE VIEW priced AS SELECT id, price(id) AS price FROM harbour; \
         CREATE VIEW hidden AS SELECT unseen() AS one; \
         CREATE VIEW plain AS SELECT id, name FROM harbour"
    );
    cluster.primary().sql(&sql).await?;
    fleet::replayed(&cluster).await?;
    Ok(cluster)
}

async fn connected(config: Config) -> anyhow::Result<RoutedConnection> {
    let db = sealane::connect(config).await?;
    fleet::ready(&db).await?;
    Ok(db)
}

/// One column of the only row, in a session of its own.
async fn answer<T: TryGetable>(db: &RoutedConnection, sql: &str) -> anyhow::Result<T> {
    let row = db.session().query_one_raw(Statement::from_string(DbBackend::MySql, sql)).await?;
    Ok(row.context("no row")?.try_get_by_index(0)?)
}

/// How often a row is missed: by a statement, in a read-only transaction, and through a pool.
async fn missed(session: &RoutedConnection, sql: &str) -> anyhow::Result<usize> {
    let read = || Statement::from_string(DbBackend::MySql, sql);
    let transaction = session.begin_with_config(None, Some(AccessMode::ReadOnly)).await?;
    let in_transaction = transaction.query_one_raw(read()).await?;
    transaction.commit().await?;
    let alone = session.query_one_raw(read()).await?;
    let in_pool = session.reader().await?.query_one_raw(read()).await?;
    Ok([alone, in_transaction, in_pool].iter().filter(|row| row.is_none()).count())
}

/// Whether read-only transactions run on replicas.
async fn transactions_leave(db: &RoutedConnection) -> anyhow::Result<bool> {
    let transaction = db.session().begin_with_config(None, Some(AccessMode::ReadOnly)).await?;
    let asked = Statement::from_string(DbBackend::MySql, "SELECT in_recovery()");
    let row = transaction.query_one_raw(asked).await?.context("no row")?;
    transaction.commit().await?;
    Ok(row.try_get_by_index(0)?)
}

fn leaves(db: &RoutedConnection, sql: &str) -> bool {
    db.session().explain(sql).first_choice() != Some("primary")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_behind_a_view_is_never_granted_by_a_replica() -> anyhow::Result<()> {
    let cluster = stocked().await?;
    let db = connected(fleet::config(&cluster)).await?;
    let mut holder = MySqlConnection::connect(&cluster.primary().url).await?;
    let (got,): (i64,) =
        sqlx::query_as("SELECT GET_LOCK('sealane', 5)").fetch_one(&mut holder).await?;
    ensure!(got == 1, "the lock is not free");
    let mut granted = 0;
    for read in 0..20 {
        let view = if read % 2 == 0 { "held" } else { "above_held" };
        granted += answer::<i64>(&db, &format!("SELECT got FROM {view}")).await?;
    }
    ensure!(granted == 0, "granted {granted} of 20 times while the primary's is held");
    ensure!(db.explain("SELECT got FROM held").reason.contains("get_lock"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn functions_and_views_go_where_their_text_says() -> anyhow::Result<()> {
    let cluster = stocked().await?;
    let db = connected(fleet::config(&cluster)).await?;
    let replica = [
        "SELECT in_recovery() FROM harbour LIMIT 1",
        "SELECT in_recovery(), price(2)",
        "SELECT in_recovery(), sealane.PRICE(2)",
        "SELECT in_recovery() FROM priced LIMIT 1",
        "SELECT in_recovery() FROM sealane.plain LIMIT 1",
        "SELECT in_recovery FROM whereabouts",
    ];
    let primary = [
        ("SELECT in_recovery(), draw()", "draw"),
        ("SELECT in_recovery() FROM noted", "draw"),
        ("SELECT in_recovery(), unseen()", "unseen"),
        ("SELECT in_recovery() FROM hidden", "unseen"),
        ("SELECT in_recovery() FROM above_held", "get_lock"),
        ("SELECT in_recovery() FROM counter, mysql.slow_log", "session or server"),
    ];
    let mut wrong = Vec::new();
    for sql in replica {
        if !leaves(&db, sql) || !answer::<bool>(&db, sql).await? {
            wrong.push(format!("{sql}: {}", db.explain(sql)));
        }
    }
    for (sql, word) in primary {
        if leaves(&db, sql) || !db.explain(sql).reason.contains(word) {
            wrong.push(format!("{sql}: {}", db.explain(sql)));
        }
    }
    ensure!(wrong.is_empty(), "{BROKEN_PROMISE}: {}", wrong.join("\n"));
    // Each call counts once, on the primary.
    for number in 1..=20 {
        let drawn: i64 = answer(&db, "SELECT number FROM noted").await?;
        ensure!(drawn == number, "{drawn} is drawn after {}", number - 1);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_memory_table_is_not_read_on_a_replica_that_has_lost_it() -> anyhow::Result<()> {
    let cluster = stocked().await?;
    let make = "CREATE TABLE scratch (id int) ENGINE = MEMORY; INSERT INTO scratch VALUES (1)";
    cluster.primary().sql(make).await?;
    fleet::replayed(&cluster).await?;
    let outcome = with_scratch(&cluster).await;
    cluster.primary().sql("DROP TABLE scratch").await?;
    outcome
}

async fn with_scratch(cluster: &Cluster) -> anyhow::Result<()> {
    let replica = cluster.server("replica-1");
    replica.kill().await?;
    replica.start().await?;
    let config = Config::new(&*cluster.primary().url).replica(&*replica.url);
    let db = connected(config).await?;
    let lost: i64 = replica.query_scalar("SELECT count(*) FROM scratch").await?;
    ensure!(lost == 0, "the replica has kept its rows, so this test shows nothing");
    let mut missing = 0;
    for _ in 0..30 {
        missing += i64::from(answer::<i64>(&db, "SELECT count(*) FROM scratch").await? == 0);
    }
    ensure!(missing == 0, "{BROKEN_PROMISE}: {missing} of 30 reads miss the row");
    let explained = db.explain("SELECT * FROM scratch");
    ensure!(explained.reason.contains("lost"), "{explained}");
    let before = db.report().detours.pinned_to_primary;
    ensure!(!transactions_leave(&db).await?, "nobody knows what a transaction will read");
    ensure!(db.report().detours.pinned_to_primary == before + 1, "it is told as a detour");
    let begun = db.on_replicas().begin_with_config(None, Some(AccessMode::ReadOnly)).await;
    let refused = begun.err().context("it began although no replica may serve it")?;
    ensure!(matches!(Error::of(&refused), Some(Error::NoReplica)), "{refused}");
    ensure!(leaves(&db, "SELECT * FROM harbour"), "other tables are read on replicas");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_that_changes_counts_at_once_and_one_by_others_once_it_is_noted()
-> anyhow::Result<()> {
    let cluster = stocked().await?;
    // An application may make functions then.
    cluster.primary().sql("SET GLOBAL log_bin_trust_function_creators = ON").await?;
    let outcome = follows_functions(&cluster).await;
    cluster.primary().sql("SET GLOBAL log_bin_trust_function_creators = OFF").await?;
    outcome
}

async fn follows_functions(cluster: &Cluster) -> anyhow::Result<()> {
    let db = connected(fleet::config(cluster)).await?;
    let sql = "SELECT price(id) AS price FROM harbour";
    let drop = "DROP FUNCTION price";
    let counts = format!(
        "{OWN} price(a int) RETURNS int DETERMINISTIC \
         BEGIN UPDATE counter SET number = number + 1; RETURN a; END"
    );
    let doubles = format!("{OWN} price(a int) RETURNS int DETERMINISTIC RETURN a * 2");
    let leaves_soon = async || eventually(SOON, "it leaves", async || Ok(leaves(&db, sql))).await;
    let is_known = async || {
        let known = async || Ok(db.explain(sql).reason.contains("price"));
        eventually(SOON, "what it does is known", known).await
    };
    leaves_soon().await?;
    db.execute_unprepared(drop).await?;
    db.execute_unprepared(&counts).await?;
    ensure!(!leaves(&db, sql), "right after the change");
    is_known().await?;
    // Each row counts once, on the primary.
    for _ in 0..5 {
        answer::<i64>(&db, sql).await?;
    }
    let number: i64 = cluster.primary().query_scalar("SELECT number FROM counter").await?;
    ensure!(number == 10, "{number} calls on the primary");
    db.execute_unprepared(drop).await?;
    db.execute_unprepared(&doubles).await?;
    leaves_soon().await?;
    // By others.
    cluster.primary().sql(&format!("{drop}; {counts}")).await?;
    db.note_schema_change();
    ensure!(!leaves(&db, sql), "after it was noted");
    is_known().await?;
    cluster.primary().sql(&format!("{drop}; {doubles}")).await?;
    db.note_schema_change();
    leaves_soon().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_that_changes_counts_at_once_and_one_by_others_once_it_is_noted()
-> anyhow::Result<()> {
    let cluster = stocked().await?;
    let db = connected(fleet::config(&cluster)).await?;
    let sql = "SELECT name FROM plain";
    let leaves_soon = async || eventually(SOON, "it leaves", async || Ok(leaves(&db, sql))).await;
    leaves_soon().await?;
    let locks = "CREATE OR REPLACE VIEW plain AS \
        SELECT id, name FROM harbour WHERE GET_LOCK('other', 0) = 1";
    let plain = "CREATE OR REPLACE VIEW plain AS SELECT id, name FROM harbour";
    db.execute_unprepared(locks).await?;
    ensure!(!leaves(&db, sql), "right after the change");
    let known = async || Ok(db.explain(sql).reason.contains("get_lock"));
    eventually(SOON, "the new definition is known", known).await?;
    db.execute_unprepared(plain).await?;
    leaves_soon().await?;
    // By others.
    cluster.primary().sql("CREATE VIEW newest AS SELECT GET_LOCK('a', 0) AS got").await?;
    ensure!(!leaves(&db, "SELECT got FROM newest"), "a name that the catalog does not know");
    cluster.primary().sql("DROP VIEW newest").await?;
    cluster.primary().sql(locks).await?;
    db.note_schema_change();
    ensure!(!leaves(&db, sql), "after it was noted");
    cluster.primary().sql(plain).await?;
    db.note_schema_change();
    leaves_soon().await
}

/// The load is once a minute: what it costs with 500 tables and 500 views. They are on the primary
/// only, so that no replica has to replay them whenever a test has it made anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_relations_are_loaded_in_a_second_or_so() -> anyhow::Result<()> {
    let cluster = stocked().await?;
    unlogged(&cluster, "DROP DATABASE IF EXISTS many; CREATE DATABASE many").await?;
    let outcome = thousand(&cluster).await;
    unlogged(&cluster, "REVOKE SELECT, SHOW VIEW ON many.* FROM sealane@'%'; DROP DATABASE many")
        .await?;
    let took = outcome?;
    println!("500 tables and 500 views are loaded and judged in {took:?}");
    ensure!(took < Duration::from_secs(10), "{took:?}");
    Ok(())
}

async fn unlogged(cluster: &Cluster, sql: &str) -> anyhow::Result<()> {
    cluster.primary().sql(&format!("SET sql_log_bin = 0; {sql}")).await
}

async fn thousand(cluster: &Cluster) -> anyhow::Result<Duration> {
    unlogged(cluster, "GRANT SELECT, SHOW VIEW ON many.* TO sealane@'%'").await?;
    for hundred in 0..5 {
        let create = (hundred * 100..(hundred + 1) * 100).map(|n| {
            format!(
                "CREATE TABLE many.t{n} (id int); \
                 CREATE VIEW many.v{n} AS SELECT id, now() AS at FROM many.t{n}"
            )
        });
        unlogged(cluster, &create.collect::<Vec<_>>().join("; ")).await?;
    }
    let db = connected(fleet::config(cluster)).await?;
    let begun = Instant::now();
    db.note_schema_change();
    let sql = "SELECT id FROM many.v499";
    eventually(SOON, "the view is known", async || Ok(leaves(&db, sql))).await?;
    Ok(begun.elapsed())
}
