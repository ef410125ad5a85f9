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
//!    as well, once. Several such reads in a row eject the endpoint.
//! 3. A read on an endpoint that others had ejected moves at its next look.
//! 4. A read with a time limit moves after half of what is left of it ([`Deadline`]).
//!
//! Nothing moves if no other endpoint may serve the read, or if the retry budget is used up.
//!
//! What is abandoned closes its connection. PostgreSQL notices this within a quarter of a second and
//! ends the statement (`pool/postgres`). MySQL and MariaDB notice it when they send the result.
//!
//! (Rejected: one fixed limit. What is short enough for a look-up cuts off every report.)

use std::time::Duration;

use sealane_core::{AttemptOutcome, CostClass, EndpointId, Moment, Topology};
use sealane_monitor::Stage;
use sealane_sql::Classification;
use tokio::time::sleep;

use super::{attempt::Attempt, deadline::Deadline};
use crate::cluster::Cluster;

/// No read is looked into earlier: a busy machine delays many reads for this long.
const LEAST_LOOK: Duration = Duration::from_millis(50);
/// A statement that never ran is looked into after this time, and so is a wait for a connection.
const FIRST_LOOK: Duration = Duration::from_millis(100);
/// How long a probe may take that a read waits for, or several times its usual time.
const ANSWERS_WITHIN: Duration = Duration::from_millis(75);
const USUAL_PROBES: u32 = 4;
/// How often a read is looked into again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// No read is overdue earlier, even if its server answers probes.
const LEAST_LIMIT: Duration = Duration::from_millis(200);
/// After this many times the longest usual time, a read is overdue.
const LIMIT_FACTOR: u32 = 4;
/// The same for the round trips to a server that is far away.
const ROUND_TRIPS: u32 = 4;
/// A light statement that never ran is overdue after this time.
const UNKNOWN_LIMIT: Duration = Duration::from_secs(2);

/// Watches over one attempt.
#[derive(Debug, Clone, Copy)]
pub(super) struct Alarm {
    /// When to look first.
    look: Duration,
    /// When the attempt is overdue although its server answers; `None` for never.
    limit: Option<Duration>,
    /// What the attempt gets of the read's time; `None` for all of it.
    share: Option<Duration>,
}

/// When `attempt` at `statement` is overdue although its server answers; `None` for never.
pub(super) fn limit(statement: Option<&Classification>, attempt: &Attempt) -> Option<Duration> {
    let statement = statement?;
    let Some(bound) = statement.pace.bound() else {
        return (statement.cost.class() == CostClass::Light).then_some(UNKNOWN_LIMIT);
    };
    let topology = attempt.cluster().store().topology();
    let least_probe = topology.get(attempt.endpoint()).and_then(|state| state.least_probe_time);
    let far = least_probe.unwrap_or_default().saturating_mul(ROUND_TRIPS);
    Some(bound.saturating_mul(LIMIT_FACTOR).max(LEAST_LIMIT).max(far))
}

impl Alarm {
    /// For `attempt` at `statement`. `may_be_overdue`: whether the attempt may move while its server
    /// answers.
    pub(super) fn of(
        statement: Option<&Classification>,
        attempt: &Attempt,
        may_be_overdue: bool,
        deadline: Deadline,
    ) -> Self {
        let bound = statement.and_then(|statement| statement.pace.bound());
        let look = bound.map_or(FIRST_LOOK, |bound| bound.saturating_mul(2).max(LEAST_LOOK));
        let limit = if may_be_overdue { limit(statement, attempt) } else { None };
        Alarm { look, limit, share: deadline.share() }
    }

    /// Completes when the attempt should be abandoned. Cancel safe.
    pub(super) async fn rings(self, attempt: &Attempt, stage: Stage) -> AttemptOutcome {
        let look = match stage {
            Stage::Unsent => FIRST_LOOK,
            Stage::Sent => self.look,
        };
        let limit = self.limit.filter(|_| stage == Stage::Sent);
        let store = attempt.cluster().store();
        let began = store.now();
        sleep(self.share.map_or(look, |share| share.min(look))).await;
        if !is_lost(attempt) && !answers(attempt, store.now()).await {
            return attempt.abandoned(AttemptOutcome::Silent).await;
        }
        loop {
            let waited = store.now().since(began);
            if is_lost(attempt) || limit.is_some_and(|limit| waited >= limit) {
                return attempt.abandoned(AttemptOutcome::Overdue).await;
            }
            if self.share.is_some_and(|share| waited >= share) {
                // The caller may have asked for the impossible.
                return attempt.abandoned(AttemptOutcome::Abandoned).await;
            }
            let ends = [limit, self.share].into_iter().flatten().min();
            let rest = ends.map_or(LOOK_AGAIN, |end| end.saturating_sub(waited));
            sleep(rest.clamp(Duration::from_millis(1), LOOK_AGAIN)).await;
        }
    }
}

/// Whether the endpoint was ejected since the attempt began.
fn is_lost(attempt: &Attempt) -> bool {
    !attempt.began_ejected() && attempt.cluster().ejections.is_ejected(attempt.endpoint())
}

/// Whether the endpoint answers a probe that is sent after `asked`.
async fn answers(attempt: &Attempt, asked: Moment) -> bool {
    let (store, endpoint) = (attempt.cluster().store(), attempt.endpoint());
    let usual = store.topology().get(endpoint).and_then(|state| state.probe_time);
    let limit = usual.unwrap_or_default().saturating_mul(USUAL_PROBES).max(ANSWERS_WITHIN);
    store.nudge(endpoint);
    tokio::time::timeout(limit, store.heard_after(endpoint, asked)).await.is_ok()
}

impl Attempt {
    /// Takes a retry from the budget and returns `outcome`. Without one, the attempt goes on.
    async fn abandoned(&self, outcome: AttemptOutcome) -> AttemptOutcome {
        let cluster = self.cluster();
        while !cluster.retries.withdraw(cluster.store().now()) {
            sleep(LOOK_AGAIN).await;
        }
        cluster.counts.overdue.add();
        tracing::debug!(
            target: "sealane::route", endpoint = self.place(), ?outcome, age = ?self.age(),
            "read abandoned"
        );
        outcome
    }
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
        let fleet = || Topology::replicas_in_use(&store.topology()).len();
        let change = self.ejections.ended(endpoint, outcome, began, now, fleet);
        if let Some(change) = change {
            store.announce(change.event(endpoint));
        }
    }
}
