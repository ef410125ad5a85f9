//! Where one statement may run, in which order, and why not elsewhere.

use std::time::Duration;

use crate::{
    Access, Balancer, Candidate, Candidates, Consistency, ConsistencyPolicy, EndpointId,
    EndpointSet, EndpointState, Health, ReadRequest, Refusal, Role, Topology, Verdict, WriteStamp,
};

/// The endpoints that may serve one statement, consumed one attempt at a time.
///
/// A plan lives on the stack and orders lazily: the balancer is asked only for as many endpoints as
/// are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    replicas: EndpointSet,
    /// Replicas that are good enough, but ejected.
    ejected: EndpointSet,
    primary: Option<EndpointId>,
    /// The primary as a candidate beside the replicas.
    shared: Option<EndpointId>,
    /// Whether the replicas serve although they are not fresh enough.
    is_stale: bool,
    awaited: Option<WriteStamp>,
    unproved: bool,
    too_stale: bool,
    /// Whether a replica was good enough when the plan was made.
    had_replicas: bool,
    /// Whether the primary answers.
    is_primary_usable: bool,
    /// Whether the read may choose from an endpoint besides the primary at all.
    may_leave: bool,
}

/// Why a statement runs on the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrimaryUse {
    /// The statement writes, asks for the primary, or could never run elsewhere.
    Asked,
    /// No replica has replayed what the session wrote or saw, or replicas may have other rows of what
    /// is read.
    Pinned,
    /// Replicas could serve such a read, but none of them can now.
    Fallback,
}

impl Plan {
    /// Plans one statement on one snapshot.
    #[must_use]
    pub fn new(topology: &Topology, request: &ReadRequest) -> Plan {
        let mut plan = Plan {
            replicas: EndpointSet::EMPTY,
            ejected: EndpointSet::EMPTY,
            primary: topology.open_primary(),
            shared: None,
            is_stale: false,
            awaited: None,
            unproved: false,
            too_stale: false,
            had_replicas: false,
            is_primary_usable: true,
            may_leave: true,
        };
        if request.access == Access::Write || request.consistency == Consistency::Strong {
            return plan;
        }
        for state in topology.states(candidates(topology, request)) {
            if !request.horizon.includes(state.id) {
                continue;
            }
            match judge_freshness(topology, state, request) {
                Ok(()) => plan.replicas.insert(state.id),
                Err(Refusal::BehindSession { needed, .. }) => {
                    plan.unproved |= request.session.has_writes(state);
                    plan.awaited = plan.awaited.max(Some(needed));
                }
                Err(Refusal::TooStale { .. }) => plan.too_stale = true,
                Err(_) => {}
            }
        }
        if plan.replicas.is_empty() && request.consistency == Consistency::Eventual {
            plan.replicas = floor(topology, request);
        }
        if let (true, Some(bound)) = (plan.replicas.is_empty(), request.stale) {
            plan.replicas = stale(topology, request, bound);
            plan.is_stale = !plan.replicas.is_empty();
            plan.primary = plan.primary.filter(|_| !plan.is_stale);
        }
        plan.had_replicas = !plan.replicas.is_empty();
        if !plan.had_replicas || !request.ejected.is_empty() {
            plan.is_primary_usable = topology.has_usable_primary();
            let others = topology.all().without(topology.primary().into_iter().collect());
            plan.may_leave = !request.among.and(others).is_empty();
        }
        plan.ejected = plan.replicas.and(request.ejected);
        plan.replicas = plan.replicas.without(request.ejected);
        if request.shares_primary && !plan.replicas.is_empty() {
            let primary = plan.primary.filter(|id| !request.ejected.contains(*id));
            plan.shared = primary.filter(|id| may_share(topology, *id, request));
        }
        plan
    }

    /// The verdict on one endpoint, for explanations, by the same rules as in [`Plan::new`].
    ///
    /// # Errors
    /// Why the endpoint may not serve the statement.
    pub fn judge(topology: &Topology, id: EndpointId, request: &ReadRequest) -> Verdict {
        Plan::suits(topology, id, request)?;
        let is_ejected = request.ejected.contains(id) && topology.primary() != Some(id);
        if is_ejected { Err(Refusal::Ejected) } else { Ok(()) }
    }

    /// Like [`judge`](Self::judge), for an endpoint that the plan has chosen: it may be ejected,
    /// because nothing else was left.
    ///
    /// # Errors
    /// Why the endpoint may not serve the statement any more.
    pub fn suits(topology: &Topology, id: EndpointId, request: &ReadRequest) -> Verdict {
        if topology.primary() == Some(id) {
            let is_open = topology.open_primary() == Some(id);
            return if is_open { Ok(()) } else { Err(Refusal::Draining) };
        }
        if request.access == Access::Write || request.consistency == Consistency::Strong {
            return Err(Refusal::NotPrimary);
        }
        match topology.get(id) {
            Some(state) => match judge_replica(topology, state, request) {
                // Such a replica is used only if there is no better one.
                Err(Refusal::Lagging | Refusal::OldTimeline)
                    if Plan::new(topology, request).all_replicas().contains(id) =>
                {
                    Ok(())
                }
                Err(_) if accepts_stale(topology, state, request) => Ok(()),
                verdict => verdict,
            },
            None => Err(Refusal::NotObserved),
        }
    }

    /// Like [`suits`](Self::suits), for an endpoint that the balancer has chosen, or that is tried
    /// beside a read. The primary may have been chosen to take its turn.
    #[must_use]
    pub fn may_try(topology: &Topology, id: EndpointId, request: &ReadRequest) -> bool {
        match request.shares_primary && topology.primary() == Some(id) {
            true => topology.open_primary() == Some(id) && may_share(topology, id, request),
            false => Plan::suits(topology, id, request).is_ok(),
        }
    }

    /// The next endpoint to try, and the role in which to use it: first the replicas in the
    /// balancer's order, then the primary, then the ejected replicas; or the ejected replicas first,
    /// if the primary does not answer. Replicas that serve stale come in the order of their
    /// staleness. Each endpoint is returned once in each role: if the primary [is
    /// shared](ReadRequest::shares_primary), the balancer may choose it beside the replicas, and it
    /// is then used as a replica is. `all` holds the endpoints with their current load; the balancer
    /// chooses among those of them that are in the plan. An endpoint added after the plan was made
    /// may be among them, at the place of a removed one. So the caller [judges](Self::judge) the
    /// returned endpoint on the topology of `all`.
    pub fn next(
        &mut self,
        balancer: &dyn Balancer,
        all: Candidates<'_>,
        random: u64,
    ) -> Option<(EndpointId, Role)> {
        // Some endpoints may have been removed.
        self.replicas = self.replicas.and(all.set());
        self.ejected = self.ejected.and(all.set());
        if self.replicas.is_empty() {
            let is_due = self.is_primary_usable || self.ejected.is_empty();
            if let Some(id) = self.primary.take_if(|_| is_due) {
                return Some((id, Role::Primary));
            }
            self.replicas = std::mem::take(&mut self.ejected);
            self.shared = None;
            if self.replicas.is_empty() {
                return None;
            }
        }
        let choices = match self.shared {
            None => self.replicas,
            Some(primary) => self.replicas.or([primary].into_iter().collect()),
        };
        let picked = match self.is_stale {
            true => least_stale(&all.with(choices)),
            false => balancer.pick(&all.with(choices), random),
        };
        let picked = picked
            .filter(|id| choices.contains(*id))
            // A balancer that returns nothing, or an endpoint outside the plan, must not cost the
            // read.
            .or_else(|| all.nth_of(choices, random as usize % choices.len()))?;
        // Another endpoint may be at its place by now.
        self.shared = self.shared.filter(|id| id.place() != picked.place());
        self.replicas.remove(picked);
        Some((picked, Role::Replica))
    }

    /// Lets the primary be tried once more: its connection was broken, not the primary itself.
    pub fn retry_primary(&mut self, primary: EndpointId) {
        self.primary = Some(primary);
    }

    /// Tries the ejected replicas before the primary: there is no room on the primary.
    pub fn prefer_ejected(&mut self, primary: EndpointId) {
        self.shared = None;
        self.replicas = self.replicas.or(std::mem::take(&mut self.ejected));
        self.primary = Some(primary);
    }

    /// Leaves out endpoints that the read has tried already.
    pub fn leave_out(&mut self, tried: EndpointSet) {
        self.replicas = self.replicas.without(tried);
        self.shared = self.shared.filter(|id| !tried.contains(*id));
        self.ejected = self.ejected.without(tried);
    }

    /// Leaves only the primary, for a statement that a replica refused.
    pub fn only_primary(&mut self) {
        self.replicas = EndpointSet::EMPTY;
        self.ejected = EndpointSet::EMPTY;
        self.shared = None;
        self.may_leave = false;
    }

    /// Leaves only replicas, for a read that must not burden the primary.
    pub fn forbid_primary(&mut self) {
        self.primary = None;
        self.shared = None;
    }

    /// Whether the read is served by replicas that are not fresh enough for it.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.is_stale
    }

    /// Whether replicas were refused only for being too far behind.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.all_replicas().is_empty() && (self.awaited.is_some() || self.too_stale)
    }

    /// The replicas that have not been tried yet, without those that are ejected.
    #[must_use]
    pub fn replicas(&self) -> EndpointSet {
        self.replicas
    }

    /// The ejected replicas that have not been tried yet.
    #[must_use]
    pub fn ejected(&self) -> EndpointSet {
        self.ejected
    }

    fn all_replicas(&self) -> EndpointSet {
        self.replicas.or(self.ejected)
    }

    /// The primary, if it may be tried and has not been tried yet.
    #[must_use]
    pub fn primary(&self) -> Option<EndpointId> {
        self.primary
    }

    /// Why the read of `request` runs on the primary, if it does.
    #[must_use]
    pub fn primary_use(&self, request: &ReadRequest) -> PrimaryUse {
        let asks = request.access == Access::Write
            || request.consistency == Consistency::Strong
            || !self.may_leave;
        match self.awaited {
            _ if asks => PrimaryUse::Asked,
            _ if request.replicas_differ => PrimaryUse::Pinned,
            Some(_) if !self.had_replicas => PrimaryUse::Pinned,
            Some(_) | None => PrimaryUse::Fallback,
        }
    }

    /// Whether another endpoint is left to try.
    #[must_use]
    pub fn has_next(&self) -> bool {
        !self.all_replicas().is_empty() || self.primary.is_some()
    }

    /// Whether only a bound on staleness keeps the read from every replica. Newer probes may prove
    /// what the last ones do not.
    #[must_use]
    pub fn awaits_freshness(&self, request: &ReadRequest) -> bool {
        let bounded = matches!(request.consistency, Consistency::BoundedStaleness(_));
        (bounded || request.policy.is_some()) && self.all_replicas().is_empty() && self.too_stale
    }

    /// Whether a replica has everything that the session wrote, and only the proof is missing that
    /// it also has what the session has seen elsewhere. That proof comes with the next probes.
    #[must_use]
    pub fn awaits_proof_only(&self) -> bool {
        self.all_replicas().is_empty() && self.unproved
    }

    /// The stamp that a refused replica lacked, if there was one. The monitor should then probe
    /// more often.
    #[must_use]
    pub fn awaited(&self) -> Option<WriteStamp> {
        self.awaited
    }
}

/// Whether the primary `id` may take its turn among the replicas. Its data are fresh enough for
/// everything; but a session may have seen more on a replica than the primary shows yet.
fn may_share(topology: &Topology, id: EndpointId, request: &ReadRequest) -> bool {
    let may_choose = request.among.contains(id) && request.horizon.includes(id);
    let needs_all = request.consistency == Consistency::ReadYourWrites;
    may_choose
        && topology.has_usable_primary()
        && (!needs_all || request.session.is_shown_by_primary(topology))
}

/// The verdict of [`Plan::new`] on one replica, with the reason for a refusal.
fn judge_replica(topology: &Topology, state: &EndpointState, request: &ReadRequest) -> Verdict {
    if !request.among.contains(state.id) || !request.horizon.includes(state.id) {
        let nobody = request.among.is_empty();
        return Err(if nobody { Refusal::NotPrimary } else { Refusal::OtherGroup });
    }
    judge_use(state)?;
    if request.replicas_differ {
        return Err(Refusal::MayDiffer);
    }
    if topology.may_miss_since(state).is_some() || !topology.includes_filters(request.catalog) {
        return Err(Refusal::FiltersUnknown);
    }
    judge_freshness(topology, state, request)
}

/// The replicas that may serve `request` if they are fresh enough.
fn candidates(topology: &Topology, request: &ReadRequest) -> EndpointSet {
    match !request.replicas_differ && topology.includes_filters(request.catalog) {
        true => topology.replicas_in_use().and(request.among),
        false => EndpointSet::EMPTY,
    }
}

/// Why an endpoint other than the primary is not a [replica in use](Topology::replicas_in_use).
fn judge_use(state: &EndpointState) -> Verdict {
    match state.health {
        Health::Up => {}
        Health::Unknown => return Err(Refusal::NotObserved),
        Health::Down { .. } => return Err(Refusal::Down),
        Health::Probation => return Err(Refusal::Probation),
    }
    if state.draining {
        return Err(Refusal::Draining);
    }
    if state.foreign {
        return Err(Refusal::Foreign);
    }
    if state.other_database {
        return Err(Refusal::OtherDatabase);
    }
    if state.same_as.is_some() {
        return Err(Refusal::SameServer);
    }
    match state.role {
        Role::Replica => Ok(()),
        Role::Primary => Err(Refusal::StalePrimary),
        Role::Unknown => Err(Refusal::NotObserved),
    }
}

fn judge_freshness(topology: &Topology, state: &EndpointState, request: &ReadRequest) -> Verdict {
    let candidate = Candidate::of(topology, state, request.now);
    request.consistency.judge(&candidate, request)?;
    request.policy.as_ref().map_or(Ok(()), |policy| policy.judge(&candidate, request))
}

/// The replicas that may serve `request` stale, if they miss `bound` at most.
fn stale(topology: &Topology, request: &ReadRequest, bound: Duration) -> EndpointSet {
    let candidates = topology.states(candidates(topology, request));
    candidates.filter(|it| judge_stale(topology, it, request, bound)).map(|it| it.id).collect()
}

fn accepts_stale(topology: &Topology, state: &EndpointState, request: &ReadRequest) -> bool {
    request.stale.is_some_and(|bound| judge_stale(topology, state, request, bound))
}

/// Whether a replica may serve `request` stale. It may be old, but it must not show what is perhaps
/// lost.
fn judge_stale(
    topology: &Topology,
    state: &EndpointState,
    request: &ReadRequest,
    bound: Duration,
) -> bool {
    let candidate = Candidate::of(topology, state, request.now);
    let declines = |policy: &dyn ConsistencyPolicy| {
        !matches!(
            policy.judge(&candidate, request),
            Ok(()) | Err(Refusal::TooStale { .. } | Refusal::BehindSession { .. })
        )
    };
    candidates(topology, request).contains(state.id)
        && request.horizon.includes(state.id)
        && !state.old_timeline
        && !state.doubted
        && (bound == Duration::MAX || candidate.within(bound).is_ok())
        && !request.policy.as_deref().is_some_and(declines)
}

/// The candidate that is proved to miss least. An unknown staleness counts as the greatest.
fn least_stale(candidates: &Candidates<'_>) -> Option<EndpointId> {
    let least = candidates.iter().min_by_key(|it| it.staleness().unwrap_or(Duration::MAX));
    least.map(|it| it.id())
}

/// If every replica lags, this many of the best still serve eventual reads, so that neither the
/// primary nor a single replica gets all of them. (Vitess has the same floor with the same number,
/// `min_number_serving_vttablets`.)
const FLOOR: usize = 2;

/// The replicas that are least behind, among those that `request` may choose from and that have no
/// other fault.
fn floor(topology: &Topology, request: &ReadRequest) -> EndpointSet {
    let suits = |state: &EndpointState| {
        let candidate = Candidate::of(topology, state, request.now);
        request.policy.as_ref().is_none_or(|it| it.judge(&candidate, request).is_ok())
    };
    let (mut best, mut old_only) = (EndpointSet::EMPTY, false);
    for _ in 0..FLOOR {
        let next = topology
            .states(candidates(topology, request))
            .filter(|state| {
                request.horizon.includes(state.id) && !best.contains(state.id) && suits(state)
            })
            // Unknown lag counts as the greatest.
            .min_by_key(|state| {
                (state.old_timeline, topology.lag_of(state).unwrap_or(Duration::MAX))
            });
        match next {
            // A replica on an old timeline is the last resort. It does not fill up the two.
            Some(state) if state.old_timeline && !best.is_empty() && !old_only => break,
            Some(state) => {
                old_only |= state.old_timeline;
                best.insert(state.id);
            }
            None => break,
        }
    }
    best
}

#[cfg(test)]
mod tests;
