//! What a session has written and seen.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::{EndpointId, WriteClock, WriteStamp};

/// The causal memory of one user, request or handle, shared by its clones.
///
/// *Written* is the stamp of its last write. *Seen* is the endpoint of its last
/// read with a stamp drawn after that read: the same run of the same endpoint
/// never goes back in time, another one may serve the session once it covers
/// the stamp.
///
/// A session that many users share (the handle given to the whole application)
/// keeps no memory of what it has seen: there is no order between its users'
/// reads that could be broken, and such a memory would tie all of them to one
/// endpoint.
#[derive(Debug)]
pub struct Session {
    written: AtomicU64,
    seen: AtomicU64,
    held_back: AtomicU32,
    monotonic: bool,
}

/// One in so many reads that are held on the primary by what the session has
/// seen there waits for the proof. See [`Session::should_wait_for_proof`].
const READS_BEFORE_WAITING: u32 = 16;

/// A session at the moment of planning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SessionView {
    written: WriteStamp,
    seen: Seen,
}

/// One run of one endpoint, by which something was served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Server {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Which run of it, as [`EndpointState::run`](crate::EndpointState::run)
    /// counts.
    pub run: u32,
}

/// One word: in the low byte the endpoint plus one (0: no single server is
/// known to hold all that was seen), then the low byte of its run, then the
/// stamp. 2^48 stamps last for nine years at a million a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Seen(u64);

impl Seen {
    fn new(server: Option<Server>, stamp: WriteStamp) -> Self {
        let server = server.map_or(0, Seen::low_bits);
        Seen(stamp.number() << 16 | server)
    }

    fn low_bits(server: Server) -> u64 {
        u64::from(server.run & 0xFF) << 8 | (server.endpoint.index() as u64 + 1)
    }

    fn stamp(self) -> WriteStamp {
        WriteStamp::from_number(self.0 >> 16)
    }

    fn is_on(self, server: Server) -> bool {
        self.0 & 0xFFFF == Seen::low_bits(server)
    }
}

impl Session {
    /// A session of one user: read-your-writes and monotonic reads.
    #[must_use]
    pub fn own() -> Self {
        Session {
            written: AtomicU64::new(0),
            seen: AtomicU64::new(0),
            held_back: AtomicU32::new(0),
            monotonic: true,
        }
    }

    /// A session that many users share: read-your-writes only.
    #[must_use]
    pub fn shared() -> Self {
        Session { monotonic: false, ..Session::own() }
    }

    /// What planning needs to know.
    #[must_use]
    pub fn view(&self) -> SessionView {
        SessionView {
            written: WriteStamp::from_number(self.written.load(Ordering::Acquire)),
            seen: Seen(self.seen.load(Ordering::Acquire)),
        }
    }

    /// Whether a read that is held on the primary only by what this session has
    /// seen there should wait a moment for a replica to be proved.
    ///
    /// Each read on the primary renews what was seen, and the proof needs a
    /// sample taken after it: a session that reads without a pause would stay
    /// on the primary for ever, however fresh the replicas. A few reads do no
    /// harm there; one that reads on and on waits once, a few milliseconds,
    /// and leaves.
    pub fn should_wait_for_proof(&self) -> bool {
        let held_back = self.held_back.fetch_add(1, Ordering::Relaxed) + 1;
        held_back.is_multiple_of(READS_BEFORE_WAITING)
    }

    /// Notes that a write has ended, however it ended.
    pub fn wrote(&self, clock: &WriteClock) {
        self.written.fetch_max(clock.tick().number(), Ordering::AcqRel);
    }

    /// Notes that a read, planned with `planned`, was served by `server`.
    /// `proved` says that the plan asked for all that the session had seen by
    /// then, and not for whatever there was.
    pub fn saw(&self, server: Server, planned: SessionView, proved: bool, clock: &WriteClock) {
        if !self.monotonic {
            return;
        }
        let stamp = clock.tick();
        let update = |seen: u64| {
            let seen = Seen(seen);
            // If another read ended meanwhile on another server, neither is proved to
            // hold both.
            let holds_all = seen.is_on(server) || (proved && seen == planned.seen);
            let newest = stamp.max(seen.stamp());
            Some(Seen::new(holds_all.then_some(server), newest).0)
        };
        // The closure never declines, so this cannot fail.
        let _ = self.seen.fetch_update(Ordering::AcqRel, Ordering::Acquire, update);
    }
}

impl SessionView {
    /// The stamp of the session's last write.
    #[must_use]
    pub fn written(&self) -> WriteStamp {
        self.written
    }

    /// The stamp that `server` must cover to serve this session.
    #[must_use]
    pub fn needs(&self, server: Server) -> WriteStamp {
        if self.seen.is_on(server) { self.written } else { self.written.max(self.seen.stamp()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(index: usize) -> Server {
        Server { endpoint: EndpointId::from_index(index).unwrap(), run: 1 }
    }

    /// What each of two servers must cover, in stamps.
    fn needs(session: &Session) -> [u64; 2] {
        [1, 2].map(|index| session.view().needs(server(index)).number())
    }

    #[test]
    fn a_new_session_needs_nothing() {
        assert_eq!(needs(&Session::own()), [0, 0]);
    }

    #[test]
    fn a_write_must_be_covered_everywhere() {
        let (clock, session) = (WriteClock::default(), Session::own());
        session.wrote(&clock);
        assert_eq!(needs(&session), [1, 1]);
    }

    #[test]
    fn what_was_seen_ties_to_its_server_until_another_covers_it() {
        let (clock, session) = (WriteClock::default(), Session::own());
        session.saw(server(1), session.view(), true, &clock);
        assert_eq!(needs(&session), [0, 1]);
    }

    #[test]
    fn another_run_of_the_same_endpoint_is_another_server() {
        let (clock, session) = (WriteClock::default(), Session::own());
        session.saw(server(1), session.view(), true, &clock);
        let restarted = Server { run: 2, ..server(1) };
        assert_eq!(session.view().needs(restarted), clock.now());
    }

    #[test]
    fn reads_that_crossed_on_two_servers_are_held_by_neither() {
        let (clock, session) = (WriteClock::default(), Session::own());
        let planned = session.view();
        session.saw(server(1), planned, true, &clock);
        session.saw(server(2), planned, true, &clock);
        assert_eq!(needs(&session), [2, 2]);
    }

    #[test]
    fn reads_that_crossed_on_one_server_stay_there() {
        let (clock, session) = (WriteClock::default(), Session::own());
        let planned = session.view();
        session.saw(server(1), planned, true, &clock);
        session.saw(server(1), planned, true, &clock);
        assert_eq!(needs(&session), [0, 2]);
    }

    #[test]
    fn a_read_that_asked_for_no_proof_gives_none() {
        let (clock, session) = (WriteClock::default(), Session::own());
        session.saw(server(1), session.view(), true, &clock);
        session.saw(server(2), session.view(), false, &clock);
        assert_eq!(needs(&session), [2, 2]);
    }

    #[test]
    fn a_shared_session_remembers_writes_only() {
        let (clock, session) = (WriteClock::default(), Session::shared());
        session.saw(server(1), session.view(), true, &clock);
        assert_eq!(needs(&session), [0, 0]);
        session.wrote(&clock);
        assert_eq!(needs(&session), [1, 1]);
    }

    #[test]
    fn one_read_in_sixteen_waits_for_the_proof() {
        let session = Session::own();
        let waits = (0..160).filter(|_| session.should_wait_for_proof()).count();
        assert_eq!(waits, 10);
    }
}
