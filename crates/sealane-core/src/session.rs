//! What a session has written and seen.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::{EndpointId, WriteClock, WriteStamp};

/// The causal memory of one user, request or handle, shared by its clones.
///
/// *Written* is the stamp of its last write. *Seen* is the endpoint of its last
/// read with a stamp drawn after that read: the same endpoint never goes back
/// in time, another one may serve the session once it covers the stamp.
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

/// The low byte holds the endpoint plus one (0: no single endpoint is known to
/// hold all that was seen), the rest the stamp. 2^56 stamps last for 2,000
/// years at a million writes a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Seen(u64);

impl Seen {
    fn new(endpoint: Option<EndpointId>, stamp: WriteStamp) -> Self {
        let endpoint = endpoint.map_or(0, |id| id.index() as u64 + 1);
        Seen(stamp.number() << 8 | endpoint)
    }

    fn stamp(self) -> WriteStamp {
        WriteStamp::from_number(self.0 >> 8)
    }

    fn endpoint(self) -> Option<EndpointId> {
        ((self.0 & 0xFF) as usize).checked_sub(1).and_then(EndpointId::from_index)
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

    /// Notes that a read, planned with `planned`, was served by `endpoint`.
    pub fn saw(&self, endpoint: EndpointId, planned: SessionView, clock: &WriteClock) {
        if !self.monotonic {
            return;
        }
        let stamp = clock.tick();
        let update = |seen: u64| {
            let seen = Seen(seen);
            // Planning proved that `endpoint` holds what was seen then. If another read
            // ended meanwhile on another endpoint, neither is proved to hold both.
            let holds_all = seen == planned.seen || seen.endpoint() == Some(endpoint);
            let newest = stamp.max(seen.stamp());
            Some(Seen::new(holds_all.then_some(endpoint), newest).0)
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

    /// The stamp that `endpoint` must cover to serve this session.
    #[must_use]
    pub fn needs(&self, endpoint: EndpointId) -> WriteStamp {
        match self.seen.endpoint() {
            Some(seen) if seen == endpoint => self.written,
            Some(_) | None => self.written.max(self.seen.stamp()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(index: usize) -> EndpointId {
        EndpointId::from_index(index).unwrap()
    }

    #[test]
    fn a_new_session_needs_nothing() {
        assert_eq!(Session::own().view().needs(id(1)), WriteStamp::NONE);
    }

    #[test]
    fn a_write_must_be_covered_everywhere() {
        let (clock, session) = (WriteClock::default(), Session::own());
        session.wrote(&clock);
        assert_eq!(session.view().needs(id(0)), clock.now());
        assert_eq!(session.view().needs(id(1)), clock.now());
    }

    #[test]
    fn what_was_seen_ties_to_its_endpoint_until_another_covers_it() {
        let (clock, session) = (WriteClock::default(), Session::own());
        session.saw(id(1), session.view(), &clock);
        assert_eq!(session.view().needs(id(1)), WriteStamp::NONE);
        assert_eq!(session.view().needs(id(2)), clock.now());
    }

    #[test]
    fn reads_that_crossed_on_two_endpoints_are_held_by_neither() {
        let (clock, session) = (WriteClock::default(), Session::own());
        let planned = session.view();
        session.saw(id(1), planned, &clock);
        session.saw(id(2), planned, &clock);
        assert_eq!(session.view().needs(id(1)), clock.now());
        assert_eq!(session.view().needs(id(2)), clock.now());
    }

    #[test]
    fn reads_that_crossed_on_one_endpoint_stay_there() {
        let (clock, session) = (WriteClock::default(), Session::own());
        let planned = session.view();
        session.saw(id(1), planned, &clock);
        session.saw(id(1), planned, &clock);
        assert_eq!(session.view().needs(id(1)), WriteStamp::NONE);
    }

    #[test]
    fn a_shared_session_remembers_writes_only() {
        let (clock, session) = (WriteClock::default(), Session::shared());
        session.saw(id(1), session.view(), &clock);
        assert_eq!(session.view().needs(id(2)), WriteStamp::NONE);
        session.wrote(&clock);
        assert_eq!(session.view().needs(id(2)), clock.now());
    }
}
