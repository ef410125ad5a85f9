//! A session at one moment.

use std::sync::Arc;

use super::{Seen, Server};
use crate::{EndpointState, Position, ServerMark, Topology, WriteStamp};

/// A session at the moment of planning.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionView {
    written: WriteStamp,
    seen: Seen,
    carried: Option<Arc<Carried>>,
}

/// What a session wrote and saw in another process.
///
/// Data at the position hold it. So do data that cover the stamp, which was
/// drawn here afterwards: the primary's position sampled since then contains
/// whatever the primary had answered before. The first needs no new sample; the
/// second is one comparison, and outlives a position that a failover has lost. It says
/// nothing of data on an older timeline: those were sampled from the primary before.
#[derive(Debug, PartialEq, Eq)]
pub struct Carried {
    /// What was brought along.
    pub position: Position,
    /// Drawn when it arrived.
    pub stamp: WriteStamp,
    /// The replica that showed more there.
    pub server: Option<ServerMark>,
}

impl SessionView {
    pub(super) fn new(written: u64, seen: Seen, carried: Option<Arc<Carried>>) -> Self {
        SessionView { written: WriteStamp::from_number(written), seen, carried }
    }

    /// The stamp of the session's last write.
    #[must_use]
    pub fn written(&self) -> WriteStamp {
        self.written
    }

    /// The position that it brought along.
    #[must_use]
    pub fn carried(&self) -> Option<&Arc<Carried>> {
        self.carried.as_ref()
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen
    }

    /// The stamp that covers all that the session has seen here.
    #[must_use]
    pub fn seen_stamp(&self) -> WriteStamp {
        self.seen.stamp()
    }

    /// Whether `server` holds all that the session has seen here, because it
    /// showed it.
    #[must_use]
    pub fn has_seen_only(&self, server: Server) -> bool {
        self.seen.is_on(server)
    }

    /// The stamp that `server` must cover to serve this session, for what it wrote
    /// and saw here.
    #[must_use]
    pub fn needs(&self, server: Server) -> WriteStamp {
        if self.seen.is_on(server) { self.written } else { self.written.max(self.seen.stamp()) }
    }

    /// The stamp that the primary must be proved to show ([`Topology::shown`]), or else it may show
    /// less than the session has seen on a replica. `None` if that is proved, and where the primary
    /// does not tell.
    #[must_use]
    pub fn ahead_of_primary(&self, topology: &Topology) -> Option<WriteStamp> {
        let shown = topology.shown()?;
        let endpoint = topology.primary()?;
        let primary = Server { endpoint, run: topology.get(endpoint)?.run };
        let is_ahead = self.seen.stamp() > shown && !self.seen.is_on(primary);
        is_ahead.then_some(self.seen.stamp())
    }

    /// Whether the endpoint in this state has what the session wrote, here and
    /// elsewhere.
    pub(crate) fn has_writes(&self, state: &EndpointState) -> bool {
        state.covered >= self.written && self.missing(state).is_none()
    }

    /// The stamp that would prove that an endpoint in this state holds what was
    /// carried here; `None` if it is proved.
    pub(crate) fn missing(&self, state: &EndpointState) -> Option<WriteStamp> {
        let carried = self.carried.as_deref()?;
        let ours = state.position.as_ref();
        let holds = ours.is_some_and(|ours| ours.covers(&carried.position))
            || (state.covered >= carried.stamp && !carried.is_after_failover(ours));
        (!holds).then_some(carried.stamp)
    }
}

impl Carried {
    /// Whether it was written after a failover that is not seen in `topology` yet.
    pub(super) fn awaits_failover(&self, topology: &Topology) -> bool {
        self.is_after_failover(topology.current_position())
    }

    /// Whether data at position `ours` are of a timeline that ended before.
    fn is_after_failover(&self, ours: Option<&Position>) -> bool {
        ours.is_some_and(|ours| ours.timeline() < self.position.timeline())
    }
}
