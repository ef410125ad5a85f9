//! Who takes writes.
//!
//! The primary is the endpoint that was last seen out of recovery, of our system, on the newest
//! timeline that any endpoint has shown. It stays the primary while it does not answer: silence is
//! not a demotion, and the primary that it replaced must not win by its silence. Two such claims
//! mean that there is no primary, until one of them is seen in another role. Not every claim is
//! believed (`claim`).
//!
//! # A cluster made anew
//! When our database was not seen for a minute, and more than half of the endpoints, all that
//! answer, hold one other system with one primary, that system is served, and nothing of before
//! counts. (Rejected: at once. A cluster that is being restarted must not lose its writes to one
//! server that was made anew.)
//!
//! # MySQL and MariaDB
//! They number no histories and name no system. There a *stranger* is a server with no transaction
//! (no domain) in common with the primary's newest sample: so is one that was created anew. Of two
//! claims, a replica that was seen to become primary wins once the other does not answer. The
//! primary in charge keeps its place against a claim that nobody was seen to promote, and that
//! holds nothing else than it. Everything else is a conflict. (Rejected: the larger set wins. One
//! errant transaction would move all writes.)

use super::{TopologyReducer, claim::Claim};
use crate::{EndpointId, EndpointState, Event, Role};

impl TopologyReducer {
    /// Decides who takes writes. Whoever was last seen to be a primary claims
    /// it, also while it does not answer: silence is not a demotion.
    ///
    /// Where the engine numbers its histories (PostgreSQL's timelines), the
    /// newest history decides. Where it does not, or two bear one number, what was
    /// observed does: see [`settle`](Self::settle). Two claims that are left stop writes.
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

    /// Whether an endpoint is known to be of our data and of its newest history.
    fn is_current(&self, id: EndpointId, state: &EndpointState) -> bool {
        let Some(watched) = self.watched(id) else { return false };
        self.ours.is_some()
            && state.is_ours()
            && watched.claim.as_ref().is_some_and(Claim::is_believed)
            && watched.timeline >= self.newest_timeline
    }

    /// Chooses among several claims, if what was observed leaves no doubt. Lasting: the
    /// losers stay replaced until they are seen in another role.
    ///
    /// - The claim that was last seen to begin, as a replica that became a
    ///   primary, wins when none of the others answers: somebody promoted it,
    ///   and not the others after it. (With timelines, too: two replicas of one
    ///   primary that are promoted one after the other both begin the next timeline.)
    /// - Without timelines, the primary in charge wins over servers that nobody was seen to
    ///   promote, when it holds all their transactions: a former primary that
    ///   returns as it was. One that holds something else may have been written
    ///   to, and must be looked at.
    fn settle(&self, claims: &[EndpointId]) -> Option<EndpointId> {
        let state = |id: EndpointId| self.topology.get(id);
        let promotion = |id: EndpointId| {
            let claim = self.watched(id).and_then(|watched| watched.claim.as_ref());
            claim.map_or(0, |claim| claim.promotion)
        };
        let newest = claims.iter().copied().max_by_key(|id| promotion(*id))?;
        let others = |winner: EndpointId| claims.iter().copied().filter(move |id| *id != winner);
        let answers = |id: EndpointId| state(id).is_some_and(EndpointState::may_answer);
        // Promotions are numbered: no two are the same but for those never seen.
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

    /// When nobody else claims, a primary that was replaced may be one again if
    /// it answers and is proved to have followed its successor. Numbers alone prove
    /// nothing: it may have gone on by itself. Nor do they on PostgreSQL, where a claim that was
    /// refused stays so: it may be a backup that was written to on the same timeline.
    fn readmit(&mut self) {
        let complete: Vec<bool> = self.topology.iter().map(|(id, _)| self.goes_on(id)).collect();
        let is_numbered = self.ours.as_ref().is_none_or(|ours| ours.system().is_some());
        for (watched, complete) in self.watched.iter_mut().zip(complete) {
            if let Some(claim) = watched.claim.as_mut().filter(|_| complete) {
                claim.readmit(is_numbered);
            }
        }
    }
}
