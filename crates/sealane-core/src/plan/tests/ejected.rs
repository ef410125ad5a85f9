//! Replicas that are ejected: used last, and before a primary that does not answer.

use super::*;

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
    assert_eq!(plan.primary(), Some(id(0)));
    plan.forbid_primary();
    assert_eq!(plan.primary(), None);
    assert!(plan.replicas().is_empty() && plan.has_next());
    assert_eq!(plan.ejected(), ejected(&[1, 2]));
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
