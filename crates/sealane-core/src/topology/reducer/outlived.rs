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
//! primary, of which it has more than the promoted server. What has shown once that a claim is
//! outlived stays true while that replica is down, or looks for its source.
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

impl TopologyReducer {
    /// Decides which claims are vouched for, and which are outlived.
    pub(super) fn judge_outlived(&mut self) {
        for index in 0..self.topology.endpoints.len() {
            let id = self.topology.endpoints[index].id;
            let (is_vouched, is_outlived) = (self.is_backed(id), self.is_outlived(id));
            let is_passed = self.is_passed(id);
            let Some(claim) = &mut self.watched[index].claim else { continue };
            if is_vouched {
                claim.vouch();
            }
            if claim.is_vouched() || !is_passed {
                claim.reopen();
            } else if is_outlived {
                claim.outlive();
            }
        }
    }

    /// Whether `id`, which claims to be the primary, has taken the place of a claimant that is
    /// outlived.
    pub(super) fn succeeds(&self, id: EndpointId) -> bool {
        let is_outlived = |it: &Watched| it.claim.as_ref().is_some_and(Claim::is_outlived);
        self.watched.iter().any(is_outlived) && self.is_backed(id)
    }

    /// Whether the replicas show that another server has taken the place of `id`.
    pub(super) fn is_outlived(&self, id: EndpointId) -> bool {
        let is_unvouched = |it: &Watched| it.claim.as_ref().is_some_and(|it| !it.is_vouched());
        let Some(watched) = self.watched(id).filter(|it| is_unvouched(it)) else { return false };
        let leads_on = |source: &Source| {
            // The claimant may be behind a server that it receives from itself.
            watched.course.sources().contains(source) || self.is_of_replica(*source)
        };
        let connected = self.replicas(Health::Up).filter(|it| !it.course.sources().is_empty());
        let mut others =
            connected.filter(|it| !it.course.sources().iter().any(leads_on)).peekable();
        others.peek().is_some()
            && !self.is_backed(id)
            && others.any(|replica| has_more(replica, watched))
    }

    /// Whether any replica has something that came after `id`, connected or not.
    fn is_passed(&self, id: EndpointId) -> bool {
        self.watched(id).is_some_and(|it| self.all_replicas().any(|replica| has_more(replica, it)))
    }

    /// Whether a replica is connected to the server behind `id`, or has something that this server
    /// wrote since it claims to be the primary.
    fn is_backed(&self, id: EndpointId) -> bool {
        let Some(watched) = self.watched(id) else { return false };
        let Some(ancestry) = watched.course.ancestry() else { return false };
        let began_with = watched.claim.as_ref().and_then(Claim::began_with);
        let has_newer = |its: &Position| began_with.is_some_and(|it| ancestry.has_written(it, its));
        self.replicas(Health::Up).any(|replica| {
            replica.course.sources().iter().any(|source| ancestry.is_of(*source))
                || replica.course.position().is_some_and(has_newer)
        })
    }

    /// Whether `server` is known to be a replica.
    fn is_of_replica(&self, server: Source) -> bool {
        let is_it = |ancestry: &Ancestry| ancestry.is_of(server);
        self.all_replicas().any(|replica| replica.course.ancestry().is_some_and(is_it))
    }

    /// What is remembered of the replicas that hold our data.
    fn all_replicas(&self) -> impl Iterator<Item = &Watched> {
        self.replicas_that(|_| true)
    }

    fn replicas(&self, health: Health) -> impl Iterator<Item = &Watched> {
        self.replicas_that(move |state| state.health == health)
    }

    fn replicas_that(
        &self,
        suits: impl Fn(&EndpointState) -> bool,
    ) -> impl Iterator<Item = &Watched> {
        let is_replica = |state: &EndpointState| state.role == Role::Replica && state.is_ours();
        let all = self.topology.endpoints.iter().zip(&self.watched);
        all.filter(move |(state, _)| is_replica(state) && suits(state)).map(|(_, watched)| watched)
    }
}

/// Whether `replica` has a transaction that `claimant` lacks, and that neither of them wrote.
fn has_more(replica: &Watched, claimant: &Watched) -> bool {
    let its = replica.course.ancestry().zip(replica.course.position());
    let ours = claimant.course.ancestry().zip(claimant.course.position());
    its.zip(ours).is_some_and(|((its, has), (ours, had))| ours.is_passed(had, has, its))
}
