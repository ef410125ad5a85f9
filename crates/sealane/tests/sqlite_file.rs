//! One SQLite file under what breaks a split: slow streams, wrong reads, changes of the schema,
//! sessions of the writer, and the end.

#![allow(clippy::unwrap_used, reason = "a test may end there")]
#![allow(clippy::disallowed_methods, reason = "tests measure and bound time")]

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use futures_util::{StreamExt, TryStreamExt};
use sea_orm::{
    AccessMode, ConnectionTrait, DbBackend, DbErr, SqliteTransactionMode, Statement, StreamTrait,
    TransactionOptions, TransactionTrait,
};
use sealane::{Config, RoutedConnection};
use tempfile::TempDir;

struct Harbour {
    db: RoutedConnection,
    path: PathBuf,
    // Removed when the test ends.
    _folder: TempDir,
}

async fn harbour() -> Harbour {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("harbour.db");
    let db = sealane::connect(Config::sqlite(&path)).await.unwrap();
    db.execute_unprepared("CREATE TABLE boat (id INTEGER PRIMARY KEY, name TEXT)").await.unwrap();
    Harbour { db, path, _folder: folder }
}

fn raw(sql: &str) -> Statement {
    Statement::from_sql_and_values(DbBackend::Sqlite, sql, [])
}

async fn number(db: &impl ConnectionTrait, sql: &str) -> i64 {
    db.query_one_raw(raw(sql)).await.unwrap().unwrap().try_get_by_index(0).unwrap()
}

async fn run(db: &impl ConnectionTrait, sql: &str) {
    db.execute_unprepared(sql).await.unwrap();
}

/// Reads served by the readers and by the writer so far.
fn reads(db: &RoutedConnection) -> (u64, u64) {
    let status = db.status();
    let find = |name| status.endpoints.iter().find(|e| e.name == name).unwrap().reads;
    (find("readers"), find("writer"))
}

/// The rows in a copy of the file alone, without its log.
fn rows_in_a_copy(path: &Path) -> Result<i64, rusqlite::Error> {
    let copy = path.with_extension("copy");
    std::fs::copy(path, &copy).unwrap();
    let copied = rusqlite::Connection::open(&copy).unwrap();
    copied.query_row("SELECT count(*) FROM boat", [], |row| row.get(0))
}

const MANY: &str = "INSERT INTO boat (name) \
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) \
    SELECT printf('boat %d', i) FROM n";

#[tokio::test]
async fn a_stream_of_written_rows_that_is_dropped_is_read_by_the_next_statement() {
    let Harbour { db, _folder, .. } = harbour().await;
    let mut missed = 0;
    for n in 1..=500 {
        let insert = "INSERT INTO boat (name) VALUES ('Ida'), ('Jolle') RETURNING id";
        let mut rows = db.stream_raw(raw(insert)).await.unwrap();
        assert!(rows.try_next().await.unwrap().is_some());
        drop(rows);
        missed += i64::from(number(&db, "SELECT count(*) FROM boat").await != 2 * n);
    }
    assert_eq!(missed, 0, "of 500");
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_streams_do_not_block_reads() {
    let Harbour { db, _folder, .. } = harbour().await;
    run(&db, MANY).await;
    let mut streams = Vec::new();
    for _ in 0..12 {
        let mut rows = db.stream_raw(raw("SELECT * FROM boat")).await.unwrap();
        assert!(rows.next().await.unwrap().is_ok());
        streams.push(rows);
    }
    let began = Instant::now();
    for _ in 0..20 {
        assert_eq!(number(&db, "SELECT count(*) FROM boat").await, 5000);
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    run(&db, "DELETE FROM boat").await;
    // Each still shows what there was when it began.
    for rows in streams {
        assert_eq!(rows.try_fold(1, async |n, _| Ok(n + 1)).await.unwrap(), 5000);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_are_all_busy_leave_the_read_to_the_writer() {
    let Harbour { db, _folder, .. } = harbour().await;
    run(&db, MANY).await;
    let slow = "SELECT count(*) FROM boat a, boat b WHERE a.name || b.name LIKE '%x%x%'";
    let busy: Vec<_> = (0..4)
        .map(|_| {
            let db = db.clone();
            tokio::spawn(async move { db.query_one_raw(raw(slow)).await })
        })
        .collect();
    while reads(&db).0 < 4 {
        tokio::task::yield_now().await;
    }
    let before = reads(&db).1;
    // They are counted before they have a reader, so the first reads may still get one.
    while reads(&db).1 == before {
        assert_eq!(number(&db, "SELECT count(*) FROM boat").await, 5000);
        assert!(!busy.iter().all(|it| it.is_finished()), "nothing was busy");
    }
    busy.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_wrong_read_fails_by_itself_beside_an_open_write_transaction() {
    let Harbour { db, _folder, .. } = harbour().await;
    run(&db, "CREATE VIRTUAL TABLE note USING fts5(text)").await;
    let open = db.begin().await.unwrap();
    run(&open, "INSERT INTO boat (name) VALUES ('Ida')").await;
    for (sql, says) in [
        ("SELECT absent FROM boat", "no such column"),
        ("SELECT name FROM absent", "no such table"),
        ("SELECT json_extract('{', '$.a')", "malformed JSON"),
        ("SELECT text FROM note WHERE note MATCH '\"'", "unterminated string"),
    ] {
        let read = tokio::time::timeout(Duration::from_secs(3), db.query_all_raw(raw(sql)));
        let error = read.await.expect(sql).unwrap_err().to_string();
        assert!(error.contains(says), "{sql}: {error}");
    }
    assert_eq!(reads(&db).1, 0, "the writer was asked");
    open.rollback().await.unwrap();
}

#[tokio::test]
async fn all_rows_are_in_the_file_after_close() {
    let Harbour { db, path, _folder } = harbour().await;
    run(&db, MANY).await;
    assert_eq!(number(&db, "SELECT count(*) FROM boat").await, 5000);
    db.close().await.unwrap();
    assert_eq!(rows_in_a_copy(&path).unwrap(), 5000);
    assert!(!path.with_extension("db-wal").exists(), "a log is left");
}

#[tokio::test]
async fn all_rows_are_in_the_file_after_close_beside_another_process() {
    let Harbour { db, path, _folder } = harbour().await;
    let other = rusqlite::Connection::open(&path).unwrap();
    run(&db, MANY).await;
    let count = |c: &rusqlite::Connection| -> i64 {
        c.query_row("SELECT count(*) FROM boat", [], |row| row.get(0)).unwrap()
    };
    assert_eq!(count(&other), 5000);
    db.close().await.unwrap();
    assert_eq!(rows_in_a_copy(&path).unwrap(), 5000);
}

#[test]
fn all_rows_are_in_the_file_after_the_last_handle_is_dropped() {
    let mut left = 0;
    for round in 0..20 {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let (path, _folder) = runtime.block_on(async {
            let Harbour { db, path, _folder } = harbour().await;
            run(&db, MANY).await;
            for _ in 0..4 {
                assert_eq!(number(&db, "SELECT count(*) FROM boat").await, 5000);
            }
            drop(db);
            (path, _folder)
        });
        // With the runtime, all that it still had to do is over.
        drop(runtime);
        let log = path.with_extension("db-wal");
        let deadline = Instant::now() + Duration::from_secs(5);
        // The threads of the driver end by themselves.
        while log.exists() && Instant::now() < deadline {
            std::thread::yield_now();
        }
        if log.exists() {
            left += 1;
            let file = rusqlite::Connection::open(&path).unwrap();
            let rows: i64 =
                file.query_row("SELECT count(*) FROM boat", [], |row| row.get(0)).unwrap();
            assert_eq!(rows, 5000, "round {round}: with the log");
        } else {
            assert_eq!(rows_in_a_copy(&path).unwrap(), 5000, "round {round}");
        }
    }
    // The driver gives connections back in tasks, which the runtime's end may cut off: 1 of 1,200
    // rounds left its log, on a machine with six times as much to do as it can.
    assert!(left <= 1, "{left} of 20 logs are left");
}

/// Reads a number and writes it back, as two programs on one file do.
async fn increments(db: &RoutedConnection, times: usize) -> usize {
    let mut failed = 0;
    for _ in 0..times {
        let done = db
            .transaction::<_, (), DbErr>(|txn| {
                Box::pin(async move {
                    let n = number(txn, "SELECT n FROM counter").await;
                    let update = format!("UPDATE counter SET n = {}", n + 1);
                    txn.execute_raw(raw(&update)).await?;
                    Ok(())
                })
            })
            .await;
        failed += usize::from(done.is_err());
    }
    failed
}

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_that_read_then_write_do_not_fail() {
    let Harbour { db, path, _folder } = harbour().await;
    run(&db, "CREATE TABLE counter (n INTEGER); INSERT INTO counter VALUES (0)").await;
    let other = sealane::connect(Config::sqlite(&path)).await.unwrap();
    let (one, two) = tokio::join!(
        tokio::spawn(async move { (increments(&db, 300).await, db) }),
        tokio::spawn(async move { increments(&other, 300).await }),
    );
    let ((one, db), two) = (one.unwrap(), two.unwrap());
    assert_eq!(one + two, 0, "failed of 600");
    assert_eq!(number(&db, "SELECT n FROM counter").await, 600);
}

#[tokio::test]
async fn how_a_transaction_begins_can_be_chosen() {
    let Harbour { db, path, _folder } = harbour().await;
    let other = sealane::connect(Config::sqlite(&path)).await.unwrap();
    // After five seconds the write itself would fail.
    let (soon, at_last) = (Duration::from_millis(300), Duration::from_secs(3));
    let holds_up_a_write_for = async |time| {
        let write = other.execute_unprepared("INSERT INTO boat (name) VALUES ('Ida')");
        tokio::time::timeout(time, write).await.is_err()
    };
    let mode = |sqlite_transaction_mode| TransactionOptions {
        sqlite_transaction_mode,
        ..Default::default()
    };
    let deferred = db.begin_with_options(mode(Some(SqliteTransactionMode::Deferred)));
    let deferred = deferred.await.unwrap();
    assert!(!holds_up_a_write_for(at_last).await, "a deferred one does");
    deferred.rollback().await.unwrap();
    let reads = db.begin_with_config(None, Some(AccessMode::ReadOnly)).await.unwrap();
    assert!(!holds_up_a_write_for(at_last).await, "one that reads does");
    reads.rollback().await.unwrap();
    let default = db.begin().await.unwrap();
    assert!(holds_up_a_write_for(soon).await, "the default does not");
    default.rollback().await.unwrap();
}

/// What `SELECT *` shows of the first row, such as `id=1 name=Ida`.
async fn boat(db: &impl ConnectionTrait) -> String {
    let row = db.query_one_raw(raw("SELECT * FROM boat")).await.unwrap().unwrap();
    let shown = row.column_names().into_iter().map(|name| {
        let value = match row.try_get::<i64>("", &name) {
            Ok(number) => number.to_string(),
            Err(_) => row.try_get::<String>("", &name).unwrap(),
        };
        format!("{name}={value}")
    });
    shown.collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn a_change_of_the_schema_renews_what_is_prepared() {
    let Harbour { db, _folder, .. } = harbour().await;
    run(&db, "INSERT INTO boat (name) VALUES ('Ida')").await;
    let shows = async |expected: &str, after: &str| {
        for _ in 0..8 {
            assert_eq!(boat(&db).await, expected, "readers, after {after}");
            assert_eq!(boat(&db.on_primary()).await, expected, "writer, after {after}");
        }
    };
    shows("id=1 name=Ida", "nothing").await;
    let add = "ALTER TABLE boat ADD COLUMN berth INTEGER DEFAULT 7";
    run(&db, add).await;
    shows("id=1 name=Ida berth=7", add).await;
    let drop = "ALTER TABLE boat DROP COLUMN name";
    db.execute_raw(raw(drop)).await.unwrap();
    shows("id=1 berth=7", drop).await;
    let txn = db.begin().await.unwrap();
    run(&txn, "ALTER TABLE boat RENAME COLUMN berth TO pier").await;
    run(&txn, "ALTER TABLE boat ADD COLUMN flag TEXT DEFAULT 'x'").await;
    let beside = tokio::time::timeout(Duration::from_secs(3), boat(&db)).await;
    assert_eq!(beside.expect("reads wait for an open transaction"), "id=1 berth=7");
    txn.commit().await.unwrap();
    shows("id=1 pier=7 flag=x", "a transaction").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_beside_changes_of_the_schema_show_one_state() {
    let Harbour { db, _folder, .. } = harbour().await;
    run(&db, "INSERT INTO boat (name) VALUES ('Ida')").await;
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let db = db.clone();
            tokio::spawn(async move {
                let mut states = 0_usize;
                loop {
                    let shown = boat(&db).await;
                    let is_whole = ["id=1 name=Ida", "id=1 name=Ida berth=7"].contains(&&*shown);
                    assert!(is_whole, "{shown}");
                    states += 1;
                    if shown.contains("berth") && states > 200 {
                        return;
                    }
                }
            })
        })
        .collect();
    let changes = async {
        loop {
            run(&db, "ALTER TABLE boat ADD COLUMN berth INTEGER DEFAULT 7").await;
            tokio::time::sleep(Duration::from_millis(2)).await;
            run(&db, "ALTER TABLE boat DROP COLUMN berth").await;
        }
    };
    let all = futures_util::future::try_join_all(readers);
    tokio::select! {
        ended = all => { ended.unwrap(); }
        () = changes => {}
    }
}

#[tokio::test]
async fn a_transaction_that_reads_shows_one_state_beside_a_change_of_the_schema() {
    let Harbour { db, _folder, .. } = harbour().await;
    run(&db, "INSERT INTO boat (name) VALUES ('Ida')").await;
    for n in 0..20 {
        // Each reader has it prepared.
        let read = async || db.begin_with_config(None, Some(AccessMode::ReadOnly)).await.unwrap();
        let all = [read().await, read().await, read().await, read().await];
        let mut before = String::new();
        for txn in all {
            before = boat(&txn).await;
            txn.commit().await.unwrap();
        }
        let txn = read().await;
        run(&db, &format!("ALTER TABLE boat ADD COLUMN berth_{n} INTEGER DEFAULT 7")).await;
        assert_eq!(boat(&txn).await, before, "round {n}");
        txn.commit().await.unwrap();
        assert_eq!(boat(&db).await, format!("{before} berth_{n}=7"));
    }
}

#[tokio::test]
async fn reads_that_are_only_for_the_readers_do_not_fail_beside_changes_of_the_schema() {
    let Harbour { db, _folder, .. } = harbour().await;
    run(&db, "INSERT INTO boat (name) VALUES ('Ida')").await;
    let strict = db.fallback(sealane::FallbackPolicy::Fail);
    let changes = async {
        for _ in 0..100 {
            run(&db, "ALTER TABLE boat ADD COLUMN berth INTEGER DEFAULT 7").await;
            run(&db, "ALTER TABLE boat DROP COLUMN berth").await;
        }
    };
    let reads = async {
        let mut done = 0;
        loop {
            let shown = boat(&strict).await;
            assert!(["id=1 name=Ida", "id=1 name=Ida berth=7"].contains(&&*shown), "{shown}");
            done += 1;
            if done > 400 {
                return;
            }
        }
    };
    tokio::join!(changes, reads);
}

#[tokio::test]
async fn a_stream_that_is_opened_early_shows_what_was_shown_before_it_is_polled() {
    let Harbour { db, _folder, .. } = harbour().await;
    let mut missed = 0;
    for n in 1..=300 {
        let mut late = db.stream_raw(raw("SELECT count(*) FROM boat")).await.unwrap();
        let insert = "INSERT INTO boat (name) VALUES ('Ida'), ('Jolle') RETURNING id";
        let mut rows = db.stream_raw(raw(insert)).await.unwrap();
        assert!(rows.try_next().await.unwrap().is_some());
        drop(rows);
        let count: i64 = late.next().await.unwrap().unwrap().try_get_by_index(0).unwrap();
        missed += i64::from(count != 2 * n);
    }
    assert_eq!(missed, 0, "of 300");
}

#[tokio::test]
async fn what_belongs_to_the_writers_session_is_read_there() {
    let Harbour { db, path, _folder } = harbour().await;
    run(&db, "INSERT INTO boat (name) VALUES ('Ida'), ('Jolle')").await;
    let count = async || number(&db, "SELECT count(*) FROM boat").await;
    run(&db, "CREATE TEMP TABLE boat (id INTEGER PRIMARY KEY, name TEXT)").await;
    assert_eq!(count().await, 0, "the temporary table hides the real one");
    run(&db, "DROP TABLE temp.boat").await;
    // With this one the writer is asked.
    assert_eq!(count().await, 2);
    let before = reads(&db);
    assert_eq!(count().await, 2);
    assert_eq!(reads(&db), (before.0 + 1, before.1), "nothing is temporary any more");

    let txn = db.begin().await.unwrap();
    run(&txn, "CREATE TEMP TABLE boat (id INTEGER PRIMARY KEY)").await;
    txn.commit().await.unwrap();
    assert_eq!(count().await, 0, "made in a transaction");
    run(&db, "DROP TABLE temp.boat").await;
    assert_eq!(count().await, 2);

    let other = path.with_extension("other");
    run(&db, &format!("ATTACH '{}' AS other", other.display())).await;
    run(&db, "CREATE TABLE other.crew (name TEXT); INSERT INTO other.crew VALUES ('Ole')").await;
    assert_eq!(number(&db, "SELECT count(*) FROM crew").await, 1);
    run(&db, "DETACH other").await;
    assert!(db.query_all_raw(raw("SELECT * FROM crew")).await.is_err());

    let before = reads(&db);
    run(&db, "PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON").await;
    assert_eq!(count().await, 2);
    assert_eq!(reads(&db), (before.0 + 1, before.1), "no read is another for these");
    assert_eq!(number(&db, "SELECT 'a' LIKE 'A'").await, 1);
    run(&db, "PRAGMA case_sensitive_like = ON").await;
    assert_eq!(number(&db, "SELECT 'a' LIKE 'A'").await, 0);
}

#[tokio::test]
async fn a_script_that_fails_between_begin_and_commit_keeps_no_later_writes_to_itself() {
    let Harbour { db, path, _folder } = harbour().await;
    let script =
        "BEGIN; INSERT INTO boat VALUES (1, 'Ida'); INSERT INTO boat VALUES (1, 'Ida'); COMMIT";
    db.execute_unprepared(script).await.unwrap_err();
    run(&db, "INSERT INTO boat (name) VALUES ('Jolle')").await;
    assert_eq!(number(&db, "SELECT count(*) FROM boat").await, 1, "read by a reader");
    let transaction = db.begin().await.unwrap();
    run(&transaction, "INSERT INTO boat (name) VALUES ('Kahn')").await;
    transaction.commit().await.unwrap();
    db.close().await.unwrap();
    assert_eq!(rows_in_a_copy(&path).unwrap(), 2);
}

/// The driver panics on a number that SQLite has no place for.
#[tokio::test]
async fn a_stream_that_writes_and_crashes_is_no_success() {
    let Harbour { db, _folder, .. } = harbour().await;
    let insert = "INSERT INTO boat (id) VALUES (?) RETURNING id";
    let insert = Statement::from_sql_and_values(DbBackend::Sqlite, insert, [u64::MAX.into()]);
    let mut rows = db.stream_raw(insert).await.unwrap();
    assert!(rows.next().await.is_some_and(|row| row.is_err()), "it wrote nothing");
    assert!(rows.next().await.is_none());
    assert_eq!(number(&db, "SELECT count(*) FROM boat").await, 0);
}
