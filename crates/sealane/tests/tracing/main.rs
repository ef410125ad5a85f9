//! Spans of statements, and lines in the log.

#![allow(clippy::unwrap_used, reason = "a test may end there")]

#[allow(dead_code, reason = "the other tests of these servers use more of them")]
mod servers;
mod told;

use std::{ops::Range, time::Duration};

use futures_util::TryStreamExt;
use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement, StreamTrait, TransactionTrait};
use sealane::{
    Condition, Config, Consistency, FallbackPolicy, PrimaryReads, RoundRobin, RoutedConnection,
};

use servers::{Does, POOL, QUOTED, Server, cluster};
use told::Told;

const SPANS: &str = "sealane::statement=debug";
const LINES: &str = "sealane=warn";
const LITERAL: &str = "written-by-the-application";

fn statement(sql: &str) -> Statement {
    Statement::from_string(DbBackend::Postgres, sql)
}

fn read() -> Statement {
    statement(&format!("SELECT id FROM boat WHERE name = '{LITERAL}' AND id = 7"))
}

async fn run(db: &RoutedConnection) -> Result<(), DbErr> {
    db.query_all_raw(read()).await.map(drop)
}

#[tokio::test(start_paused = true)]
async fn a_read_is_a_span_that_tells_where_it_ran_and_why() {
    let (db, _servers) = cluster(1, |config| config).await;
    let told = Told::listen(SPANS);
    run(&db).await.unwrap();
    told.span_with(&[
        "statement{",
        r#"otel.name="SELECT boat""#,
        r#"otel.kind="client""#,
        r#"db.system.name="postgresql""#,
        r#"db.namespace="shop""#,
        r#"db.operation.name="SELECT""#,
        r#"db.collection.name="boat""#,
        r#"db.query.text="SELECT id FROM boat WHERE name = ? AND id = ?""#,
        r#"server.address="10.0.0.2""#,
        "server.port=5432",
        r#"sealane.endpoint="db-2""#,
        r#"sealane.role="replica""#,
        r#"sealane.reason="read""#,
    ]);
    let text = told.text();
    assert!(!text.contains("error.type") && !text.contains("retries"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_write_is_a_span_on_the_primary() {
    let (db, _servers) = cluster(1, |config| config).await;
    let told = Told::listen(SPANS);
    db.execute_raw(statement("INSERT INTO \"boat\" (\"name\") VALUES ('gull')")).await.unwrap();
    told.span_with(&[
        r#"otel.name="INSERT boat""#,
        r#"sealane.endpoint="db-1""#,
        r#"sealane.role="primary""#,
        r#"sealane.reason="write""#,
    ]);
}

#[tokio::test(start_paused = true)]
async fn a_read_that_moves_tells_of_each_endpoint_in_its_span() {
    let (db, servers) = cluster(1, |config| config).await;
    servers[1].does(Does::Breaks);
    let told = Told::listen(SPANS);
    run(&db).await.unwrap();
    told.span_with(&[
        r#"sealane.endpoint="db-1""#,
        r#"sealane.reason="fell_back_to_primary""#,
        "sealane.retries=1",
    ]);
    told.line_with(&["statement{", "tried again", r#"from="db-2""#, r#"to="db-1""#, "connection"]);
}

#[tokio::test(start_paused = true)]
async fn an_error_is_told_by_its_code_only() {
    let (db, servers) = cluster(1, |config| config).await;
    servers[1].does(Does::Fails("22012"));
    let told = Told::listen(SPANS);
    run(&db).await.unwrap_err();
    told.span_with(&[r#"otel.status_code="ERROR""#, r#"error.type="22012""#]);
    assert!(!told.text().contains(QUOTED), "{}", told.text());
}

#[tokio::test(start_paused = true)]
async fn the_span_of_a_stream_ends_with_the_stream() {
    let (db, _servers) = cluster(1, |config| config).await;
    let told = Told::listen(SPANS);
    let mut rows = db.stream_raw(read()).await.unwrap();
    assert!(rows.try_next().await.unwrap().is_some());
    assert_eq!(told.text(), "");
    while rows.try_next().await.unwrap().is_some() {}
    told.span_with(&[r#"sealane.endpoint="db-2""#, r#"sealane.reason="read""#]);
    drop(rows);
    told.span_with(&[]);
}

#[tokio::test(start_paused = true)]
async fn each_statement_of_a_transaction_is_a_span() {
    let (db, _servers) = cluster(1, |config| config).await;
    let told = Told::listen(SPANS);
    let transaction = db.begin().await.unwrap();
    transaction.query_all_raw(read()).await.unwrap();
    transaction.commit().await.unwrap();
    let closed = told.lines_with(&["sealane::statement", " close ", r#"sealane.endpoint="db-1""#]);
    let names: Vec<_> = closed
        .iter()
        .map(|line| line.split(r#"otel.name=""#).nth(1).unwrap().split('"').next().unwrap())
        .collect();
    assert_eq!(names, ["BEGIN", "SELECT boat", "COMMIT"]);
    assert!(closed[1].contains(r#"sealane.reason="in_transaction""#), "{}", closed[1]);
}

/// The default balancer would avoid a replica that fails anyway.
fn in_turn(config: Config) -> Config {
    config.balancer(RoundRobin::default())
}

/// Reads thirty times a second for a minute, three at a time. Returns how often the first replica was asked for a
/// connection, and how often it was ejected.
async fn a_minute(db: &RoutedConnection, servers: &[Server]) -> (usize, usize) {
    servers[1].asked();
    for _ in 0..600 {
        let sessions = [db.session(), db.session(), db.session()];
        futures_util::future::try_join_all(sessions.iter().map(run)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let events = db.recent_events();
    let ejected = events.iter().filter(|it| it.text.starts_with("db-2 gets no reads"));
    (servers[1].asked(), ejected.count())
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_breaks_its_connections_and_answers_probes_stays_ejected() {
    let (db, servers) = cluster(2, in_turn).await;
    servers[1].does(Does::Breaks);
    let (asked, ejected) = a_minute(&db, &servers).await;
    assert!((3..=20).contains(&asked) && ejected > 3, "{asked} reads, ejected {ejected} times");
}

#[tokio::test(start_paused = true)]
async fn a_network_that_breaks_all_connections_at_once_ejects_half_of_the_replicas_at_most() {
    let (db, servers) = cluster(4, in_turn).await;
    servers[1..].iter().for_each(|it| it.does(Does::Breaks));
    let sessions: Vec<_> = (0..20).map(|_| db.session()).collect();
    let broken = futures_util::future::join_all(sessions.iter().map(run)).await;
    servers[1..].iter().for_each(|it| it.does(Does::Answers));
    assert!(broken.iter().any(Result::is_err));
    tokio::time::sleep(Duration::from_millis(500)).await;
    let endpoints = db.status().endpoints;
    let ejected = endpoints.iter().filter(|it| it.ejected).count();
    assert!((1..=2).contains(&ejected), "{ejected} are ejected");
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_lets_nobody_in_is_ejected_and_one_with_a_full_pool_is_not() {
    let (db, servers) = cluster(2, in_turn).await;
    let mut streams = Vec::new();
    for _ in 0..2 * POOL {
        let mut rows = db.session().stream_raw(read()).await.unwrap();
        rows.try_next().await.unwrap();
        streams.push(rows);
    }
    servers[1].does(Does::LendsNone);
    let (asked, ejected) = a_minute(&db, &servers).await;
    assert!(asked > 20 && ejected == 0, "{asked} reads, ejected {ejected} times");
    drop(streams);
    let (asked, ejected) = a_minute(&db, &servers).await;
    assert!((3..=20).contains(&asked) && ejected > 3, "{asked} reads, ejected {ejected} times");
}

#[tokio::test(start_paused = true)]
async fn nobody_who_listens_elsewhere_gets_a_span() {
    let (db, _servers) = cluster(1, |config| config).await;
    let told = Told::listen("info");
    run(&db).await.unwrap();
    assert_eq!(told.text(), "");
}

#[tokio::test(start_paused = true)]
async fn reads_that_move_are_logged_once_in_ten_seconds() {
    let (db, servers) = cluster(2, |config| config).await;
    servers[1].does(Does::Fails("40001"));
    let told = Told::listen(LINES);
    let moved =
        |told: &Told| told.lines_with(&["sealane:", "a read is tried again", r#"from="db-2""#]);
    let run_until_counted = async |retried: u64| {
        while db.status().reads.retried < retried {
            run(&db).await.unwrap();
        }
    };
    run_until_counted(3).await;
    assert_eq!(moved(&told).len(), 1, "{}", told.text());
    tokio::time::advance(Duration::from_secs(10)).await;
    run_until_counted(4).await;
    let lines = moved(&told);
    assert_eq!(lines.len(), 2, "{}", told.text());
    assert!(lines[0].contains("40001") && lines[0].contains("left_out=0"), "{}", lines[0]);
    assert!(lines[0].contains(r#"to="db-3""#) && lines[1].contains("left_out=2"), "{}", lines[1]);
}

#[tokio::test(start_paused = true)]
async fn reads_that_fall_back_are_logged_with_what_keeps_them_from_replicas() {
    let (db, servers) = cluster(1, |config| config).await;
    servers[1].does(Does::Breaks);
    let told = Told::listen(LINES);
    run(&db).await.unwrap();
    run(&db).await.unwrap();
    let line = told.line_with(&["WARN sealane:", "falls back to the primary"]);
    assert!(line.contains(r#"endpoint="db-1""#) && line.contains("db-2 is down"), "{line}");
}

/// Lets the replica follow the primary, four seconds later.
async fn run_behind(servers: &[Server], seconds: Range<u64>) {
    for second in seconds {
        servers[0].has(1_000 * (second + 4));
        servers[1].has(1_000 * second);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_bound_that_no_replica_keeps_is_logged_with_what_follows() {
    let (db, servers) = cluster(1, |config| config).await;
    run_behind(&servers, 1..6).await;
    let bounded = db.with_consistency(Consistency::BoundedStaleness(Duration::from_secs(2)));
    let told = Told::listen(LINES);
    let failing = bounded.fallback(FallbackPolicy::Fail);
    run(&failing).await.unwrap_err();
    run(&failing).await.unwrap_err();
    let line = told.line_with(&["no replica is fresh enough", "it fails"]);
    assert!(line.contains("db-2 ") && line.contains("2s is allowed"), "{line}");
    run_behind(&servers, 6..20).await;
    let waiting = bounded.fallback(FallbackPolicy::Wait(Duration::from_secs(60)));
    run(&waiting).await.unwrap();
    let line = told.line_with(&["no replica is fresh enough", "it waits"]);
    assert!(line.contains("left_out=1"), "{line}");
}

#[tokio::test(start_paused = true)]
async fn a_statement_that_a_replica_refused_as_a_write_is_logged_without_literals() {
    let (db, servers) = cluster(1, |config| config).await;
    servers[1].does(Does::Fails("25006"));
    let told = Told::listen(&format!("{LINES},{SPANS}"));
    run(&db).await.unwrap();
    run(&db).await.unwrap();
    let line = told.line_with(&["sealane:", "refused a statement as a write"]);
    assert!(line.contains(r#"sql="SELECT id FROM boat WHERE name = ? AND id = ?""#), "{line}");
    told.line_with(&[
        " close ",
        r#"sealane.endpoint="db-1""#,
        r#"sealane.reason="write""#,
        "retries",
    ]);
}

/// Every way in which the tests above make sealane speak.
#[tokio::test(start_paused = true)]
async fn no_literal_is_told_in_spans_and_lines() {
    let (db, servers) = cluster(2, |config| config).await;
    let told = Told::listen(&format!("{LINES},{SPANS}"));
    for does in [
        Does::Answers,
        Does::Breaks,
        Does::Fails("40001"),
        Does::Fails("22P02"),
        Does::Fails("25006"),
    ] {
        servers[1..].iter().for_each(|replica| replica.does(does));
        let _ = run(&db).await;
        let _ = db.execute_unprepared(&format!("UPDATE boat SET name = '{LITERAL}'")).await;
        if let Ok(rows) = db.stream_raw(read()).await {
            let _ = rows.try_collect::<Vec<_>>().await;
        }
        tokio::time::advance(Duration::from_secs(11)).await;
    }
    let text = told.text();
    assert!(text.contains("tried again") && text.contains("UPDATE boat"), "{text}");
    assert!(!text.contains(LITERAL) && !text.contains(QUOTED), "{text}");
}

/// The last replica dies with a read, and the other one comes back. Other reads have just seen that the
/// last one answers. The primary is for intended reads only, or away.
#[tokio::test(start_paused = true)]
async fn a_read_whose_last_replica_died_waits_for_the_next_one() {
    for reads in [PrimaryReads::Intended, PrimaryReads::Fallback] {
        let (db, servers) =
            cluster(2, |config| config.primary_reads(reads).primary_wait(Duration::from_secs(10)))
                .await;
        servers[2].does(Does::IsAway);
        if reads == PrimaryReads::Fallback {
            servers[0].does(Does::IsAway);
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_ne!(db.status().endpoints[2].condition, Condition::Serving);
        servers[1].does(Does::DiesAfter(Duration::from_secs(5)));
        let back = async {
            tokio::time::sleep(Duration::from_millis(5_200)).await;
            servers[2].does(Does::Answers);
        };
        let (read, ()) = tokio::join!(run(&db), back);
        read.unwrap();
        assert_eq!((servers[1].asked(), servers[2].asked()), (1, 1), "{reads:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_read_of_a_session_that_begins_anew_waits_for_its_proof_and_leaves_the_primary() {
    let (db, servers) = cluster(1, |config| config).await;
    let resumed = db.resume("not a token");
    assert!(resumed.refused.is_some());
    run(&resumed.session).await.unwrap();
    assert_eq!((servers[0].asked(), servers[1].asked()), (0, 1));
}
