//! Statements on servers that hang, fail, or are replaced, and what counts for their sessions.

#![allow(clippy::unwrap_used, reason = "a test may end there")]

#[allow(dead_code, reason = "other tests use more of it")]
#[path = "../tracing/servers.rs"]
mod servers;

use std::time::Duration;

use futures_util::{TryStreamExt, future::join_all};
use sea_orm::{
    AccessMode, ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, IsolationLevel, Statement,
    StreamTrait, TransactionTrait,
};
use sealane::{
    Condition, Config, Consistency, Engine, Error, PrimaryReads, Role, RoundRobin,
    RoutedConnection, WhenAhead,
};
use tokio::time::{Instant, sleep, timeout};

use servers::{Does, QUOTED, Server, cluster, cluster_of};

const READ: &str = "SELECT id FROM boat";
const WRITE: &str = "INSERT INTO boat (name) VALUES ('gull')";
/// Longer than anything takes that has an end.
const LONG: Duration = Duration::from_secs(60);

fn statement(sql: &str) -> Statement {
    Statement::from_string(DbBackend::Postgres, sql)
}

/// The number of the server that serves a read.
async fn served_by(db: &impl ConnectionTrait) -> i32 {
    let row = db.query_one_raw(statement(READ)).await.unwrap().unwrap();
    row.try_get("", "id").unwrap()
}

async fn write(db: &impl ConnectionTrait) -> Result<(), DbErr> {
    db.execute_raw(statement(WRITE)).await.map(drop)
}

/// How many statements each server was sent.
fn heard(servers: &[Server]) -> Vec<usize> {
    servers.iter().map(|it| it.heard().len()).collect()
}

/// How many endpoints may serve a read of the session now.
fn suit(session: &RoutedConnection) -> usize {
    session.explain(READ).choices.iter().filter(|it| it.refusal.is_none()).count()
}

fn keyed(config: Config) -> Config {
    config.token_key([7_u8; 32])
}

fn is_unknown(error: &DbErr) -> bool {
    matches!(Error::of(error), Some(Error::OutcomeUnknown { .. }))
}

fn is_lost(error: &DbErr) -> bool {
    matches!(Error::of(error), Some(Error::TransactionLost { .. }))
}

#[tokio::test(start_paused = true)]
async fn a_commit_counts_although_a_nested_transaction_is_kept() {
    let (db, _servers) = cluster(1, |config| config).await;
    let session = db.session();
    let transaction = session.begin().await.unwrap();
    let _kept = transaction.begin().await.unwrap();
    let before = session.progress();
    transaction.commit().await.unwrap();
    assert_ne!(session.progress(), before);
}

#[tokio::test(start_paused = true)]
async fn the_answer_of_a_primary_that_was_replaced_acknowledges_nothing() {
    let (db, servers) = cluster(1, |config| config).await;
    servers[0].does(Does::AnswersTooLate);
    servers[1].becomes(Role::Primary);
    let error = write(&db).await.unwrap_err();
    assert!(is_unknown(&error), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_comes_after_its_primary_was_replaced_is_not_used() {
    let (db, servers) = cluster(1, |config| config).await;
    servers[0].does(Does::LendsTooLate);
    servers[1].becomes(Role::Primary);
    write(&db).await.unwrap();
    assert_eq!(heard(&servers), [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn what_was_read_while_its_replica_restarted_is_read_again() {
    let (db, servers) = cluster(1, |config| config).await;
    servers[1].does(Does::AnswersTooLate);
    servers[1].restarts();
    assert_eq!(served_by(&db).await, 1);
    assert_eq!(heard(&servers), [1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_went_away_after_the_plan_is_not_asked() {
    let (db, servers) = cluster(2, |config| config.balancer(RoundRobin::default())).await;
    servers[1].does(Does::DiesAfter(Duration::from_millis(1_900)));
    servers[2].does(Does::IsAway);
    assert_eq!(served_by(&db).await, 1);
    assert_eq!(heard(&servers), [1, 1, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_falls_behind_while_its_pool_is_waited_for_does_not_serve() {
    let (db, servers) = cluster(1, |config| config).await;
    servers[0].has(1_000);
    servers[1].does(Does::LendsAfter(Duration::from_secs(5)));
    let bound = Consistency::BoundedStaleness(Duration::from_secs(2));
    assert_eq!(served_by(&db.with_consistency(bound)).await, 1);
    assert_eq!(heard(&servers), [1, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_polled_after_a_write_of_its_session_shows_the_write() {
    let (db, _servers) = cluster(1, |config| config).await;
    let session = db.session();
    let mut rows = session.stream_raw(statement(READ)).await.unwrap();
    write(&session).await.unwrap();
    let row = rows.try_next().await.unwrap().unwrap();
    assert_eq!(row.try_get::<i32>("", "id").unwrap(), 1);
}

/// Meanwhile its primary may have been demoted, or its connection may have died.
#[tokio::test(start_paused = true)]
async fn a_stream_that_writes_and_is_polled_late_checks_its_primary_again() {
    let (db, servers) = cluster(1, |config| config).await;
    for (idle, opened) in [(Duration::from_millis(500), 1), (Duration::from_millis(1_500), 2)] {
        servers[0].asked_to_write();
        let mut rows = db.stream_raw(statement(WRITE)).await.unwrap();
        sleep(idle).await;
        rows.try_next().await.unwrap().unwrap();
        assert_eq!((servers[0].asked_to_write(), heard(&servers)), (opened, vec![1, 0]));
    }
}

/// A primary that was made a replica, and another one of which no probe has told yet.
async fn switched_over() -> (RoutedConnection, Vec<Server>) {
    let (db, servers) = cluster(1, |config| config).await;
    servers[0].does(Does::Fails("25006"));
    servers[0].becomes(Role::Replica);
    servers[1].becomes(Role::Primary);
    (db, servers)
}

#[tokio::test(start_paused = true)]
async fn a_refused_write_goes_to_the_next_primary_unless_it_is_one_of_several_in_a_text() {
    let (db, servers) = switched_over().await;
    write(&db).await.unwrap();
    assert_eq!(heard(&servers), [1, 1]);
    let (db, servers) = switched_over().await;
    db.execute_unprepared(&format!("{WRITE}; {WRITE}")).await.unwrap_err();
    assert_eq!(heard(&servers), [1, 0]);
}

#[tokio::test(start_paused = true)]
async fn the_outcome_of_a_write_whose_answer_is_lost_is_unknown() {
    let (db, servers) = cluster(1, |config| config).await;
    servers[0].does(Does::Breaks);
    let error = write(&db).await.unwrap_err();
    assert!(is_unknown(&error), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_refused_write_waits_until_its_server_shows_that_it_was_demoted() {
    let (db, servers) = cluster_of(Engine::MySql, 1, |config| config).await;
    servers[0].does(Does::Fails("1290"));
    let moves = async {
        sleep(Duration::from_millis(100)).await;
        servers[0].becomes(Role::Replica);
        servers[1].becomes(Role::Primary);
    };
    let (written, ()) = tokio::join!(write(&db), moves);
    written.unwrap();
    assert_eq!(heard(&servers), [1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_primary_that_stays_one_and_refuses_says_so_soon() {
    let (db, servers) = cluster_of(Engine::MySql, 1, |config| config).await;
    servers[0].does(Does::Fails("1290"));
    let written = timeout(Duration::from_millis(500), write(&db));
    let error = written.await.unwrap().unwrap_err();
    assert!(error.to_string().contains(QUOTED), "{error}");
    assert_eq!(heard(&servers), [1, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_is_wrong_itself_leaves_its_primary_in_use() {
    let (db, servers) = cluster(1, |config| config).await;
    servers[0].does(Does::Fails("23505"));
    write(&db).await.unwrap_err();
    assert_eq!(db.status().endpoints[0].condition, Condition::Serving);
}

#[tokio::test(start_paused = true)]
async fn a_session_does_not_go_back_beside_its_own_transaction() {
    let (db, _servers) = cluster(1, |config| config).await;
    let session = db.session();
    let transaction = session.begin().await.unwrap();
    assert_eq!(served_by(&transaction).await, 1);
    assert_eq!(served_by(&session).await, 1);
}

#[tokio::test(start_paused = true)]
async fn what_a_transaction_shows_after_its_first_read_counts_as_seen() {
    let (db, _servers) = cluster(2, |config| config).await;
    let session = db.session();
    let transaction = session.begin_with_config(None, Some(AccessMode::ReadOnly)).await.unwrap();
    assert!(db.wait_for_replication(LONG).await);
    assert_eq!(suit(&session), 3);
    served_by(&transaction).await;
    assert_eq!(suit(&session), 2, "the primary, and where the transaction is");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_writes_counts_from_its_first_row_on_and_again_at_its_end() {
    let (db, _servers) = cluster(1, |config| config).await;
    let session = db.session();
    let returning = statement(&format!("{WRITE} RETURNING id"));
    let mut rows = session.stream_raw(returning).await.unwrap();
    assert!(rows.try_next().await.unwrap().is_some());
    assert_eq!(served_by(&session).await, 1);
    let before = session.progress();
    while rows.try_next().await.unwrap().is_some() {}
    assert_ne!(session.progress(), before);
}

#[tokio::test(start_paused = true)]
async fn a_transaction_sends_nothing_to_a_primary_that_was_replaced() {
    let (db, servers) = cluster(1, |config| config).await;
    let transaction = db.begin().await.unwrap();
    servers[1].becomes(Role::Primary);
    servers[1].is_known_as_primary().await;
    let written = write(&transaction).await.unwrap_err();
    let committed = transaction.commit().await.unwrap_err();
    assert!(is_lost(&written) && is_lost(&committed), "{written}; {committed}");
    assert_eq!(servers[0].heard(), ["BEGIN"]);
}

#[tokio::test(start_paused = true)]
async fn a_serializable_transaction_is_on_the_primary_although_it_only_reads() {
    let (db, _servers) = cluster(1, |config| config).await;
    let (level, mode) = (Some(IsolationLevel::Serializable), Some(AccessMode::ReadOnly));
    let transaction = db.begin_with_config(level, mode).await.unwrap();
    assert_eq!(served_by(&transaction).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_write_gives_a_silent_primary_up_before_its_pool_does() {
    let (db, servers) = cluster(1, |config| config).await;
    servers[0].does(Does::Hangs);
    let began = Instant::now();
    let error = timeout(LONG, write(&db)).await.unwrap().unwrap_err();
    assert!(matches!(Error::of(&error), Some(Error::NoPrimary { .. })), "{error}");
    let waited = began.elapsed().as_secs();
    assert!((5..=10).contains(&waited), "{waited} s, and `primary_wait` is five");
}

#[tokio::test(start_paused = true)]
async fn a_read_ends_although_its_last_replica_died_and_nobody_probes_any_more() {
    let (db, servers) = cluster(1, |config| config.primary_reads(PrimaryReads::Intended)).await;
    servers[1].does(Does::DiesAfter(Duration::from_secs(1)));
    let closed = async {
        // Its probe is under way, and takes longer.
        sleep(Duration::from_millis(1_010)).await;
        db.close_by_ref().await
    };
    let (read, closed) = tokio::join!(timeout(LONG, db.query_one_raw(statement(READ))), closed);
    closed.unwrap();
    assert!(read.expect("it ends").is_err());
}

#[tokio::test(start_paused = true)]
async fn a_read_on_a_replica_runs_on_a_connection_that_may_not_write() {
    let (db, servers) = cluster(1, |config| config).await;
    assert_eq!(served_by(&db).await, 2);
    write(&db).await.unwrap();
    let asked_to_write: Vec<_> = servers.iter().map(Server::asked_to_write).collect();
    assert_eq!(asked_to_write, [1, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_token_of_the_shared_handle_tells_what_sessions_have_written() {
    let (db, _servers) = cluster(1, keyed).await;
    assert_eq!(db.token().await, None);
    write(&db.session()).await.unwrap();
    assert!(db.token().await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_session_with_a_refused_token_misses_nothing_that_the_primary_has() {
    let (db, servers) = cluster(1, keyed).await;
    servers[0].has(1_000);
    assert_eq!(served_by(&db.resume("forged").session).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_write_waits_for_the_failover_that_its_token_tells_of() {
    let (there, promoted) = cluster(1, keyed).await;
    promoted[1].becomes(Role::Primary);
    promoted[1].is_known_as_primary().await;
    let session = there.session();
    write(&session).await.unwrap();
    let token = session.token().await.unwrap();
    let (here, servers) = cluster(1, keyed).await;
    servers[1].becomes(Role::Primary);
    write(&here.resume(&token).session).await.unwrap();
    assert_eq!(heard(&servers), [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_session_waits_until_the_primary_shows_what_a_replica_has_shown() {
    let (db, servers) = cluster(1, |config| config).await;
    servers[0].shows_all_before(99);
    servers[0].store().until(|topology| topology.shown().is_some()).await;
    let session = db.session();
    assert_eq!(served_by(&session).await, 2);
    let waiting = session.on_primary().when_ahead(WhenAhead::Wait(LONG));
    let began = Instant::now();
    let read = async {
        assert_eq!(served_by(&waiting).await, 1);
        began.elapsed()
    };
    let ends = async {
        sleep(Duration::from_secs(1)).await;
        servers[0].shows_all_before(100);
    };
    let (took, ()) = tokio::join!(read, ends);
    assert!((1..10).contains(&took.as_secs()), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn what_may_be_done_with_a_lent_transaction_counts_for_the_next_read() {
    let (db, _servers) = cluster(1, |config| config).await;
    let session = db.session();
    let transaction = session.begin().await.unwrap();
    let _lent: &DatabaseTransaction = &transaction;
    assert_eq!(served_by(&session).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_lags_more_than_the_configuration_allows_does_not_serve() {
    let (db, servers) = cluster(1, |config| config.max_lag(Duration::from_secs(2))).await;
    servers[0].has(1_000);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(served_by(&db).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_read_leaves_a_replica_that_hangs_before_its_probe_has_timed_out() {
    let (db, servers) = cluster(1, |config| config).await;
    servers[1].does(Does::Hangs);
    let read = timeout(Duration::from_millis(500), served_by(&db));
    assert_eq!(read.await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_the_slower_one_of_two_hedged_reads_has_read_does_not_count_as_seen() {
    let hedged = |config: Config| config.hedged_reads(true).balancer(RoundRobin::default());
    let (db, servers) = cluster(2, hedged).await;
    // Only what has run before is hedged.
    assert_eq!(served_by(&db.session()).await, 2);
    servers[2].does(Does::AnswersAfter(Duration::from_millis(50)));
    let session = db.session();
    assert_eq!(served_by(&session).await, 2);
    // By then the other one has answered, too.
    sleep(Duration::from_millis(50)).await;
    assert_eq!(heard(&servers), [0, 2, 1]);
    assert_eq!(session.explain(READ).first_choice(), Some("db-2"));
}

#[tokio::test(start_paused = true)]
async fn a_statement_that_breaks_its_connections_reaches_two_servers() {
    let (db, servers) = cluster(3, |config| config).await;
    servers.iter().for_each(|it| it.does(Does::Breaks));
    let read = timeout(LONG, db.query_one_raw(statement(READ)));
    read.await.unwrap().unwrap_err();
    assert_eq!(heard(&servers).iter().sum::<usize>(), 2);
}

#[tokio::test(start_paused = true)]
async fn only_some_reads_of_a_dead_replica_are_on_the_primary_at_a_time() {
    let (db, servers) = cluster(1, |config| config).await;
    servers[0].does(Does::AnswersAfter(Duration::from_secs(1)));
    servers[1].does(Does::IsAway);
    servers[0].store().until(|topology| topology.replicas_in_use().is_empty()).await;
    let sessions: Vec<_> = (0..8).map(|_| db.session()).collect();
    let reads = join_all(sessions.iter().map(served_by));
    timeout(Duration::from_millis(500), reads).await.unwrap_err();
    assert_eq!(heard(&servers), [5, 0]);
}
