use std::time::Duration;

use super::*;
use crate::{Endpoint, EndpointSet, Incarnation, Lsn, Replication};

const PRIMARY: usize = 0;
const REPLICA: usize = 1;

fn id(index: usize) -> EndpointId {
    EndpointId::from_index(index).unwrap()
}

fn at(ms: u64) -> Moment {
    Moment::from_origin(Duration::from_millis(ms))
}

fn reducer() -> TopologyReducer {
    let endpoints = ["primary", "replica-1", "replica-2"].map(|name| Endpoint::new(name, name));
    TopologyReducer::new(Topology::new(endpoints.to_vec()))
}

/// A report, for use with struct update syntax.
fn report(role: Role, timeline: u32, lsn: u64) -> Report {
    Report {
        position: Some(Position::Wal { system: 1, timeline, lsn: Lsn::from_bytes(lsn) }),
        replication: match role {
            Role::Replica => Replication::Running,
            Role::Primary | Role::Unknown => Replication::NotApplicable,
        },
        ..Report::new(role, Incarnation::new("first"))
    }
}

fn seen(endpoint: usize, ms: u64, stamp: u64, report: Report) -> Observation {
    Observation {
        endpoint: id(endpoint),
        started: at(ms),
        finished: at(ms + 1),
        stamp: WriteStamp::from_number(stamp),
        outcome: Outcome::Answered(report),
    }
}

fn failed(endpoint: usize, ms: u64) -> Observation {
    Observation {
        endpoint: id(endpoint),
        started: at(ms),
        finished: at(ms + 1),
        stamp: WriteStamp::NONE,
        outcome: Outcome::Failed(Failure::Timeout),
    }
}

fn primary(ms: u64, stamp: u64, lsn: u64) -> Observation {
    seen(PRIMARY, ms, stamp, report(Role::Primary, 1, lsn))
}

fn replica(ms: u64, lsn: u64) -> Observation {
    seen(REPLICA, ms, 0, report(Role::Replica, 1, lsn))
}

fn after(observations: &[Observation]) -> TopologyReducer {
    let mut reducer = reducer();
    for observation in observations {
        reducer.apply(observation);
    }
    reducer
}

#[test]
fn a_replica_covers_the_stamps_of_the_samples_it_has_replayed() {
    let reducer = after(&[primary(0, 3, 100), primary(10, 5, 200), replica(20, 150)]);
    let state = reducer.topology().get(id(REPLICA)).unwrap();
    assert_eq!(state.covered, WriteStamp::from_number(3));
    assert_eq!(state.fresh_at, Some(at(0)));
}

#[test]
fn a_replica_that_answered_before_the_primary_is_known_to_keep_pace_once_the_primary_answers() {
    let mut reducer = after(&[replica(0, 100)]);
    assert_eq!(reducer.catches_up_in(id(REPLICA), at(5)), None, "nobody knows");
    reducer.apply(&primary(10, 7, 100));
    assert_eq!(reducer.catches_up_in(id(REPLICA), at(11)), Some(Duration::ZERO));
}

#[test]
fn a_sample_taken_after_the_replicas_answer_can_still_prove_it() {
    let reducer = after(&[replica(0, 100), primary(10, 7, 100)]);
    assert_eq!(reducer.topology().get(id(REPLICA)).unwrap().covered, WriteStamp::from_number(7));
}

#[test]
fn a_replica_that_went_back_covers_less() {
    let reducer =
        after(&[primary(0, 3, 100), primary(10, 5, 200), replica(20, 200), replica(30, 120)]);
    assert_eq!(reducer.topology().get(id(REPLICA)).unwrap().covered, WriteStamp::from_number(3));
}

#[test]
fn an_idle_primary_shows_no_staleness_beyond_the_last_sample() {
    let reducer = after(&[primary(0, 0, 100), replica(1, 100), primary(60_000, 0, 100)]);
    let staleness = reducer.topology().staleness(id(REPLICA), at(60_010));
    assert_eq!(staleness, Some(Duration::from_millis(10)));
}

#[test]
fn staleness_grows_while_nothing_is_proved_but_lag_waits_for_the_primary() {
    let reducer = after(&[primary(0, 0, 100), replica(1, 100), failed(PRIMARY, 2)]);
    let topology = reducer.topology();
    assert_eq!(topology.staleness(id(REPLICA), at(9_000)), Some(Duration::from_secs(9)));
    assert_eq!(topology.lag(id(REPLICA)), Some(Duration::ZERO));
}

#[test]
fn a_failure_takes_the_proof_away_until_the_next_answer() {
    let mut reducer = after(&[primary(0, 3, 100), replica(1, 100), failed(REPLICA, 5)]);
    assert_eq!(reducer.topology().get(id(REPLICA)).unwrap().covered, WriteStamp::NONE);
    let events = reducer.apply(&replica(7, 100));
    assert_eq!(events, [Event::Up { endpoint: id(REPLICA) }]);
    assert_eq!(reducer.topology().get(id(REPLICA)).unwrap().covered, WriteStamp::from_number(3));
}

#[test]
fn an_answer_to_a_question_older_than_the_failure_does_not_bring_it_back() {
    let mut reducer = after(&[primary(0, 0, 100), failed(REPLICA, 5)]);
    assert_eq!(reducer.apply(&replica(4, 100)), []);
    assert!(!reducer.topology().get(id(REPLICA)).unwrap().is_usable());
}

#[test]
fn the_last_primary_stays_while_it_does_not_answer() {
    let reducer = after(&[primary(0, 0, 100), replica(1, 100), failed(PRIMARY, 5)]);
    assert_eq!(reducer.topology().primary(), Some(id(PRIMARY)));
}

#[test]
fn a_promotion_is_followed_and_the_old_primary_ignored_when_it_returns() {
    let mut reducer = after(&[primary(0, 0, 100), replica(1, 100), failed(PRIMARY, 5)]);
    let events = reducer.apply(&seen(REPLICA, 10, 0, report(Role::Primary, 2, 120)));
    assert!(
        events.contains(&Event::PrimaryChanged { from: Some(id(PRIMARY)), to: Some(id(REPLICA)) })
    );
    reducer.apply(&primary(20, 0, 500));
    assert_eq!(reducer.topology().primary(), Some(id(REPLICA)));
}

#[test]
fn the_primary_that_was_made_last_is_remembered_while_there_is_none() {
    let mut reducer = after(&[primary(0, 0, 100), replica(1, 100), failed(PRIMARY, 5)]);
    reducer.apply(&seen(REPLICA, 10, 0, report(Role::Primary, 2, 120)));
    reducer.apply(&seen(REPLICA, 20, 0, report(Role::Replica, 2, 120)));
    assert_eq!(reducer.topology().primary(), None);
    assert_eq!(reducer.topology().last_primary(), Some(id(REPLICA)));
}

#[test]
fn the_first_answer_after_a_promotion_counts_though_the_old_primary_was_asked_later() {
    let promoted = seen(REPLICA, 19, 3, report(Role::Primary, 2, 120));
    let reducer = after(&[primary(0, 1, 100), replica(1, 100), primary(20, 4, 110), promoted]);
    let topology = reducer.topology();
    assert_eq!(topology.primary(), Some(id(REPLICA)));
    assert_eq!(topology.current_position().map(Position::timeline), Some(2));
    // The sample certainly contains only what was known when the primary was probed.
    assert_eq!(topology.sampled_stamp(), WriteStamp::from_number(3));
}

#[test]
fn two_claims_of_one_timeline_stop_writes() {
    let mut reducer = after(&[primary(0, 0, 100)]);
    let events = reducer.apply(&seen(REPLICA, 10, 0, report(Role::Primary, 1, 120)));
    assert!(events.contains(&Event::PrimaryConflict { first: id(PRIMARY), second: id(REPLICA) }));
    assert_eq!(reducer.topology().primary(), None);
}

#[test]
fn a_blip_of_the_primary_gives_nothing_to_the_one_it_replaced() {
    let mut reducer = after(&[
        primary(0, 0, 100),
        seen(REPLICA, 10, 0, report(Role::Primary, 2, 120)),
        primary(20, 0, 500),
        failed(REPLICA, 30),
    ]);
    assert_eq!(reducer.topology().primary(), Some(id(REPLICA)));
    reducer.apply(&primary(40, 0, 600));
    assert_eq!(reducer.topology().primary(), Some(id(REPLICA)));
}

#[test]
fn a_replica_that_follows_an_unknown_primary_proves_ours_to_be_replaced() {
    let reducer = after(&[primary(0, 0, 100), seen(REPLICA, 10, 0, report(Role::Replica, 2, 120))]);
    assert_eq!(reducer.topology().primary(), None);
}

#[test]
fn a_conflict_is_not_won_by_the_one_that_blinked_last() {
    let mut reducer = after(&[
        primary(0, 0, 100),
        seen(REPLICA, 10, 0, report(Role::Primary, 1, 120)),
        failed(PRIMARY, 20),
    ]);
    assert_eq!(reducer.topology().primary(), None);
    reducer.apply(&seen(PRIMARY, 30, 0, report(Role::Replica, 1, 130)));
    assert_eq!(reducer.topology().primary(), Some(id(REPLICA)));
}

#[test]
fn whoever_answers_first_does_not_decide_whose_data_we_serve() {
    let other = Report {
        position: Some(Position::Wal { system: 2, timeline: 1, lsn: Lsn::from_bytes(999) }),
        ..report(Role::Primary, 1, 999)
    };
    let mut reducer = after(&[seen(REPLICA, 0, 0, other)]);
    assert_eq!(reducer.topology().primary(), Some(id(PRIMARY)));
    reducer.apply(&primary(1, 0, 100));
    assert_eq!(reducer.topology().primary(), Some(id(PRIMARY)));
    assert!(reducer.topology().get(id(REPLICA)).unwrap().foreign);
}

#[test]
fn a_statement_sent_before_the_last_answer_fails_alone() {
    let mut reducer = after(&[primary(0, 0, 100), replica(50, 100)]);
    let mut old = failed(REPLICA, 20);
    old.finished = at(60);
    assert_eq!(reducer.apply(&old), []);
    assert!(reducer.topology().get(id(REPLICA)).unwrap().is_usable());
}

#[test]
fn a_primary_that_became_a_replica_takes_no_writes() {
    let reducer = after(&[primary(0, 0, 100), seen(PRIMARY, 9, 0, report(Role::Replica, 1, 100))]);
    assert_eq!(reducer.topology().primary(), None);
}

#[test]
fn a_server_of_another_system_is_foreign_and_proves_nothing() {
    let other = Report {
        position: Some(Position::Wal { system: 2, timeline: 9, lsn: Lsn::from_bytes(999) }),
        ..report(Role::Primary, 9, 999)
    };
    let mut reducer = after(&[primary(0, 3, 100), failed(PRIMARY, 2)]);
    let events = reducer.apply(&seen(REPLICA, 10, 0, other));
    assert!(events.contains(&Event::Foreign { endpoint: id(REPLICA) }));
    assert_eq!(reducer.topology().primary(), Some(id(PRIMARY)), "an empty clone gets no writes");
    assert!(!reducer.topology().get(id(REPLICA)).unwrap().is_usable());
}

#[test]
fn a_restart_that_nobody_noticed_is_told() {
    let mut reducer = after(&[primary(0, 0, 100), replica(1, 100)]);
    let second = Report { incarnation: Incarnation::new("second"), ..report(Role::Replica, 1, 90) };
    let events = reducer.apply(&seen(REPLICA, 10, 0, second));
    assert_eq!(events, [Event::Restarted { endpoint: id(REPLICA) }]);
}

#[test]
fn a_configured_primary_that_is_a_replica_gives_way_to_the_real_one() {
    let reducer = after(&[
        seen(PRIMARY, 0, 0, report(Role::Replica, 1, 100)),
        seen(REPLICA, 1, 0, report(Role::Primary, 1, 100)),
    ]);
    assert_eq!(reducer.topology().primary(), Some(id(REPLICA)));
}

#[test]
fn the_lag_of_a_replica_is_remembered_and_unknown_is_not_zero() {
    let mut reducer = after(&[replica(0, 100), primary(100, 0, 200), replica(200, 100)]);
    reducer.apply(&primary(300, 0, 300));
    reducer.apply(&replica(400, 200));
    reducer.apply(&failed(REPLICA, 500));
    let lags = reducer.lags(id(REPLICA)).unwrap();
    let summary = lags.summary(at(600), Duration::from_secs(1));
    assert_eq!((summary.known, summary.unknown), (1, 2));
    assert_eq!(summary.maximum, Some(Duration::from_millis(200)));
}

#[test]
fn an_endpoint_returns_after_a_confirmed_outage_and_not_after_one_failure() {
    let mut reducer = reducer();
    let returned = |reducer: &TopologyReducer| {
        let state = reducer.topology().get(id(REPLICA)).unwrap();
        (state.returned_at, reducer.topology().last_return())
    };
    reducer.apply(&replica(0, 100));
    assert_eq!(returned(&reducer), (None, None), "what is there at the start was there before");
    reducer.apply(&failed(REPLICA, 10));
    reducer.apply(&replica(20, 100));
    assert_eq!(returned(&reducer), (None, None), "one failure may concern one connection");
    reducer.apply(&failed(REPLICA, 30));
    reducer.apply(&failed(REPLICA, 40));
    reducer.apply(&replica(50, 100));
    assert_eq!(returned(&reducer), (Some(at(51)), Some(at(51))));
    reducer.apply(&replica(60, 100));
    assert_eq!(returned(&reducer), (Some(at(51)), Some(at(51))), "it goes on answering");
}

#[test]
fn a_server_that_was_restarted_returns_and_so_does_an_endpoint_that_was_added() {
    let mut reducer = reducer();
    reducer.apply(&replica(0, 100));
    let report = report(Role::Replica, 1, 100);
    let again = Report { incarnation: Incarnation::new("second"), ..report.clone() };
    reducer.apply(&seen(REPLICA, 10, 0, again));
    assert_eq!(reducer.topology().get(id(REPLICA)).unwrap().returned_at, Some(at(11)));
    let added = reducer.vacancy(crate::EndpointSet::EMPTY).unwrap();
    reducer.add(added, Endpoint::new("added", ""));
    assert_eq!(reducer.topology().get(added).unwrap().returned_at, None, "it has not answered");
    reducer.apply(&seen(added.place(), 20, 0, report));
    assert_eq!(reducer.topology().last_return(), Some(at(21)));
    reducer.remove(added);
    assert_eq!(reducer.topology().last_return(), Some(at(11)));
}

#[test]
fn replicas_cover_together_what_the_last_of_them_covers() {
    let covered = |of_other: Report| {
        let other = seen(2, 21, 0, of_other);
        let reducer = after(&[primary(0, 3, 100), primary(10, 5, 200), replica(20, 200), other]);
        reducer.topology().covered_by_replicas().number()
    };
    let behind = report(Role::Replica, 1, 150);
    assert_eq!(covered(behind.clone()), 3);
    let stopped = Report { replication: Replication::Stopped, ..behind };
    assert_eq!(covered(stopped), 5, "nobody waits for a replica that receives nothing");
}

#[test]
fn the_least_time_of_a_probe_is_remembered_for_one_run() {
    let took = |ms: u64, run: &str, took: u64| Observation {
        finished: at(ms + took),
        ..seen(
            REPLICA,
            ms,
            0,
            Report { incarnation: Incarnation::new(run), ..report(Role::Replica, 1, 100) },
        )
    };
    let mut reducer = after(&[primary(0, 0, 100)]);
    let mut least = |observation| {
        reducer.apply(&observation);
        let least = reducer.topology().get(id(REPLICA)).unwrap().least_probe_time;
        least.map(|it| it.as_millis())
    };
    assert_eq!(least(took(10, "first", 5)), Some(5));
    assert_eq!(least(took(20, "first", 3)), Some(3));
    assert_eq!(least(took(30, "first", 9)), Some(3));
    assert_eq!(least(took(50, "second", 7)), Some(7));
}

#[test]
fn a_replica_whose_replay_is_paused_does_not_catch_up() {
    let mut reducer = after(&[primary(0, 0, 100), replica(1, 100)]);
    assert_eq!(reducer.catches_up_in(id(REPLICA), at(5)), Some(Duration::ZERO));
    let paused = Report { replication: Replication::Paused, ..report(Role::Replica, 1, 100) };
    reducer.apply(&seen(REPLICA, 10, 0, paused));
    assert_eq!(reducer.catches_up_in(id(REPLICA), at(15)), None);
}

#[test]
fn suspected_is_a_replica_of_ours_that_failed_a_statement_and_is_not_drained() {
    let suspect = |endpoint| Observation {
        outcome: Outcome::Failed(Failure::Statement("connection reset".into())),
        ..failed(endpoint, 20)
    };
    let mut reducer = after(&[primary(0, 0, 100), replica(1, 100)]);
    assert_eq!(reducer.topology().suspected_replicas(), EndpointSet::EMPTY, "it answers");
    reducer.apply(&suspect(PRIMARY));
    assert_eq!(reducer.topology().suspected_replicas(), EndpointSet::EMPTY, "not the primary");
    reducer.apply(&suspect(REPLICA));
    let only = [id(REPLICA)].into_iter().collect();
    assert_eq!(reducer.topology().suspected_replicas(), only);
    reducer.set_draining(id(REPLICA), true);
    assert_eq!(reducer.topology().suspected_replicas(), EndpointSet::EMPTY, "it is drained");
}

/// A claim by a server that was restarted waits for the primary in charge.
#[test]
fn a_claim_is_not_believed_while_its_server_is_away() {
    let claims = |ms| {
        let run = Incarnation::new("second");
        seen(REPLICA, ms, 0, Report { incarnation: run, ..report(Role::Primary, 1, 100) })
    };
    let mut reducer = after(&[
        primary(0, 0, 100),
        replica(1, 100),
        claims(10),
        failed(REPLICA, 20),
        failed(PRIMARY, 30),
    ]);
    assert_eq!(reducer.topology().primary(), Some(id(PRIMARY)));
    reducer.apply(&primary(40, 0, 100));
    reducer.apply(&claims(50));
    assert_eq!(reducer.topology().primary(), Some(id(PRIMARY)));
}

/// Where histories are numbered, a server that was restarted may have been promoted meanwhile.
#[test]
fn a_restarted_server_that_claims_to_be_the_primary_is_believed_while_there_is_none() {
    let run = Incarnation::new("second");
    let claims = Report { incarnation: run, ..report(Role::Primary, 1, 120) };
    let mut reducer = after(&[
        primary(0, 0, 100),
        replica(1, 100),
        seen(PRIMARY, 10, 0, report(Role::Replica, 1, 100)),
    ]);
    assert_eq!(reducer.topology().primary(), None);
    reducer.apply(&seen(REPLICA, 20, 0, claims));
    assert_eq!(reducer.topology().primary(), Some(id(REPLICA)));
}

#[test]
fn what_a_server_said_of_its_group_stays_known_while_it_is_down() {
    let mut member = report(Role::Replica, 1, 100);
    member.info.group = Some("harbour".into());
    let reducer = after(&[primary(0, 0, 100), seen(REPLICA, 1, 0, member), failed(REPLICA, 10)]);
    let info = &reducer.topology().get(id(REPLICA)).unwrap().info;
    assert_eq!(info.group.as_deref(), Some("harbour"));
}

#[test]
fn endpoints_of_one_weight_are_not_weighted() {
    let weighted = |weights: [u32; 2]| {
        let endpoints = weights.map(|it| Endpoint::new("db", "db").with_weight(it));
        Topology::new(endpoints.to_vec()).is_weighted()
    };
    assert!(!weighted([2, 2]) && weighted([1, 2]));
}
