//! Shadow mode: answers come from the primary, and the report tells what would have differed.

#![allow(clippy::unwrap_used, reason = "a test may end there")]

#[path = "shadow/kit.rs"]
mod kit;

use std::{sync::atomic::Ordering, time::Duration};

use futures_util::{TryStreamExt, future::join_all};
use kit::{Fleet, all, raw};
use sea_orm::{AccessMode, ConnectionTrait, StreamTrait, TransactionTrait};
use sealane::{Consistency, Event, Shadow, ShadowComparisons, ShadowReport, ShadowStays};

const BOATS: &str = "SELECT id, name FROM boat";
/// As SeaORM writes `find_by_id(1).one(…)`.
const ONE_BOAT: &str =
    r#"SELECT "boat"."id", "boat"."name" FROM "boat" WHERE "boat"."id" = $1 LIMIT 1"#;

async fn comparing() -> Fleet {
    Fleet::of(|config| config.shadow(Shadow::COMPARE_ALL)).await
}

fn comparisons(report: &ShadowReport) -> ShadowComparisons {
    report.endpoints.first().map(|endpoint| endpoint.comparisons).unwrap_or_default()
}

/// How many comparisons have ended, however.
fn ended(report: &ShadowReport) -> u64 {
    let counts = comparisons(report);
    counts.compared()
        + counts.changed_meanwhile
        + counts.not_comparable
        + counts.failed
        + counts.skipped
}

#[tokio::test(start_paused = true)]
async fn a_stale_replica_is_found_and_told_and_nobody_sees_its_answer() {
    let fleet = comparing().await;
    let mut events = fleet.db.events();
    *fleet.replica.boats.lock().unwrap() = vec!["Ida"];
    assert_eq!(fleet.read("SELECT id, name FROM boat WHERE id < 42").await, 2);
    let report = fleet.until(|report| ended(report) == 1).await;
    assert_eq!(comparisons(&report).differed, 1, "{report}");
    let [difference] = &report.differences[..] else { panic!("{report}") };
    assert_eq!(difference.statement, "SELECT id, name FROM boat WHERE id < ?");
    assert_eq!((difference.rows_on_primary, difference.rows_on_replica), (2, 1));
    assert_eq!((difference.endpoint.as_str(), difference.times), ("db-2", 1));
    let told = loop {
        if let Event::ShadowDiffered { statement, .. } = events.next().await.unwrap() {
            break statement;
        }
    };
    assert_eq!(told, difference.statement);
    // The primary was asked again, but not with a connection of those who write.
    assert_eq!((fleet.primary.asked(), fleet.replica.asked()), ([1, 1], [1, 0]));
    let status = fleet.db.status();
    assert_eq!(status.endpoints.iter().map(|it| it.reads).collect::<Vec<_>>(), [1, 0]);
    assert_eq!(status.shadow, Some(report));
}

#[tokio::test(start_paused = true)]
async fn equal_answers_are_no_differences() {
    let fleet = comparing().await;
    for number in 1..=20 {
        assert_eq!(fleet.read(BOATS).await, 2);
        let report = fleet.until(|report| ended(report) == number).await;
        assert_eq!(comparisons(&report).equal, number, "{report}");
    }
    assert_eq!((fleet.primary.asked(), fleet.replica.asked()), ([0, 20], [20, 0]));
    assert_eq!(fleet.db.shadow_report().differences, []);
}

#[tokio::test(start_paused = true)]
async fn a_write_between_the_answers_is_no_difference() {
    let fleet = comparing().await;
    fleet.primary.is_growing.store(true, Ordering::Relaxed);
    assert_eq!(fleet.read(BOATS).await, 3);
    let report = fleet.until(|report| ended(report) == 1).await;
    assert_eq!((comparisons(&report).changed_meanwhile, &report.differences[..]), (1, &[][..]));
}

#[tokio::test(start_paused = true)]
async fn what_does_not_follow_from_the_data_is_not_compared() {
    let fleet = comparing().await;
    *fleet.replica.boats.lock().unwrap() = vec!["Ida", "Kahn"];
    assert_eq!(fleet.read("SELECT id, random() AS name FROM boat").await, 2);
    fleet.until(|report| comparisons(report).not_comparable == 1).await;
    assert_eq!(fleet.replica.asked(), [0, 0]);
    // Without an order, these may be any two boats.
    fleet.replica.first_id.store(7, Ordering::Relaxed);
    assert_eq!(fleet.read("SELECT id, name FROM boat LIMIT 2").await, 2);
    let report = fleet.until(|report| comparisons(report).not_comparable == 2).await;
    assert_eq!((ended(&report), &report.differences[..]), (2, &[][..]));
    // With one, they are not.
    assert_eq!(fleet.read("SELECT id, name FROM boat ORDER BY id LIMIT 2").await, 2);
    fleet.until(|report| comparisons(report).differed == 1).await;
}

#[tokio::test(start_paused = true)]
async fn an_old_version_of_one_row_is_found_by_its_key() {
    let fleet = comparing().await;
    *fleet.primary.boats.lock().unwrap() = vec!["Ida"];
    *fleet.replica.boats.lock().unwrap() = vec!["Jolle"];
    assert!(fleet.db.query_one_raw(raw(ONE_BOAT)).await.unwrap().is_some());
    let report = fleet.until(|report| ended(report) == 1).await;
    assert_eq!(comparisons(&report).differed, 1, "{report}");
    fleet.replica.first_id.store(7, Ordering::Relaxed);
    assert!(fleet.db.query_one_raw(raw(ONE_BOAT)).await.unwrap().is_some());
    let report = fleet.until(|report| ended(report) == 2).await;
    assert_eq!(comparisons(&report).not_comparable, 1, "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_hangs_or_fails_is_waited_for_by_nobody() {
    let fleet = comparing().await;
    fleet.replica.hangs.store(true, Ordering::Relaxed);
    let began = fleet.db.now();
    let rows = join_all((0..10).map(|_| fleet.read(BOATS))).await;
    assert_eq!((rows, fleet.db.now().since(began)), (vec![2; 10], Duration::ZERO));
    let report = fleet.until(|report| ended(report) == 10).await;
    let counts = comparisons(&report);
    assert_eq!((counts.skipped, counts.failed), (8, 2), "{report}");
    assert_eq!(fleet.replica.most_running.load(Ordering::Relaxed), 2);
    fleet.replica.hangs.store(false, Ordering::Relaxed);
    fleet.replica.fails.store(true, Ordering::Relaxed);
    assert_eq!(fleet.read(BOATS).await, 2);
    let report = fleet.until(|report| ended(report) == 11).await;
    assert_eq!(comparisons(&report).failed, 3, "{report}");
    assert_eq!(report.differences, []);
}

#[tokio::test(start_paused = true)]
async fn reads_that_would_stay_are_recorded_with_the_reason() {
    let fleet = Fleet::of(|config| config.shadow(Shadow::Record)).await;
    let stays = |stays: ShadowStays| {
        [stays.outside_share, stays.asked, stays.pinned, stays.fell_back, stays.would_fail]
    };
    all(&fleet.db.on_primary(), BOATS).await;
    assert_eq!(stays(fleet.db.shadow_report().stays), [0, 1, 0, 0, 0]);
    let session = fleet.db.session();
    session.execute_unprepared("INSERT INTO boat VALUES (3)").await.unwrap();
    all(&session, BOATS).await;
    assert_eq!(stays(fleet.db.shadow_report().stays), [0, 1, 1, 0, 0]);
    // It is answered all the same.
    assert_eq!(all(&session.on_replicas(), BOATS).await.len(), 2);
    assert_eq!(stays(fleet.db.shadow_report().stays), [0, 1, 1, 0, 1]);
    let bounded = Consistency::BoundedStaleness(Duration::ZERO);
    all(&fleet.db.with_consistency(bounded), BOATS).await;
    assert_eq!(stays(fleet.db.shadow_report().stays), [0, 1, 1, 1, 1]);
    fleet.db.set_replica_share(0.0);
    all(&fleet.db, BOATS).await;
    let report = fleet.db.shadow_report();
    assert_eq!((stays(report.stays), report.reads), ([1, 1, 1, 1, 1], 5));
    assert!(report.endpoints.is_empty(), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_reads_in_shadow_mode_could_still_read_elsewhere() {
    let fleet = Fleet::of(|config| config.shadow(Shadow::Record)).await;
    let session = fleet.db.session();
    for _ in 0..5 {
        all(&session, BOATS).await;
    }
    let report = fleet.db.shadow_report();
    assert_eq!((report.endpoints[0].reads, report.reads), (5, 5), "{report}");
    assert_eq!(fleet.replica.asked(), [0, 0], "recording asks no replica");
}

#[tokio::test(start_paused = true)]
async fn streams_and_transactions_are_recorded_and_not_compared() {
    let fleet = comparing().await;
    let rows: Vec<_> = fleet.db.stream_raw(raw(BOATS)).await.unwrap().try_collect().await.unwrap();
    assert_eq!(rows.len(), 2);
    let read_only = fleet.db.begin_with_config(None, Some(AccessMode::ReadOnly)).await.unwrap();
    assert_eq!(all(&read_only, BOATS).await.len(), 2);
    read_only.commit().await.unwrap();
    let report = fleet.db.shadow_report();
    assert_eq!((report.reads, comparisons(&report).not_comparable), (2, 2), "{report}");
    assert_eq!(fleet.replica.asked(), [0, 0]);
}

#[tokio::test(start_paused = true)]
async fn shadow_mode_is_switched_at_run_time_and_compares_its_share() {
    let fleet = Fleet::of(|config| config).await;
    fleet.read(BOATS).await;
    assert_eq!((fleet.replica.asked(), fleet.db.status().shadow), ([1, 0], None));
    fleet.db.set_shadow(Shadow::Compare { share: 0.25 });
    for _ in 0..400 {
        fleet.read(BOATS).await;
        // A comparison takes few steps here.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }
    let report = fleet.until(|_| fleet.replica.running.load(Ordering::Relaxed) == 0).await;
    assert_eq!((report.reads, report.endpoints[0].reads), (400, 400));
    let ShadowComparisons { equal, skipped, .. } = comparisons(&report);
    assert!((60..=140).contains(&(equal + skipped)) && equal >= 40, "{report}");
    assert!(fleet.db.explain(BOATS).to_string().contains("shadow mode"));
    fleet.db.set_shadow(Shadow::Off);
    let asked = fleet.primary.asked();
    fleet.read(BOATS).await;
    assert_eq!((fleet.primary.asked(), fleet.db.shadow_report().reads), (asked, 400));
}
