//! Whether replicas take reads, or the primary takes all of them.
//!
//! No single endpoint shows this: each replica may have another fault. Nobody sees an error while
//! the primary serves everything, but it has no reserve left, and the next fault becomes an outage.
//!
//! A replica *takes reads* if it is in use, neither far behind nor on an old timeline, and not
//! ejected. (Rejected: to watch where reads really go. A session whose write is not replayed yet
//! reads on the primary as well, and without reads nothing would be known.)

use std::time::Duration;

use super::{EndpointSet, EndpointState, Event, Health, Topology};
use crate::Moment;

/// Follows whether all reads are on the primary.
#[derive(Debug, Clone, Default)]
pub struct ReadsPlace {
    /// Replicas to which statements alone have found a fault.
    ejected: EndpointSet,
    on_primary: Option<bool>,
    /// Whether the last returned event is `ReadsOnPrimary`. It outlives `on_primary`: if the last
    /// replica is removed, no replica takes reads again, and the first one that does is told.
    told_on_primary: bool,
}

/// A server that does not tell its filters for so long counts as one that takes no reads.
const ASKED_WITHIN: Duration = Duration::from_secs(5);

impl ReadsPlace {
    /// Takes in one event: ejections are in no topology.
    pub fn note(&mut self, event: &Event) {
        match event {
            Event::Ejected { endpoint, .. } => self.ejected.insert(*endpoint),
            Event::Readmitted { endpoint }
            | Event::Added { endpoint, .. }
            | Event::Removed { endpoint, .. } => self.ejected.remove(*endpoint),
            _ => {}
        }
    }

    /// Judges `topology`, and returns what has changed. While no primary
    /// answers, and before every endpoint was observed, nothing changes.
    pub fn judge(&mut self, topology: &Topology, now: Moment) -> Option<Event> {
        // First: a replica may also be removed while no primary answers.
        if topology.len() < 2 {
            self.on_primary = None;
            return None;
        }
        let primary = topology.primary().filter(|_| topology.has_usable_primary())?;
        let is_awaited = |state: &EndpointState| state.health == Health::Unknown;
        if topology.iter().any(|(_, state)| is_awaited(state)) {
            return None;
        }
        let takes_reads = |id| {
            let state = topology.get(id);
            let is_asked = |it: &EndpointState| {
                topology.may_miss_since(it).is_none_or(|since| now.since(since) < ASKED_WITHIN)
            };
            let suits = |it: &EndpointState| !it.lagging && !it.old_timeline && is_asked(it);
            state.is_some_and(|it| it.id != primary && suits(it))
        };
        let able = topology.able_replicas().without(self.ejected);
        let on_primary = !topology.members(able).any(takes_reads);
        self.on_primary = Some(on_primary);
        match (std::mem::replace(&mut self.told_on_primary, on_primary), on_primary) {
            (false, true) => Some(Event::ReadsOnPrimary {}),
            (true, false) => Some(Event::ReadsOnReplicas {}),
            (false, false) | (true, true) => None,
        }
    }

    /// Whether all reads are on the primary; `None` if there are no replicas, or before every
    /// endpoint was observed.
    #[must_use]
    pub fn on_primary(&self) -> Option<bool> {
        self.on_primary
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::{
        Endpoint, EndpointId, Failure, Incarnation, Lsn, Moment, Observation, Outcome, Position,
        Replication, Report, Role, TopologyReducer, WriteStamp,
    };

    use super::*;

    const ON_PRIMARY: Option<Event> = Some(Event::ReadsOnPrimary {});
    const ON_REPLICAS: Option<Event> = Some(Event::ReadsOnReplicas {});

    fn id(index: usize) -> EndpointId {
        EndpointId::from_index(index).unwrap()
    }

    /// A primary and so many replicas, all observed.
    struct Fleet(TopologyReducer, ReadsPlace, u64);

    impl Fleet {
        fn of(replicas: usize) -> Self {
            let names = (0..=replicas).map(|n| Endpoint::new(format!("db-{n}"), "here"));
            let mut fleet = Fleet(
                TopologyReducer::new(Topology::new(names.collect())),
                ReadsPlace::default(),
                0,
            );
            for n in 0..=replicas {
                assert_eq!(fleet.answers(n), None);
            }
            fleet
        }

        fn see(&mut self, endpoint: usize, outcome: Outcome) -> Option<Event> {
            self.2 += 1_000;
            let at = Moment::from_origin(Duration::from_millis(self.2));
            let stamp = WriteStamp::NONE;
            let endpoint = id(endpoint);
            self.0.apply(&Observation { endpoint, started: at, finished: at, stamp, outcome });
            self.judge()
        }

        fn answers(&mut self, endpoint: usize) -> Option<Event> {
            let role = if endpoint == 0 { Role::Primary } else { Role::Replica };
            let lsn = Lsn::from_bytes(100);
            let report = Report {
                position: Some(Position::Wal { system: 1, timeline: 1, lsn }),
                replication: Replication::Running,
                ..Report::new(role, Incarnation::new("first"))
            };
            self.see(endpoint, Outcome::Answered(report))
        }

        fn fails(&mut self, endpoint: usize) -> Option<Event> {
            self.see(endpoint, Outcome::Failed(Failure::Connection("refused".to_owned())))
        }

        fn note(&mut self, event: &Event) -> Option<Event> {
            self.1.note(event);
            self.judge()
        }

        fn judge(&mut self) -> Option<Event> {
            self.1.judge(self.0.topology(), Moment::ZERO)
        }
    }

    #[test]
    fn the_last_replica_that_goes_is_told_and_the_first_that_comes_back() {
        let mut fleet = Fleet::of(2);
        assert_eq!(fleet.fails(1), None);
        assert_eq!(fleet.fails(2), ON_PRIMARY);
        assert_eq!(fleet.1.on_primary(), Some(true));
        assert_eq!(fleet.fails(2), None, "once");
        let back = (0..100).find_map(|_| fleet.answers(1));
        assert_eq!(back, ON_REPLICAS);
        assert_eq!(fleet.1.on_primary(), Some(false));
    }

    #[test]
    fn an_ejected_replica_takes_no_reads() {
        let mut fleet = Fleet::of(1);
        assert_eq!(fleet.note(&Event::Ejected { endpoint: id(1), for_ms: 1_000 }), ON_PRIMARY);
        assert_eq!(fleet.note(&Event::Readmitted { endpoint: id(1) }), ON_REPLICAS);
    }

    #[test]
    fn while_the_primary_does_not_answer_nothing_is_told() {
        let mut fleet = Fleet::of(1);
        assert_eq!((fleet.fails(0), fleet.fails(1)), (None, None));
        let told = (0..100).find_map(|_| fleet.answers(0));
        assert_eq!(told, ON_PRIMARY);
    }

    #[test]
    fn a_drained_replica_takes_no_reads() {
        let mut fleet = Fleet::of(1);
        assert!(fleet.0.set_draining(id(1), true).is_some());
        assert_eq!(fleet.judge(), ON_PRIMARY);
    }

    #[test]
    fn a_server_without_replicas_is_not_judged() {
        let mut fleet = Fleet::of(0);
        assert_eq!((fleet.answers(0), fleet.1.on_primary()), (None, None));
    }

    #[test]
    fn without_its_last_replica_a_primary_is_not_judged_whether_it_answers_or_not() {
        for is_primary_away in [false, true] {
            let mut fleet = Fleet::of(1);
            assert_eq!(fleet.fails(1), ON_PRIMARY);
            if is_primary_away {
                fleet.fails(0);
            }
            let removed = fleet.0.remove(id(1));
            assert!(removed.iter().any(|it| matches!(it, Event::Removed { .. })), "{removed:?}");
            let told: Vec<_> = removed.iter().filter_map(|event| fleet.note(event)).collect();
            assert_eq!((told, fleet.1.on_primary()), (vec![], None));
        }
    }

    #[test]
    fn after_the_last_replica_was_removed_the_first_new_one_that_takes_reads_is_told() {
        let mut fleet = Fleet::of(1);
        assert_eq!(fleet.fails(1), ON_PRIMARY);
        fleet.0.remove(id(1));
        assert_eq!(fleet.judge(), None);
        assert!(fleet.0.add(id(2), Endpoint::new("db-2", "here")).is_some());
        assert_eq!(fleet.judge(), None);
        let told = (0..100).find_map(|_| fleet.answers(2));
        assert_eq!((told, fleet.1.on_primary()), (ON_REPLICAS, Some(false)));
    }

    #[test]
    fn nothing_is_told_before_every_endpoint_was_observed() {
        let names = ["db-0", "db-1"].map(|name| Endpoint::new(name, "here"));
        let mut fleet =
            Fleet(TopologyReducer::new(Topology::new(names.to_vec())), ReadsPlace::default(), 0);
        assert_eq!((fleet.answers(0), fleet.1.on_primary()), (None, None));
        assert_eq!(fleet.fails(1), ON_PRIMARY, "a replica that is down from the start");
    }
}
