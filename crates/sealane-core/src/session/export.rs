//! What of a session another process needs to know.

use super::{Server, SessionView};
use crate::{EndpointId, Role, ServerMark, Topology, WriteStamp};

/// What a token of a session must say besides what the session itself brought
/// along. Two of one session are equal if and only if nothing happened in between
/// that another process needs to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Export {
    /// The token needs a position of the primary that contains every write up to this
    /// stamp; [`WriteStamp::NONE`] if there was nothing.
    pub stamp: WriteStamp,
    /// The replica that showed all else.
    pub server: Option<ServerMark>,
}

impl SessionView {
    /// What a token of this session must say. `None` if no token can: it has written here
    /// while a failover is unseen that it heard of.
    #[must_use]
    pub fn export(&self, topology: &Topology) -> Option<Export> {
        if let Some(carried) = self.carried().filter(|carried| carried.awaits_failover(topology)) {
            // Positions known here are of a timeline that has ended, and say less.
            let server = self.only_replica(topology).or(carried.server);
            let told = Export { stamp: WriteStamp::NONE, server };
            return (self.written() == WriteStamp::NONE).then_some(told);
        }
        if topology.is_always_current() {
            // There is nothing to say more exactly than that something has happened.
            let has_past = self.written().max(self.seen_stamp()) > WriteStamp::NONE;
            let stamp = if has_past { WriteStamp::from_number(1) } else { WriteStamp::NONE };
            return Some(Export { stamp, server: None });
        }
        // The primary is no server to name: whoever was sent back to it would never
        // leave it. Nor are two.
        let server = self.only_replica(topology);
        let stamp = match server {
            Some(_) => self.written(),
            None => self.written().max(self.seen_stamp()),
        };
        Some(Export { stamp: self.anchored(stamp), server })
    }

    /// The replica that holds all that was seen.
    fn only_replica(&self, topology: &Topology) -> Option<ServerMark> {
        topology
            .iter()
            .filter(|(_, state)| state.role == Role::Replica)
            .filter(|(id, state)| self.has_seen_only(Server { endpoint: *id, run: state.run }))
            .find_map(|(_, state)| state.incarnation.as_ref().map(ServerMark::of))
    }

    /// A position sampled after something was carried here contains that, too, so
    /// that one position says all.
    fn anchored(&self, stamp: WriteStamp) -> WriteStamp {
        match self.carried() {
            Some(carried) if stamp > WriteStamp::NONE => stamp.max(carried.stamp),
            _ => stamp,
        }
    }
}

/// The server among those of `topology` that bears `mark`.
pub(super) fn marked(topology: &Topology, mark: ServerMark) -> Option<Server> {
    let is_marked = |(_, state): &(EndpointId, &crate::EndpointState)| {
        state.incarnation.as_ref().is_some_and(|it| ServerMark::of(it) == mark)
    };
    topology.iter().find(is_marked).map(|(id, state)| Server { endpoint: id, run: state.run })
}
