//! Resuming a session where another process left it.

use std::{
    fmt,
    sync::{Arc, OnceLock, atomic::Ordering},
};

use super::{Carried, Others, Seen, Session, export::marked};
use crate::{Past, TableSet, Topology, WriteClock, topology::Parting};

/// Why the past in a token does not fit this cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PastMismatch {
    /// The past belongs to other data.
    OtherSystem,
    /// The past is on a timeline that a failover has ended, so it may be lost.
    BeforeFailover,
    /// The past is on a timeline that this process has not seen yet. Without timelines: it names a
    /// server that the primary here has not heard of.
    NewerTimeline {
        /// The token's timeline, or a number for that server.
        theirs: u32,
        /// The primary's timeline, or the number of histories that have ended here.
        ours: u32,
    },
}

impl Past {
    /// Checks whether a session on this cluster can have this past. While nothing is known of the
    /// primary, every past is accepted.
    ///
    /// # Errors
    /// The session cannot have this past, for the returned reason.
    pub fn check(&self, topology: &Topology) -> Result<(), PastMismatch> {
        let (Past::Known { position: Some(position), .. }, Some(ours)) =
            (self, topology.current_position())
        else {
            return Ok(());
        };
        if !position.is_related_to(ours) {
            return Err(PastMismatch::OtherSystem);
        }
        match topology.parting(position) {
            Parting::None => {}
            Parting::Ended => return Err(PastMismatch::BeforeFailover),
            Parting::Unseen { writer: theirs } => {
                return Err(PastMismatch::NewerTimeline { theirs, ours: topology.epoch() });
            }
        }
        let (theirs, ours) = (position.timeline(), ours.timeline());
        match theirs.cmp(&ours) {
            std::cmp::Ordering::Less => Err(PastMismatch::BeforeFailover),
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Greater => Err(PastMismatch::NewerTimeline { theirs, ours }),
        }
    }
}

impl Session {
    /// A session that reads nothing older than what the primary has by now. It is for an unknown
    /// past.
    ///
    /// Its first read should wait for the proof instead of running on the primary
    /// ([`takes_turn`](Self::takes_turn)). Such a session often ends after its first read, and
    /// anybody can start many such sessions.
    #[must_use]
    pub fn anew(clock: &WriteClock) -> Self {
        let session = Session::own();
        session.wrote_anything(clock);
        session.is_anew.store(true, Ordering::Relaxed);
        session
    }

    /// A session with this past. Everything in `past` happened before the call.
    #[must_use]
    pub fn resume(past: &Past, topology: &Topology, clock: &WriteClock) -> Self {
        let Past::Known { position, server } = past else {
            return Session::anew(clock);
        };
        let session = Session::own();
        if let Some(position) = position {
            let is_unseen = matches!(topology.parting(position), Parting::Unseen { .. });
            let (position, stamp) = (position.clone(), clock.tick());
            let known_since = OnceLock::new();
            let carried = Carried { position, stamp, server: *server, is_unseen, known_since };
            // The session carries nothing yet, so there is room.
            session.carry(&Arc::new(carried));
        }
        if let Some(mark) = server {
            // The stamp is drawn now, so it covers what any replica had by then. If the server is
            // not one of this topology's, every server must cover the stamp.
            let seen = Seen::new(marked(topology, *mark), clock.tick());
            session.seen.store(seen.word(), Ordering::Release);
        }
        session
    }
}

impl Session {
    /// Tells the shared session (this one, or the one beside it) which position `resumed` has
    /// brought along. The token of `resumed` must have been accepted. From now on, reads through
    /// the shared session do not miss that past, unless they do not wait for other sessions at all.
    ///
    /// A past from after a failover that `topology` does not show yet is left out.
    pub fn hear_of(&self, resumed: &Session, topology: &Topology, clock: &WriteClock) {
        let others = self.told().or_else(|| self.others());
        let Some(others) = others.filter(|others| others.listens()) else { return };
        match resumed.carried() {
            Some(carried) if carried.awaits_failover(topology) => {}
            Some(carried) => others.bring(&carried, topology, clock),
            // The session began anew: its past exists, but nothing else is known of it.
            None if resumed.is_anew.load(Ordering::Relaxed) => {
                others.written.note(clock.tick(), &TableSet::WHOLE);
            }
            None => {}
        }
    }
}

impl Others {
    /// Keeps a position that contains `carried` and all positions brought before.
    fn bring(&self, carried: &Arc<Carried>, topology: &Topology, clock: &WriteClock) {
        self.brought.rcu(|known| {
            let Some(known) = known else { return Some(Arc::clone(carried)) };
            // A sequence number of an ended history may be used again.
            let is_alive = topology.parting(&known.position) == Parting::None;
            if is_alive && known.position.covers(&carried.position) {
                return Some(Arc::clone(known));
            }
            let both = known.position.union(&carried.position).filter(|_| is_alive);
            let position = match both {
                Some(both) => both,
                None => {
                    // The two positions belong to different histories. A stamp stands for the older
                    // one.
                    self.written.note(clock.tick(), &TableSet::WHOLE);
                    carried.position.clone()
                }
            };
            let stamp = known.stamp.max(carried.stamp);
            let (is_unseen, known_since) = (false, OnceLock::new());
            Some(Arc::new(Carried { position, stamp, server: None, is_unseen, known_since }))
        });
    }
}

impl fmt::Display for PastMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PastMismatch::OtherSystem => "it is of another database",
            PastMismatch::BeforeFailover => "it is from before a failover",
            PastMismatch::NewerTimeline { .. } => {
                "it is from after a failover that was not seen here yet"
            }
        })
    }
}

impl std::error::Error for PastMismatch {}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use crate::*;

    fn at(lsn: u64, timeline: u32) -> Position {
        Position::Wal { system: 7, timeline, lsn: Lsn::from_bytes(lsn) }
    }

    /// A primary and two replicas in one topology, as one process sees them.
    struct Process {
        clock: WriteClock,
        reducer: TopologyReducer,
        time: u64,
        ancestry: Option<Ancestry>,
        run: u32,
    }

    impl Process {
        /// All servers are at position 100 of timeline 1.
        fn new() -> Self {
            let mut process = Process::unobserved();
            (0..3).for_each(|index| process.observe(index, 100));
            process
        }

        fn unobserved() -> Self {
            let names = ["primary", "replica-1", "replica-2"];
            let endpoints = names.map(|name| Endpoint::new(name, name)).to_vec();
            let reducer = TopologyReducer::new(Topology::new(endpoints));
            let clock = WriteClock::default();
            Process { clock, reducer, time: 0, ancestry: None, run: 1 }
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
            let (position, incarnation) = (Some(position), Incarnation::new(self.run_of(index)));
            let ancestry = self.ancestry.clone().filter(|_| index == 0);
            let report =
                Report { position, replication, ancestry, ..Report::new(role, incarnation) };
            self.reducer.apply(&Observation {
                endpoint: EndpointId::from_index(index).unwrap(),
                started: now,
                finished: now,
                stamp: self.clock.now(),
                outcome: Outcome::Answered(report),
            });
        }

        fn run_of(&self, index: usize) -> String {
            let which = if self.run > 1 { " again" } else { "" };
            format!("run of {index}{which}")
        }

        fn topology(&self) -> &Topology {
            self.reducer.topology()
        }

        fn server(&self, index: usize) -> Server {
            let endpoint = EndpointId::from_index(index).unwrap();
            Server { endpoint, run: self.topology().get(endpoint).unwrap().run }
        }

        fn serves(&self, session: &Session) -> Vec<usize> {
            let request = ReadRequest::new(Access::Read, Consistency::ReadYourWrites, Moment::ZERO)
                .with_session(session.view_of(&TableSet::WHOLE, 0));
            Plan::new(self.topology(), &request).replicas().places().collect()
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
        // This needs no sample of the primary.
        there.observe(2, 150);
        assert_eq!(there.serves(&resumed), [2]);
    }

    /// A MariaDB primary with this server number, and a replica of it.
    fn mariadb(server: u32, primary: &str, passed: &str, replica: &str) -> Process {
        let mut process = Process::unobserved();
        let list = |text: &str| Position::GtidList(text.parse().unwrap());
        process.ancestry = Some(Ancestry::mariadb(server, passed).unwrap());
        process.observe_at(0, list(primary));
        process.observe_at(1, list(replica));
        process
    }

    fn of_list(text: &str) -> Past {
        Past::Known { position: Some(Position::GtidList(text.parse().unwrap())), server: None }
    }

    #[test]
    fn a_token_of_a_writer_that_the_primary_has_not_heard_of_waits() {
        let there = mariadb(1, "0-1-160", "0-1-160", "0-1-160");
        let later = of_list("0-2-105");
        let unseen = PastMismatch::NewerTimeline { theirs: 2, ours: 0 };
        assert_eq!(later.check(there.topology()), Err(unseen));
        let resumed = there.resume(&later);
        assert!(resumed.awaits_failover(there.topology()));
        assert_eq!(there.serves(&resumed), [0; 0], "the number is less than the replica's");
    }

    #[test]
    fn of_two_unseen_histories_neither_is_lost_in_a_shared_session() {
        let mut there = mariadb(1, "0-1-160", "0-1-160", "0-1-160");
        let shared = Session::shared(WriteTracking::Tables);
        // The end of server 2's history was lost, and server 3 has become the primary.
        for brought in ["0-2-105", "0-3-106"] {
            shared.merge(&there.resume(&of_list(brought)).view(), there.topology(), &there.clock);
        }
        there.run = 3;
        there.ancestry = Some(Ancestry::mariadb(3, "0-1-160,0-2-104,0-3-106").unwrap());
        there.observe_at(0, Position::GtidList("0-3-106".parse().unwrap()));
        let (stamp, at) = (there.clock.tick(), |s| Moment::from_origin(Duration::from_secs(s)));
        shared.catch_up(there.topology(), at(1), &there.clock);
        let written = shared.view().written();
        assert!(written > stamp && shared.is_unwatched());
        // Nobody waits for ever for what was lost.
        shared.catch_up(there.topology(), at(60), &there.clock);
        assert!(shared.is_unwatched());
        shared.catch_up(there.topology(), at(61), &there.clock);
        assert!(shared.view().written() > written && !shared.is_unwatched());
    }

    #[test]
    fn who_has_seen_a_failover_waits_for_the_next_one_of_a_merge() {
        let mut there = mariadb(1, "0-1-160", "0-1-160", "0-1-160");
        let session = there.resume(&of_list("0-2-105"));
        let alone = session.fork();
        there.run = 2;
        there.ancestry = Some(Ancestry::mariadb(2, "0-1-160,0-2-104").unwrap());
        // The primary is a transaction behind its own one that the token names.
        there.observe_at(0, Position::GtidList("0-2-104".parse().unwrap()));
        session.catch_up(there.topology(), Moment::ZERO, &there.clock);
        assert!(!session.awaits_failover(there.topology()));
        let later = there.resume(&of_list("0-3-106"));
        session.merge(&later.view(), there.topology(), &there.clock);
        assert!(session.awaits_failover(there.topology()));
        // Server 3 never got what the first token names, and the session waits for that no more.
        there.run = 3;
        there.ancestry = Some(Ancestry::mariadb(3, "0-1-160,0-2-104,0-3-106").unwrap());
        there.observe_at(0, Position::GtidList("0-3-106".parse().unwrap()));
        session.catch_up(there.topology(), Moment::ZERO, &there.clock);
        assert!(!session.awaits_failover(there.topology()));
        assert!(!alone.awaits_failover(there.topology()));
    }

    #[test]
    fn what_an_unseen_history_brought_is_proved_by_no_stamp_of_before_it_was_known() {
        let mut there = mariadb(1, "0-1-160", "0-1-160", "0-1-160");
        let (later, shared) =
            (there.resume(&of_list("0-2-105")), Session::shared(WriteTracking::Tables));
        let stamp_of_old = there.clock.tick();
        there.run = 2;
        there.ancestry = Some(Ancestry::mariadb(2, "0-1-160,0-2-105").unwrap());
        there.observe_at(0, Position::GtidList("0-2-105".parse().unwrap()));
        shared.merge(&later.view(), there.topology(), &there.clock);
        shared.catch_up(there.topology(), Moment::ZERO, &there.clock);
        assert!(shared.view().written() > stamp_of_old);
        later.catch_up(there.topology(), Moment::ZERO, &there.clock);
        later.wrote_anything(&there.clock);
        let other = Session::shared(WriteTracking::Tables);
        other.merge(&later.view().without_seen(), there.topology(), &there.clock);
        assert!(other.view().written() > stamp_of_old && !other.is_unwatched());
    }

    #[test]
    fn a_failover_that_is_seen_at_last_holds_no_session_over_the_next_one() {
        let mut there = mariadb(1, "0-1-160", "0-1-160", "0-1-160");
        let resumed = there.resume(&of_list("0-2-105"));
        let forked = resumed.fork();
        // Server 2 has become the primary, then server 3, which never got the end of 2's history.
        for (server, passed, now) in
            [(2, "0-1-100,0-2-105", "0-2-105"), (3, "0-1-100,0-2-104,0-3-106", "0-3-106")]
        {
            assert!(resumed.is_unwatched() || server == 3);
            there.run = server;
            there.ancestry = Some(Ancestry::mariadb(server, passed).unwrap());
            let now = Position::GtidList(now.parse().unwrap());
            let samples = |there: &mut Process| {
                (0..2).for_each(|index| there.observe_at(index, now.clone()));
            };
            samples(&mut there);
            for session in [&resumed, &forked] {
                assert!(!session.may_act_unwatched());
                session.catch_up(there.topology(), Moment::ZERO, &there.clock);
                assert!(!session.is_unwatched());
                assert_eq!(session.view().written(), WriteStamp::NONE);
            }
            samples(&mut there);
            for session in [&resumed, &forked] {
                assert_eq!(there.serves(session), [1], "server {server}");
            }
        }
    }

    #[test]
    fn who_is_merged_with_one_of_such_a_token_waits_too() {
        let there = mariadb(1, "0-1-160", "0-1-160", "0-1-160");
        let session = there.resume(&of_list("0-1-150"));
        let later = there.resume(&of_list("0-2-105"));
        session.merge(&later.view(), there.topology(), &there.clock);
        assert!(session.awaits_failover(there.topology()));
        assert_eq!(there.serves(&session), [0; 0]);
    }

    #[test]
    fn a_token_of_a_writer_of_before_is_as_good_as_any() {
        let there = mariadb(3, "0-3-200", "0-1-100,0-2-150,0-3-200", "0-3-200");
        for known in ["0-1-90", "0-2-150", "0-3-199", "0-3-200"] {
            assert_eq!(of_list(known).check(there.topology()), Ok(()), "{known}");
            assert_eq!(there.serves(&there.resume(&of_list(known))), [1], "{known}");
        }
        // The transaction may have been committed a moment ago.
        assert_eq!(of_list("0-3-207").check(there.topology()), Ok(()));
        assert_eq!(there.serves(&there.resume(&of_list("0-3-207"))), [0; 0]);
    }

    #[test]
    fn a_token_of_what_was_lost_here_is_from_before_a_failover() {
        let mut there = mariadb(1, "0-1-160", "0-1-160", "0-1-90");
        // The server comes back without the end of its log.
        there.run = 2;
        there.ancestry = Some(Ancestry::mariadb(2, "0-1-100,0-2-105").unwrap());
        there.observe_at(0, Position::GtidList("0-2-105".parse().unwrap()));
        assert_eq!(of_list("0-1-150").check(there.topology()), Err(PastMismatch::BeforeFailover));
        assert_eq!(of_list("0-1-99").check(there.topology()), Ok(()));
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
    fn the_shared_session_misses_nothing_that_a_resumed_one_brings_along() {
        let mut there = Process::new();
        let shared = Arc::new(Session::shared(WriteTracking::Tables));
        shared.report_strays();
        let bring = |there: &Process, lsn: u64, timeline: u32| {
            let past = Past::Known { position: Some(at(lsn, timeline)), server: None };
            let resumed = there.resume(&past);
            shared.hear_of(&resumed, there.topology(), &there.clock);
        };
        bring(&there, 100, 1);
        assert_eq!(there.serves(&shared), [1, 2]);
        assert!(!shared.is_stray(&TableSet::WHOLE, 0, there.topology()));
        // This process has not seen that timeline: every user would wait for it.
        bring(&there, 500, 2);
        assert_eq!(there.serves(&shared), [1, 2]);
        bring(&there, 150, 1);
        bring(&there, 120, 1);
        assert_eq!(there.serves(&shared), [0; 0]);
        assert!(shared.is_stray(&TableSet::WHOLE, 0, there.topology()));
        assert!(!shared.is_stray(&TableSet::WHOLE, 0, there.topology()), "it is said once");
        there.observe(2, 150);
        assert_eq!(there.serves(&shared), [2]);
        assert_eq!(there.serves(&shared.fork()), [2]);
        // A token of the shared session does not carry what resumed sessions brought.
        let nothing = Export { stamp: WriteStamp::NONE, server: None };
        assert_eq!(shared.view().export(there.topology()), Some(nothing));
        there.observe(1, 150);
        there.observe(0, 150);
        assert_eq!(there.serves(&shared), [1, 2]);
    }

    #[test]
    fn a_past_without_a_position_is_waited_for_as_a_write_of_now() {
        let mut there = Process::new();
        let shared = Session::shared(WriteTracking::Tables);
        shared.hear_of(&there.resume(&Past::Unknown), there.topology(), &there.clock);
        assert_eq!(there.serves(&shared), [0; 0]);
        (0..3).for_each(|index| there.observe(index, 110));
        assert_eq!(there.serves(&shared), [1, 2]);
    }

    #[test]
    fn a_shared_session_that_waits_for_nobody_hears_of_nothing() {
        let there = Process::new();
        let shared = Session::shared(WriteTracking::Tables).waiting_for_others(false);
        let past = Past::Known { position: Some(at(150, 1)), server: None };
        shared.hear_of(&there.resume(&past), there.topology(), &there.clock);
        assert_eq!(there.serves(&shared), [1, 2]);
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
    fn the_first_read_of_a_session_that_begins_anew_takes_a_turn() {
        let there = Process::new();
        for session in [Session::anew(&there.clock), there.resume(&Past::Unknown)] {
            assert!(session.takes_turn() && !session.takes_turn());
        }
        let known = Past::Known { position: Some(at(100, 1)), server: None };
        assert!(!there.resume(&known).takes_turn());
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
        assert_eq!(check(at(50, 2)), Err(PastMismatch::NewerTimeline { theirs: 2, ours: 1 }));
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
        // The old primary has nothing that was written after the failover.
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

    /// A shared session waits for a position that is merged into it with the mark of `server`.
    fn keeps_what_was_carried(server: Option<ServerMark>) {
        let mut there = Process::new();
        let past = Past::Known { position: Some(at(120, 1)), server };
        let shared = Session::shared(WriteTracking::Tables);
        shared.merge(&there.resume(&past).view(), there.topology(), &there.clock);
        assert_eq!(there.serves(&shared), [0; 0]);
        there.observe(0, 150);
        there.observe(2, 150);
        assert_eq!(there.serves(&shared), [2]);
    }

    #[test]
    fn what_was_carried_is_not_lost_in_a_shared_session() {
        keeps_what_was_carried(Some(ServerMark::of(&Incarnation::new("run of 1"))));
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

    #[test]
    fn what_was_brought_of_a_history_that_has_ended_contains_nothing_of_the_next_one() {
        let mut there = mariadb(1, "0-1-160", "0-1-160", "0-1-160");
        let shared = Session::shared(WriteTracking::Tables);
        let bring = |there: &Process, text: &str| {
            shared.hear_of(&there.resume(&of_list(text)), there.topology(), &there.clock);
        };
        let reach = |there: &mut Process, text: &str| {
            let now = Position::GtidList(text.parse().unwrap());
            (0..2).for_each(|index| there.observe_at(index, now.clone()));
        };
        bring(&there, "0-1-155");
        // Server 2 has become the primary, without the end of that history. Its numbers are less.
        there.run = 2;
        there.ancestry = Some(Ancestry::mariadb(2, "0-1-100,0-2-104").unwrap());
        reach(&mut there, "0-2-104");
        bring(&there, "0-2-105");
        assert_eq!(there.serves(&shared), [0; 0]);
        reach(&mut there, "0-2-105");
        assert_eq!(there.serves(&shared), [1]);
    }

    #[test]
    fn a_sample_from_before_a_second_position_was_brought_does_not_prove_it() {
        let mut there = Process::new();
        let shared = Session::shared(WriteTracking::Tables);
        let bring = |there: &Process, lsn: u64| {
            let past = Past::Known { position: Some(at(lsn, 1)), server: None };
            shared.hear_of(&there.resume(&past), there.topology(), &there.clock);
        };
        bring(&there, 140);
        there.observe(0, 145);
        there.observe(1, 145);
        assert_eq!(there.serves(&shared), [1]);
        bring(&there, 180);
        assert_eq!(there.serves(&shared), [0; 0]);
    }

    #[test]
    fn a_position_alone_is_not_lost_in_a_shared_session() {
        keeps_what_was_carried(None);
    }

    #[test]
    fn a_token_of_a_session_that_has_written_and_was_merged_with_a_resumed_one_contains_both() {
        let mut here = Process::new();
        let session = Session::own();
        session.wrote_anything(&here.clock);
        here.observe(0, 110);
        let resumed = here.resume(&Past::Known { position: Some(at(150, 1)), server: None });
        session.merge(&resumed.view(), here.topology(), &here.clock);
        here.observe(0, 160);
        // The position of the write alone, 110, would say less.
        let known = Past::Known { position: Some(at(160, 1)), server: None };
        assert_eq!(here.past_of(&session), known);
    }

    #[test]
    fn of_two_failovers_that_were_not_seen_a_shared_session_awaits_the_later_one() {
        for order in [[2, 3], [3, 2]] {
            let mut there = Process::new();
            let shared = Session::shared(WriteTracking::Tables);
            for timeline in order {
                let past = Past::Known { position: Some(at(140, timeline)), server: None };
                shared.merge(&there.resume(&past).view(), there.topology(), &there.clock);
            }
            for timeline in [2, 3] {
                there.observe_at(0, at(160, timeline));
                shared.catch_up(there.topology(), Moment::ZERO, &there.clock);
                assert_eq!(shared.is_unwatched(), timeline < 3, "{order:?}");
                assert_eq!(shared.view().written() > WriteStamp::NONE, timeline == 3);
            }
        }
    }
}
