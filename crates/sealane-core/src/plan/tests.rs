use std::sync::Arc;

use rstest::rstest;

use super::*;
use crate::{
    Endpoint, Incarnation, Loads, Lsn, Moment, Observation, Outcome, Position, Replication, Report,
    Server, Session, TopologyReducer, TwoChoices, WriteClock,
};

fn id(index: usize) -> EndpointId {
    EndpointId::from_index(index).unwrap()
}

fn ms(ms: u64) -> Moment {
    Moment::from_origin(Duration::from_millis(ms))
}

fn observe(reducer: &mut TopologyReducer, index: usize, at: u64, stamp: u64, role: Role, lsn: u64) {
    reducer.apply(&Observation {
        endpoint: id(index),
        started: ms(at),
        finished: ms(at),
        stamp: WriteStamp::from_number(stamp),
        outcome: Outcome::Answered(Report {
            position: Some(Position::Wal { system: 1, timeline: 1, lsn: Lsn::from_bytes(lsn) }),
            replication: Replication::Running,
            ..Report::new(role, Incarnation::new("run"))
        }),
    });
}

/// The primary is at 200 since 100 ms. One replica is level with it. The other one is at 100 and
/// proved only up to the sample of moment 0.
fn topology() -> Topology {
    let endpoints = ["primary", "level", "behind"].map(|name| Endpoint::new(name, name));
    let mut reducer = TopologyReducer::new(Topology::new(endpoints.to_vec()));
    observe(&mut reducer, 0, 0, 1, Role::Primary, 100);
    observe(&mut reducer, 0, 100, 2, Role::Primary, 200);
    observe(&mut reducer, 1, 100, 0, Role::Replica, 200);
    observe(&mut reducer, 2, 100, 0, Role::Replica, 100);
    reducer.topology().clone()
}

fn replicas(request: &ReadRequest) -> Vec<usize> {
    Plan::new(&topology(), request).replicas().places().collect()
}

fn read(consistency: Consistency) -> ReadRequest {
    ReadRequest::new(Access::Read, consistency, ms(110))
}

#[rstest]
#[case::eventual(Consistency::Eventual, &[1, 2])]
#[case::tight_bound(Consistency::BoundedStaleness(Duration::from_millis(10)), &[1])]
#[case::wide_bound(Consistency::BoundedStaleness(Duration::from_millis(110)), &[1, 2])]
#[case::impossible_bound(Consistency::BoundedStaleness(Duration::from_millis(9)), &[])]
#[case::own_writes_of_a_new_session(Consistency::ReadYourWrites, &[1, 2])]
#[case::strong(Consistency::Strong, &[])]
fn a_read_goes_to_the_replicas_that_are_fresh_enough(
    #[case] consistency: Consistency,
    #[case] expected: &[usize],
) {
    assert_eq!(replicas(&read(consistency)), expected);
}

#[test]
fn a_session_reads_only_where_its_write_is_replayed() {
    let (clock, session) = (WriteClock::default(), Session::own());
    clock.tick();
    session.wrote_anything(&clock); // stamp 2
    let request = read(Consistency::ReadYourWrites).with_session(session.view());
    assert_eq!(replicas(&request), [1]);
    assert_eq!(Plan::new(&topology(), &request).awaited(), Some(WriteStamp::from_number(2)));
}

#[test]
fn a_replica_far_behind_does_not_serve_sessions() {
    let request = read(Consistency::ReadYourWrites).with_max_lag(Some(Duration::from_millis(50)));
    assert_eq!(replicas(&request), [1]);
}

#[rstest]
#[case::none_is_fresh_enough(5, true)]
#[case::one_is(50, false)]
fn a_bound_that_keeps_a_read_from_every_replica_asks_for_probes(
    #[case] bound_ms: u64,
    #[case] asks: bool,
) {
    let consistency = Consistency::BoundedStaleness(Duration::from_millis(bound_ms));
    let request = read(consistency);
    assert_eq!(Plan::new(&topology(), &request).awaits_freshness(&request), asks);
}

#[test]
fn only_a_proof_is_missing_for_what_was_seen_elsewhere() {
    let (clock, session) = (WriteClock::default(), Session::own());
    let primary = Server { endpoint: id(0), run: 1 };
    (0..5).for_each(|_| session.saw(primary, &session.view(), true, &clock));
    let seen = read(Consistency::ReadYourWrites).with_session(session.view());
    assert!(Plan::new(&topology(), &seen).awaits_proof_only());
    session.wrote_anything(&clock);
    let wrote = read(Consistency::ReadYourWrites).with_session(session.view());
    assert!(!Plan::new(&topology(), &wrote).awaits_proof_only());
}

#[test]
fn a_write_has_one_place() {
    let request = ReadRequest::new(Access::Write, Consistency::Eventual, ms(0));
    let (topology, loads) = (topology(), Loads::new());
    let all = Candidates::all(&topology, &loads, Moment::ZERO);
    let mut plan = Plan::new(&topology, &request);
    assert_eq!(plan.next(&TwoChoices, all, 0), Some((id(0), Role::Primary)));
    assert_eq!(plan.next(&TwoChoices, all, 0), None);
}

#[test]
fn every_endpoint_is_given_once_and_the_primary_last() {
    let (topology, loads) = (topology(), Loads::new());
    let all = Candidates::all(&topology, &loads, Moment::ZERO);
    let mut plan = Plan::new(&topology, &read(Consistency::Eventual));
    let mut order = Vec::new();
    while let Some((next, _)) = plan.next(&TwoChoices, all, 1 << 32) {
        order.push(next.place());
    }
    order[..2].sort_unstable();
    assert_eq!(order, [1, 2, 0]);
}

#[test]
fn a_balancer_that_invents_endpoints_costs_nothing() {
    #[derive(Debug)]
    struct Inventor;
    impl Balancer for Inventor {
        fn name(&self) -> &'static str {
            "inventor"
        }
        fn pick(&self, _: &Candidates<'_>, _: u64) -> Option<EndpointId> {
            EndpointId::from_index(42)
        }
    }
    let (topology, loads) = (topology(), Loads::new());
    let mut plan = Plan::new(&topology, &read(Consistency::Eventual));
    let all = Candidates::all(&topology, &loads, Moment::ZERO);
    assert_eq!(plan.next(&Inventor, all, 0), Some((id(1), Role::Replica)));
}

#[test]
fn explanation_and_plan_agree() {
    let topology = topology();
    for consistency in [
        Consistency::Eventual,
        Consistency::BoundedStaleness(Duration::from_millis(20)),
        Consistency::ReadYourWrites,
        Consistency::Strong,
    ] {
        for access in [Access::Read, Access::Write] {
            let request = ReadRequest::new(access, consistency, ms(110));
            let plan = Plan::new(&topology, &request);
            for (id, _) in topology.iter() {
                let planned = plan.replicas().contains(id) || plan.primary() == Some(id);
                assert_eq!(Plan::judge(&topology, id, &request).is_ok(), planned);
            }
        }
    }
}

/// Refuses the endpoints with these names.
#[derive(Debug)]
struct Without(&'static [&'static str]);

impl ConsistencyPolicy for Without {
    fn name(&self) -> &'static str {
        "without"
    }
    fn judge(&self, candidate: &Candidate<'_>, _: &ReadRequest) -> Verdict {
        match self.0.contains(&candidate.endpoint().name()) {
            true => Err(Refusal::Declined { why: "is not wanted".into() }),
            false => Ok(()),
        }
    }
}

#[rstest]
#[case::one(&["level"], &[2])]
#[case::all_so_the_floor_must_not_bring_them_back(&["level", "behind"], &[])]
#[case::none(&[], &[1, 2])]
fn a_policy_of_the_application_narrows_the_choice(
    #[case] without: &'static [&'static str],
    #[case] left: &[usize],
) {
    let request = read(Consistency::Eventual).with_policy(Some(Arc::new(Without(without))));
    let plan = Plan::new(&topology(), &request);
    assert_eq!(plan.replicas().places().collect::<Vec<_>>(), left);
    assert_eq!(plan.primary(), Some(id(0)), "the primary always may");
}

#[test]
fn a_policy_widens_nothing() {
    let bound = Consistency::BoundedStaleness(Duration::from_millis(20));
    let request = read(bound).with_policy(Some(Arc::new(Without(&[]))));
    let plan = Plan::new(&topology(), &request);
    assert!(!plan.replicas().contains(id(2)), "it is behind");
}

fn ejected(places: &[usize]) -> EndpointSet {
    places.iter().map(|place| id(*place)).collect()
}

#[test]
fn ejected_replicas_come_after_the_primary() {
    let (topology, loads) = (topology(), Loads::new());
    let all = Candidates::all(&topology, &loads, Moment::ZERO);
    let request = read(Consistency::Eventual).avoiding(ejected(&[1]));
    let mut plan = Plan::new(&topology, &request);
    assert_eq!(plan.replicas(), ejected(&[2]));
    let order: Vec<_> = std::iter::from_fn(|| plan.next(&TwoChoices, all, 0)).collect();
    let expected = [(id(2), Role::Replica), (id(0), Role::Primary), (id(1), Role::Replica)];
    assert_eq!(order, expected);
    assert!(!plan.has_next());
}

#[test]
fn a_read_that_must_not_run_on_the_primary_uses_an_ejected_replica() {
    let request = read(Consistency::Eventual).avoiding(ejected(&[1, 2]));
    let mut plan = Plan::new(&topology(), &request);
    plan.forbid_primary();
    assert!(plan.replicas().is_empty() && plan.has_next());
    assert!(!plan.is_behind(), "nobody waits for a replica that is fresh enough");
}

#[test]
fn ejection_is_the_reason_only_for_what_is_good_enough_otherwise() {
    let tight = Consistency::BoundedStaleness(Duration::from_millis(10));
    let request = read(tight).avoiding(ejected(&[0, 1, 2]));
    let judge = |index| Plan::judge(&topology(), id(index), &request);
    assert_eq!(judge(0), Ok(()), "the primary is never ejected");
    assert_eq!(judge(1), Err(Refusal::Ejected));
    assert!(matches!(judge(2), Err(Refusal::TooStale { .. })));
    assert_eq!(Plan::suits(&topology(), id(1), &request), Ok(()));
}

#[test]
fn a_replica_that_refused_the_statement_is_not_tried_again_because_it_was_ejected() {
    let request = read(Consistency::Eventual).avoiding(ejected(&[1]));
    let mut plan = Plan::new(&topology(), &request);
    plan.only_primary();
    let (topology, loads) = (topology(), Loads::new());
    let all = Candidates::all(&topology, &loads, Moment::ZERO);
    let order: Vec<_> = std::iter::from_fn(|| plan.next(&TwoChoices, all, 0)).collect();
    assert_eq!(order, [(id(0), Role::Primary)]);
}

#[rstest]
#[case::no_replica_is_fresh_enough(
    Consistency::BoundedStaleness(Duration::from_millis(5)),
    PrimaryUse::Fallback
)]
#[case::it_asks_for_the_primary(Consistency::Strong, PrimaryUse::Asked)]
fn a_read_falls_back_to_the_primary_only_if_replicas_could_have_served(
    #[case] consistency: Consistency,
    #[case] primary_use: PrimaryUse,
) {
    let request = read(consistency);
    assert_eq!(Plan::new(&topology(), &request).primary_use(&request), primary_use);
}

#[test]
fn a_read_that_only_the_primary_may_serve_does_not_fall_back_to_it() {
    let topology = Topology::new(vec![Endpoint::new("a", "a")]);
    let request = read(Consistency::Eventual);
    assert_eq!(Plan::new(&topology, &request).primary_use(&request), PrimaryUse::Asked);
}

#[test]
fn a_read_that_a_replica_sent_to_the_primary_does_not_fall_back_to_it() {
    let request = read(Consistency::BoundedStaleness(Duration::from_millis(5)));
    let mut plan = Plan::new(&topology(), &request);
    assert_eq!(plan.primary_use(&request), PrimaryUse::Fallback);
    plan.only_primary();
    assert_eq!(plan.primary_use(&request), PrimaryUse::Asked);
}

#[test]
fn ejected_replicas_serve_before_a_primary_that_does_not_answer() {
    let topology = Topology::new(vec![Endpoint::new("a", "a"), Endpoint::new("b", "b")]);
    let mut plan = Plan {
        ejected: ejected(&[1]),
        primary: Some(id(0)),
        ..Plan::new(&topology, &read(Consistency::Eventual))
    };
    let loads = Loads::new();
    let all = Candidates::all(&topology, &loads, Moment::ZERO);
    let order: Vec<_> = std::iter::from_fn(|| plan.next(&TwoChoices, all, 0)).collect();
    assert_eq!(order, [(id(1), Role::Replica), (id(0), Role::Primary)]);
}

#[test]
fn a_session_whose_write_is_not_replayed_is_meant_to_read_on_the_primary() {
    let (clock, session) = (WriteClock::default(), Session::own());
    (0..5).for_each(|_| session.wrote_anything(&clock));
    let request = read(Consistency::ReadYourWrites).with_session(session.view());
    let plan = Plan::new(&topology(), &request);
    assert_eq!(plan.primary_use(&request), PrimaryUse::Pinned);
}
