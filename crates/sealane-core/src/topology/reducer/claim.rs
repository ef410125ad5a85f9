//! Which claims to be the primary are believed.
//!
//! A server that says that it is the primary may be the one that a replica was promoted to,
//! or a backup that somebody restored and started by mistake: that has our system's name,
//! and perhaps even a newer timeline. What tells them apart is what was seen before.
//!
//! - A replica that becomes a primary while it runs was promoted.
//! - An endpoint that is heard of for the first time may have been promoted before we came.
//! - Any other claim that comes up beside a primary waits until that was asked again. If it
//!   answers, it keeps its place, and the claim is not believed until the server is seen in
//!   another role; or in another run, when the primary does not answer any more. If it does
//!   not answer, or a replica follows the claim's timeline, the claim counts.
//! - On MySQL and MariaDB a claim without a primary counts if the server is the last primary, in
//!   the run in which it was sampled; if the data are proved to go on from the last primary's; or
//!   if that one was seen to step down for it.
//!
//! What speaks against a server goes with it when its address changes (where servers tell who they
//! are and histories have no numbers). An address that leads to another server is asked as if it
//! claimed for the first time.
//!
//! Rejected: the newer timeline always (the backup would take the writes), and a claim only
//! if it holds all that the primary has (a failover loses the tail of an asynchronous
//! primary's log, and must be followed all the same).

use super::TopologyReducer;
use crate::{
    Ancestry, EndpointId, EndpointState, Event, Health, Incarnation, Moment, Position, Replication,
    Report, Role,
};

/// How many servers are remembered that claimed in vain, at addresses that lead elsewhere by now.
const DEPARTED_KEPT: usize = 16;

/// An endpoint's claim to be the primary.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    /// When the answer was known that first made it, in this run.
    since: Moment,
    run: Incarnation,
    /// The number of the promotion; 0 if none was seen.
    pub(super) promotion: u32,
    /// The server that makes it, if servers tell.
    by: Option<Ancestry>,
    belief: Belief,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Belief {
    Believed,
    /// Until the primary in charge was asked again.
    Open,
    Refused,
    /// Another server took its place.
    Replaced,
}

impl Claim {
    pub(super) fn is_believed(&self) -> bool {
        self.belief == Belief::Believed
    }

    /// The same in another system: what was known of it before does not count.
    pub(super) fn begin_anew(self) -> Self {
        Claim { promotion: 0, belief: Belief::Believed, ..self }
    }

    /// Another server took its place.
    pub(super) fn give_way(&mut self) {
        self.belief = Belief::Replaced;
    }

    /// It is believed again: its data were proved to be the primary's since. Where histories are
    /// numbered, that proves nothing for a claim that was refused.
    pub(super) fn readmit(&mut self, is_numbered: bool) {
        if self.belief == Belief::Replaced || (self.belief == Belief::Refused && !is_numbered) {
            self.belief = Belief::Believed;
        }
    }

    fn is_denied(&self) -> bool {
        matches!(self.belief, Belief::Refused | Belief::Replaced)
    }

    fn is_by(&self, server: &Ancestry) -> bool {
        self.by.as_ref().is_some_and(|by| Ancestry::is_of_one_server(Some(by), Some(server)))
    }

    fn refused_run_is_over(&self, run: &Incarnation) -> bool {
        self.belief == Belief::Refused && self.run != *run
    }
}

impl TopologyReducer {
    /// Notes that `id` has answered at `now` and says that it is the primary, or that it is
    /// not. To be called before the answer is taken over.
    pub(super) fn note_claim(&mut self, id: EndpointId, report: &Report, now: Moment) {
        self.follow_server(id, report);
        let promotions = self.promotions + 1;
        let in_charge = self.topology.primary.and_then(|primary| self.topology.get(primary));
        let has_primary = in_charge.is_some_and(EndpointState::may_answer);
        let Some((state, watched)) = self.both_mut(id) else { return };
        if report.role != Role::Primary {
            watched.claim = None;
            return;
        }
        let run = report.incarnation.clone();
        match &mut watched.claim {
            Some(claim) if claim.refused_run_is_over(&run) => {
                *claim = Claim { since: now, run, belief: Belief::Open, ..claim.clone() };
            }
            Some(claim) => claim.run = run,
            none @ None => {
                let timeline = report.position.as_ref().map_or(0, Position::timeline);
                // Where histories are numbered a promotion begins a new one. Another server that
                // the address leads to by now was not promoted.
                let is_promotion = state.role == Role::Replica
                    && (timeline == 0 || timeline > watched.timeline)
                    && watched.course.is_of(report.ancestry.as_ref());
                let is_first = watched.answered_at.is_none()
                    && watched.failed_at.is_none()
                    && !(watched.came_later && has_primary);
                let same_run = state.role == Role::Replica
                    && state.incarnation.as_ref() == Some(&report.incarnation);
                // Aurora restarts what it promotes, and tells nothing that could be compared.
                let tells = report.position != Some(Position::Opaque);
                let belief = match is_first || same_run || !tells {
                    true => Belief::Believed,
                    false => Belief::Open,
                };
                let promotion = if is_promotion { promotions } else { 0 };
                let by = report.ancestry.clone();
                *none = Some(Claim { since: now, run, promotion, by, belief });
                self.promotions += u32::from(is_promotion);
            }
        }
    }

    /// Takes what speaks against the server that `id` leads to along to `id`. A server that says
    /// that it is no primary has nothing against it any more.
    fn follow_server(&mut self, id: EndpointId, report: &Report) {
        let Some(server) = &report.ancestry else { return };
        let Some(index) = self.topology.index(id) else { return };
        // A claim of which the server is not known counts as its own.
        let claimant = self.watched[index].claim.as_ref().map(|claim| claim.by.as_ref());
        if claimant.is_some_and(|by| Ancestry::is_of_one_server(by, Some(server))) {
            return;
        }
        let is_against = |claim: &Claim| claim.is_denied() && claim.is_by(server);
        if report.role != Role::Primary {
            self.departed.retain(|claim| !is_against(claim));
            for watched in &mut self.watched {
                watched.claim.take_if(|claim| is_against(claim));
            }
            return;
        }
        let claims = self.watched.iter().filter_map(|watched| watched.claim.as_ref());
        let known = claims.chain(&self.departed).find(|claim| is_against(claim)).cloned();
        let gone = std::mem::replace(&mut self.watched[index].claim, known);
        if let Some(gone) = gone.filter(Claim::is_denied) {
            if self.departed.len() == DEPARTED_KEPT {
                self.departed.remove(0);
            }
            self.departed.push(gone);
        }
    }

    /// Decides on the claims that wait for the primary in charge.
    pub(super) fn weigh_claims(&mut self) {
        let in_charge = self.topology.primary.and_then(|id| {
            let state = self.topology.get(id).filter(|state| state.role == Role::Primary)?;
            let watched = self.watched(id)?;
            // Its address may lead to a server by now whose place was taken.
            let is_denied = watched.claim.as_ref().is_some_and(Claim::is_denied);
            let is = (id, state.may_answer(), watched.answered_at, watched.timeline);
            (!is_denied).then_some(is)
        });
        let newest = self.newest_timeline;
        let may_follow: Vec<bool> =
            self.topology.iter().map(|(id, _)| self.may_follow(id)).collect();
        let states = self.topology.endpoints.iter().zip(&mut self.watched).zip(may_follow);
        for ((state, watched), may_follow) in states {
            let timeline = watched.timeline;
            let Some(claim) = watched.claim.as_mut().filter(|it| it.belief == Belief::Open) else {
                continue;
            };
            if state.health != Health::Up || !state.is_ours() {
                continue;
            }
            claim.belief = match in_charge {
                Some((id, ..)) if id == state.id => Belief::Believed,
                Some((_, true, _, its)) if timeline > its && timeline == newest => Belief::Believed,
                Some((_, true, Some(at), _)) if at > claim.since => Belief::Refused,
                Some((_, true, ..)) => Belief::Open,
                Some((_, false, ..)) => Belief::Believed,
                None if claim.promotion > 0 || may_follow => Belief::Believed,
                None => Belief::Open,
            };
        }
    }

    /// Whether `id` may be believed when there is no primary, though it was not seen to be
    /// promoted. Where positions do not tell histories apart, it may be the server that the last
    /// primary was promoted over.
    fn may_follow(&self, id: EndpointId) -> bool {
        let newest = self.history.newest().map(|sample| &sample.position);
        let is_numbered = newest.is_none_or(|it| it.system().is_some() || *it == Position::Opaque);
        let state = self.topology.get(id);
        let is_sampled_run = state.is_some_and(|it| it.incarnation == self.sampled_run);
        is_numbered
            || self.sampled_of == Some(id)
            || is_sampled_run
            || self.goes_on(id)
            || self.has_taken_over(id)
    }

    /// Whether the last primary has stepped down for `id`, which nobody has seen as a replica: a
    /// switchover while `id` was out of reach. All of this must be seen after the claim:
    ///
    /// - The last primary replicates, in the run in which it was the primary. After a restart it
    ///   may be read-only for a moment only.
    /// - `id` has all that the last primary has, and has written nothing, or the last primary has
    ///   received some of that.
    /// - Every other endpoint answers and is a replica: none of them can be the true successor.
    fn has_taken_over(&self, id: EndpointId) -> bool {
        let Some(claim) = self.watched(id).and_then(|it| it.claim.as_ref()) else {
            return false;
        };
        let is_replica_since = |(other, state): (EndpointId, &EndpointState)| {
            let asked_at = self.watched(other).and_then(|it| it.answered_at);
            state.health == Health::Up
                && state.role == Role::Replica
                && asked_at.is_some_and(|at| at >= claim.since)
        };
        let last = self.sampled_of.and_then(|last| self.topology.get(last));
        last.is_some_and(|last| {
            last.replication == Replication::Running && last.incarnation == self.sampled_run
        }) && self.topology.iter().filter(|(other, _)| *other != id).all(is_replica_since)
            && self.is_followed_by_the_last(id)
    }

    /// Tells of endpoints that claim to be the primary and are not believed; what is on an old
    /// timeline is told as that.
    pub(super) fn tell_fenced(&mut self, events: &mut Vec<Event>) {
        let primary = self.topology.primary;
        for (state, watched) in self.topology.endpoints.iter().zip(&mut self.watched) {
            let endpoint = state.id;
            let is_denied = watched.claim.as_ref().is_some_and(Claim::is_denied);
            let fenced = is_claiming(state) && !state.old_timeline && is_denied;
            if fenced && !watched.told_fenced {
                events.push(Event::Fenced { endpoint, primary });
            }
            watched.told_fenced = fenced;
        }
    }
}

fn is_claiming(state: &EndpointState) -> bool {
    state.health == Health::Up && state.role == Role::Primary && state.is_ours()
}
