//! Primaries that were replaced before this process could see it.
//!
//! A process that starts after a failover may meet only the old primary, because the new one is out
//! of its reach. Where histories are not numbered (MySQL, MariaDB), the old primary's own words do
//! not show that it was replaced. Its former replicas do: they follow another server by now, and
//! have something that came after the old primary.
//!
//! So a claim is *outlived* if all replicas that tell whom they follow follow servers other than the
//! claimant, and one of them has a transaction that the claimant lacks, and that neither of the two
//! wrote. Both are needed. After a failover, a replica may follow the dead primary for a while, and
//! has nothing new from it. And a replica that follows the claimant may have what an earlier primary
//! did not send to anybody else.
//!
//! A claim is *vouched for* once a replica was seen to follow its server. Then nothing counts that
//! somebody does to the replicas later: who lets the only replica follow a server in another
//! cluster must not take away the primary. A promotion that was seen counts as much.
//!
//! Nothing is outlived where replicas do not tell whom they follow, because the role may not ask.
//!
//! Rejected: believing whom the replicas follow, without a look at the data. They follow the old
//! primary until somebody tells them of the new one. Rejected: looking only at the data. A replica
//! that was ahead of the promoted server has what the new primary lacks.

use super::{TopologyReducer, Watched, claim::Claim};
use crate::{EndpointId, EndpointState, Role, Source};

impl TopologyReducer {
    /// Records which claims are vouched for.
    pub(super) fn vouch(&mut self) {
        for index in 0..self.topology.endpoints.len() {
            let id = self.topology.endpoints[index].id;
            let is_open = self.watched[index].claim.as_ref().is_some_and(|it| !it.is_vouched());
            if is_open
                && self.is_backed(id)
                && let Some(claim) = &mut self.watched[index].claim
            {
                claim.vouch();
            }
        }
    }

    /// Decides which claims are outlived.
    pub(super) fn judge_outlived(&mut self) {
        for index in 0..self.topology.endpoints.len() {
            let is_outlived = self.is_outlived(self.topology.endpoints[index].id);
            if let Some(claim) = &mut self.watched[index].claim {
                claim.judge(is_outlived);
            }
        }
    }

    /// Whether `id`, which claims to be the primary, has taken the place of a claimant that is
    /// outlived.
    pub(super) fn succeeds(&self, id: EndpointId) -> bool {
        let is_outlived = |it: &Watched| it.claim.as_ref().is_some_and(Claim::is_outlived);
        self.watched.iter().any(is_outlived) && self.is_backed(id)
    }

    /// Whether a replica says that it follows the server behind `id`.
    fn is_backed(&self, id: EndpointId) -> bool {
        self.watched(id).and_then(|it| it.course.ancestry()).is_some_and(|its| {
            self.followers().any(|(_, sources)| sources.iter().any(|it| its.is_of(*it)))
        })
    }

    /// Whether the replicas show that another server has taken the place of `id`.
    fn is_outlived(&self, id: EndpointId) -> bool {
        let Some(watched) = self.watched(id) else { return false };
        let is_vouched = watched.claim.as_ref().is_none_or(Claim::is_vouched);
        let (Some(ancestry), Some(position), false) =
            (watched.course.ancestry(), watched.course.position(), is_vouched)
        else {
            return false;
        };
        let has_more = |follower: EndpointId| {
            let course = self.watched(follower).map(|it| &it.course);
            course
                .and_then(|it| it.ancestry().zip(it.position()))
                .is_some_and(|(its, theirs)| ancestry.is_passed(position, theirs, its))
        };
        // What follows another replica tells nothing: the claimant may be behind that one.
        let tell = self
            .followers()
            .filter(|(_, sources)| !sources.iter().any(|source| self.is_of_replica(*source)));
        let mut is_passed = false;
        for (follower, sources) in tell {
            if sources.iter().any(|source| ancestry.is_of(*source)) {
                return false;
            }
            is_passed |= has_more(follower);
        }
        is_passed
    }

    /// The replicas that have told whom they follow. What they told counts while they are silent.
    fn followers(&self) -> impl Iterator<Item = (EndpointId, &[Source])> {
        let is_replica = |state: &EndpointState| state.role == Role::Replica && state.is_ours();
        self.topology
            .endpoints
            .iter()
            .zip(&self.watched)
            .filter(move |(state, _)| is_replica(state))
            .map(|(state, watched)| (state.id, watched.course.sources()))
            .filter(|(_, sources)| !sources.is_empty())
    }

    /// Whether `server` is known to be a replica.
    fn is_of_replica(&self, server: Source) -> bool {
        let all = self.topology.endpoints.iter().zip(&self.watched);
        let is_it = |watched: &Watched| {
            watched.course.ancestry().is_some_and(|ancestry| ancestry.is_of(server))
        };
        all.filter(|(state, _)| state.role == Role::Replica).any(|(_, watched)| is_it(watched))
    }
}
