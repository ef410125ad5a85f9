//! The state of a session at one moment.

use std::sync::{Arc, OnceLock};

use super::{Seen, Server};
use crate::{EndpointState, Position, ServerMark, Topology, WriteStamp, topology::Parting};

/// The state of a session at the moment of planning.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionView {
    written: WriteStamp,
    seen: Seen,
    carried: Option<Arc<Carried>>,
}

/// What a session wrote and saw in another process.
///
/// A server holds all of this if it covers `position`, or if it covers `stamp`. The stamp is drawn
/// when the position arrives here. A position of the primary sampled later contains everything that
/// the primary had answered before. The position test needs no new sample. The stamp test is one
/// comparison, and it still works if a failover has lost the position. But the stamp proves nothing
/// about data on an older timeline, because that data was sampled from the previous primary. For a
/// history that was unknown here, a stamp drawn once it is known takes its place.
#[derive(Debug, PartialEq, Eq)]
pub struct Carried {
    /// The position that the session brought along.
    pub position: Position,
    /// The stamp drawn when the position arrived.
    pub stamp: WriteStamp,
    /// The replica that had shown more than the position in the other process.
    pub server: Option<ServerMark>,
    /// Whether the position was of a history unknown here when it arrived, on an engine whose
    /// positions do not number histories.
    pub(super) is_unseen: bool,
    /// The stamp drawn when that history was known here at last.
    pub(super) known_since: OnceLock<WriteStamp>,
}

/// What a session had seen at one moment. See [`Session::saw_unplanned`](super::Session::saw_unplanned).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenSoFar(pub(super) Seen);

impl SessionView {
    pub(super) fn new(written: u64, seen: Seen, carried: Option<Arc<Carried>>) -> Self {
        SessionView { written: WriteStamp::from_number(written), seen, carried }
    }

    /// The stamp of the session's last write.
    #[must_use]
    pub fn written(&self) -> WriteStamp {
        self.written
    }

    /// The position that the session brought along.
    #[must_use]
    pub fn carried(&self) -> Option<&Arc<Carried>> {
        self.carried.as_ref()
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen
    }

    /// What the session has seen here.
    #[must_use]
    pub fn seen_so_far(&self) -> SeenSoFar {
        SeenSoFar(self.seen)
    }

    /// The same session as if it had read nothing in this process. What it wrote, and what it brought
    /// along, still counts.
    #[must_use]
    pub fn without_seen(self) -> Self {
        SessionView { seen: Seen::default(), ..self }
    }

    /// The stamp that covers everything that the session has seen here.
    #[must_use]
    pub fn seen_stamp(&self) -> WriteStamp {
        self.seen.stamp()
    }

    /// Whether `server` holds everything that the session has seen here, because it has shown it.
    #[must_use]
    pub fn has_seen_only(&self, server: Server) -> bool {
        self.seen.is_on(server)
    }

    /// Whether any server that covers `stamp` has everything that this session needs, whichever
    /// server it is. Usually true.
    #[inline]
    pub(crate) fn is_within(&self, stamp: WriteStamp) -> bool {
        self.carried.is_none() && self.written <= stamp && self.seen.stamp() <= stamp
    }

    /// The stamp that `server` must cover to serve this session, because of what the session wrote
    /// and saw here.
    #[must_use]
    pub fn needs(&self, server: Server) -> WriteStamp {
        if self.seen.is_on(server) { self.written } else { self.written.max(self.seen.stamp()) }
    }

    /// The stamp that the primary must be proved to show ([`Topology::shown`]), because it may show
    /// less than the session has seen on a replica. `None` if this is proved already, or if the
    /// primary does not report what it shows.
    #[must_use]
    pub fn ahead_of_primary(&self, topology: &Topology) -> Option<WriteStamp> {
        let shown = topology.shown()?;
        let endpoint = topology.primary()?;
        let primary = Server { endpoint, run: topology.get(endpoint)?.run };
        let is_ahead = self.seen.stamp() > shown && !self.seen.is_on(primary);
        is_ahead.then_some(self.seen.stamp())
    }

    /// Whether the primary is proved to show everything that the session has seen here, so that a
    /// read there does not go back in time.
    #[must_use]
    pub fn is_shown_by_primary(&self, topology: &Topology) -> bool {
        let on_primary = || {
            let endpoint = topology.primary()?;
            let primary = Server { endpoint, run: topology.get(endpoint)?.run };
            self.seen.is_on(primary).then_some(())
        };
        self.seen.stamp() <= topology.shown().unwrap_or_default() || on_primary().is_some()
    }

    /// Whether an endpoint in this state has everything that the session wrote, here and in other
    /// processes.
    pub(crate) fn has_writes(&self, state: &EndpointState) -> bool {
        state.covered >= self.written && self.missing(state).is_none()
    }

    /// The stamp that would prove that an endpoint in this state holds the carried position. `None`
    /// if nothing is carried, or if this is proved already.
    pub(crate) fn missing(&self, state: &EndpointState) -> Option<WriteStamp> {
        let missing = self.carried.as_deref().filter(|carried| !carried.is_held_by(state));
        missing.map(|it| it.proved_by())
    }
}

impl Carried {
    /// Whether an endpoint in this state is proved to hold the carried position.
    fn is_held_by(&self, state: &EndpointState) -> bool {
        let ours = state.position.as_ref();
        if self.is_unseen {
            // Neither a sequence number of another server nor a sample of a replaced primary proves
            // anything. The position itself may be lost with the next failover.
            return ours.is_some_and(|ours| ours.has_same(&self.position))
                || !self.awaits_news() && state.covered >= self.proved_by();
        }
        // The cheaper test comes first.
        (state.covered >= self.stamp && !self.is_after_failover(ours))
            || ours.is_some_and(|ours| ours.covers(&self.position))
    }

    /// Records that the history of the position, which was unknown here, is known, and that `stamp`
    /// was drawn afterwards. Samples of the primary from then on hold the position, unless it is
    /// lost.
    pub(super) fn failover_seen(&self, stamp: WriteStamp) {
        if self.is_unseen {
            let _ = self.known_since.set(stamp);
        }
    }

    /// Whether the position was made after a failover that `other` may not include. Where there are
    /// no timelines, what this process has not seen yet is later.
    pub(super) fn is_later_than(&self, other: &Self) -> bool {
        self.position.timeline() > other.position.timeline()
            || (self.awaits_news() && !other.awaits_news())
    }

    /// Whether no stamp proves the position as long as `topology` holds.
    pub(super) fn is_open_in(&self, topology: &Topology) -> bool {
        self.awaits_news() || self.is_after_failover(topology.current_position())
    }

    /// The stamp whose samples hold the position, once its failover is known here.
    pub(super) fn proved_by(&self) -> WriteStamp {
        self.known_since.get().copied().unwrap_or(self.stamp)
    }

    /// Whether its session must be told when its failover is known here.
    pub(super) fn awaits_news(&self) -> bool {
        self.is_unseen && self.known_since.get().is_none()
    }

    /// Whether some replica in use is not proved to hold the carried position.
    pub(super) fn is_missed_on_replicas(&self, topology: &Topology) -> bool {
        topology.states(topology.replicas_in_use()).any(|state| !self.is_held_by(state))
    }

    /// Whether the position comes from after a failover that `topology` does not show yet.
    pub(super) fn awaits_failover(&self, topology: &Topology) -> bool {
        let is_unseen = || matches!(topology.parting(&self.position), Parting::Unseen { .. });
        self.is_after_failover(topology.current_position()) || (self.awaits_news() && is_unseen())
    }

    /// Whether the position `ours` is on an older timeline.
    fn is_after_failover(&self, ours: Option<&Position>) -> bool {
        ours.is_some_and(|ours| {
            ours.timeline() < self.position.timeline() && ours.is_related_to(&self.position)
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::*;

    /// An answer of the primary (0), with the least number that is not over and the next one, or of
    /// the replica (1).
    fn tells(
        reducer: &mut TopologyReducer,
        index: usize,
        clock: &WriteClock,
        transactions: Option<(u64, u64)>,
    ) {
        let role = if index == 0 { Role::Primary } else { Role::Replica };
        let position = Some(Position::Wal { system: 7, timeline: 1, lsn: Lsn::from_bytes(100) });
        let transactions =
            transactions.map(|(oldest, next)| Transactions::Numbered { oldest, next });
        let run = Incarnation::new(format!("run of {index}"));
        let report = Report { position, transactions, ..Report::new(role, run) };
        reducer.apply(&Observation {
            endpoint: EndpointId::from_index(index).unwrap(),
            started: Moment::ZERO,
            finished: Moment::ZERO,
            stamp: clock.now(),
            outcome: Outcome::Answered(report),
        });
    }

    fn server(topology: &Topology, index: usize) -> Server {
        let endpoint = EndpointId::from_index(index).unwrap();
        Server { endpoint, run: topology.get(endpoint).unwrap().run }
    }

    #[test]
    fn a_session_is_ahead_of_the_primary_until_that_shows_what_a_replica_has_shown() {
        let (clock, session) = (WriteClock::default(), Session::own());
        let endpoints = ["primary", "replica"].map(|name| Endpoint::new(name, name));
        let mut reducer = TopologyReducer::new(Topology::new(endpoints.to_vec()));
        tells(&mut reducer, 0, &clock, Some((5, 5)));
        tells(&mut reducer, 1, &clock, None);
        let [primary, replica] = [0, 1].map(|index| server(reducer.topology(), index));
        let is_ahead = |session: &Session, reducer: &TopologyReducer| {
            let (view, topology) = (session.view(), reducer.topology());
            let ahead = view.ahead_of_primary(topology).map(WriteStamp::number);
            (ahead, view.is_shown_by_primary(topology))
        };
        assert_eq!(is_ahead(&session, &reducer), (None, true), "it has seen nothing");
        session.saw(replica, &session.view(), true, &clock);
        assert_eq!(is_ahead(&session, &reducer), (Some(1), false));
        assert!(session.view().without_seen().is_shown_by_primary(reducer.topology()));
        // A transaction may be running that the replica has shown.
        tells(&mut reducer, 0, &clock, Some((5, 6)));
        assert_eq!(is_ahead(&session, &reducer), (Some(1), false));
        tells(&mut reducer, 0, &clock, Some((6, 6)));
        assert_eq!(is_ahead(&session, &reducer), (None, true));
        let reader = Session::own();
        reader.saw(primary, &reader.view(), true, &clock);
        assert_eq!(is_ahead(&reader, &reducer), (None, true), "the primary itself has shown it");
        session.saw(replica, &session.view(), true, &clock);
        assert_eq!(is_ahead(&session, &reducer), (Some(3), false));
        tells(&mut reducer, 0, &clock, None);
        assert_eq!(is_ahead(&session, &reducer), (None, false), "no proof will ever come");
    }
}
