//! What a session has written and seen.

mod export;
mod resume;
mod seen;
mod tables;
mod view;

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

use crate::{EndpointId, Footprint, Topology, WriteClock, WriteStamp};
use seen::Seen;
use tables::TableStamps;

pub use export::Export;
pub use resume::PastMismatch;
pub use tables::WriteTracking;
pub use view::{Carried, SessionView};

/// The causal memory of one user, request or handle, shared by its clones.
///
/// *Written* is the stamp of its last write. *Seen* is the endpoint of its last
/// read with a stamp drawn after that read: the same run of the same endpoint
/// never goes back in time, another one may serve the session once it covers
/// the stamp. *Carried* is a position that it brought along from another
/// process.
///
/// A session that many users share (the handle given to the whole application)
/// keeps no memory of what it has seen: there is no order between its users'
/// reads that could be broken, and such a memory would tie all of them to one
/// endpoint. Somebody always writes there; so it remembers writes by their tables,
/// and a read waits only for those of its own.
#[derive(Debug)]
pub struct Session {
    written: AtomicU64,
    /// Only if writes are told apart by their tables.
    tables: Option<Box<TableStamps>>,
    seen: AtomicU64,
    carried: OnceLock<Arc<Carried>>,
    /// By a merge, from after a failover that the first knows nothing of: it stands for both.
    carried_later: OnceLock<Arc<Carried>>,
    held_back: AtomicU32,
    monotonic: bool,
}

/// One in so many reads that are held on the primary by what the session has
/// seen there waits for the proof. See [`Session::should_wait_for_proof`].
const READS_BEFORE_WAITING: u32 = 4;

/// One run of one endpoint, by which something was served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Server {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Which run of it, by the number in [`EndpointState::run`](crate::EndpointState::run):
    /// no two endpoints share one.
    pub run: u32,
}

impl Session {
    /// A session of one user: read-your-writes and monotonic reads.
    #[must_use]
    pub fn own() -> Self {
        Session {
            written: AtomicU64::new(0),
            tables: None,
            seen: AtomicU64::new(0),
            carried: OnceLock::new(),
            carried_later: OnceLock::new(),
            held_back: AtomicU32::new(0),
            monotonic: true,
        }
    }

    /// A session that many users share: read-your-writes only.
    #[must_use]
    pub fn shared(tracking: WriteTracking) -> Self {
        let tables = match tracking {
            WriteTracking::Tables => Some(Box::default()),
            WriteTracking::Whole => None,
        };
        Session { monotonic: false, tables, ..Session::own() }
    }

    /// A session of its own that begins where this one is.
    #[must_use]
    pub fn fork(&self) -> Self {
        let forked = Session::own();
        forked.absorb(&self.view());
        forked
    }

    /// Takes over what `other` has written and seen. Neither is lost by a use of
    /// this session that goes on meanwhile.
    pub fn merge(&self, other: &SessionView, clock: &WriteClock) {
        if !self.absorb(other) {
            // One place for two positions. All that happened before this moment covers both.
            self.wrote_anything(clock);
        }
    }

    /// Whether all of `other` found room.
    fn absorb(&self, other: &SessionView) -> bool {
        self.note(other.written(), &Footprint::WHOLE);
        if self.monotonic {
            let update = |seen: u64| Some(Seen::from_word(seen).with(other.seen()).word());
            // The closure never declines, so this cannot fail.
            let _ = self.seen.fetch_update(Ordering::AcqRel, Ordering::Acquire, update);
        }
        match other.carried() {
            Some(theirs) => self.carry(theirs),
            None => true,
        }
    }

    /// Whether there was nothing else that it stands for.
    fn carry(&self, theirs: &Arc<Carried>) -> bool {
        let ours = self.carried.get_or_init(|| Arc::clone(theirs));
        if theirs.position.timeline() > ours.position.timeline() {
            self.carried_later.get_or_init(|| Arc::clone(theirs));
        }
        ours == theirs
    }

    fn carried(&self) -> Option<&Arc<Carried>> {
        self.carried_later.get().or_else(|| self.carried.get())
    }

    /// Whether many users share it, so that it remembers writes only.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        !self.monotonic
    }

    /// Whether it brought along what was written after a failover that is not seen in
    /// `topology` yet.
    #[must_use]
    pub fn awaits_failover(&self, topology: &Topology) -> bool {
        self.carried().is_some_and(|carried| carried.awaits_failover(topology))
    }

    /// Whether it tells writes apart by their tables.
    #[must_use]
    pub fn tells_tables(&self) -> bool {
        self.tables.is_some()
    }

    /// What planning needs to know.
    #[must_use]
    pub fn view(&self) -> SessionView {
        self.view_of(&Footprint::WHOLE, 0)
    }

    /// What planning needs to know for a read of these tables, which `catalog` told: a
    /// number that is another one whenever what is known of the schema has changed. What
    /// was written before such a change may have been any table.
    #[must_use]
    pub fn view_of(&self, read: &Footprint, catalog: u64) -> SessionView {
        let written = match &self.tables {
            Some(tables) if !read.is_whole() => {
                tables.tell_by(catalog, &self.written);
                tables.newest(read)
            }
            _ => self.written.load(Ordering::Acquire),
        };
        SessionView::new(
            written,
            Seen::from_word(self.seen.load(Ordering::Acquire)),
            self.carried().cloned(),
        )
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

    /// Notes that a write of these tables, which `catalog` told
    /// ([`view_of`](Self::view_of)), has ended, however it ended. If what is known of the
    /// schema has changed by the time that this returns, note that it
    /// [wrote anything](Self::wrote_anything).
    pub fn wrote(&self, tables: &Footprint, catalog: u64, clock: &WriteClock) {
        if let Some(stamps) = &self.tables
            && !tables.is_whole()
        {
            stamps.tell_by(catalog, &self.written);
        }
        self.note(clock.tick(), tables);
    }

    /// Notes that a write has ended, however it ended, which may have been of any table.
    pub fn wrote_anything(&self, clock: &WriteClock) {
        self.note(clock.tick(), &Footprint::WHOLE);
    }

    fn note(&self, stamp: WriteStamp, written: &Footprint) {
        if let Some(tables) = &self.tables {
            tables.note(stamp, written);
        }
        // Behind its tables, so that whoever finds it finds them.
        self.written.fetch_max(stamp.number(), Ordering::SeqCst);
    }

    /// Notes that a read, planned with `planned`, was served by `server`.
    /// `proved` says that the plan asked for all that the session had seen by
    /// then, and not for whatever there was.
    pub fn saw(&self, server: Server, planned: &SessionView, proved: bool, clock: &WriteClock) {
        if !self.monotonic {
            return;
        }
        let stamp = clock.tick();
        let update = |seen: u64| {
            let seen = Seen::from_word(seen);
            // If another read ended meanwhile on another server, neither is proved to
            // hold both.
            let holds_all = seen.is_on(server) || (proved && seen == planned.seen());
            let newest = stamp.max(seen.stamp());
            Some(Seen::new(holds_all.then_some(server), newest).word())
        };
        // The closure never declines, so this cannot fail.
        let _ = self.seen.fetch_update(Ordering::AcqRel, Ordering::Acquire, update);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(index: usize) -> Server {
        let run = u32::try_from(index).unwrap();
        Server { endpoint: EndpointId::from_index(index).unwrap(), run }
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
        session.wrote_anything(&clock);
        assert_eq!(needs(&session), [1, 1]);
    }

    #[test]
    fn what_was_seen_ties_to_its_server_until_another_covers_it() {
        let (clock, session) = (WriteClock::default(), Session::own());
        session.saw(server(1), &session.view(), true, &clock);
        assert_eq!(needs(&session), [0, 1]);
    }

    #[test]
    fn another_run_of_the_same_endpoint_is_another_server() {
        let (clock, session) = (WriteClock::default(), Session::own());
        session.saw(server(1), &session.view(), true, &clock);
        // Also one whose number has the same low bits.
        for run in [2, 257, 65_537] {
            let restarted = Server { run, ..server(1) };
            assert_eq!(session.view().needs(restarted), clock.now());
        }
    }

    #[test]
    fn reads_that_crossed_on_two_servers_are_held_by_neither() {
        let (clock, session) = (WriteClock::default(), Session::own());
        let planned = session.view();
        session.saw(server(1), &planned, true, &clock);
        session.saw(server(2), &planned, true, &clock);
        assert_eq!(needs(&session), [2, 2]);
    }

    #[test]
    fn reads_that_crossed_on_one_server_stay_there() {
        let (clock, session) = (WriteClock::default(), Session::own());
        let planned = session.view();
        session.saw(server(1), &planned, true, &clock);
        session.saw(server(1), &planned, true, &clock);
        assert_eq!(needs(&session), [0, 2]);
    }

    #[test]
    fn a_read_that_asked_for_no_proof_gives_none() {
        let (clock, session) = (WriteClock::default(), Session::own());
        session.saw(server(1), &session.view(), true, &clock);
        session.saw(server(2), &session.view(), false, &clock);
        assert_eq!(needs(&session), [2, 2]);
    }

    #[test]
    fn a_shared_session_remembers_writes_only() {
        let (clock, session) = (WriteClock::default(), Session::shared(WriteTracking::Whole));
        session.saw(server(1), &session.view(), true, &clock);
        assert_eq!(needs(&session), [0, 0]);
        session.wrote_anything(&clock);
        assert_eq!(needs(&session), [1, 1]);
    }

    #[test]
    fn every_fourth_read_waits_for_the_proof() {
        let session = Session::own();
        let waits = (0..40).filter(|_| session.should_wait_for_proof()).count();
        assert_eq!(waits, 10);
    }
}
