//! As the suite `tracking`, on MySQL and MariaDB: reads of a handle that everybody shares wait for writes
//! to their own tables, if the role may see what else a write changes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::ensure;
use rstest::rstest;
use sea_orm::{
    ActiveValue::Set, ConnectionTrait, DbBackend, Statement, TransactionTrait, entity::prelude::*,
};
use sealane::{Config, RoutedConnection, WriteTracking};
use sealane_tests::{
    Cluster, Server, eventually,
    fleet::{self, boat, harbour},
};

const SCHEMA: &str = "
    DROP VIEW IF EXISTS fast_boat;
    DROP TABLE IF EXISTS berth, port, crew, logbook;
    CREATE TABLE logbook (id int AUTO_INCREMENT PRIMARY KEY, entry text);
    CREATE TABLE crew (id int AUTO_INCREMENT PRIMARY KEY, name text);
    CREATE TRIGGER enters AFTER INSERT ON crew FOR EACH ROW
        INSERT INTO logbook (entry) VALUES (NEW.name);
    CREATE TABLE port (id int PRIMARY KEY, name text);
    CREATE TABLE berth (id int AUTO_INCREMENT PRIMARY KEY, port_id int,
        FOREIGN KEY (port_id) REFERENCES port (id) ON DELETE CASCADE);
    INSERT INTO port VALUES (1, 'Oban'), (2, 'Mallaig');
    INSERT INTO berth (port_id) VALUES (1), (2);
    CREATE VIEW fast_boat AS SELECT * FROM boat WHERE voyages > 10;
    DROP USER IF EXISTS reader@'%';
    CREATE USER reader@'%' IDENTIFIED BY 'reader';
    GRANT SELECT, INSERT, UPDATE, DELETE ON sealane.* TO reader@'%';
    DROP USER IF EXISTS matcher@'%';
    CREATE USER matcher@'%' IDENTIFIED BY 'matcher';
    GRANT TRIGGER ON `seal%`.* TO matcher@'%';
    GRANT SELECT, INSERT, UPDATE, DELETE ON sealane.* TO matcher@'%'";

/// A cluster with more tables.
async fn laid_out() -> anyhow::Result<Cluster> {
    let cluster = fleet::moor().await?;
    cluster.primary().sql(SCHEMA).await?;
    fleet::replayed(&cluster).await?;
    Ok(cluster)
}

async fn connected(config: Config) -> anyhow::Result<RoutedConnection> {
    let db = sealane::connect(config).await?;
    fleet::ready(&db).await?;
    // Before the catalog is loaded, a name that it would not know counts as a table.
    let known = async || Ok(!leaves(&db, "SELECT * FROM unheard_of"));
    eventually(Duration::from_secs(10), "the catalog is known", known).await?;
    Ok(db)
}

fn leaves(db: &RoutedConnection, sql: &str) -> bool {
    db.explain(sql).first_choice().is_some_and(|name| name.starts_with("replica"))
}

async fn write(db: &impl ConnectionTrait, sql: &str) -> anyhow::Result<()> {
    db.execute_raw(Statement::from_string(DbBackend::MySql, sql)).await?;
    Ok(())
}

/// What is written, what is read then, and whether the read waits for the write.
#[rustfmt::skip]
const CASES: &[(&str, &str, bool)] = &[
    ("DELETE FROM `boat`", "SELECT * FROM boat", true),
    ("DELETE FROM `sealane`.`boat`", "SELECT `id` FROM `boat`", true),
    ("DELETE FROM `boat`", "SELECT * FROM harbour", false),
    ("DELETE FROM `boat`", "SELECT 1 FROM harbour JOIN boat ON true", true),
    ("DELETE FROM `boat`", "SELECT * FROM fast_boat", true),
    ("DELETE FROM `fast_boat`", "SELECT * FROM boat", true),
    // A trigger, and none for it.
    ("INSERT INTO `crew` (`name`) VALUES (NULL)", "SELECT * FROM logbook", true),
    ("DELETE FROM `crew`", "SELECT * FROM logbook", false),
    // A key that cascades, and one that does not for an update.
    ("DELETE FROM `port` WHERE `id` = 2", "SELECT * FROM berth", true),
    ("UPDATE `port` SET `name` = NULL", "SELECT * FROM berth", false),
    ("UPDATE `port`, `boat` SET `boat`.`name` = 'x' WHERE FALSE", "SELECT * FROM boat", true),
    ("INSERT INTO `port` (`id`) VALUES (1) ON DUPLICATE KEY UPDATE `name` = NULL", "SELECT * FROM harbour", true),
    ("DELETE FROM `boat`", "SELECT table_rows FROM information_schema.tables", true),
    ("DELETE FROM boat", "SELECT * FROM harbour", true),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_waits_for_writes_that_may_change_it_and_for_no_others() -> anyhow::Result<()> {
    let cluster = laid_out().await?;
    let db = connected(fleet::config(&cluster)).await?;
    for (written, read, waits) in CASES {
        let fresh = async || Ok(leaves(&db, read));
        eventually(Duration::from_secs(10), "replicas have all of it", fresh).await?;
        cluster.pause_replay().await?;
        write(&db, written).await?;
        ensure!(leaves(&db, read) != *waits, "after {written}:\n{}", db.explain(read));
        cluster.resume_replay().await?;
    }
    Ok(())
}

#[rstest]
#[case::without_the_privilege("reader")]
// Of two grants that fit the schema, the server uses the more exact one only.
#[case::with_it_in_a_grant_that_is_not_used("matcher")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_is_not_shown_triggers_waits_for_every_write(
    #[case] role: &str,
) -> anyhow::Result<()> {
    let cluster = laid_out().await?;
    let url = |server: &Server| fleet::url_as(&server.url, role);
    let db = connected(fleet::config_as(&cluster, url)).await?;
    cluster.pause_replay().await?;
    let harbours = "SELECT * FROM harbour";
    ensure!(leaves(&db, harbours), "nothing was written:\n{}", db.explain(harbours));
    write(&db, "DELETE FROM `boat`").await?;
    ensure!(!leaves(&db, harbours), "a trigger may have fired\n{}", db.explain(harbours));
    Ok(())
}

/// The servers commit schema changes at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_that_is_replaced_in_a_transaction_stays_replaced_after_a_rollback()
-> anyhow::Result<()> {
    let cluster = laid_out().await?;
    let db = connected(fleet::config(&cluster)).await?;
    let read = "SELECT * FROM fast_boat";
    let transaction = db.begin().await?;
    write(&transaction, "CREATE OR REPLACE VIEW fast_boat AS SELECT id, name FROM harbour").await?;
    transaction.rollback().await?;
    let fresh = async || Ok(leaves(&db, read));
    eventually(Duration::from_secs(10), "replicas have all of it", fresh).await?;
    cluster.pause_replay().await?;
    write(&db, "DELETE FROM `harbour` WHERE `id` < 0").await?;
    ensure!(!leaves(&db, read), "it shows harbours now:\n{}", db.explain(read));
    Ok(())
}

/// Which part of the reads of harbours leaves the primary while somebody writes boats all the time,
/// through the same handle.
async fn share_under_writes(tracking: WriteTracking) -> anyhow::Result<f64> {
    let cluster = laid_out().await?;
    let db = connected(fleet::config(&cluster).write_tracking(tracking)).await?;
    let id = fleet::boat("busy").insert(&db).await?.id;
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (db, stop) = (db.clone(), Arc::clone(&stop));
        async move {
            let mut voyages = 0;
            while !stop.load(Ordering::Relaxed) {
                voyages += 1;
                let sailed =
                    boat::ActiveModel { id: Set(id), voyages: Set(voyages), ..Default::default() };
                boat::Entity::update(sailed).exec_without_returning(&db).await?;
            }
            Ok::<_, sea_orm::DbErr>(voyages)
        }
    });
    let on_replicas = || -> u64 { db.status().endpoints.iter().skip(1).map(|it| it.reads).sum() };
    let (before, reads) = (on_replicas(), 1_000);
    for _ in 0..reads {
        harbour::Entity::find().all(&db).await?;
    }
    let left = on_replicas() - before;
    stop.store(true, Ordering::Relaxed);
    let voyages = writer.await??;
    ensure!(voyages > 0, "nobody wrote");
    Ok(left as f64 / f64::from(reads))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn constant_writes_to_one_table_do_not_hold_reads_of_others() -> anyhow::Result<()> {
    let whole = share_under_writes(WriteTracking::Whole).await?;
    let tables = share_under_writes(WriteTracking::Tables).await?;
    println!("share of reads that leave the primary: {tables:.3}, by the whole handle {whole:.3}");
    ensure!(tables > 0.95, "{tables}");
    ensure!(whole < tables, "{whole}");
    Ok(())
}
