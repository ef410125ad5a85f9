mod doubtful;
mod ejected;

use std::sync::Arc;

use rstest::rstest;

use super::*;
use crate::{
    Endpoint, Incarnation, Loads, Lsn, Moment, Observation, Outcome, Position, Random, Replication,
    Report, Server, Session, TopologyReducer, TwoChoices, WriteClock,
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
fn a_session_whose_write_is_not_replayed_is_meant_to_read_on_the_primary() {
    let (clock, session) = (WriteClock::default(), Session::own());
    (0..5).for_each(|_| session.wrote_anything(&clock));
    let request = read(Consistency::ReadYourWrites).with_session(session.view());
    let plan = Plan::new(&topology(), &request);
    assert_eq!(plan.primary_use(&request), PrimaryUse::Pinned);
}

/// How often each of the endpoints is the first choice of a hundred reads. All that the primary serves
/// beside replicas is used like a replica, and the primary stays the last resort.
fn first_choices(request: &ReadRequest) -> [u32; 3] {
    let (topology, loads) = (topology(), Loads::new());
    let all = Candidates::all(&topology, &loads, Moment::ZERO);
    let mut chosen = [0; 3];
    for number in 0..100_u64 {
        // Numbers that are spread without being random.
        let random = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut plan = Plan::new(&topology, request);
        let order: Vec<_> = std::iter::from_fn(|| plan.next(&Random, all, random)).collect();
        chosen[order[0].0.place()] += 1;
        let replicas = order.iter().filter(|(_, role)| *role == Role::Replica);
        let mut replicas: Vec<_> = replicas.map(|(id, _)| id.place()).collect();
        replicas.sort_unstable();
        assert!(replicas.windows(2).all(|two| two[0] != two[1]), "each is tried once");
        assert_eq!(order.last(), Some(&(id(0), Role::Primary)));
    }
    chosen
}

#[test]
fn the_primary_takes_its_turn_only_if_it_is_shared() {
    let request = read(Consistency::Eventual);
    let [primary, level, behind] = first_choices(&request);
    assert!(primary == 0 && level >= 20 && behind >= 20, "{level}, {behind}");
    let chosen = first_choices(&request.sharing_primary(true));
    assert!(chosen.iter().all(|it| *it >= 20), "{chosen:?}");
}

#[rstest]
#[case::of_a_group(read(Consistency::Eventual).among([id(1), id(2)].into_iter().collect()))]
#[case::while_it_is_ejected(read(Consistency::Eventual).avoiding(ejected(&[0])))]
fn the_primary_takes_no_turn_among_replicas(#[case] request: ReadRequest) {
    let [primary, level, behind] = first_choices(&request.sharing_primary(true));
    assert!(primary == 0 && level >= 20 && behind >= 20, "{level}, {behind}");
}

#[rstest]
#[case::no_replica_is_fresh_enough(read(Consistency::BoundedStaleness(Duration::from_millis(
    5
))))]
#[case::all_replicas_are_ejected(read(Consistency::Eventual).avoiding(ejected(&[1, 2])))]
#[case::all_were_tried(read(Consistency::Eventual))]
fn a_shared_primary_beside_no_replica_is_the_last_resort(#[case] request: ReadRequest) {
    let request = request.sharing_primary(true);
    let (topology, loads) = (topology(), Loads::new());
    let all = Candidates::all(&topology, &loads, Moment::ZERO);
    let mut plan = Plan::new(&topology, &request);
    plan.leave_out([id(1), id(2)].into_iter().collect());
    assert_eq!(plan.next(&TwoChoices, all, 0), Some((id(0), Role::Primary)));
    assert_eq!(plan.primary_use(&request), PrimaryUse::Fallback);
}

#[test]
fn ejected_replicas_do_not_bring_a_shared_primary_in_beside_the_limit() {
    let request = read(Consistency::Eventual).avoiding(ejected(&[1])).sharing_primary(true);
    let (topology, loads) = (topology(), Loads::new());
    let all = Candidates::all(&topology, &loads, Moment::ZERO);
    let mut plan = Plan::new(&topology, &request);
    plan.leave_out([id(2)].into_iter().collect());
    plan.prefer_ejected(id(0));
    let order: Vec<_> = std::iter::from_fn(|| plan.next(&TwoChoices, all, 0)).collect();
    assert_eq!(order, [(id(1), Role::Replica), (id(0), Role::Primary)]);
}

#[test]
fn a_session_that_may_have_seen_more_than_the_primary_shows_does_not_take_its_turn_there() {
    let (clock, session) = (WriteClock::default(), Session::own());
    let seen_on = |run| {
        (0..5).for_each(|_| {
            session.saw(Server { endpoint: id(0), run }, &session.view(), true, &clock);
        });
        session.view()
    };
    let topology = topology();
    let run_of = |index| topology.get(id(index)).unwrap().run;
    let shares = |view, consistency| {
        let request = read(consistency).with_session(view).sharing_primary(true);
        Plan::may_try(&topology, id(0), &request)
    };
    assert!(shares(seen_on(run_of(0)), Consistency::ReadYourWrites), "it was seen on the primary");
    assert!(!shares(seen_on(run_of(1)), Consistency::ReadYourWrites));
    assert!(shares(seen_on(run_of(1)), Consistency::Eventual), "nothing was promised");
}

fn places(plan: &Plan) -> (Vec<usize>, Option<EndpointId>, bool) {
    (plan.replicas().places().collect(), plan.primary(), plan.is_stale())
}

#[rstest]
#[case::any(Duration::MAX, &[1, 2])]
#[case::enough_for_both(Duration::from_millis(110), &[1, 2])]
#[case::enough_for_one(Duration::from_millis(10), &[1])]
fn what_may_be_served_stale_is_served_by_replicas_within_its_bound(
    #[case] bound: Duration,
    #[case] expected: &[usize],
) {
    let tight = Consistency::BoundedStaleness(Duration::from_millis(5));
    let request = read(tight).or_stale(Some(bound));
    let plan = Plan::new(&topology(), &request);
    assert_eq!(places(&plan), (expected.to_vec(), None, true));
    for index in [1, 2] {
        let suits = Plan::suits(&topology(), id(index), &request);
        assert_eq!(suits.is_ok(), expected.contains(&index), "{suits:?}");
    }
}

#[test]
fn nothing_is_served_stale_beyond_its_bound_or_unasked() {
    let tight = Consistency::BoundedStaleness(Duration::from_millis(5));
    for stale in [None, Some(Duration::from_millis(9))] {
        let plan = Plan::new(&topology(), &read(tight).or_stale(stale));
        assert_eq!(places(&plan), (vec![], Some(id(0)), false), "{stale:?}");
    }
}

#[test]
fn a_read_with_a_fresh_replica_is_not_served_stale() {
    let bound = Consistency::BoundedStaleness(Duration::from_millis(10));
    let plan = Plan::new(&topology(), &read(bound).or_stale(Some(Duration::MAX)));
    assert_eq!(places(&plan), (vec![1], Some(id(0)), false));
}

#[test]
fn strong_reads_and_writes_are_never_served_stale() {
    for request in
        [read(Consistency::Strong), ReadRequest::new(Access::Write, Consistency::Eventual, ms(110))]
    {
        let request = request.or_stale(Some(Duration::MAX));
        assert_eq!(places(&Plan::new(&topology(), &request)), (vec![], Some(id(0)), false));
        assert_eq!(Plan::suits(&topology(), id(1), &request), Err(Refusal::NotPrimary));
    }
}

#[test]
fn the_replica_that_is_least_behind_serves_stale_whatever_the_balancer_prefers() {
    let tight = Consistency::BoundedStaleness(Duration::from_millis(5));
    let request = read(tight).or_stale(Some(Duration::MAX));
    let (topology, loads) = (topology(), Loads::new());
    let all = Candidates::all(&topology, &loads, ms(110));
    for random in 0..9 {
        let mut plan = Plan::new(&topology, &request);
        let order: Vec<_> = std::iter::from_fn(|| plan.next(&Random, all, random)).collect();
        assert_eq!(order, [(id(1), Role::Replica), (id(2), Role::Replica)]);
    }
}

/// Refuses each replica, for its age or for good.
#[derive(Debug)]
struct Refuses(Refusal);

impl ConsistencyPolicy for Refuses {
    fn name(&self) -> &'static str {
        "refuses"
    }

    fn judge(&self, _: &Candidate<'_>, _: &ReadRequest) -> Verdict {
        Err(self.0.clone())
    }
}

#[test]
fn a_policy_that_refuses_a_replica_for_another_reason_than_its_age_is_heard() {
    let too_stale = Refusal::TooStale { staleness: None, bound: Duration::ZERO };
    for (refusal, served) in [(too_stale, 2), (Refusal::Declined { why: "it is far".into() }, 0)] {
        let policy: Arc<dyn ConsistencyPolicy> = Arc::new(Refuses(refusal));
        let request = read(Consistency::Eventual).with_policy(Some(policy));
        let plan = Plan::new(&topology(), &request.or_stale(Some(Duration::MAX)));
        assert_eq!(plan.replicas().len(), served);
    }
}
