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
//!
//! Nothing moves if no other endpoint may serve the read, or if the retry budget is used up. What is
//! abandoned closes its connection; PostgreSQL then ends the statement by itself
//! (`pool/guard`).
//!
//! (Rejected: one fixed limit. What is short enough for a look-up cuts off every report.)

use std::time::Duration;

use sealane_core::{AttemptOutcome, CostClass, Moment, Topology};
use sealane_monitor::Stage;
use sealane_sql::Classification;
use tokio::time::sleep;

use super::attempt::Attempt;
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
/// A light statement that never ran is overdue after this time.
const UNKNOWN_LIMIT: Duration = Duration::from_secs(2);

/// Watches over one attempt.
#[derive(Debug, Clone, Copy)]
pub(super) struct Alarm {
    /// When to look first.
    look: Duration,
    /// When the attempt is overdue although its server answers; `None` for never.
    limit: Option<Duration>,
}

impl Alarm {
    /// For `statement`. `may_be_overdue`: whether the attempt may move while its server answers.
    pub(super) fn of(statement: Option<&Classification>, may_be_overdue: bool) -> Self {
        let Some(statement) = statement else { return Alarm { look: FIRST_LOOK, limit: None } };
        let (look, limit) = match statement.pace.bound() {
            Some(bound) => {
                let limit = bound.saturating_mul(LIMIT_FACTOR).max(LEAST_LIMIT);
                (bound.saturating_mul(2).max(LEAST_LOOK), Some(limit))
            }
            None => {
                let is_light = statement.cost.class() == CostClass::Light;
                (FIRST_LOOK, is_light.then_some(UNKNOWN_LIMIT))
            }
        };
        Alarm { look, limit: limit.filter(|_| may_be_overdue) }
    }

    /// Completes when the attempt should be abandoned. Cancel safe.
    pub(super) async fn rings(self, attempt: &Attempt, stage: Stage) -> AttemptOutcome {
        let look = match stage {
            Stage::Unsent => FIRST_LOOK,
            Stage::Sent => self.look,
        };
        sleep(look).await;
        let cluster = attempt.cluster();
        let asked = cluster.store().now();
        let mut waited = look;
        if !is_lost(attempt) && !answers(attempt, asked).await {
            return attempt.abandoned(AttemptOutcome::Silent).await;
        }
        waited += cluster.store().now().since(asked);
        loop {
            let is_late = stage == Stage::Sent && self.limit.is_some_and(|limit| waited >= limit);
            if is_lost(attempt) || is_late {
                return attempt.abandoned(AttemptOutcome::Overdue).await;
            }
            let rest = self.limit.map_or(LOOK_AGAIN, |limit| limit.saturating_sub(waited));
            let nap = rest.clamp(Duration::from_millis(1), LOOK_AGAIN);
            sleep(nap).await;
            waited += nap;
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
        endpoint: sealane_core::EndpointId,
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
