//! Primaries that were replaced before this process could see it.
//!
//! A process that starts after a failover may meet only the old primary, because the new one is out
//! of its reach. Where histories are not numbered (MySQL, MariaDB), the old primary's own words do
//! not show that it was replaced. Its former replicas do: they receive from another server, and have
//! something that came after the old primary.
//!
//! So a claim is *outlived* if all replicas that are connected to their sources are connected to
//! servers other than the claimant, and one of these replicas has a transaction that the claimant
//! lacks, and that neither the claimant nor that replica wrote. Both are needed. A replica may be
//! connected to a relay that passes on what the claimant writes. And a replica of the claimant may
//! have what an earlier primary did not send to anybody else.
//!
//! A replica that is not connected shows nothing: after a failover it may go on to try the dead
//! primary, of which it has more than the promoted server. But once it was seen to receive more from
//! the successor, what it has shown counts while it is down, too, or looks for its source.
//!
//! A claim is *vouched for* once a replica was seen to be connected to its server, or to have
//! something that this server wrote since it made the claim. Then nothing counts that somebody does
//! to the replicas later: who lets the only replica follow a server in another cluster must not take
//! away the primary. A promotion that was seen counts as much.
//!
//! What comes through a relay is told from a successor's if the relay is an endpoint, or if it has
//! written nothing itself.
//!
//! Nothing is outlived where replicas do not tell whom they follow, because the role may not ask.
//!
//! Rejected: believing whom the replicas follow, without a look at the data. They follow the old
//! primary until somebody tells them of the new one. Rejected: looking only at the data. A replica
//! that was ahead of the promoted server has what the new primary lacks.

use super::{TopologyReducer, Watched, claim::Claim};
use crate::{Ancestry, EndpointId, EndpointState, Health, Position, Role, Source};

/// A replica, and what it has.
struct Shown<'a> {
    by: EndpointId,
    ancestry: &'a Ancestry,
    position: &'a Position,
}

impl<'a> Shown<'a> {
    fn of(by: EndpointId, watched: &'a Watched) -> Option<Self> {
        let (ancestry, position) = (watched.course.ancestry()?, watched.course.position()?);
        Some(Shown { by, ancestry, position })
    }

    /// Whether the replica has a transaction that `claimant` lacks, and that neither of them wrote.
    fn is_past(&self, claimant: &Watched) -> bool {
        let its = claimant.course.ancestry().zip(claimant.course.position());
        its.is_some_and(|(its, had)| its.is_passed(had, self.position, self.ancestry))
    }
}

impl TopologyReducer {
    /// Decides which claims are vouched for, and which are outlived.
    pub(super) fn judge_outlived(&mut self) {
        for index in 0..self.topology.endpoints.len() {
            let id = self.topology.endpoints[index].id;
            let claim = self.watched[index].claim.as_ref();
            // Nothing is left to decide, as nearly always.
            let Some(claim) = claim.filter(|it| !it.is_vouched() || it.is_outlived()) else {
                continue;
            };
            let mut claim = claim.clone();
            if self.is_backed(id) {
                claim.vouch();
            }
            let ancestry = self.watched[index].course.ancestry();
            match (self.outliving(id), ancestry) {
                _ if claim.is_vouched() => claim.reopen(),
                (Some(shown), Some(ancestry)) => {
                    claim.outlive((shown.by, shown.position), |before| {
                        ancestry.is_passed(before, shown.position, shown.ancestry)
                    });
                }
                _ if claim.is_shown_to_last() && self.is_passed(id) => {}
                _ => claim.reopen(),
            }
            self.watched[index].claim = Some(claim);
        }
    }

    /// Whether `id`, which claims to be the primary, has taken the place of a claimant that is
    /// outlived.
    pub(super) fn succeeds(&self, id: EndpointId) -> bool {
        let is_outlived = |it: &Watched| it.claim.as_ref().is_some_and(Claim::is_outlived);
        let claim = self.watched(id).and_then(|it| it.claim.as_ref());
        self.watched.iter().any(is_outlived) && claim.is_some_and(Claim::is_vouched)
    }

    /// Whether the replicas show that another server has taken the place of `id`.
    pub(super) fn is_outlived(&self, id: EndpointId) -> bool {
        let claim = self.watched(id).and_then(|it| it.claim.as_ref());
        claim.is_some_and(|it| !it.is_vouched()) && self.outliving(id).is_some()
    }

    /// A replica that is connected and shows that another server has taken the place of `id`.
    fn outliving(&self, id: EndpointId) -> Option<Shown<'_>> {
        let watched = self.watched(id)?;
        let ancestry = watched.course.ancestry()?;
        let leads_on = |source: &Source| {
            // The claimant may be behind a server that it receives from itself.
            watched.course.sources().contains(source) || self.is_of_replica(*source)
        };
        let connected = || self.up().filter(|(_, it)| !it.course.sources().is_empty());
        if connected()
            .any(|(_, it)| it.course.sources().iter().any(|source| ancestry.is_of(*source)))
        {
            return None;
        }
        let others = connected().filter(|(_, it)| !it.course.sources().iter().any(leads_on));
        others.filter_map(|(by, it)| Shown::of(by, it)).find(|it| it.is_past(watched))
    }

    /// Whether any other endpoint has something that came after `id`, connected or not.
    fn is_passed(&self, id: EndpointId) -> bool {
        let Some(watched) = self.watched(id) else { return false };
        let others = self.topology.endpoints.iter().zip(&self.watched);
        let others = others.filter(|(state, _)| state.id != id && state.is_ours());
        others.filter_map(|(state, it)| Shown::of(state.id, it)).any(|it| it.is_past(watched))
    }

    /// Whether a replica is connected to the server behind `id`, or has something that this server
    /// wrote since it claims to be the primary. What this server lacks itself, it has lost.
    fn is_backed(&self, id: EndpointId) -> bool {
        let Some(watched) = self.watched(id) else { return false };
        let (Some(ancestry), Some(position)) =
            (watched.course.ancestry(), watched.course.position())
        else {
            return false;
        };
        let began_with = watched.claim.as_ref().and_then(Claim::began_with);
        let is_newer = |its: &Position| {
            began_with.is_some_and(|it| ancestry.has_written(it, its))
                && !ancestry.has_written(position, its)
        };
        self.up().any(|(_, replica)| {
            replica.course.sources().iter().any(|source| ancestry.is_of(*source))
                || replica.course.position().is_some_and(is_newer)
        })
    }

    /// Whether `server` is known to be a replica.
    fn is_of_replica(&self, server: Source) -> bool {
        let is_it = |ancestry: &Ancestry| ancestry.is_of(server);
        self.up().any(|(_, replica)| replica.course.ancestry().is_some_and(is_it))
    }

    /// The replicas that hold our data and answer.
    fn up(&self) -> impl Iterator<Item = (EndpointId, &Watched)> {
        let is_replica = |state: &EndpointState| {
            state.role == Role::Replica && state.health == Health::Up && state.is_ours()
        };
        let all = self.topology.endpoints.iter().zip(&self.watched);
        all.filter(move |(state, _)| is_replica(state)).map(|(state, watched)| (state.id, watched))
    }
}
