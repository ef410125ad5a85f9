//! What a session has written and seen.

mod export;
mod resume;
mod seen;
mod tables;
mod unwatched;
mod view;

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
};

use crate::{EndpointId, Footprint, Topology, WriteClock};
use seen::Seen;
use tables::Writes;
use unwatched::Unwatched;

pub use export::Export;
pub use resume::PastMismatch;
pub use tables::WriteTracking;
pub use unwatched::Lent;
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
///
/// Work of a user may leave his session without a word: a task that is spawned, a
/// data loader that spawns. Such work uses the shared session. So every other session
/// [beside](Session::beside) a shared one tells it of its writes, and reads through the
/// shared one wait for them, too.
#[derive(Debug)]
pub struct Session {
    written: Writes,
    seen: AtomicU64,
    carried: OnceLock<Arc<Carried>>,
    /// By a merge, from after a failover that the first knows nothing of: it stands for both.
    carried_later: OnceLock<Arc<Carried>>,
    unwatched: Unwatched,
    held_back: AtomicU32,
    kind: Kind,
}

/// Who a session is for.
#[derive(Debug)]
enum Kind {
    /// One user, beside the shared session of the process, if there is one.
    Own { shared: Option<Arc<Session>> },
    /// Many users.
    Shared(Box<Others>),
}

/// What a shared session knows of the sessions beside it.
#[derive(Debug)]
struct Others {
    written: Writes,
    /// Whether reads through the shared session wait for their writes.
    waits: bool,
    /// Whether somebody wants to know of reads that should have been in another session.
    reports_strays: AtomicBool,
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
        Session::new(Writes::of(WriteTracking::Whole), Kind::Own { shared: None })
    }

    /// A session that many users share: read-your-writes only. Its reads wait for the
    /// writes of all sessions [beside](Self::beside) it.
    #[must_use]
    pub fn shared(tracking: WriteTracking) -> Self {
        let written = Writes::of(tracking);
        let others = Others { written, waits: true, reports_strays: AtomicBool::new(false) };
        Session::new(Writes::of(tracking), Kind::Shared(Box::new(others)))
    }

    /// A shared session whose reads wait for the writes of other sessions only if
    /// `waits`.
    #[must_use]
    pub fn waiting_for_others(mut self, waits: bool) -> Self {
        if let Kind::Shared(others) = &mut self.kind {
            others.waits = waits;
        }
        self
    }

    /// This session beside the shared one that `other` is, or stands beside: it tells that
    /// one of its writes from now on.
    #[must_use]
    pub fn beside(self, other: &Arc<Session>) -> Self {
        let shared = match &other.kind {
            Kind::Own { shared } => shared.clone(),
            Kind::Shared(_) => Some(Arc::clone(other)),
        };
        match self.kind {
            Kind::Own { .. } => Session { kind: Kind::Own { shared }, ..self },
            Kind::Shared(_) => self,
        }
    }

    fn new(written: Writes, kind: Kind) -> Self {
        Session {
            written,
            seen: AtomicU64::new(0),
            carried: OnceLock::new(),
            carried_later: OnceLock::new(),
            unwatched: Unwatched::default(),
            held_back: AtomicU32::new(0),
            kind,
        }
    }

    /// A session of its own that begins where this one is: its reads wait for what reads of
    /// this one would wait for now.
    #[must_use]
    pub fn fork(&self) -> Self {
        let forked = Session::own();
        forked.absorb(&self.view_of(&Footprint::WHOLE, 0));
        forked
    }

    /// Takes over what `other` has written and seen. Neither is lost by a use of
    /// this session that goes on meanwhile.
    ///
    /// A shared session takes a stamp that covers all of it, and no position: a position
    /// of a timeline that is not seen in `topology` yet would make all its users wait,
    /// though none of them has seen anything of that timeline. It takes a stamp for that
    /// one when the failover is seen ([`catch_up`](Self::catch_up)).
    pub fn merge(&self, other: &SessionView, topology: &Topology, clock: &WriteClock) {
        if self.is_shared() {
            let mut stamp = other.written().max(other.seen_stamp());
            match other.carried() {
                Some(carried) if carried.awaits_failover(topology) => {
                    self.unwatched.await_failover(carried);
                }
                Some(carried) => stamp = stamp.max(carried.stamp),
                None => {}
            }
            self.written.note(stamp, &Footprint::WHOLE);
        } else if !self.absorb(other) {
            // One place for two positions. All that happened before this moment covers both.
            self.written.note(clock.tick(), &Footprint::WHOLE);
        }
    }

    /// Whether all of `other` found room.
    fn absorb(&self, other: &SessionView) -> bool {
        self.written.note(other.written(), &Footprint::WHOLE);
        let update = |seen: u64| Some(Seen::from_word(seen).with(other.seen()).word());
        // The closure never declines, so this cannot fail.
        let _ = self.seen.fetch_update(Ordering::AcqRel, Ordering::Acquire, update);
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
        matches!(self.kind, Kind::Shared(_))
    }

    /// Whether it brought along what was written after a failover that is not seen in
    /// `topology` yet.
    #[must_use]
    pub fn awaits_failover(&self, topology: &Topology) -> bool {
        self.carried().is_some_and(|carried| carried.awaits_failover(topology))
    }

    /// Whether somebody tells its writes apart by their tables.
    #[must_use]
    pub fn tells_tables(&self) -> bool {
        let others = |others: &Others| others.listens() && others.written.tells_tables();
        self.written.tells_tables() || self.told().is_some_and(others)
    }

    /// Who is told of the writes of this session.
    fn told(&self) -> Option<&Others> {
        match &self.kind {
            Kind::Own { shared: Some(shared) } => shared.others(),
            _ => None,
        }
    }

    /// What it knows of the sessions beside it.
    fn others(&self) -> Option<&Others> {
        match &self.kind {
            Kind::Shared(others) => Some(others),
            Kind::Own { .. } => None,
        }
    }

    /// What it has written and seen itself.
    #[must_use]
    pub fn view(&self) -> SessionView {
        self.view_with(self.written.newest(&Footprint::WHOLE, 0))
    }

    /// What planning needs to know for a read of these tables, which `catalog` told: a
    /// number that is another one whenever what is known of the schema has changed. What
    /// was written before such a change may have been any table.
    #[must_use]
    pub fn view_of(&self, read: &Footprint, catalog: u64) -> SessionView {
        let mut written = self.written.newest(read, catalog);
        if let Some(others) = self.others().filter(|others| others.waits) {
            written = written.max(others.written.newest(read, catalog));
        }
        self.view_with(written)
    }

    fn view_with(&self, written: u64) -> SessionView {
        let seen = Seen::from_word(self.seen.load(Ordering::Acquire));
        SessionView::new(written, seen, self.carried().cloned())
    }

    /// Has strays reported from now on, by the shared session that this one is or stands
    /// beside. See [`is_stray`](Self::is_stray).
    pub fn report_strays(&self) {
        let others = self.told().or_else(|| self.others());
        if let Some(others) = others {
            others.reports_strays.store(true, Ordering::Relaxed);
        }
    }

    /// Whether strays are to be reported, and none was so far. One load.
    #[must_use]
    pub fn reports_strays(&self) -> bool {
        self.others().is_some_and(|others| others.reports_strays.load(Ordering::Relaxed))
    }

    /// Whether a read of these tables through this shared session, planned on `topology`,
    /// would miss what another session wrote, if it did not wait for it: the work of a user
    /// that has left his session, perhaps. Says so once.
    #[must_use]
    pub fn is_stray(&self, read: &Footprint, catalog: u64, topology: &Topology) -> bool {
        let Some(others) = self.others().filter(|_| self.reports_strays()) else { return false };
        others.written.newest(read, catalog) > topology.covered_by_replicas().number()
            && others.reports_strays.swap(false, Ordering::Relaxed)
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
        if self.is_unwatched() {
            // What it sees goes on; no proof comes to an end with it.
            return false;
        }
        let held_back = self.held_back.fetch_add(1, Ordering::Relaxed) + 1;
        held_back.is_multiple_of(READS_BEFORE_WAITING)
    }

    /// Notes that a write of these tables, which `catalog` told
    /// ([`view_of`](Self::view_of)), has ended, however it ended. If what is known of the
    /// schema has changed by the time that this returns, note that it
    /// [wrote anything](Self::wrote_anything).
    pub fn wrote(&self, tables: &Footprint, catalog: u64, clock: &WriteClock) {
        let told = self.told().filter(|others| others.listens());
        let noting = || [Some(&self.written), told.map(|others| &others.written)];
        if !tables.is_whole() {
            noting().into_iter().flatten().for_each(|written| written.tell_by(catalog));
        }
        let stamp = clock.tick();
        noting().into_iter().flatten().for_each(|written| written.note(stamp, tables));
    }

    /// Notes that a write has ended, however it ended, which may have been of any table.
    pub fn wrote_anything(&self, clock: &WriteClock) {
        self.wrote(&Footprint::WHOLE, 0, clock);
    }

    /// Notes that a read, planned with `planned`, was served by `server`.
    /// `proved` says that the plan asked for all that the session had seen by
    /// then, and not for whatever there was.
    pub fn saw(&self, server: Server, planned: &SessionView, proved: bool, clock: &WriteClock) {
        self.saw_after(planned.seen(), server, proved, clock);
    }

    /// Notes that `server` has shown something outside any plan: the answer to a statement of
    /// an open transaction, the first row of a stream that may write. `is_primary`: it
    /// was the primary when that began, and so holds all that the session has seen by now. A
    /// replica does if it held all so far. Afterwards only that server serves the session,
    /// and others that cover a stamp drawn now.
    pub fn saw_unplanned(&self, server: Server, is_primary: bool, clock: &WriteClock) {
        let seen = Seen::from_word(self.seen.load(Ordering::Acquire));
        self.saw_after(seen, server, is_primary, clock);
    }

    fn saw_after(&self, planned: Seen, server: Server, proved: bool, clock: &WriteClock) {
        if self.is_shared() {
            return;
        }
        let stamp = clock.tick();
        let update = |seen: u64| {
            let seen = Seen::from_word(seen);
            // If another read ended meanwhile on another server, neither is proved to
            // hold both.
            let holds_all = seen.is_on(server) || (proved && seen == planned);
            let newest = stamp.max(seen.stamp());
            Some(Seen::new(holds_all.then_some(server), newest).word())
        };
        // The closure never declines, so this cannot fail.
        let _ = self.seen.fetch_update(Ordering::AcqRel, Ordering::Acquire, update);
    }
}

impl Others {
    /// Whether anybody asks what they write.
    fn listens(&self) -> bool {
        self.waits || self.reports_strays.load(Ordering::Relaxed)
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
