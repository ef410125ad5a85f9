//! A session that goes on where another process left it.

use std::{fmt, sync::Arc, sync::atomic::Ordering};

use super::{Carried, Seen, Session, export::marked};
use crate::{Past, Topology, WriteClock};

/// Why the past that a token tells of is not that of this cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PastMismatch {
    /// It is a past of other data.
    OtherSystem,
    /// A failover has ended the timeline that it is of: what it tells of may be lost.
    BeforeFailover,
    /// It is of a timeline that nobody here has seen yet.
    NewerTimeline,
}

impl Past {
    /// Whether this can be the past of a session on this cluster. Before anything
    /// is known of the primary, it can.
    ///
    /// # Errors
    /// It cannot.
    pub fn check(&self, topology: &Topology) -> Result<(), PastMismatch> {
        let (Past::Known { position: Some(position), .. }, Some(ours)) =
            (self, topology.current_position())
        else {
            return Ok(());
        };
        if !position.is_related_to(ours) {
            return Err(PastMismatch::OtherSystem);
        }
        match position.timeline().cmp(&ours.timeline()) {
            std::cmp::Ordering::Less => Err(PastMismatch::BeforeFailover),
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Greater => Err(PastMismatch::NewerTimeline),
        }
    }
}

impl Session {
    /// A session that reads nothing older than what the primary has by now: for a
    /// past that is not known.
    #[must_use]
    pub fn anew(clock: &WriteClock) -> Self {
        let session = Session::own();
        session.wrote_anything(clock);
        session
    }

    /// A session with this past, all of which happened before the call.
    #[must_use]
    pub fn resume(past: &Past, topology: &Topology, clock: &WriteClock) -> Self {
        let Past::Known { position, server } = past else {
            return Session::anew(clock);
        };
        let session = Session::own();
        if let Some(position) = position {
            let carried =
                Carried { position: position.clone(), stamp: clock.tick(), server: *server };
            // It is empty, so this cannot fail.
            let _ = session.carried.set(Arc::new(carried));
        }
        if let Some(mark) = server {
            // Drawn now, the stamp covers what any replica had by then. If the server is
            // not one of ours, that is what everybody has to hold.
            let seen = Seen::new(marked(topology, *mark), clock.tick());
            session.seen.store(seen.word(), Ordering::Release);
        }
        session
    }
}

impl fmt::Display for PastMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PastMismatch::OtherSystem => "it is of another database",
            PastMismatch::BeforeFailover => "it is from before a failover",
            PastMismatch::NewerTimeline => "it is from after a failover that was not seen here yet",
        })
    }
}

impl std::error::Error for PastMismatch {}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::*;

    fn at(lsn: u64, timeline: u32) -> Position {
        Position::Wal { system: 7, timeline, lsn: Lsn::from_bytes(lsn) }
    }

    /// A primary and two replicas in one topology, as one process sees them.
    struct Process {
        clock: WriteClock,
        reducer: TopologyReducer,
        time: u64,
    }

    impl Process {
        /// Everybody is at position 100 of timeline 1.
        fn new() -> Self {
            let names = ["primary", "replica-1", "replica-2"];
            let endpoints = names.map(|name| Endpoint::new(name, name)).to_vec();
            let reducer = TopologyReducer::new(Topology::new(endpoints));
            let mut process = Process { clock: WriteClock::default(), reducer, time: 0 };
            (0..3).for_each(|index| process.observe(index, 100));
            process
        }

        fn observe(&mut self, index: usize, lsn: u64) {
            self.observe_at(index, at(lsn, 1));
        }

        fn observe_at(&mut self, index: usize, position: Position) {
            self.time += 1;
            let now = Moment::from_origin(Duration::from_secs(self.time));
            let (role, replication) = match index {
                0 => (Role::Primary, Replication::NotApplicable),
                _ => (Role::Replica, Replication::Running),
            };
            let (position, incarnation) =
                (Some(position), Incarnation::new(format!("run of {index}")));
            let report = Report { position, replication, ..Report::new(role, incarnation) };
            self.reducer.apply(&Observation {
                endpoint: EndpointId::from_index(index).unwrap(),
                started: now,
                finished: now,
                stamp: self.clock.now(),
                outcome: Outcome::Answered(report),
            });
        }

        fn topology(&self) -> &Topology {
            self.reducer.topology()
        }

        fn server(&self, index: usize) -> Server {
            let endpoint = EndpointId::from_index(index).unwrap();
            Server { endpoint, run: self.topology().get(endpoint).unwrap().run }
        }

        fn serves(&self, session: &Session) -> Vec<usize> {
            let demand = Demand::new(Access::Read, Consistency::ReadYourWrites, Moment::ZERO)
                .with_session(session.view());
            Plan::new(self.topology(), &demand).replicas().iter().map(EndpointId::index).collect()
        }

        /// What a token of `session` says, with the positions known here.
        fn past_of(&self, session: &Session) -> Past {
            let view = session.view();
            let Export { stamp, server } = view.export(self.topology()).unwrap();
            let position = match stamp {
                WriteStamp::NONE => view.carried().map(|carried| carried.position.clone()),
                stamp => Some(self.reducer.position_at(stamp).unwrap()),
            };
            Past::Known { position, server }
        }

        fn resume(&self, past: &Past) -> Session {
            Session::resume(past, self.topology(), &self.clock)
        }
    }

    #[test]
    fn a_write_goes_along_and_replicas_that_have_it_serve_at_once() {
        let (mut here, mut there) = (Process::new(), Process::new());
        let session = Session::own();
        session.wrote_anything(&here.clock);
        here.observe(0, 150);
        let resumed = there.resume(&here.past_of(&session));
        assert_eq!(there.serves(&resumed), [0; 0]);
        // No sample of the primary is needed for it.
        there.observe(2, 150);
        assert_eq!(there.serves(&resumed), [2]);
    }

    #[test]
    fn a_position_that_nobody_reaches_gives_way_to_what_the_primary_has() {
        let mut there = Process::new();
        let lost = Past::Known { position: Some(at(900, 1)), server: None };
        let resumed = there.resume(&lost);
        [1, 2].into_iter().for_each(|index| there.observe(index, 160));
        assert_eq!(there.serves(&resumed), [0; 0]);
        there.observe(0, 150);
        assert_eq!(there.serves(&resumed), [1, 2]);
    }

    #[test]
    fn a_replica_that_was_read_may_go_on_and_another_one_must_prove_itself() {
        let (here, mut there) = (Process::new(), Process::new());
        let session = Session::own();
        session.saw(here.server(1), &session.view(), true, &here.clock);
        let past = here.past_of(&session);
        assert!(matches!(past, Past::Known { position: None, server: Some(_) }));
        let resumed = there.resume(&past);
        assert_eq!(there.serves(&resumed), [1]);
        there.observe(0, 120);
        there.observe(2, 120);
        assert_eq!(there.serves(&resumed), [1, 2]);
    }

    #[test]
    fn what_was_read_on_the_primary_goes_along_as_a_position() {
        let mut here = Process::new();
        let session = Session::own();
        session.saw(here.server(0), &session.view(), true, &here.clock);
        here.observe(0, 130);
        let known = Past::Known { position: Some(at(130, 1)), server: None };
        assert_eq!(here.past_of(&session), known);
    }

    #[test]
    fn a_server_that_is_not_ours_or_was_restarted_is_nobody() {
        let there = Process::new();
        let server = Some(ServerMark::of(&Incarnation::new("run of another")));
        let resumed = there.resume(&Past::Known { position: None, server });
        assert_eq!(there.serves(&resumed), [0; 0]);
    }

    #[test]
    fn an_unknown_past_is_served_by_whoever_has_all() {
        let mut there = Process::new();
        let resumed = there.resume(&Past::Unknown);
        assert_eq!(there.serves(&resumed), [0; 0]);
        there.observe(0, 120);
        there.observe(1, 120);
        assert_eq!(there.serves(&resumed), [1]);
    }

    #[test]
    fn a_session_that_did_nothing_new_has_nothing_new_to_tell() {
        let there = Process::new();
        let mark = Some(ServerMark::of(&Incarnation::new("run of 1")));
        let past = Past::Known { position: Some(at(90, 1)), server: mark };
        let resumed = there.resume(&past);
        let before = resumed.view().export(there.topology());
        resumed.saw(there.server(1), &resumed.view(), true, &there.clock);
        assert_eq!(resumed.view().export(there.topology()), before);
        assert_eq!(there.past_of(&resumed), past);
        resumed.wrote_anything(&there.clock);
        assert_ne!(resumed.view().export(there.topology()), before);
    }

    #[test]
    fn a_new_position_stands_for_the_one_that_was_carried() {
        let mut there = Process::new();
        let resumed = there.resume(&Past::Known { position: Some(at(140, 1)), server: None });
        resumed.wrote_anything(&there.clock);
        there.observe(0, 150);
        let known = Past::Known { position: Some(at(150, 1)), server: None };
        assert_eq!(there.past_of(&resumed), known);
    }

    #[test]
    fn pasts_of_other_systems_and_timelines_are_told() {
        let there = Process::new();
        let check = |position| {
            Past::Known { position: Some(position), server: None }.check(there.topology())
        };
        assert_eq!(check(at(900, 1)), Ok(()));
        assert_eq!(check(at(50, 0)), Err(PastMismatch::BeforeFailover));
        assert_eq!(check(at(50, 2)), Err(PastMismatch::NewerTimeline));
        assert_eq!(check(Position::Current), Err(PastMismatch::OtherSystem));
    }

    #[test]
    fn data_from_before_a_failover_do_not_hold_what_was_written_after_it() {
        let mut there = Process::new();
        let resumed = there.resume(&Past::Known { position: Some(at(140, 2)), server: None });
        assert!(resumed.awaits_failover(there.topology()));
        there.observe(0, 150);
        there.observe(1, 150);
        assert_eq!(there.serves(&resumed), [0; 0]);
        there.observe_at(0, at(160, 2));
        assert!(!resumed.awaits_failover(there.topology()));
        assert_eq!(there.serves(&resumed), [0; 0]);
        there.observe_at(1, at(145, 2));
        assert_eq!(there.serves(&resumed), [1]);
    }

    #[test]
    fn while_a_failover_is_unseen_nothing_is_told_that_says_less() {
        let there = Process::new();
        let mark = Some(ServerMark::of(&Incarnation::new("run of another")));
        let past = Past::Known { position: Some(at(140, 2)), server: mark };
        let resumed = there.resume(&past);
        assert_eq!(there.past_of(&resumed), past);
        resumed.wrote_anything(&there.clock);
        assert_eq!(resumed.view().export(there.topology()), None);
    }

    #[test]
    fn who_is_merged_with_one_that_knows_of_a_failover_waits_for_it() {
        let mut there = Process::new();
        let past = |lsn, timeline| Past::Known { position: Some(at(lsn, timeline)), server: None };
        let session = there.resume(&past(90, 1));
        let later = there.resume(&past(140, 2)).view();
        session.merge(&later, there.topology(), &there.clock);
        assert!(session.awaits_failover(there.topology()));
        // The old primary has nothing of what was written after it.
        there.observe(0, 150);
        there.observe(1, 150);
        assert_eq!(there.serves(&session), [0; 0]);
        there.observe_at(0, at(160, 2));
        there.observe_at(1, at(160, 2));
        assert!(!session.awaits_failover(there.topology()));
        assert_eq!(there.serves(&session), [1]);
    }

    #[test]
    fn a_fork_begins_where_its_parent_is_and_goes_its_own_way() {
        let (clock, parent) = (WriteClock::default(), Session::own());
        parent.wrote_anything(&clock);
        let child = parent.fork();
        child.wrote_anything(&clock);
        assert_eq!(parent.view().written().number(), 1);
        assert_eq!(child.view().written().number(), 2);
        parent.merge(&child.view(), Process::new().topology(), &clock);
        assert_eq!(parent.view().written().number(), 2);
    }

    #[test]
    fn of_two_carried_positions_neither_is_lost() {
        let mut there = Process::new();
        let [one, two] = [140, 150]
            .map(|lsn| there.resume(&Past::Known { position: Some(at(lsn, 1)), server: None }));
        one.merge(&two.view(), there.topology(), &there.clock);
        there.observe(1, 145);
        assert_eq!(there.serves(&one), [0; 0]);
        there.observe(0, 150);
        there.observe(1, 150);
        assert_eq!(there.serves(&one), [1]);
    }

    #[test]
    fn what_was_seen_is_not_lost_in_a_shared_session() {
        let mut there = Process::new();
        let (reader, shared) = (Session::own(), Session::shared(WriteTracking::Tables));
        reader.saw(there.server(0), &reader.view(), true, &there.clock);
        assert_eq!(there.serves(&shared), [1, 2]);
        shared.merge(&reader.view(), there.topology(), &there.clock);
        assert_eq!(there.serves(&shared), [0; 0]);
        there.observe(0, 150);
        there.observe(2, 150);
        assert_eq!(there.serves(&shared), [2]);
    }

    #[test]
    fn what_was_carried_is_not_lost_in_a_shared_session() {
        let mut there = Process::new();
        let mark = Some(ServerMark::of(&Incarnation::new("run of 1")));
        let past = Past::Known { position: Some(at(120, 1)), server: mark };
        let shared = Session::shared(WriteTracking::Tables);
        shared.merge(&there.resume(&past).view(), there.topology(), &there.clock);
        assert_eq!(there.serves(&shared), [0; 0]);
        there.observe(0, 150);
        there.observe(2, 150);
        assert_eq!(there.serves(&shared), [2]);
    }

    #[test]
    fn a_shared_session_does_not_wait_for_a_failover_and_misses_nothing_of_it_later() {
        let mut there = Process::new();
        let shared = Session::shared(WriteTracking::Tables);
        let later = there.resume(&Past::Known { position: Some(at(140, 2)), server: None });
        shared.merge(&later.view(), there.topology(), &there.clock);
        shared.catch_up(there.topology(), Moment::ZERO, &there.clock);
        assert!(!shared.awaits_failover(there.topology()) && shared.is_unwatched());
        assert_eq!(there.serves(&shared), [1, 2], "as before");
        there.observe_at(0, at(160, 2));
        there.observe_at(1, at(130, 2));
        shared.catch_up(there.topology(), Moment::ZERO, &there.clock);
        assert!(!shared.is_unwatched());
        assert_eq!(there.serves(&shared), [0; 0]);
        there.observe_at(0, at(170, 2));
        there.observe_at(1, at(170, 2));
        assert_eq!(there.serves(&shared), [1]);
    }
}
