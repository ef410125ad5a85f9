//! Watches over a read on a replica, and finds out whether it is worth waiting for.
//!
//! A server that dies is noticed at once. One that *hangs* is not: it is stopped, its network is
//! gone, or its query processes hang while it answers probes. So a read that takes much longer than
//! its statement usually does ([`sealane_core::Pace`]) is looked into:
//!
//! 1. Its endpoint is probed. If that is not answered soon either, the read moves to another
//!    endpoint, and this one is ejected (`sealane_core::Ejections`). The regular probe goes on, with
//!    its own limit; only that one decides whether the endpoint is down.
//! 2. If the probe is answered, the read waits on. After several times its usual duration it moves
//!    to another replica, once. If there is none it waits longer and then moves to the primary: its
//!    parameters may make it expensive, and the primary has enough to do. Several such reads eject
//!    the endpoint.
//! 3. A read on an endpoint that others had ejected moves at its next look.
//! 4. A read with a time limit moves after half of what is left of it ([`Deadline`]), if it usually
//!    takes less.
//!
//! Nothing moves if no other endpoint may serve the read, if only the primary may and has no place
//! for it, or if the retry budget is used up.
//!
//! The connection of an abandoned statement is closed. PostgreSQL notices this within a quarter of a
//! second and ends the statement (`pool/postgres`). MySQL and MariaDB are told to end it
//! (`pool/mysql/canceller`). Where they cannot be told, only few reads move because they are slow:
//! their statements would pile up.
//!
//! (Rejected: one fixed limit. What is short enough for a look-up cuts off every report.)

use std::time::Duration;

use sealane_core::{
    AttemptOutcome, CostClass, EjectionChange, EndpointId, EndpointSet, Engine, Moment,
    PrimaryReads, Topology,
};
use sealane_monitor::Stage;
use sealane_sql::Classification;
use tokio::time::{Instant, sleep};

#[cfg(doc)]
use super::deadline::Deadline;
use super::{attempt::Attempt, race::Race};
use crate::cluster::Cluster;

/// No read is looked into earlier: a busy machine delays many reads for this long.
const LEAST_LOOK: Duration = Duration::from_millis(35);
/// A statement that never ran is looked into after this time.
const FIRST_LOOK: Duration = Duration::from_millis(100);
/// How long a probe may take that a read waits for, or several times its usual time.
const ANSWERS_WITHIN: Duration = Duration::from_millis(50);
const USUAL_PROBES: u32 = 4;
/// Probes that take longer than usual extend that time up to this. The first one that a server which
/// hangs leaves unanswered is no such probe.
const MOST_WHEN_BUSY: Duration = Duration::from_millis(250);
/// How often a read is looked into again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// A timer is not more exact.
const LEAST_SLEEP: Duration = Duration::from_millis(1);
/// No read is overdue earlier, even if its server answers probes.
const LEAST_LIMIT: Duration = Duration::from_millis(200);
/// After this many times the longest usual time, a read is overdue.
const LIMIT_FACTOR: u32 = 4;
/// The same for the round trips to a server that is far away.
const ROUND_TRIPS: u32 = 4;
/// A read that could only move to the primary waits so many times longer.
const PRIMARY_FACTOR: u32 = 5;
/// A wait that takes this much longer than its limit shows that this process was stopped.
const STALL: Duration = Duration::from_millis(25);
/// So often in a row the process may be stopped.
const STALLS: u32 = 3;
/// A light statement that never ran is overdue after this time.
const UNKNOWN_LIMIT: Duration = Duration::from_secs(2);

/// Watches over one attempt.
#[derive(Debug, Clone, Copy)]
pub(super) struct Alarm<'a> {
    attempt: &'a Attempt,
    /// Its read is one of two that run at the same time.
    race: Option<&'a Race>,
    /// When to look first.
    look: Duration,
    /// When the attempt is overdue although its server answers; `None` for never.
    limit: Option<Duration>,
    exits: Exits,
}

/// Where a read may go that leaves its replica although this replica's server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exits {
    None,
    Replicas,
    Primary,
}

/// When an attempt at `statement` on `endpoint` is overdue although its server answers; `None` for never.
pub(super) fn limit(
    statement: Option<&Classification>,
    cluster: &Cluster,
    endpoint: EndpointId,
) -> Option<Duration> {
    let statement = statement?;
    let Some(bound) = statement.pace.bound() else {
        return (statement.cost.class() == CostClass::Light).then_some(UNKNOWN_LIMIT);
    };
    let topology = cluster.store().topology();
    let least_probe = topology.get(endpoint).and_then(|state| state.least_probe_time);
    let far = least_probe.unwrap_or_default().saturating_mul(ROUND_TRIPS);
    Some(bound.saturating_mul(LIMIT_FACTOR).max(LEAST_LIMIT).max(far))
}

/// When `attempt` at `statement` is looked into.
pub(super) fn look(statement: Option<&Classification>) -> Duration {
    let bound = statement.and_then(|statement| statement.pace.bound());
    bound.map_or(FIRST_LOOK, |bound| bound.saturating_mul(2).max(LEAST_LOOK))
}

impl<'a> Alarm<'a> {
    /// For `attempt` at `statement`, which is not on the primary. `exits`: where it may go.
    pub(super) fn of(
        statement: Option<&Classification>,
        attempt: &'a Attempt,
        race: Option<&'a Race>,
        exits: Exits,
    ) -> Self {
        let limit = limit(statement, attempt.cluster(), attempt.endpoint());
        let limit = match exits {
            Exits::None => None,
            Exits::Replicas => limit,
            Exits::Primary => limit.map(|limit| limit.saturating_mul(PRIMARY_FACTOR)),
        };
        Alarm { attempt, race, look: look(statement), limit, exits }
    }

    /// The same, but however long the attempt takes, this is no fault.
    pub(super) fn without_limit(self) -> Self {
        Alarm { limit: None, ..self }
    }

    /// Completes when the attempt should be abandoned. Cancel safe.
    pub(super) async fn rings(self, stage: Stage) -> AttemptOutcome {
        // Moments count the time for which the machine was suspended.
        let (attempt, began) = (self.attempt, Instant::now());
        let (look, limit) = match stage {
            Stage::Unsent => (LEAST_LOOK, None),
            Stage::Sent => (self.look, self.limit),
        };
        let share = attempt.share.map(|share| share.saturating_sub(attempt.age()));
        sleep(share.map_or(look, |share| share.min(look))).await;
        let is_known_as_slow = was_ejected_meanwhile(attempt) && self.has_room();
        if !is_known_as_slow && !answers(attempt).await {
            return self.leaves(AttemptOutcome::Silent, began).await;
        }
        loop {
            let waited = began.elapsed();
            let has_passed = |end: Option<Duration>| end.is_some_and(|end| waited >= end);
            if self.may_leave(waited) {
                if was_ejected_meanwhile(attempt) || has_passed(limit) {
                    return self.leaves(AttemptOutcome::Overdue, began).await;
                }
                if has_passed(share) {
                    // The caller may have asked for the impossible.
                    return self.leaves(AttemptOutcome::Outrun, began).await;
                }
            }
            // One that has passed need not be waited for.
            let ends = [limit, share].into_iter().flatten().filter(|end| *end > waited).min();
            let rest = ends.map_or(LOOK_AGAIN, |end| end.saturating_sub(waited));
            sleep(rest.clamp(LEAST_SLEEP, LOOK_AGAIN)).await;
        }
    }

    /// Whether the read may leave its replica, which answers, after it has `waited`. A slow answer is
    /// better than a place in a queue; but the replica may owe the answer for ever.
    fn may_leave(self, waited: Duration) -> bool {
        let cluster = self.attempt.cluster();
        let is_long = || {
            let limit = self.limit.filter(|_| !cluster.primary_wait.is_zero());
            limit.is_some_and(|limit| waited >= limit + cluster.primary_wait)
        };
        self.has_room() || is_long() && cluster.store().topology().has_usable_primary()
    }

    /// Whether the read can run elsewhere at once.
    fn has_room(self) -> bool {
        let cluster = self.attempt.cluster();
        self.exits != Exits::Primary
            || cluster.fallback_limit.has_room() && cluster.store().topology().has_usable_primary()
    }

    /// Records `outcome`, takes a retry from the budget and returns `outcome`. Without a retry, the
    /// attempt goes on.
    async fn leaves(self, outcome: AttemptOutcome, began: Instant) -> AttemptOutcome {
        let attempt = self.attempt;
        // A place in a queue says nothing about the server.
        let is_queued =
            outcome == AttemptOutcome::Outrun && !attempt.was_opened() && attempt.is_pool_busy();
        attempt.tell(if is_queued { AttemptOutcome::Abandoned } else { outcome });
        let (cluster, store) = (attempt.cluster(), attempt.cluster().store());
        let answers = outcome != AttemptOutcome::Silent;
        let is_stuck = || {
            // Nobody waits for the attempt.
            self.race.is_some_and(Race::is_over) || answers && !self.may_leave(began.elapsed())
        };
        while is_stuck() || !cluster.retries.withdraw(store.now()) {
            sleep(LOOK_AGAIN).await;
        }
        let goes_on = answers && cluster.engine == Engine::MySql && !cancels(attempt);
        while goes_on && !cluster.left_running.withdraw(store.now()) {
            sleep(LOOK_AGAIN).await;
        }
        cluster.counts.overdue.add();
        tracing::debug!(
            target: "sealane::route", endpoint = attempt.place(), ?outcome, age = ?attempt.age(),
            "read abandoned"
        );
        outcome
    }
}

/// Whether a server of MySQL or MariaDB ends the attempt when it is abandoned.
#[cfg(feature = "mysql")]
fn cancels(attempt: &Attempt) -> bool {
    attempt.cluster().pools.cancels(attempt.endpoint())
}

#[cfg(not(feature = "mysql"))]
fn cancels(_: &Attempt) -> bool {
    false
}

/// Whether the endpoint was ejected since the attempt began.
fn was_ejected_meanwhile(attempt: &Attempt) -> bool {
    !attempt.began_ejected() && attempt.cluster().ejections.is_ejected(attempt.endpoint())
}

/// Whether the endpoint answers a probe that was sent after the attempt began.
async fn answers(attempt: &Attempt) -> bool {
    let (cluster, endpoint) = (attempt.cluster(), attempt.endpoint());
    let store = cluster.store();
    let usual = {
        let topology = store.topology();
        let times = topology.get(endpoint).map(|state| (state.least_probe_time, state.probe_time));
        let (least, last) = times.unwrap_or_default();
        let several =
            |time: Option<Duration>| time.unwrap_or_default().saturating_mul(USUAL_PROBES);
        // Where all servers are busy, all probes take long.
        several(least).max(several(last).min(MOST_WHEN_BUSY)).max(ANSWERS_WITHIN)
    };
    // The probe may have to wait for its turn.
    let limit = usual + cluster.quick;
    for _ in 0..STALLS {
        store.nudge(endpoint);
        let began = Instant::now();
        let heard = store.heard_after(endpoint, attempt.started());
        match tokio::time::timeout(limit, heard).await {
            Ok(heard) => return heard.is_ok(),
            // This process was stopped for a while, so nobody could hear the answer.
            Err(_) if began.elapsed() > limit + STALL => {}
            Err(_) => return false,
        }
    }
    true
}

impl Cluster {
    /// Ejects or readmits an endpoint, where an attempt that began at `began` shows it.
    pub(super) fn judge_ejection(
        &self,
        endpoint: EndpointId,
        outcome: AttemptOutcome,
        began: Moment,
    ) {
        let (store, now) = (self.store(), self.store().now());
        let left = || self.candidates_beside(&store.topology(), endpoint);
        let change = self.ejections.ended(endpoint, outcome, began, now, left);
        self.announce(endpoint, change);
    }

    pub(super) fn announce(&self, endpoint: EndpointId, change: Option<EjectionChange>) {
        if let Some(change) = change {
            self.store().announce(change.event(endpoint));
        }
    }

    /// The endpoints in use that balancers choose from: the replicas, and the primary if it takes
    /// its turn.
    pub(super) fn candidates_in_use(&self, topology: &Topology) -> EndpointSet {
        let shared = (self.reading.primary_reads == PrimaryReads::Always)
            .then(|| topology.open_primary().filter(|_| topology.has_usable_primary()))
            .flatten();
        topology.able_replicas().or(shared.into_iter().collect())
    }

    /// The same, and replicas that only a statement has taken out of use: they will be back in a moment.
    pub(super) fn candidates_left(&self, topology: &Topology) -> EndpointSet {
        self.candidates_in_use(topology).or(topology.suspected_replicas())
    }

    /// Those of them that serve the same reads as `id`, with it.
    fn candidates_beside(&self, topology: &Topology, id: EndpointId) -> EndpointSet {
        let group = topology.get(id).and_then(|state| state.endpoint.group());
        let beside = group.and_then(|name| topology.group(name)).unwrap_or(topology.ungrouped());
        self.candidates_left(topology).and(beside)
    }
}
