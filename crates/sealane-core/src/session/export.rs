//! The part of a session that another process needs to know.

use super::{Server, SessionView};
use crate::{EndpointId, Role, ServerMark, Topology, WriteStamp};

/// What a session's token must say in addition to what the session brought along. Two exports of
/// one session are equal if and only if nothing happened in between that another process needs to
/// know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Export {
    /// The token needs a position of the primary that contains every write up to this stamp.
    /// [`WriteStamp::NONE`] if nothing happened.
    pub stamp: WriteStamp,
    /// The replica that showed everything else that the session saw.
    pub server: Option<ServerMark>,
}

impl SessionView {
    /// What a token of this session must say. `None` if no token can say it: the session knows of a
    /// failover that this process has not seen yet, and it has written here.
    #[must_use]
    pub fn export(&self, topology: &Topology) -> Option<Export> {
        if let Some(carried) = self.carried().filter(|carried| carried.is_open_in(topology)) {
            // The positions known here belong to a timeline that has ended, so they say less.
            let server = self.only_replica(topology).or(carried.server);
            let told = Export { stamp: WriteStamp::NONE, server };
            return (self.written() == WriteStamp::NONE).then_some(told);
        }
        if topology.is_always_current() {
            // Without positions, the token can only say that something has happened.
            let has_past = self.written().max(self.seen_stamp()) > WriteStamp::NONE;
            let stamp = if has_past { WriteStamp::from_number(1) } else { WriteStamp::NONE };
            return Some(Export { stamp, server: None });
        }
        // The token names one replica. It never names the primary, because a session that returns
        // to the primary would never leave it. It never names two servers.
        let server = self.only_replica(topology);
        let stamp = match server {
            Some(_) => self.written(),
            None => self.written().max(self.seen_stamp()),
        };
        Some(Export { stamp: self.anchored(stamp), server })
    }

    /// The replica that holds everything that the session has seen.
    fn only_replica(&self, topology: &Topology) -> Option<ServerMark> {
        topology
            .iter()
            .filter(|(_, state)| state.role == Role::Replica)
            .filter(|(id, state)| self.has_seen_only(Server { endpoint: *id, run: state.run }))
            .find_map(|(_, state)| state.incarnation.as_ref().map(ServerMark::of))
    }

    /// Raises the stamp so that its position also contains the carried one. One position then
    /// covers everything.
    fn anchored(&self, stamp: WriteStamp) -> WriteStamp {
        match self.carried() {
            Some(carried) if stamp > WriteStamp::NONE => stamp.max(carried.proved_by()),
            _ => stamp,
        }
    }
}

/// The server in `topology` with the mark `mark`.
pub(super) fn marked(topology: &Topology, mark: ServerMark) -> Option<Server> {
    let is_marked = |(_, state): &(EndpointId, &crate::EndpointState)| {
        state.incarnation.as_ref().is_some_and(|it| ServerMark::of(it) == mark)
    };
    topology.iter().find(is_marked).map(|(id, state)| Server { endpoint: id, run: state.run })
}
