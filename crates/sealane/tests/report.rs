//! What a report says of statements that ran on one SQLite file.

#![allow(clippy::unwrap_used, reason = "a test may end there")]

use sea_orm::{ConnectionTrait, DbBackend, Statement, TransactionTrait};
use sealane::{Config, Report, RoutedConnection, StatementReport};

struct Harbour {
    db: RoutedConnection,
    // Removed when the test ends.
    _folder: tempfile::TempDir,
}

async fn harbour() -> Harbour {
    let folder = tempfile::tempdir().unwrap();
    let db = sealane::connect(Config::sqlite(folder.path().join("harbour.db"))).await.unwrap();
    db.execute_unprepared("CREATE TABLE boat (name TEXT)").await.unwrap();
    db.execute_raw(sql("INSERT INTO boat VALUES ('Ida')")).await.unwrap();
    Harbour { db, _folder: folder }
}

fn sql(text: &str) -> Statement {
    Statement::from_string(DbBackend::Sqlite, text)
}

async fn read(db: &RoutedConnection, text: &str, times: u32) {
    for _ in 0..times {
        db.query_all_raw(sql(text)).await.unwrap();
    }
}

fn of_text<'a>(list: &'a [StatementReport], text: &str) -> Option<&'a StatementReport> {
    list.iter().find(|it| it.text == text)
}

fn endpoint<'a>(report: &'a Report, name: &str) -> &'a sealane::EndpointReport {
    report.endpoints.iter().find(|it| it.name == name).unwrap()
}

#[tokio::test]
async fn reads_and_writes_are_counted_and_timed_where_they_ran() {
    let Harbour { db, _folder } = harbour().await;
    read(&db, "SELECT name FROM boat WHERE name = 'Ida'", 30).await;
    let report = db.report();
    let (readers, writer) = (endpoint(&report, "readers"), endpoint(&report, "writer"));
    assert_eq!((report.reads, readers.reads, writer.reads), (30, 30, 0));
    assert_eq!((report.writes, writer.writes, writer.failures), (2, 2, 0));
    let latency = readers.read_latency.unwrap();
    assert_eq!((latency.answered, writer.read_latency), (30, None));
    assert!(latency.p50_us > 0 && latency.p50_us <= latency.p95_us, "{latency:?}");
    assert!(latency.p95_us <= latency.p99_us, "{latency:?}");
    assert_eq!(writer.write_latency.unwrap().answered, 2);
    assert!(readers.connections.open > 0 && readers.connections.waiting == 0, "{readers:?}");
    assert_eq!((report.replica_read_ratio, report.advice.as_slice()), (Some(1.0), &[] as &[_]));
}

#[tokio::test]
async fn a_refused_statement_is_neither_timed_nor_a_failure() {
    let Harbour { db, _folder } = harbour().await;
    assert!(db.execute_raw(sql("INSERT INTO none VALUES (1)")).await.is_err());
    assert!(db.query_all_raw(sql("SELECT nothing FROM boat")).await.is_err());
    let report = db.report();
    assert_eq!(endpoint(&report, "writer").write_latency.unwrap().answered, 2);
    assert!(report.endpoints.iter().all(|it| it.failures == 0 && it.read_latency.is_none()));
}

#[tokio::test]
async fn statements_are_listed_with_their_reasons_and_without_literals() {
    let Harbour { db, _folder } = harbour().await;
    read(&db, "SELECT name FROM boat WHERE name = 'SECRET'", 3).await;
    read(&db.on_primary(), "SELECT count(*) FROM boat WHERE name <> 'SECRET'", 2).await;
    let unproved = "SELECT last_insert_rowid() -- SECRET";
    read(&db, unproved, 1).await;

    let report = db.report();
    let statements = &report.statements;
    let often = of_text(&statements.by_total, "SELECT name FROM boat WHERE name = ?").unwrap();
    assert_eq!((often.reads, often.on_primary(), often.why.as_deref()), (3, 0, None));
    let strong = "SELECT count(*) FROM boat WHERE name <> ?";
    let strong = of_text(&statements.on_primary, strong).unwrap();
    assert_eq!((strong.reads, strong.asked_for_primary), (2, 2));
    assert_eq!(strong.why.as_deref(), Some("asks for the primary"));
    let unproved = of_text(&statements.on_primary, "SELECT last_insert_rowid()");
    assert!(unproved.is_some_and(|it| it.unproved == 1 && it.why.is_some()), "{unproved:?}");

    for shown in [report.to_string(), serde_json::to_string(&report).unwrap()] {
        assert!(shown.contains("FROM boat") && !shown.contains("SECRET"), "{shown}");
    }
}

#[tokio::test]
async fn transactions_count_as_writes_and_their_statements_as_nothing() {
    let Harbour { db, _folder } = harbour().await;
    let before = db.report();
    let transaction = db.begin().await.unwrap();
    transaction.query_all_raw(sql("SELECT name FROM boat")).await.unwrap();
    transaction.commit().await.unwrap();
    let report = db.report();
    assert_eq!((report.writes, report.reads), (before.writes + 1, before.reads));
    let timed = |report: &Report| endpoint(report, "writer").write_latency.unwrap().answered;
    assert_eq!(timed(&report), timed(&before));
    assert!(report.statements.by_total.is_empty());
}

#[tokio::test]
async fn a_report_for_people_names_each_endpoint_and_each_reason() {
    let Harbour { db, _folder } = harbour().await;
    read(&db.on_primary(), "SELECT name FROM boat", 100).await;
    let words = db.report().to_string();
    for told in [
        "100 reads and 2 writes in ",
        "writer (primary): 100 reads, 100 %",
        "reads on the primary: 100 asked for it, 0 pinned, 0 fell back",
        "advice: 100 % of the reads ask for the primary",
    ] {
        assert!(words.contains(told), "{told} is not in {words}");
    }
}
