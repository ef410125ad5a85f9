//! Storage engines that hold no rows, lose them, or hold them elsewhere.

use anyhow::{Context, ensure};
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use sealane_tests::{BROKEN_PROMISE, Cluster, Engine, eventually, fleet};

use crate::{SOON, answer, connected, leaves, missed, stocked, transactions_leave};

/// What is created and read, why it is read on the primary, and whether read-only transactions stay
/// there as well.
type Bad = (&'static str, &'static str, &'static str, bool);

/// On MySQL also FEDERATED, below. BLACKHOLE, FEDERATED and CONNECT are in packages of their own on
/// MariaDB, which its image does not have. There, unit tests know them.
const OF_MYSQL: &[Bad] = &[
    ("TABLE hold (id int) ENGINE = BLACKHOLE", "hold", "BLACKHOLE", true),
    ("TABLE hold (id int) ENGINE = MEMORY", "hold", "lost", true),
];
const OF_MARIADB: &[Bad] = &[
    ("TABLE hold (id int) ENGINE = MEMORY", "hold", "lost", true),
    ("SEQUENCE hold", "hold", "ahead", false),
    // The engine SEQUENCE makes such tables when they are read.
    ("TABLE hold (id int) ENGINE = InnoDB", "seq_1_to_3", "does not know it", false),
];
/// Engines that hold their rows.
const GOOD_OF_MYSQL: &[&str] = &["InnoDB", "MyISAM", "ARCHIVE"];
const GOOD_OF_MARIADB: &[&str] = &["InnoDB", "MyISAM", "Aria"];

const DROP: &str = "DROP TABLE IF EXISTS hold";

/// Reads from one relation, and where.
fn read(relation: &str) -> String {
    format!("SELECT in_recovery() FROM harbour LEFT JOIN {relation} ON true LIMIT 1")
}

async fn create(cluster: &Cluster, what: &str) -> anyhow::Result<()> {
    // A sequence is dropped as a table.
    cluster.primary().sql(&format!("{DROP}; CREATE {what}")).await?;
    fleet::replayed(cluster).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_whose_engine_holds_no_rows_is_read_on_the_primary() -> anyhow::Result<()> {
    let cluster = stocked().await?;
    let mut outcome = each_engine(&cluster).await;
    cluster.primary().sql(DROP).await?;
    if cluster.engine() == Engine::Mysql && outcome.is_ok() {
        outcome = with_federated(&cluster).await.context("FEDERATED");
    }
    outcome
}

async fn each_engine(cluster: &Cluster) -> anyhow::Result<()> {
    let (bad, good) = match cluster.engine() {
        Engine::Mysql => (OF_MYSQL, GOOD_OF_MYSQL),
        _ => (OF_MARIADB, GOOD_OF_MARIADB),
    };
    for (what, relation, word, keeps_transactions) in bad {
        create(cluster, what).await?;
        let db = connected(fleet::config(cluster)).await?;
        let sql = read(relation);
        let explained = db.explain(&sql);
        ensure!(!leaves(&db, &sql) && explained.reason.contains(word), "{what}: {explained}");
        for _ in 0..10 {
            ensure!(!answer::<bool>(&db, &sql).await?, "{what}: a replica has answered");
        }
        let leave = transactions_leave(&db).await?;
        ensure!(leave != *keeps_transactions, "{what}: where a transaction runs");
    }
    for engine in good {
        create(cluster, &format!("TABLE hold (id int) ENGINE = {engine}")).await?;
        let db = connected(fleet::config(cluster)).await?;
        let sql = read("hold");
        ensure!(leaves(&db, &sql), "{engine}: {}", db.explain(&sql));
        ensure!(answer::<bool>(&db, &sql).await?, "{engine}: the primary has answered");
    }
    Ok(())
}

/// The rows are in another table, and a replica without the engine silently makes an ordinary table.
async fn with_federated(cluster: &Cluster) -> anyhow::Result<()> {
    let primary = cluster.primary();
    primary.restart_with(&["federated"]).await?;
    let outcome = federated(cluster).await;
    let drop = primary.sql("DROP TABLE IF EXISTS far, near; DROP SERVER IF EXISTS itself").await;
    primary.restart_with(&[]).await?;
    outcome.and(drop)
}

async fn federated(cluster: &Cluster) -> anyhow::Result<()> {
    for replica in cluster.replicas() {
        eventually(SOON, "it streams again", async || replica.is_streaming().await).await?;
    }
    let create = "DROP SERVER IF EXISTS itself; DROP TABLE IF EXISTS far, near; \
        CREATE SERVER itself FOREIGN DATA WRAPPER mysql OPTIONS \
        (USER 'sealane', PASSWORD 'sealane', DATABASE 'sealane', SOCKET '/tmp/sealane.sock'); \
        CREATE TABLE near (id int PRIMARY KEY); INSERT INTO near VALUES (0)";
    cluster.primary().sql(create).await?;
    fleet::replayed(cluster).await?;
    let db = connected(fleet::config(cluster)).await?;
    let session = db.session();
    ensure!(transactions_leave(&db).await?, "there is no such table yet");
    let create = "SET sql_mode = ''; \
        CREATE TABLE far (id int PRIMARY KEY) ENGINE = FEDERATED CONNECTION = 'itself/near'";
    cluster.primary().sql(create).await?;
    db.note_schema_change();
    fleet::replayed(cluster).await?;
    // Before the catalog is loaded, and after it.
    let mut missing = missed(&session, "SELECT id FROM far").await?;
    let known = async || Ok(db.explain("SELECT id FROM far").reason.contains("FEDERATED"));
    eventually(SOON, "its engine is known", known).await?;
    missing += missed(&session, "SELECT id FROM far").await?;
    for id in 1..=12 {
        session.execute_unprepared(&format!("INSERT INTO near VALUES ({id})")).await?;
        fleet::replayed(cluster).await?;
        let sql = format!("SELECT id FROM far WHERE id = {id}");
        let read = Statement::from_string(DbBackend::MySql, sql);
        missing += usize::from(session.query_one_raw(read).await?.is_none());
    }
    ensure!(missing == 0, "{BROKEN_PROMISE}: {missing} of 18 own reads are missing");
    for replica in cluster.replicas() {
        let rows: i64 = replica.query_scalar("SELECT count(*) FROM far").await?;
        ensure!(rows == 0, "{} has {rows} rows, so this shows nothing", replica.name);
    }
    let explained = db.explain("SELECT id FROM far");
    ensure!(explained.reason.contains("FEDERATED"), "{explained}");
    ensure!(leaves(&db, "SELECT id FROM near"), "{}", db.explain("SELECT id FROM near"));
    Ok(())
}
