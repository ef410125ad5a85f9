//! A handle that everybody shares: its reads wait for writes to their own tables.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, ensure};
use futures_util::TryStreamExt;
use rstest::rstest;
use sea_orm::{
    ActiveValue::Set, ConnectionTrait, DbBackend, Statement, StreamTrait, TransactionTrait,
    entity::prelude::*,
};
use sealane::{Config, RoutedConnection, WriteTracking};
use sealane_tests::{
    Cluster, eventually,
    fleet::{self, boat, harbour},
};
use tokio::time::timeout;

const SCHEMA: &str = "
    DROP TABLE IF EXISTS logbook, voyage, trip, crew, berth, receipt, secret CASCADE;
    DROP DOMAIN IF EXISTS numbered, manned;
    CREATE TABLE logbook (id serial PRIMARY KEY, entry text);
    CREATE TABLE crew (id serial PRIMARY KEY, name text);
    CREATE OR REPLACE FUNCTION enter() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN INSERT INTO logbook (entry) VALUES (NEW.name); RETURN NEW; END';
    CREATE TRIGGER enter AFTER INSERT ON crew FOR EACH ROW EXECUTE FUNCTION enter();
    CREATE TABLE berth (id serial PRIMARY KEY, harbour_id int REFERENCES harbour ON DELETE CASCADE);
    CREATE TABLE voyage (id int, year int) PARTITION BY LIST (year);
    CREATE TABLE voyage_2026 PARTITION OF voyage FOR VALUES IN (2026) PARTITION BY LIST (id);
    CREATE TABLE voyage_2026_1 PARTITION OF voyage_2026 FOR VALUES IN (1);
    CREATE OR REPLACE FUNCTION left_out() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN INSERT INTO logbook (entry) VALUES (OLD.year); RETURN OLD; END';
    CREATE TABLE trip (id int, year int) PARTITION BY LIST (year);
    CREATE TABLE trip_2026 PARTITION OF trip FOR VALUES IN (2026);
    CREATE TABLE trip_2027 PARTITION OF trip FOR VALUES IN (2027);
    CREATE TRIGGER left_out AFTER DELETE ON trip_2026 FOR EACH ROW EXECUTE FUNCTION left_out();
    INSERT INTO trip VALUES (1, 2026);
    CREATE OR REPLACE FUNCTION noted() RETURNS int LANGUAGE plpgsql AS
        'BEGIN INSERT INTO logbook (entry) VALUES (NULL); RETURN 1; END';
    CREATE DOMAIN numbered AS int DEFAULT noted();
    CREATE TABLE receipt (id serial PRIMARY KEY, number numbered);
    CREATE TABLE secret (id serial PRIMARY KEY);
    CREATE POLICY secret ON secret FOR DELETE USING (noted() > 0);
    CREATE OR REPLACE VIEW fast_boat AS SELECT * FROM boat WHERE voyages > 10;
    CREATE OR REPLACE FUNCTION boats() RETURNS bigint LANGUAGE sql STABLE
        AS 'SELECT count(*) FROM boat';
    CREATE OR REPLACE FUNCTION crew_count(boat) RETURNS bigint LANGUAGE sql STABLE
        AS 'SELECT count(*) FROM crew';
    CREATE OR REPLACE FUNCTION length(boat) RETURNS bigint LANGUAGE sql STABLE
        AS 'SELECT count(*) FROM crew';
";

/// A cluster with more tables, of which all replicas stand still, and a handle for
/// everybody, through which nothing was written.
async fn still() -> anyhow::Result<(Cluster, RoutedConnection)> {
    still_as("", true).await
}

/// The same, with a handle that does not hear of what sessions do.
async fn still_and_deaf() -> anyhow::Result<(Cluster, RoutedConnection)> {
    still_as("", false).await
}

/// With more in its schema, and a handle that waits for sessions or does not.
async fn still_as(more: &str, waits: bool) -> anyhow::Result<(Cluster, RoutedConnection)> {
    let cluster = fleet::moor().await?;
    cluster.primary().sql(&format!("{SCHEMA}{more}")).await?;
    fleet::replayed(&cluster).await?;
    let config = fleet::config(&cluster).shared_waits_for_sessions(waits);
    let db = connected(config).await?;
    cluster.pause_replay().await?;
    Ok((cluster, db))
}

async fn connected(config: Config) -> anyhow::Result<RoutedConnection> {
    let db = sealane::connect(config).await?;
    fleet::ready(&db).await?;
    let known = async || Ok(leaves(&db, "SELECT boats()"));
    eventually(Duration::from_secs(10), "the catalog is known", known).await?;
    Ok(db)
}

fn leaves(db: &RoutedConnection, sql: &str) -> bool {
    db.explain(sql).first_choice().is_some_and(|name| name.starts_with("replica"))
}

async fn write(db: &impl ConnectionTrait, sql: &str) -> anyhow::Result<()> {
    db.execute_raw(Statement::from_string(DbBackend::Postgres, sql)).await?;
    Ok(())
}

#[rstest]
#[case::its_own(r#"DELETE FROM "boat""#, "SELECT * FROM boat", true)]
#[case::another_one(r#"DELETE FROM "boat""#, "SELECT * FROM harbour", false)]
#[case::a_join(r#"DELETE FROM "boat""#, "SELECT * FROM harbour JOIN boat ON true", true)]
#[case::a_view(r#"DELETE FROM "boat""#, "SELECT * FROM fast_boat", true)]
#[case::through_a_view(r#"DELETE FROM "fast_boat""#, "SELECT * FROM boat", true)]
#[case::a_function_that_reads(r#"DELETE FROM "boat""#, "SELECT boats()", true)]
#[case::a_function_like_a_column(
    r#"DELETE FROM "crew""#,
    r#"SELECT "boat"."crew_count" FROM "boat""#,
    true
)]
#[case::a_function_of_a_known_name(r#"DELETE FROM "crew""#, "SELECT length(boat) FROM boat", true)]
#[case::a_size(r#"DELETE FROM "crew""#, "SELECT pg_relation_size('crew')", true)]
#[case::a_column(r#"DELETE FROM "crew""#, r#"SELECT "boat"."name" FROM "boat""#, false)]
#[case::a_trigger(r#"INSERT INTO "crew" ("name") VALUES (NULL)"#, "SELECT * FROM logbook", true)]
#[case::no_trigger_for_it(r#"DELETE FROM "crew""#, "SELECT * FROM logbook", false)]
#[case::a_key_that_cascades(r#"DELETE FROM "harbour" WHERE "id" = 2"#, "SELECT * FROM berth", true)]
#[case::not_this_time(r#"UPDATE "harbour" SET "name" = "name""#, "SELECT * FROM berth", false)]
#[case::a_partition(r#"DELETE FROM "voyage_2026""#, "SELECT * FROM voyage", true)]
#[case::of_a_partition(r#"DELETE FROM "voyage""#, "SELECT * FROM voyage_2026", true)]
#[case::its_partition(r#"DELETE FROM "voyage_2026_1""#, "SELECT * FROM voyage", true)]
#[case::a_row_that_moves(r#"UPDATE "trip" SET "year" = 2027"#, "SELECT * FROM logbook", true)]
#[case::a_domain(r#"INSERT INTO "receipt" DEFAULT VALUES"#, "SELECT * FROM logbook", true)]
#[case::a_policy(r#"DELETE FROM "secret""#, "SELECT * FROM logbook", true)]
#[case::a_blank(r#"DELETE FROM "public" . "boat""#, "SELECT * FROM boat", true)]
#[case::what_nobody_understood("DELETE FROM boat", "SELECT * FROM harbour", true)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_waits_for_writes_that_may_change_it(
    #[case] written: &str,
    #[case] read: &str,
    #[case] waits: bool,
) -> anyhow::Result<()> {
    let (_cluster, db) = still().await?;
    ensure!(leaves(&db, read), "nothing was written:\n{}", db.explain(read));
    write(&db, written).await?;
    ensure!(leaves(&db, read) != waits, "after {written}:\n{}", db.explain(read));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_wrote_what_its_statements_did_and_unseen_ones_anything() -> anyhow::Result<()>
{
    let (_cluster, db) = still().await?;
    let (boats, harbours) = ("SELECT * FROM boat", "SELECT * FROM harbour");
    let transaction = db.begin().await?;
    harbour::Entity::find().all(&transaction).await?;
    let inner = transaction.begin().await?;
    fleet::boat("inner").insert(&inner).await?;
    inner.commit().await?;
    transaction.commit().await?;
    ensure!(leaves(&db, harbours) && !leaves(&db, boats), "{}", db.explain(boats));
    let transaction = db.begin().await?;
    let unseen: &sea_orm::DatabaseTransaction = &transaction;
    harbour::Entity::find().all(unseen).await?;
    transaction.commit().await?;
    ensure!(!leaves(&db, harbours), "{}", db.explain(harbours));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_schema_changes_a_write_may_be_of_any_table() -> anyhow::Result<()> {
    let (_cluster, db) = still().await?;
    let harbours = "SELECT * FROM harbour";
    write(&db, r#"DELETE FROM "boat""#).await?;
    ensure!(leaves(&db, harbours), "{}", db.explain(harbours));
    let transaction = db.begin().await?;
    write(&transaction, "CREATE TABLE extra (id int)").await?;
    ensure!(!leaves(&db, harbours), "nobody knows what it reads\n{}", db.explain(harbours));
    write(&db, r#"DELETE FROM "boat""#).await?;
    transaction.rollback().await?;
    ensure!(!leaves(&db, harbours), "a trigger may have fired\n{}", db.explain(harbours));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_condition_of_a_domain_reads_every_read_may_be_of_any_table() -> anyhow::Result<()>
{
    const MANNED: &str = "
        CREATE OR REPLACE FUNCTION is_manned(boat int) RETURNS bool LANGUAGE sql STABLE
            AS 'SELECT EXISTS (SELECT FROM crew)';
        CREATE DOMAIN manned AS int CHECK (is_manned(VALUE));
    ";
    let (_cluster, db) = still_as(MANNED, true).await?;
    write(&db, r#"DELETE FROM "crew""#).await?;
    let read = "SELECT 1::manned FROM harbour";
    ensure!(!leaves(&db, read), "{}", db.explain(read));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_written_before_a_change_of_the_schema_may_be_any_table() -> anyhow::Result<()> {
    let (_cluster, db) = still_and_deaf().await?;
    write(&db, r#"DELETE FROM "boat""#).await?;
    let harbours = "SELECT * FROM harbour";
    ensure!(leaves(&db, harbours), "{}", db.explain(harbours));
    // By another session: this one is not told.
    write(&db.session(), "ALTER TABLE crew RENAME TO sailors").await?;
    let known = async || Ok(!leaves(&db, harbours));
    eventually(Duration::from_secs(10), "the change is known", known).await?;
    write(&db.session(), "ALTER TABLE sailors RENAME TO crew").await
}

/// As a stream, which is sent with the first look at it.
async fn stream(db: &RoutedConnection, sql: &str) -> anyhow::Result<()> {
    let mut rows = db.stream_raw(Statement::from_string(DbBackend::Postgres, sql)).await?;
    ensure!(rows.try_next().await?.is_none(), "rows of a change of the schema");
    Ok(())
}

#[rstest]
#[case::a_statement(false)]
#[case::a_stream(true)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_the_schema_that_nobody_heard_the_end_of_may_still_come(
    #[case] streamed: bool,
) -> anyhow::Result<()> {
    let (_cluster, db) = still_and_deaf().await?;
    let blocker = db.primary().begin().await?;
    blocker.execute_unprepared("LOCK TABLE crew IN ACCESS EXCLUSIVE MODE").await?;
    let trigger = "CREATE TRIGGER again AFTER UPDATE ON crew FOR EACH ROW EXECUTE FUNCTION enter()";
    let session = db.session();
    let change = async {
        match streamed {
            true => stream(&session, trigger).await,
            false => write(&session, trigger).await,
        }
    };
    let given_up = timeout(Duration::from_millis(300), change).await;
    ensure!(given_up.is_err(), "it did not wait for the lock");
    let known = async || Ok(leaves(&db, "SELECT boats()"));
    eventually(Duration::from_secs(10), "the catalog is known again", known).await?;
    blocker.rollback().await?;
    write(&db, r#"UPDATE "crew" SET "name" = "name""#).await?;
    let logbook = "SELECT * FROM logbook";
    ensure!(!leaves(&db, logbook), "{}", db.explain(logbook));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_of_its_own_waits_for_all_its_writes() -> anyhow::Result<()> {
    let (_cluster, db) = still().await?;
    let session = db.session();
    write(&session, r#"DELETE FROM "boat""#).await?;
    ensure!(!leaves(&session, "SELECT * FROM harbour"));
    ensure!(leaves(&db, "SELECT * FROM harbour"), "it is not the shared one");
    Ok(())
}

/// Which part of the reads of harbours leaves the primary while somebody writes
/// boats all the time, through the same handle.
async fn share_under_writes(tracking: WriteTracking) -> anyhow::Result<f64> {
    let cluster = fleet::moor().await?;
    cluster.primary().sql(SCHEMA).await?;
    fleet::replayed(&cluster).await?;
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
    let here = async |db: &RoutedConnection| {
        let here = "SELECT host(inet_server_addr()) AS here FROM harbour";
        let statement = Statement::from_string(DbBackend::Postgres, here);
        let row = db.query_one_raw(statement).await?.context("a harbour")?;
        anyhow::Ok(row.try_get::<String>("", "here")?)
    };
    let primary = here(&db.on_primary()).await?;
    let (mut left, reads) = (0, 1_000);
    for _ in 0..reads {
        left += u32::from(here(&db).await? != primary);
    }
    stop.store(true, Ordering::Relaxed);
    let voyages = writer.await??;
    ensure!(voyages > 0, "nobody wrote");
    Ok(f64::from(left) / f64::from(reads))
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

/// Ten temporary tables in a second, made and filled in transactions: shares of the reads of
/// harbours that leave the primary, and of the moments in which the catalog is believed.
async fn share_beside_temporary_tables(session: bool) -> anyhow::Result<(f64, f64)> {
    let cluster = fleet::moor().await?;
    cluster.primary().sql(SCHEMA).await?;
    fleet::replayed(&cluster).await?;
    let db = connected(fleet::config(&cluster)).await?;
    let maker = if session { db.session() } else { db.clone() };
    let making = tokio::spawn(async move {
        for round in 0..30 {
            let transaction = maker.begin().await?;
            let made = "CREATE TEMP TABLE sorted (id int, name text) ON COMMIT DROP";
            transaction.execute_unprepared(made).await?;
            let filled = format!(r#"INSERT INTO "sorted" ("id") VALUES ({round})"#);
            transaction.execute_unprepared(&filled).await?;
            transaction.commit().await?;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok::<_, sea_orm::DbErr>(())
    });
    let (mut reads, mut left, mut believed) = (0, 0, 0);
    while !making.is_finished() {
        reads += 1;
        left += u32::from(leaves(&db, r#"SELECT "id" FROM "harbour""#));
        believed += u32::from(leaves(&db.session(), "SELECT boats()"));
        harbour::Entity::find().all(&db).await?;
    }
    making.await??;
    ensure!(reads > 100, "{reads} reads");
    Ok((f64::from(left) / f64::from(reads), f64::from(believed) / f64::from(reads)))
}

#[rstest]
#[case::by_the_shared_handle(false)]
#[case::by_a_session(true)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn temporary_tables_do_not_hold_reads_on_the_primary(
    #[case] session: bool,
) -> anyhow::Result<()> {
    let (left, believed) = share_beside_temporary_tables(session).await?;
    println!(
        "beside temporary tables: {left:.3} leave the primary, catalog believed {believed:.3}"
    );
    ensure!(believed > 0.999, "{believed}");
    // Each of the ten commits a second holds them until it is replayed, which takes its time on
    // a busy machine.
    ensure!(left > 0.7, "{left}");
    Ok(())
}

#[rstest]
#[case::rolled_back(false)]
#[case::dropped(true)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_the_schema_that_is_rolled_back_leaves_no_doubt(
    #[case] dropped: bool,
) -> anyhow::Result<()> {
    let (_cluster, db) = still().await?;
    for round in 0..10 {
        let transaction = db.session().begin().await?;
        transaction.execute_unprepared("CREATE TABLE extra (id int)").await?;
        match dropped {
            true => drop(transaction),
            false => transaction.rollback().await?,
        }
        // It wrote anything, as far as is known, but not the catalog.
        let read = "SELECT boats()";
        ensure!(leaves(&db.session(), read), "round {round}:\n{}", db.session().explain(read));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_temporary_table_that_its_transaction_drops_is_no_change_of_the_schema()
-> anyhow::Result<()> {
    let (_cluster, db) = still().await?;
    for round in 0..10 {
        let transaction = db.session().begin().await?;
        for statement in [
            "CREATE TEMP TABLE sorted (id int)",
            "CREATE INDEX ON sorted (id)",
            "DROP TABLE sorted",
        ] {
            transaction.execute_unprepared(statement).await?;
            let read = "SELECT boats()";
            let known = leaves(&db.session(), read);
            ensure!(known, "round {round}, {statement}:\n{}", db.session().explain(read));
        }
        transaction.commit().await?;
        ensure!(leaves(&db.session(), "SELECT boats()"), "round {round}");
    }
    Ok(())
}
