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
//!
//! Rejected: the newer timeline always (the backup would take the writes), and a claim only
//! if it holds all that the primary has (a failover loses the tail of an asynchronous
//! primary's log, and must be followed all the same).

use super::TopologyReducer;
use crate::{
    EndpointId, EndpointState, Event, Health, Incarnation, Moment, Position, Report, Role,
};

/// An endpoint's claim to be the primary.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    /// When the answer was known that first made it, in this run.
    since: Moment,
    run: Incarnation,
    /// The number of the promotion; 0 if none was seen.
    pub(super) promotion: u32,
    belief: Belief,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Belief {
    Believed,
    /// Until the primary in charge was asked again.
    Open,
    Refused,
}

impl Claim {
    pub(super) fn is_believed(&self) -> bool {
        self.belief == Belief::Believed
    }

    /// The same in another system: what was known of it before does not count.
    pub(super) fn begin_anew(self) -> Self {
        Claim { promotion: 0, belief: Belief::Believed, ..self }
    }

    fn refused_run_is_over(&self, run: &Incarnation) -> bool {
        self.belief == Belief::Refused && self.run != *run
    }
}

impl TopologyReducer {
    /// Notes that `id` has answered at `now` and says that it is the primary, or that it is
    /// not. To be called before the answer is taken over.
    pub(super) fn note_claim(&mut self, id: EndpointId, report: &Report, now: Moment) {
        let promotions = self.promotions + 1;
        let (Some(state), Some(watched)) =
            (self.topology.get(id), self.watched.get_mut(id.index()))
        else {
            return;
        };
        if report.role != Role::Primary {
            (watched.claim, watched.replaced) = (None, false);
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
                // Where histories are numbered a promotion begins a new one.
                let is_promotion =
                    state.role == Role::Replica && (timeline == 0 || timeline > watched.timeline);
                let is_first = watched.answered_at.is_none() && watched.failed_at.is_none();
                let same_run = state.role == Role::Replica
                    && state.incarnation.as_ref() == Some(&report.incarnation);
                // Aurora restarts what it promotes, and tells nothing that could be compared.
                let tells = report.position != Some(Position::Opaque);
                let belief = match is_first || same_run || !tells {
                    true => Belief::Believed,
                    false => Belief::Open,
                };
                let promotion = if is_promotion { promotions } else { 0 };
                *none = Some(Claim { since: now, run, promotion, belief });
                self.promotions += u32::from(is_promotion);
            }
        }
    }

    /// Decides on the claims that wait for the primary in charge.
    pub(super) fn weigh_claims(&mut self) {
        let in_charge = self.topology.primary.and_then(|id| {
            let state = self.topology.get(id).filter(|state| state.role == Role::Primary)?;
            let watched = self.watched.get(id.index())?;
            Some((id, state.may_answer(), watched.answered_at, watched.timeline))
        });
        let newest = self.newest_timeline;
        for (index, (state, watched)) in
            self.topology.endpoints.iter().zip(&mut self.watched).enumerate()
        {
            let timeline = watched.timeline;
            let Some(claim) = watched.claim.as_mut().filter(|it| it.belief == Belief::Open) else {
                continue;
            };
            if state.health != Health::Up || !state.is_ours() {
                continue;
            }
            claim.belief = match in_charge {
                Some((id, ..)) if id.index() == index => Belief::Believed,
                Some((_, true, _, its)) if timeline > its && timeline == newest => Belief::Believed,
                Some((_, true, Some(at), _)) if at > claim.since => Belief::Refused,
                Some((_, true, ..)) => Belief::Open,
                Some((_, false, ..)) | None => Belief::Believed,
            };
        }
    }

    /// Tells of endpoints that claim to be the primary and are not believed; what is on an old
    /// timeline is told as that.
    pub(super) fn tell_fenced(&mut self, events: &mut Vec<Event>) {
        let primary = self.topology.primary;
        for (index, (state, watched)) in
            self.topology.endpoints.iter().zip(&mut self.watched).enumerate()
        {
            let Some(endpoint) = EndpointId::from_index(index) else { continue };
            let is_refused = watched.claim.as_ref().is_some_and(|it| it.belief == Belief::Refused);
            let fenced =
                is_claiming(state) && !state.old_timeline && (watched.replaced || is_refused);
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
