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
//! - On MySQL and MariaDB, a claim is not believed if the replicas show that another server has taken
//!   the claimant's place (see `outlived`).
//! - On MySQL and MariaDB, a claim without a primary counts if its endpoint was the last primary, or
//!   leads to the run that was sampled last; if its data is proved to continue the last primary's;
//!   or if the last primary was seen to step down for it, also if it was made anew since.
//!
//! A claim belongs to a server. Where servers identify themselves (MySQL, MariaDB), the claim
//! follows its server to a new address: what is held against the server always, and that it was
//! believed only in the same run. An address that leads to another server claims for the first time.
//!
//! Rejected: always believing the newer timeline (the backup would take the writes). Rejected:
//! believing a claim only if it holds everything that the primary has. A failover loses the tail of
//! an asynchronous primary's log, and it must be followed all the same.

use super::TopologyReducer;
use crate::{
    Ancestry, EndpointId, EndpointState, Event, Health, Incarnation, Moment, Position, Replication,
    Report, Role,
};

/// How many claims are remembered of servers whose former addresses lead elsewhere by now.
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
    /// Whether a replica was seen to follow that server.
    is_vouched: bool,
    /// What the claimant had when it first made the claim.
    began_with: Option<Position>,
    /// What a replica had when it showed that the claim is outlived.
    shown: Option<(EndpointId, Position)>,
    /// Whether that replica has received more from the successor since.
    is_shown_to_last: bool,
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
    /// The same, as only the replicas show; see `outlived`.
    Outlived,
}

impl Claim {
    pub(super) fn is_believed(&self) -> bool {
        self.belief == Belief::Believed
    }

    pub(super) fn is_outlived(&self) -> bool {
        self.belief == Belief::Outlived
    }

    /// Another server has taken the claimant's place, as replica `by` shows with what it has now.
    /// `has_grown` tells whether that is more than a position from another server than the claimant.
    pub(super) fn outlive(
        &mut self,
        (by, now): (EndpointId, &Position),
        has_grown: impl FnOnce(&Position) -> bool,
    ) {
        match &self.shown {
            Some((before, had)) if *before == by => self.is_shown_to_last |= has_grown(had),
            _ => self.shown = Some((by, now.clone())),
        }
        if matches!(self.belief, Belief::Believed | Belief::Open) {
            self.belief = Belief::Outlived;
        }
    }

    /// Whether what a replica has shown counts while it is not connected.
    pub(super) fn is_shown_to_last(&self) -> bool {
        self.is_shown_to_last
    }

    /// Nothing shows any more that another server has taken the claimant's place.
    pub(super) fn reopen(&mut self) {
        (self.shown, self.is_shown_to_last) = (None, false);
        if self.is_outlived() {
            self.belief = Belief::Open;
        }
    }

    /// What the claimant had when it first made the claim.
    pub(super) fn began_with(&self) -> Option<&Position> {
        self.began_with.as_ref()
    }

    /// The same claim in another system: nothing known of it before counts.
    pub(super) fn begin_anew(self) -> Self {
        Claim { promotion: 0, belief: Belief::Believed, is_vouched: false, ..self }
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

    /// Whether a replica was seen to follow the claimant, or the claimant was seen to be promoted.
    pub(super) fn is_vouched(&self) -> bool {
        self.is_vouched || self.promotion > 0
    }

    /// A replica was seen to follow the claimant.
    pub(super) fn vouch(&mut self) {
        self.is_vouched = true;
    }

    fn is_denied(&self) -> bool {
        matches!(self.belief, Belief::Refused | Belief::Replaced | Belief::Outlived)
    }

    fn is_by_server_of(&self, other: &Claim) -> bool {
        other.by.as_ref().is_some_and(|server| self.is_by(server))
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
        let known = self.known_claim(id, report);
        let promotions = self.promotions + 1;
        let has_primary = self.has_primary();
        let Some((state, watched)) = self.both_mut(id) else { return };
        if report.role != Role::Primary {
            watched.claim = None;
            return;
        }
        let run = report.incarnation.clone();
        match &mut watched.claim {
            Some(claim) if claim.refused_run_is_over(&run) => {
                (claim.since, claim.run, claim.belief) = (now, run, Belief::Open);
            }
            Some(claim) => claim.run = run,
            none @ None if known.is_some() => *none = known,
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
                let began_with = report.position.clone();
                *none = Some(Claim {
                    since: now,
                    run,
                    promotion,
                    by,
                    is_vouched: false,
                    began_with,
                    shown: None,
                    is_shown_to_last: false,
                    belief,
                });
                self.promotions += u32::from(is_promotion);
            }
        }
    }

    /// The claim of the server behind `id`, if another endpoint was last seen to lead to the same
    /// run of it.
    fn known_claim(&self, id: EndpointId, report: &Report) -> Option<Claim> {
        let mut others = self.topology.endpoints.iter().zip(&self.watched);
        let leads_there = |state: &EndpointState| {
            state.id != id
                && state.incarnation.as_ref() == Some(&report.incarnation)
                && state.info.identity.is_some()
                && state.info.identity == report.info.identity
        };
        others.find_map(|(state, watched)| {
            watched.claim.as_ref().filter(|_| leads_there(state)).cloned()
        })
    }

    /// Moves what is known of the claim of the server behind `id` to `id`. If the server says that it
    /// is not a primary, nothing is held against this run of it any more. A claim that was believed
    /// is taken up again only of the run that was sampled last, and while there is no primary.
    fn follow_server(&mut self, id: EndpointId, report: &Report) {
        let (Some(server), Some(index)) = (&report.ancestry, self.topology.index(id)) else {
            return;
        };
        // A claim whose server is unknown counts as this server's own.
        let is_other =
            |claim: &mut Claim| !Ancestry::is_of_one_server(claim.by.as_ref(), Some(server));
        if let Some(gone) = self.watched[index].claim.take_if(is_other) {
            self.departed.retain(|claim| !gone.is_by_server_of(claim));
            self.departed.truncate(DEPARTED_KEPT - 1);
            self.departed.insert(0, gone);
        }
        if report.role != Role::Primary {
            self.departed.retain(|claim| !claim.is_by(server));
            // A copy of the server may have its name. It runs by itself.
            let is_over = |claim: &mut Claim| {
                claim.is_denied() && claim.is_by(server) && claim.run == report.incarnation
            };
            for watched in &mut self.watched {
                watched.claim.take_if(is_over);
            }
        } else if self.watched[index].claim.is_none() {
            self.watched[index].claim = self.claim_to_move(server, report);
            self.departed.retain(|claim| !claim.is_by(server));
        }
    }

    /// What is known of the claim of `server`, which answers at an address without a claim.
    fn claim_to_move(&self, server: &Ancestry, report: &Report) -> Option<Claim> {
        let goes_on = |claim: &Claim| {
            claim.run == report.incarnation
                && self.sampled_run.as_ref() == Some(&claim.run)
                && !self.has_primary()
        };
        let states = self.topology.endpoints.iter().zip(&self.watched);
        // Where a copy of the server answers, what is known is known of the copy.
        let elsewhere = states.filter_map(|(state, watched)| {
            let is_copy = state.health == Health::Up
                && state.incarnation.as_ref() != Some(&report.incarnation);
            watched.claim.as_ref().filter(|_| !is_copy)
        });
        let mut claims = elsewhere.chain(&self.departed).filter(|claim| claim.is_by(server));
        claims.find(|claim| claim.is_denied() || goes_on(claim)).cloned()
    }

    /// Whether there is a primary that answers.
    fn has_primary(&self) -> bool {
        let in_charge = self.topology.primary.and_then(|primary| self.topology.get(primary));
        in_charge.is_some_and(EndpointState::may_answer)
    }

    /// Decides the claims that wait for the primary in charge.
    pub(super) fn weigh_claims(&mut self) {
        self.judge_outlived();
        let in_charge = self.topology.primary.and_then(|id| {
            let state = self.topology.get(id).filter(|state| state.role == Role::Primary)?;
            let watched = self.watched(id)?;
            // The primary's address may by now lead to a server that was replaced.
            let is_denied = watched.claim.as_ref().is_some_and(Claim::is_denied);
            let is = (id, state.may_answer(), watched.answered_at, watched.timeline);
            (!is_denied).then_some(is)
        });
        let newest = self.newest_timeline;
        let weights: Vec<_> = self
            .topology
            .iter()
            .map(|(id, _)| (self.may_follow(id), self.is_followed(id), self.succeeds(id)))
            .collect();
        let states = self.topology.endpoints.iter().zip(&mut self.watched).zip(weights);
        for ((state, watched), (may_follow, is_followed, succeeds)) in states {
            let timeline = watched.timeline;
            let Some(claim) = watched.claim.as_mut() else { continue };
            if state.health != Health::Up || !state.is_ours() {
                continue;
            }
            claim.belief = match (claim.belief, in_charge) {
                (Belief::Refused, _) if is_followed => Belief::Believed,
                (Belief::Open, Some((id, ..))) if id == state.id => Belief::Believed,
                (Belief::Open, Some((_, true, _, its))) if timeline > its && timeline == newest => {
                    Belief::Believed
                }
                (Belief::Open | Belief::Outlived, Some((_, true, Some(at), _)))
                    if at > claim.since =>
                {
                    Belief::Refused
                }
                (Belief::Open, Some((_, true, ..))) => Belief::Open,
                (Belief::Open, Some((_, false, ..))) => Belief::Believed,
                (Belief::Open, None) if claim.promotion > 0 || may_follow => Belief::Believed,
                (Belief::Open | Belief::Refused, None) if succeeds => Belief::Believed,
                (belief, _) => belief,
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

    /// Whether the last primary, where histories are numbered, was seen on the newer timeline of
    /// `id`'s claim, as a replica, and all others are replicas, too. A replica on that timeline is not
    /// enough: a backup that was restored may have the number that the next promotion takes.
    fn is_followed(&self, id: EndpointId) -> bool {
        let timeline = |id: EndpointId| self.watched(id).map_or(0, |it| it.timeline);
        let newest = self.history.newest().map_or(0, |sample| sample.position.timeline());
        timeline(id) > newest
            && newest > 0
            && self.sampled_of.is_some_and(|last| timeline(last) == timeline(id))
            && self.others_are_replicas(id)
    }

    /// Whether every endpoint but `id` answers and is a replica, and was asked after `id`'s claim.
    fn others_are_replicas(&self, id: EndpointId) -> bool {
        let Some(claim) = self.watched(id).and_then(|it| it.claim.as_ref()) else {
            return false;
        };
        self.topology.iter().filter(|(other, _)| *other != id).all(|(other, state)| {
            let asked_at = self.watched(other).and_then(|it| it.answered_at);
            state.health == Health::Up
                && state.role == Role::Replica
                && asked_at.is_some_and(|at| at >= claim.since)
        })
    }

    /// Whether the last primary has stepped down for `id`, which was not seen as a replica: a
    /// switchover while `id` was out of reach.
    ///
    /// - The last primary replicates, and has received something that `id` wrote. In the run in which
    ///   it was the primary, it is enough that both have the same. After a restart, that may mean
    ///   only that the last primary is read-only for a moment.
    /// - The last primary's address still leads to it, or to data made anew: not to a server that was
    ///   seen at another address.
    /// - `id` has everything that was sampled of the last primary, or that lacks it now itself.
    /// - Every other endpoint answers and is a replica, so none of them can be the true successor.
    pub(super) fn has_taken_over(&self, id: EndpointId) -> bool {
        let last = self.sampled_of.and_then(|last| self.topology.get(last));
        let Some(last) = last.filter(|last| last.replication == Replication::Running) else {
            return false;
        };
        let is_same_run = last.incarnation == self.sampled_run;
        let mut others = self.topology.iter().filter(|(other, _)| *other != last.id);
        let has_moved = others.any(|(_, other)| other.incarnation == last.incarnation);
        (is_same_run || !has_moved)
            && self.others_are_replicas(id)
            && self.is_followed_by_the_last(id, is_same_run)
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
