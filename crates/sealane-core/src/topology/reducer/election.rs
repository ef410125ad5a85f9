//! Decides which endpoint takes writes.
//!
//! The primary is the endpoint of our system that was last seen out of recovery, on the newest
//! timeline that any endpoint has shown. It stays the primary while it does not answer: silence is
//! not a demotion, and the primary that it replaced must not win because of this silence. If two
//! endpoints have such a claim, there is no primary until one of them is seen in another role. Not
//! every claim is believed (see `claim`).
//!
//! # A cluster made anew
//! Another system is served if our database was not seen for a minute, and if more than half of the
//! endpoints, and all that answer, hold that one system with one primary. Nothing from before
//! counts then. Rejected: switching at once. A cluster that is being restarted must not lose its
//! writes to one server that was created anew.
//!
//! # MySQL and MariaDB
//! These engines number no histories and name no system. Here a *stranger* is a server that has no
//! transaction (on MariaDB, no domain) in common with the primary's newest sample. A server that
//! was created anew is therefore a stranger. If there are two claims, a replica that was seen to
//! become primary wins once the other claimant does not answer. The primary in charge keeps its
//! place against a server that was not seen to be promoted and holds nothing that the primary
//! lacks. Everything else is a conflict. Rejected: the larger set wins. One errant transaction
//! would move all writes.

use super::{TopologyReducer, claim::Claim};
use crate::{EndpointId, EndpointState, Event, Role};

impl TopologyReducer {
    /// Decides which endpoint takes writes. An endpoint that was last seen as a primary has a
    /// claim, even while it does not answer: silence is not a demotion.
    ///
    /// If the engine numbers its histories (PostgreSQL's timelines), the newest history decides. If
    /// it does not, or if two histories have the same number, the observations decide: see
    /// [`settle`](Self::settle). If two claims remain, writes stop.
    pub(super) fn elect(&mut self, events: &mut Vec<Event>) {
        let before = self.topology.primary;
        let mut claims = self.claims();
        if claims.is_empty() {
            self.readmit();
            claims = self.claims();
        }
        if claims.len() > 1
            && let Some(winner) = self.settle(&claims)
        {
            for loser in claims.iter().filter(|id| **id != winner) {
                let watched = self.both_mut(*loser).map(|(_, watched)| watched);
                if let Some(claim) = watched.and_then(|watched| watched.claim.as_mut()) {
                    claim.give_way();
                }
            }
            claims = vec![winner];
        }
        let conflict = claims.len() > 1;
        let elected = match claims.as_slice() {
            [] => before.filter(|id| {
                self.topology
                    .get(*id)
                    .is_some_and(|state| state.role == Role::Unknown && state.is_ours())
            }),
            [only] => Some(*only),
            [first, second, ..] => {
                if !self.conflict {
                    events.push(Event::PrimaryConflict { first: *first, second: *second });
                }
                None
            }
        };
        self.conflict = conflict;
        if elected != before {
            self.topology.primary = elected;
            self.topology.last_primary = elected.or(self.topology.last_primary);
            events.push(Event::PrimaryChanged { from: before, to: elected });
        }
    }

    fn claims(&self) -> Vec<EndpointId> {
        self.topology
            .iter()
            .filter(|(id, state)| state.role == Role::Primary && self.is_current(*id, state))
            .map(|(id, _)| id)
            .collect()
    }

    /// Whether an endpoint is known to hold our data and to be on its newest history.
    fn is_current(&self, id: EndpointId, state: &EndpointState) -> bool {
        let Some(watched) = self.watched(id) else { return false };
        self.ours.is_some()
            && state.is_ours()
            && watched.claim.as_ref().is_some_and(Claim::is_believed)
            && watched.timeline >= self.newest_timeline
    }

    /// Chooses among several claims if the observations leave no doubt. The choice lasts: the
    /// losers stay replaced until they are seen in another role.
    ///
    /// - The newest claim that was seen to begin with a promotion wins if no other claimant
    ///   answers: somebody promoted this server, and no other one after it. (This also applies with
    ///   timelines: two replicas of one primary that are promoted one after the other both begin
    ///   the next timeline.)
    /// - Without timelines, the primary in charge wins over servers that were not seen to be
    ///   promoted, if it holds all their transactions. Such a server is a former primary that
    ///   returns as it was. A server that holds something else may have been written to, and a
    ///   person must look at it.
    fn settle(&self, claims: &[EndpointId]) -> Option<EndpointId> {
        let state = |id: EndpointId| self.topology.get(id);
        let promotion = |id: EndpointId| {
            let claim = self.watched(id).and_then(|watched| watched.claim.as_ref());
            claim.map_or(0, |claim| claim.promotion)
        };
        let newest = claims.iter().copied().max_by_key(|id| promotion(*id))?;
        let others = |winner: EndpointId| claims.iter().copied().filter(move |id| *id != winner);
        let answers = |id: EndpointId| state(id).is_some_and(EndpointState::may_answer);
        // Promotions are numbered: two claims have the same number only if neither promotion was seen,
        // or if both addresses were last seen to lead to one server.
        if promotion(newest) > 0 && !others(newest).any(answers) {
            return Some(newest);
        }
        if self.ours.as_ref().is_some_and(|ours| ours.system().is_some()) {
            return None;
        }
        let incumbent = self.topology.primary.filter(|id| claims.contains(id))?;
        let held = self.history.newest().map(|sample| &sample.position)?;
        let is_stale = |id: EndpointId| {
            promotion(id) == 0
                && state(id)
                    .and_then(|state| state.position.as_ref())
                    .is_some_and(|position| held.covers(position))
        };
        others(incumbent).all(is_stale).then_some(incumbent)
    }

    /// If no other endpoint has a claim, a replaced primary may become the primary again if it
    /// answers and is proved to have followed its successor. Numbers alone prove nothing, because
    /// the replaced primary may have continued by itself. On PostgreSQL they prove nothing for a
    /// refused claim either, and the claim stays refused: the server may be a backup that was
    /// written to on the same timeline.
    fn readmit(&mut self) {
        let is_complete =
            |id: EndpointId| (self.goes_on(id) || self.has_taken_over(id)) && !self.is_outlived(id);
        let complete: Vec<bool> = self.topology.iter().map(|(id, _)| is_complete(id)).collect();
        let is_numbered = self.ours.as_ref().is_none_or(|ours| ours.system().is_some());
        for (watched, complete) in self.watched.iter_mut().zip(complete) {
            if let Some(claim) = watched.claim.as_mut().filter(|_| complete) {
                claim.readmit(is_numbered);
            }
        }
    }
}
