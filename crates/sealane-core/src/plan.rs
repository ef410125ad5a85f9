//! Where one statement may run, in which order, and why not elsewhere.

use std::{fmt, time::Duration};

use serde::Serialize;

use crate::{
    Balancer, Consistency, EndpointId, EndpointSet, EndpointState, Health, Loads, Moment,
    Replication, Role, Server, SessionView, Topology, WriteStamp,
};

/// What the statement needs of its endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// A proved read.
    Read,
    /// Anything else.
    Write,
}

/// Everything that a plan depends on besides the topology.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Demand {
    /// What the statement needs.
    pub access: Access,
    /// How fresh a read must be.
    pub consistency: Consistency,
    /// What the session has written and seen.
    pub session: SessionView,
    /// The longest lag behind the primary at which a replica still serves
    /// [`Consistency::ReadYourWrites`]; `None` for any lag.
    pub max_lag: Option<Duration>,
    /// The time of the read, for [`Consistency::BoundedStaleness`].
    pub now: Moment,
    /// The replicas that may be asked at all. The primary always may.
    pub among: EndpointSet,
}

impl Demand {
    /// A demand outside any session, with any lag.
    #[must_use]
    pub fn new(access: Access, consistency: Consistency, now: Moment) -> Self {
        let (session, among) = (SessionView::default(), EndpointSet::ALL);
        Demand { access, consistency, session, max_lag: None, now, among }
    }

    /// The same demand by `session`.
    #[must_use]
    pub fn with_session(self, session: SessionView) -> Self {
        Demand { session, ..self }
    }

    /// The same demand with a bound on the lag behind the primary.
    #[must_use]
    pub fn with_max_lag(self, max_lag: Option<Duration>) -> Self {
        Demand { max_lag, ..self }
    }

    /// The same demand with only these replicas to choose from.
    #[must_use]
    pub fn among(self, among: EndpointSet) -> Self {
        Demand { among, ..self }
    }
}

/// Why an endpoint may not serve a statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "refusal")]
#[non_exhaustive]
pub enum Refusal {
    /// The statement is for the primary, and this is not it.
    NotPrimary,
    /// It is the primary, and the read must not burden it.
    OnlyReplicas,
    /// It is not in the group of replicas that the statement is for.
    OtherGroup,
    /// It has not been observed yet.
    NotObserved,
    /// It does not answer.
    Down,
    /// It answers again and is not trusted yet.
    Probation,
    /// It holds another system's data.
    Foreign,
    /// Its URL names another database than the primary's.
    OtherDatabase,
    /// It is another address of a server that is in use.
    SameServer,
    /// It was seen to be a primary, but is not the one in charge.
    StalePrimary,
    /// It does not receive from a primary, and how far it is behind is unknown.
    NotReplicating,
    /// It is on a timeline that a promotion has ended: it cannot catch up. Eventual
    /// reads go there if there is no better replica.
    OldTimeline,
    /// It is far behind, and others are less so.
    Lagging,
    /// It is not proved to be fresh enough.
    TooStale {
        /// What is proved, if anything.
        staleness: Option<Duration>,
        /// What was asked for.
        bound: Duration,
    },
    /// It has not replayed what the session wrote or saw.
    BehindSession {
        /// The newest stamp it covers.
        covered: WriteStamp,
        /// The stamp the session needs.
        needed: WriteStamp,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NotPrimary => f.write_str("is not the primary"),
            Refusal::OnlyReplicas => f.write_str("is not to serve reads that replicas cannot"),
            Refusal::OtherGroup => f.write_str("is in another group of replicas"),
            Refusal::NotObserved => f.write_str("has not been observed yet"),
            Refusal::Down => f.write_str("is down"),
            Refusal::Probation => f.write_str("answers again, on probation"),
            Refusal::Foreign => f.write_str("holds another system's data"),
            Refusal::OtherDatabase => f.write_str("leads to another database"),
            Refusal::SameServer => f.write_str("is another address of a server that is in use"),
            Refusal::StalePrimary => f.write_str("is a primary that was replaced"),
            Refusal::NotReplicating => f.write_str("does not replicate"),
            Refusal::OldTimeline => f.write_str("is on an old timeline"),
            Refusal::Lagging => f.write_str("is far behind, and others are less so"),
            Refusal::TooStale { staleness: Some(staleness), bound } => {
                write!(f, "may be {staleness:?} behind, {bound:?} is allowed")
            }
            Refusal::TooStale { staleness: None, bound } => {
                write!(f, "is behind by an unknown time, {bound:?} is allowed")
            }
            Refusal::BehindSession { covered, needed } => write!(
                f,
                "has not replayed what the session wrote or saw (write {} of {})",
                covered.number(),
                needed.number()
            ),
        }
    }
}

/// Whether an endpoint may serve a statement.
pub type Verdict = Result<(), Refusal>;

/// The endpoints that may serve one statement, consumed one attempt at a time.
///
/// It lives on the stack and orders lazily: the balancer is asked only for as
/// many endpoints as are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    replicas: EndpointSet,
    primary: Option<EndpointId>,
    awaited: Option<WriteStamp>,
    unproved: bool,
    too_stale: bool,
}

impl Plan {
    /// Plans one statement on one snapshot.
    #[must_use]
    pub fn new(topology: &Topology, demand: &Demand) -> Plan {
        let mut plan = Plan {
            replicas: EndpointSet::EMPTY,
            primary: topology.primary(),
            awaited: None,
            unproved: false,
            too_stale: false,
        };
        if demand.access == Access::Write || demand.consistency == Consistency::Strong {
            return plan;
        }
        for (id, state) in topology.iter() {
            if topology.primary() == Some(id) {
                continue;
            }
            match judge_replica(topology, id, state, demand) {
                Ok(()) => plan.replicas.insert(id),
                Err(Refusal::BehindSession { needed, .. }) => {
                    plan.unproved |= demand.session.has_writes(state);
                    plan.awaited = plan.awaited.max(Some(needed));
                }
                Err(Refusal::TooStale { .. }) => plan.too_stale = true,
                Err(_) => {}
            }
        }
        if plan.replicas.is_empty() && demand.consistency == Consistency::Eventual {
            plan.replicas = floor(topology, demand.among);
        }
        plan
    }

    /// The verdict on one endpoint, for explanations: the same rules as in
    /// [`Plan::new`].
    pub fn judge(topology: &Topology, id: EndpointId, demand: &Demand) -> Verdict {
        if topology.primary() == Some(id) {
            return Ok(());
        }
        if demand.access == Access::Write || demand.consistency == Consistency::Strong {
            return Err(Refusal::NotPrimary);
        }
        match topology.get(id) {
            Some(state) => match judge_replica(topology, id, state, demand) {
                // Unless there is nobody better.
                Err(Refusal::Lagging | Refusal::OldTimeline)
                    if Plan::new(topology, demand).replicas.contains(id) =>
                {
                    Ok(())
                }
                verdict => verdict,
            },
            None => Err(Refusal::NotObserved),
        }
    }

    /// The next endpoint to try and the part it is to play: replicas as the
    /// balancer likes, then the primary. Each is given once.
    pub fn next(
        &mut self,
        balancer: &dyn Balancer,
        loads: &Loads,
        random: u64,
    ) -> Option<(EndpointId, Role)> {
        if self.replicas.is_empty() {
            return self.primary.take().map(|id| (id, Role::Primary));
        }
        let picked = balancer
            .pick(self.replicas, loads, random)
            .filter(|id| self.replicas.contains(*id))
            // A balancer that declines, or invents an endpoint, must not cost the read.
            .or_else(|| self.replicas.nth(0))?;
        self.replicas.remove(picked);
        Some((picked, Role::Replica))
    }

    /// Gives the primary once more: its connection was broken, not itself.
    pub fn retry_primary(&mut self, primary: EndpointId) {
        self.primary = Some(primary);
    }

    /// Leaves only the primary, for a statement that a replica refused.
    pub fn only_primary(&mut self) {
        self.replicas = EndpointSet::EMPTY;
    }

    /// Leaves only replicas, for a read that must not burden the primary.
    pub fn forbid_primary(&mut self) {
        self.primary = None;
    }

    /// Whether replicas were refused only for being too far behind.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.replicas.is_empty() && (self.awaited.is_some() || self.too_stale)
    }

    /// The replicas that have not been tried.
    #[must_use]
    pub fn replicas(&self) -> EndpointSet {
        self.replicas
    }

    /// The primary, if it may be tried and has not been.
    #[must_use]
    pub fn primary(&self) -> Option<EndpointId> {
        self.primary
    }

    /// Whether another endpoint is left to try.
    #[must_use]
    pub fn has_next(&self) -> bool {
        !self.replicas.is_empty() || self.primary.is_some()
    }

    /// Whether a bound on staleness keeps a read from every replica: newer
    /// probes may prove what the last ones do not.
    #[must_use]
    pub fn awaits_freshness(&self, consistency: Consistency) -> bool {
        let bounded = matches!(consistency, Consistency::BoundedStaleness(_));
        bounded && self.replicas.is_empty() && self.too_stale
    }

    /// Whether a replica has all that the session wrote, and only the proof is
    /// missing that it also has what the session has seen elsewhere. It comes
    /// with the next probes.
    #[must_use]
    pub fn awaits_proof_only(&self) -> bool {
        self.replicas.is_empty() && self.unproved
    }

    /// The stamp for which a replica was refused, if one was: the monitor
    /// should look more often.
    #[must_use]
    pub fn awaited(&self) -> Option<WriteStamp> {
        self.awaited
    }
}

fn judge_replica(
    topology: &Topology,
    id: EndpointId,
    state: &EndpointState,
    demand: &Demand,
) -> Verdict {
    if !demand.among.contains(id) {
        let nobody = demand.among.is_empty();
        return Err(if nobody { Refusal::NotPrimary } else { Refusal::OtherGroup });
    }
    match state.health {
        Health::Up => {}
        Health::Unknown => return Err(Refusal::NotObserved),
        Health::Down { .. } => return Err(Refusal::Down),
        Health::Probation => return Err(Refusal::Probation),
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
        Role::Replica => {}
        Role::Primary => return Err(Refusal::StalePrimary),
        Role::Unknown => return Err(Refusal::NotObserved),
    }
    match demand.consistency {
        Consistency::Strong => Err(Refusal::NotPrimary),
        // It gets nothing new before it is pointed to another primary, and may hold what
        // was lost.
        _ if state.old_timeline => Err(Refusal::OldTimeline),
        Consistency::Eventual if state.lagging => Err(Refusal::Lagging),
        Consistency::Eventual => Ok(()),
        Consistency::BoundedStaleness(bound) => {
            let staleness = topology.staleness(id, demand.now);
            within(staleness, bound)
        }
        Consistency::ReadYourWrites => {
            // Before the session: what is too far behind is not worth waiting for.
            let lag = topology.lag(id);
            if let Some(bound) = demand.max_lag {
                within(lag, bound)?;
            } else if lag.is_none() && state.replication == Replication::Stopped {
                return Err(Refusal::NotReplicating);
            }
            let needed = demand.session.needs(Server { endpoint: id, run: state.run });
            let covered = state.covered;
            if covered < needed {
                return Err(Refusal::BehindSession { covered, needed });
            }
            match demand.session.missing(state) {
                Some(needed) => Err(Refusal::BehindSession { covered, needed }),
                None => Ok(()),
            }
        }
    }
}

/// When every replica lags, so many of the best still serve eventual reads: the
/// primary must not get all of them, nor one replica. (Vitess has the same
/// floor, `min_number_serving_vttablets`, and the same number.)
const FLOOR: usize = 2;

/// The replicas `among` these that are behind least, of those that nothing else is
/// wrong with.
fn floor(topology: &Topology, among: EndpointSet) -> EndpointSet {
    let (mut best, mut old_only) = (EndpointSet::EMPTY, false);
    for _ in 0..FLOOR {
        let next = topology
            .iter()
            .filter(|(id, state)| {
                topology.primary() != Some(*id)
                    && among.contains(*id)
                    && !best.contains(*id)
                    && state.is_usable()
                    && state.role == Role::Replica
            })
            // Unknown lag is the greatest.
            .min_by_key(|(id, state)| {
                (state.old_timeline, topology.lag(*id).unwrap_or(Duration::MAX))
            });
        match next {
            // What is on an old timeline is the last resort, not one of two.
            Some((_, state)) if state.old_timeline && !best.is_empty() && !old_only => break,
            Some((id, state)) => {
                old_only |= state.old_timeline;
                best.insert(id);
            }
            None => break,
        }
    }
    best
}

fn within(staleness: Option<Duration>, bound: Duration) -> Verdict {
    match staleness {
        Some(staleness) if staleness <= bound => Ok(()),
        staleness => Err(Refusal::TooStale { staleness, bound }),
    }
}

#[cfg(test)]
mod tests;
