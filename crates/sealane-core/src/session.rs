//! Sessions: what a user has written and seen.
//!
//! A session is two machine words. The first is the stamp of its last write. The second (`seen`) is
//! the server of its last read, with a stamp drawn after that read. That server never goes back in
//! time. Another server may serve the session once it covers the stamp. After two overlapping reads
//! on two endpoints, no server is proved to hold both results.
//!
//! The handle of the whole application keeps the first word only. The reads of its users have no
//! order that could be broken, and the second word would tie all users to one endpoint.
//!
//! # Work that leaves its session
//! A spawned task, or a data loader that spawns tasks, leaves its session unnoticed and uses the
//! shared session. So every session stands *beside* the shared session of its process and reports
//! its writes, with their tables, to the shared session. The shared session keeps these writes
//! apart from its own (`Others`). It can therefore be told not to wait for them, and it can warn of
//! a read that waits only for them. A stamp that a session draws only to be on the safe side (after
//! a refused token, or in a merge) is not a write and is not reported.
//!
//! A session that is resumed from a token brings a position along. The shared session keeps one
//! position that contains all of these (`Others::brought`). So work that has left a resumed session
//! does not miss what its user wrote in another process. A replica that covers the position needs
//! no new sample to prove it. A position from after a failover that this process has not seen yet
//! is left out. Otherwise every user would wait for that failover, and a token from before a
//! restore may name a failover that never happened.
//!
//! Rejected: sessions that wait for the shared session. They do not tell tables apart, so every
//! background write would hold every user on the primary. Rejected: binding spawned tasks to their
//! scope. There is no hook for that.
//!
//! # Reads on the primary
//! A read on the primary draws a stamp, too. A session that reads there without a pause would renew
//! its stamp faster than any proof can arrive. So one in four of these reads waits, for the time of
//! three quick probes at most, and then leaves the primary. Rejected: no stamp for reads on the
//! primary. A session could then see another user's write there, and lose it on a replica.

mod causal_token;
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

pub use causal_token::{CausalToken, DecodeTokenError, Past, ServerMark};

use arc_swap::ArcSwapOption;

use crate::{EndpointId, TableSet, Topology, WriteClock};
use seen::Seen;
use tables::Writes;
use unwatched::Unwatched;

pub use export::Export;
pub use resume::PastMismatch;
pub use tables::WriteTracking;
pub use unwatched::Lent;
pub use view::{Carried, SeenSoFar, SessionView};

/// The causal memory of one user, request or handle, shared by its clones.
///
/// *Written* is the stamp of the session's last write. *Seen* is the endpoint of its last read,
/// with a stamp drawn after that read. The same run of the same endpoint never goes back in time;
/// another endpoint may serve the session once it covers the stamp. *Carried* is a position that
/// the session brought along from another process.
///
/// A session that many users share (the handle of the whole application) does not remember what it
/// has seen: the reads of different users have no order that could be broken, and such a memory
/// would tie all users to one endpoint. With many users, some user is always writing. So a shared
/// session remembers writes by table, and a read waits only for writes to its own tables.
///
/// Work of a user may leave the user's session unnoticed: a spawned task, a data loader that spawns
/// tasks. Such work uses the shared session. So every session [beside](Session::beside) a shared
/// one reports its writes to the shared one, and reads through the shared session wait for these
/// writes too.
#[derive(Debug)]
pub struct Session {
    written: Writes,
    seen: AtomicU64,
    carried: OnceLock<Arc<Carried>>,
    /// A further position from a merge, written after a failover that the positions before do not
    /// include. It stands for all of them.
    carried_later: ArcSwapOption<Carried>,
    unwatched: Unwatched,
    held_back: AtomicU32,
    /// Whether the session began anew and has not read anything yet.
    is_anew: AtomicBool,
    kind: Kind,
}

/// Whom a session serves.
#[derive(Debug)]
enum Kind {
    /// One user; perhaps beside the shared session of the process.
    Own { shared: Option<Arc<Session>> },
    /// Many users.
    Shared(Box<Others>),
}

/// What a shared session knows about the sessions beside it.
#[derive(Debug)]
struct Others {
    written: Writes,
    /// What resumed sessions have brought along from other processes.
    brought: ArcSwapOption<Carried>,
    /// Whether reads through the shared session wait for these sessions' writes.
    waits: bool,
    /// Whether to report a read that should have run in another session.
    reports_strays: AtomicBool,
}

/// Of the reads that stay on the primary only because of what the session has seen there, one in
/// this many waits for the proof. See [`Session::should_wait_for_proof`].
const READS_BEFORE_WAITING: u32 = 4;

/// One run of one endpoint that has served something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Server {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// The run's number from [`EndpointState::run`](crate::EndpointState::run); no two endpoints
    /// share a number.
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
        let (brought, reports_strays) = (ArcSwapOption::empty(), AtomicBool::new(false));
        let others = Others { written, brought, waits: true, reports_strays };
        Session::new(Writes::of(tracking), Kind::Shared(Box::new(others)))
    }

    /// Sets whether reads of this shared session wait for the writes of other sessions.
    #[must_use]
    pub fn waiting_for_others(mut self, waits: bool) -> Self {
        if let Kind::Shared(others) = &mut self.kind {
            others.waits = waits;
        }
        self
    }

    /// Places this session beside a shared one: `other` itself, or the shared session that `other`
    /// stands beside. From now on this session reports its writes to the shared one.
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
            carried_later: ArcSwapOption::empty(),
            unwatched: Unwatched::default(),
            held_back: AtomicU32::new(0),
            is_anew: AtomicBool::new(false),
            kind,
        }
    }

    /// A separate session that starts where this one is: its reads wait for everything that a read
    /// of this session would wait for now.
    #[must_use]
    pub fn fork(&self) -> Self {
        let forked = Session::own();
        forked.absorb(&self.view_of(&TableSet::WHOLE, 0));
        forked
    }

    /// Takes over what `other` has written and seen. Concurrent use of this session loses neither.
    ///
    /// A shared session takes over a stamp that covers everything, but no position. A position on a
    /// timeline that `topology` does not show yet would make all users wait, although no user has
    /// seen anything of that timeline. For such a position, the session draws a stamp once the
    /// failover is seen ([`catch_up`](Self::catch_up)).
    pub fn merge(&self, other: &SessionView, topology: &Topology, clock: &WriteClock) {
        if self.is_shared() {
            let mut stamp = other.written().max(other.seen_stamp());
            match other.carried() {
                Some(carried) if carried.is_open_in(topology) => {
                    self.unwatched.await_failover(carried);
                }
                Some(carried) => stamp = stamp.max(carried.proved_by()),
                None => {}
            }
            self.written.note(stamp, &TableSet::WHOLE);
        } else if !self.absorb(other) {
            // The session has room for one position only. A new stamp stands for both positions,
            // because it covers everything that happened before this moment.
            self.written.note(clock.tick(), &TableSet::WHOLE);
        }
    }

    /// Takes over `other`. Returns whether there was room for everything.
    fn absorb(&self, other: &SessionView) -> bool {
        self.written.note(other.written(), &TableSet::WHOLE);
        let update = |seen: u64| Some(Seen::from_word(seen).with(other.seen()).word());
        // The closure always returns a value, so this cannot fail.
        let _ = self.seen.fetch_update(Ordering::AcqRel, Ordering::Acquire, update);
        match other.carried() {
            Some(theirs) => self.carry(theirs),
            None => true,
        }
    }

    /// Stores a carried position. Returns false if the session already carries another one.
    fn carry(&self, theirs: &Arc<Carried>) -> bool {
        let ours = self.carried.get_or_init(|| Arc::clone(theirs));
        self.carried_later.rcu(|later| {
            let is_later = theirs.is_later_than(later.as_ref().unwrap_or(ours));
            if is_later { Some(Arc::clone(theirs)) } else { later.clone() }
        });
        if theirs.awaits_news() {
            self.unwatched.await_failover(theirs);
        }
        ours == theirs
    }

    fn carried(&self) -> Option<Arc<Carried>> {
        let first = self.carried.get()?;
        Some(self.carried_later.load_full().unwrap_or_else(|| Arc::clone(first)))
    }

    /// Whether many users share the session, so that it remembers writes only.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        matches!(self.kind, Kind::Shared(_))
    }

    /// Whether the session carries a position from after a failover that `topology` does not show
    /// yet.
    #[must_use]
    pub fn awaits_failover(&self, topology: &Topology) -> bool {
        self.carried().is_some_and(|carried| carried.awaits_failover(topology))
    }

    /// Whether anything needs to know the tables of this session's writes.
    #[must_use]
    pub fn tells_tables(&self) -> bool {
        let others = |others: &Others| others.listens() && others.written.tells_tables();
        self.written.tells_tables() || self.told().is_some_and(others)
    }

    /// The record in which the shared session keeps this session's writes.
    fn told(&self) -> Option<&Others> {
        match &self.kind {
            Kind::Own { shared: Some(shared) } => shared.others(),
            _ => None,
        }
    }

    /// The record of the sessions beside this shared one.
    fn others(&self) -> Option<&Others> {
        match &self.kind {
            Kind::Shared(others) => Some(others),
            Kind::Own { .. } => None,
        }
    }

    /// What the session itself has written and seen.
    #[must_use]
    pub fn view(&self) -> SessionView {
        self.view_with(self.written.newest(&TableSet::WHOLE, 0))
    }

    /// What planning needs to know for a read of the tables `read`. `catalog` is the generation of
    /// the catalog that determined these tables; the number changes with every known schema change.
    /// A write before such a change counts as a write to any table.
    #[must_use]
    pub fn view_of(&self, read: &TableSet, catalog: u64) -> SessionView {
        let written = self.written.newest(read, catalog);
        match self.others().filter(|others| others.waits) {
            Some(others) => {
                let written = written.max(others.written.newest(read, catalog));
                // The shared session itself carries nothing.
                SessionView::new(written, Seen::default(), others.brought.load_full())
            }
            None => self.view_with(written),
        }
    }

    fn view_with(&self, written: u64) -> SessionView {
        let seen = Seen::from_word(self.seen.load(Ordering::Acquire));
        SessionView::new(written, seen, self.carried())
    }

    /// Makes the shared session (this one, or the one beside it) report [strays](Self::is_stray)
    /// from now on.
    pub fn report_strays(&self) {
        let others = self.told().or_else(|| self.others());
        if let Some(others) = others {
            others.reports_strays.store(true, Ordering::Relaxed);
        }
    }

    /// Whether this session reports strays and has reported none so far. One atomic load.
    #[must_use]
    pub fn reports_strays(&self) -> bool {
        self.others().is_some_and(|others| others.reports_strays.load(Ordering::Relaxed))
    }

    /// Whether a read of these tables through this shared session, planned on `topology`, would
    /// miss another session's write if the read did not wait for that write. Such a read may be
    /// work that has left its user's session. Returns true only once.
    #[must_use]
    pub fn is_stray(&self, read: &TableSet, catalog: u64, topology: &Topology) -> bool {
        let Some(others) = self.others().filter(|_| self.reports_strays()) else { return false };
        let is_missed = others.written.newest(read, catalog)
            > topology.covered_by_replicas().number()
            || others
                .brought
                .load()
                .as_deref()
                .is_some_and(|it| it.is_missed_on_replicas(topology));
        is_missed && others.reports_strays.swap(false, Ordering::Relaxed)
    }

    /// Whether a read should wait a moment for a replica's proof. Call it only if nothing but what
    /// this session has seen on the primary keeps the read there.
    ///
    /// Each read on the primary renews what the session has seen, and the proof needs a sample
    /// taken after that read. So a session that reads without a pause would stay on the primary
    /// forever, however fresh the replicas are. A few reads there do no harm. A session that goes
    /// on reading waits once, for a few milliseconds, and then leaves the primary.
    pub fn should_wait_for_proof(&self) -> bool {
        if self.may_act_unwatched() {
            // The session keeps seeing new things unobserved, so a proof would never be enough.
            return false;
        }
        let held_back = self.held_back.fetch_add(1, Ordering::Relaxed) + 1;
        held_back.is_multiple_of(READS_BEFORE_WAITING)
    }

    /// Whether this is the first read of a session that [began anew](Self::anew). Each such read
    /// needs a proof of its own, and anybody can send the tokens that cause such reads. So the
    /// caller lets the first reads of many sessions share one proof. One atomic load.
    #[must_use]
    pub fn takes_turn(&self) -> bool {
        self.is_anew.load(Ordering::Relaxed) && self.is_anew.swap(false, Ordering::Relaxed)
    }

    /// Records that a write to `tables` has ended, successfully or not. `catalog` is the catalog's
    /// generation, as for [`view_of`](Self::view_of). If the generation has changed when this
    /// returns, the caller must also record [`wrote_anything`](Self::wrote_anything).
    pub fn wrote(&self, tables: &TableSet, catalog: u64, clock: &WriteClock) {
        let told = self.told().filter(|others| others.listens());
        let noting = || [Some(&self.written), told.map(|others| &others.written)];
        if !tables.is_whole() {
            noting().into_iter().flatten().for_each(|written| written.tell_by(catalog));
        }
        let stamp = clock.tick();
        noting().into_iter().flatten().for_each(|written| written.note(stamp, tables));
    }

    /// Records that a write to any table may have ended, successfully or not.
    pub fn wrote_anything(&self, clock: &WriteClock) {
        self.wrote(&TableSet::WHOLE, 0, clock);
    }

    /// Records that `server` has served a read planned with `planned`. `proved` tells whether the
    /// plan required everything that the session had seen, instead of accepting any data.
    pub fn saw(&self, server: Server, planned: &SessionView, proved: bool, clock: &WriteClock) {
        self.saw_after(server, proved.then(|| planned.seen()), clock);
    }

    /// Records that `server` has shown something without a plan: the answer to a statement in an
    /// open transaction, or the first row of a stream that may write. `held` is what the session had
    /// seen when the server was chosen, if the server was the primary and therefore holds all of it.
    /// What the session has seen elsewhere since then, and what a replica holds, is not proved.
    /// Afterwards, only this server or a server that covers a stamp drawn now may serve the session.
    pub fn saw_unplanned(&self, server: Server, held: Option<SeenSoFar>, clock: &WriteClock) {
        self.saw_after(server, held.map(|held| held.0), clock);
    }

    /// Records that `server` has shown something. `held` is what the session had seen of which the
    /// server is proved to hold everything.
    fn saw_after(&self, server: Server, held: Option<Seen>, clock: &WriteClock) {
        if self.is_shared() {
            return;
        }
        let stamp = clock.tick();
        let update = |seen: u64| {
            let seen = Seen::from_word(seen);
            // If another read has ended on another server in the meantime, neither server is proved
            // to hold both results.
            let holds_all = seen.is_on(server) || held == Some(seen);
            let newest = stamp.max(seen.stamp());
            Some(Seen::new(holds_all.then_some(server), newest).word())
        };
        // The closure always returns a value, so this cannot fail.
        let _ = self.seen.fetch_update(Ordering::AcqRel, Ordering::Acquire, update);
    }
}

impl Others {
    /// Whether anything needs the writes of these sessions.
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

    /// The stamp that each of two servers must cover.
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
    fn a_read_ties_the_session_to_its_server_until_another_one_covers_the_stamp() {
        let (clock, session) = (WriteClock::default(), Session::own());
        session.saw(server(1), &session.view(), true, &clock);
        assert_eq!(needs(&session), [0, 1]);
    }

    #[test]
    fn another_run_of_the_same_endpoint_is_another_server() {
        let (clock, session) = (WriteClock::default(), Session::own());
        session.saw(server(1), &session.view(), true, &clock);
        // Also a run whose number has the same low bits.
        for run in [2, 257, 65_537] {
            let restarted = Server { run, ..server(1) };
            assert_eq!(session.view().needs(restarted), clock.now());
        }
    }

    #[test]
    fn after_concurrent_reads_on_two_servers_neither_holds_both() {
        let (clock, session) = (WriteClock::default(), Session::own());
        let planned = session.view();
        session.saw(server(1), &planned, true, &clock);
        session.saw(server(2), &planned, true, &clock);
        assert_eq!(needs(&session), [2, 2]);
    }

    #[test]
    fn concurrent_reads_on_one_server_tie_the_session_to_it() {
        let (clock, session) = (WriteClock::default(), Session::own());
        let planned = session.view();
        session.saw(server(1), &planned, true, &clock);
        session.saw(server(1), &planned, true, &clock);
        assert_eq!(needs(&session), [0, 2]);
    }

    #[test]
    fn a_read_planned_without_proof_ties_the_session_to_no_server() {
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
