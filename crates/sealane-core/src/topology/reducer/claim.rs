//! Which claims to be the primary are believed.
//!
//! A server that says that it is the primary may be a replica that was promoted. It may also be a
//! backup that somebody restored and started by mistake. The backup has our system's name, and
//! perhaps even a newer timeline. Only earlier observations tell them apart.
//!
//! - A replica that becomes a primary while it runs was promoted.
//! - An endpoint that is seen for the first time may have been promoted before this process
//!   started.
//! - Any other claim that appears beside a primary waits until that primary was probed again. If
//!   the primary answers, it keeps its place, and the claim is not believed until the server is
//!   seen in another role, or in another run while the primary no longer answers. If the primary
//!   does not answer, or if a replica follows the claim's timeline, the claim counts.
//! - On MySQL and MariaDB, a claim without a primary counts if the server is the last primary, in
//!   the run in which it was sampled; if its data is proved to continue the last primary's; or if
//!   the last primary was seen to step down for it.
//!
//! If a server's address changes, what is held against the server follows it to the new address (on
//! engines whose servers identify themselves and whose histories have no numbers). An address that
//! now leads to another server is treated as if it claimed for the first time.
//!
//! Rejected: always believing the newer timeline (the backup would take the writes). Rejected:
//! believing a claim only if it holds everything that the primary has. A failover loses the tail of
//! an asynchronous primary's log, and it must be followed all the same.

use super::TopologyReducer;
use crate::{
    Ancestry, EndpointId, EndpointState, Event, Health, Incarnation, Moment, Position, Replication,
    Report, Role,
};

/// How many refused or replaced claims are remembered of servers whose former addresses lead
/// elsewhere by now.
const DEPARTED_KEPT: usize = 16;

/// An endpoint's claim to be the primary.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    /// When the answer that first made the claim in this run arrived.
    since: Moment,
    run: Incarnation,
    /// The number of the promotion; 0 if none was seen.
    pub(super) promotion: u32,
    /// The server that makes the claim, if servers identify themselves.
    by: Option<Ancestry>,
    belief: Belief,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Belief {
    Believed,
    /// Undecided until the primary in charge was probed again.
    Open,
    Refused,
    /// Another server has taken the claimant's place.
    Replaced,
}

impl Claim {
    pub(super) fn is_believed(&self) -> bool {
        self.belief == Belief::Believed
    }

    /// The same claim in another system: nothing known of it before counts.
    pub(super) fn begin_anew(self) -> Self {
        Claim { promotion: 0, belief: Belief::Believed, ..self }
    }

    /// Another server has taken the claimant's place.
    pub(super) fn give_way(&mut self) {
        self.belief = Belief::Replaced;
    }

    /// Believes the claim again, because its data was proved to continue the primary's. Where
    /// histories are numbered, that proves nothing for a refused claim.
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
    /// Records that `id` has answered at `now` and whether it claims to be the primary. Must be
    /// called before the answer is applied.
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
                // Where histories are numbered, a promotion begins a new one. If the address now
                // leads to another server, that server was not promoted.
                let is_promotion = state.role == Role::Replica
                    && (timeline == 0 || timeline > watched.timeline)
                    && watched.course.is_of(report.ancestry.as_ref());
                let is_first = watched.answered_at.is_none()
                    && watched.failed_at.is_none()
                    && !(watched.came_later && has_primary);
                let same_run = state.role == Role::Replica
                    && state.incarnation.as_ref() == Some(&report.incarnation);
                // Aurora restarts a server that it promotes, and reports nothing that could be
                // compared.
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

    /// Moves what is held against the server behind `id` to `id`. If the server says that it is not
    /// a primary, nothing is held against it any more.
    fn follow_server(&mut self, id: EndpointId, report: &Report) {
        let Some(server) = &report.ancestry else { return };
        let Some(index) = self.topology.index(id) else { return };
        // A claim whose server is unknown counts as this server's own.
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

    /// Decides the claims that wait for the primary in charge.
    pub(super) fn weigh_claims(&mut self) {
        let in_charge = self.topology.primary.and_then(|id| {
            let state = self.topology.get(id).filter(|state| state.role == Role::Primary)?;
            let watched = self.watched(id)?;
            // The primary's address may by now lead to a server that was replaced.
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

    /// Whether `id` may be believed while there is no primary, although its promotion was not seen.
    /// Where positions do not tell histories apart, `id` may be the server that the last primary
    /// was promoted to replace.
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

    /// Whether the last primary has stepped down for `id`, which was not seen as a replica: a
    /// switchover while `id` was out of reach. All of this must be seen after the claim:
    ///
    /// - The last primary replicates, in the run in which it was the primary. After a restart, it
    ///   might be read-only for a moment only.
    /// - `id` has everything that the last primary has. Also, `id` has written nothing, or the last
    ///   primary has received some of what `id` wrote.
    /// - Every other endpoint answers and is a replica, so none of them can be the true successor.
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

    /// Reports endpoints that claim to be the primary but are not believed. An endpoint on an old
    /// timeline is reported as that instead.
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
