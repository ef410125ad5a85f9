//! Replicas that may show too little, or what is not there any more.

use super::*;
use crate::{Ancestry, Failure};

#[test]
fn a_replica_shows_what_was_committed_up_to_its_newest_sample_and_no_later() {
    let topology = topology();
    let shows = |index, at| Candidate::new(&topology, id(index), ms(110)).unwrap().shows(ms(at));
    let too_stale = |staleness, bound| {
        let [staleness, bound] = [staleness, bound].map(Duration::from_millis);
        Err(Refusal::TooStale { staleness: Some(staleness), bound })
    };
    assert_eq!(shows(1, 100), Ok(()), "the moment of the sample itself");
    assert_eq!(shows(1, 101), too_stale(10, 9));
    assert_eq!(shows(2, 0), Ok(()));
    assert_eq!(shows(2, 1), too_stale(110, 109));
}

#[test]
fn what_replicas_may_have_other_rows_of_is_read_on_the_primary_and_never_stale() {
    for consistency in [Consistency::Eventual, Consistency::ReadYourWrites] {
        let request = read(consistency).with_replicas_differing(true);
        let request = request.or_stale(Some(Duration::MAX));
        let plan = Plan::new(&topology(), &request);
        assert_eq!(places(&plan), (vec![], Some(id(0)), false), "{consistency}");
        assert_eq!(plan.primary_use(&request), PrimaryUse::Pinned);
        assert_eq!(Plan::suits(&topology(), id(1), &request), Err(Refusal::MayDiffer));
    }
}

/// An answer of one endpoint; a server with a GTID set also tells which history it writes.
fn tells(reducer: &mut TopologyReducer, index: usize, at: u64, role: Role, position: &Position) {
    let uuid = format!("0000000{index}-0000-0000-0000-000000000000");
    let is_set = matches!(position, Position::GtidSet(_));
    let report = Report {
        position: Some(position.clone()),
        replication: Replication::Running,
        ancestry: is_set.then(|| Ancestry::mysql(&uuid).unwrap()),
        ..Report::new(role, Incarnation::new(format!("run of {index}")))
    };
    let (started, finished, stamp) = (ms(at), ms(at), WriteStamp::NONE);
    let outcome = Outcome::Answered(report);
    reducer.apply(&Observation { endpoint: id(index), started, finished, stamp, outcome });
}

fn wal(timeline: u32) -> Position {
    Position::Wal { system: 1, timeline, lsn: Lsn::from_bytes(100) }
}

fn set() -> Position {
    Position::GtidSet("00000000-0000-0000-0000-000000000000:1-100".parse().unwrap())
}

#[rstest]
#[case::its_timeline_has_ended(wal(1), wal(2))]
#[case::it_was_not_asked_since_a_promotion(set(), set())]
fn a_replica_that_may_show_what_is_lost_serves_nothing_stale(
    #[case] before: Position,
    #[case] after: Position,
) {
    let endpoints = ["old", "new", "left"].map(|name| Endpoint::new(name, name));
    let mut reducer = TopologyReducer::new(Topology::new(endpoints.to_vec()));
    tells(&mut reducer, 0, 0, Role::Primary, &before);
    tells(&mut reducer, 1, 1, Role::Replica, &before);
    tells(&mut reducer, 2, 2, Role::Replica, &before);
    let (started, finished, stamp) = (ms(3), ms(3), WriteStamp::NONE);
    let outcome = Outcome::Failed(Failure::Timeout);
    reducer.apply(&Observation { endpoint: id(0), started, finished, stamp, outcome });
    tells(&mut reducer, 1, 4, Role::Primary, &after);
    let topology = reducer.topology();
    let request = read(Consistency::BoundedStaleness(Duration::ZERO)).or_stale(Some(Duration::MAX));
    assert_eq!(places(&Plan::new(topology, &request)), (vec![], Some(id(1)), false));
    assert!(Plan::suits(topology, id(2), &request).is_err());
}
