//! Waiting for a replica that may serve the read.

use std::time::Duration;

use sealane_core::{FallbackPolicy, Plan, Topology};
use sealane_monitor::TopologyStore;
use tokio::time::Instant;

use super::{ReadExecution, plan_now};

/// A longer wait counts as endless, and is cut to this so that no clock overflows.
const LONGEST: Duration = Duration::from_secs(3600);

impl ReadExecution {
    /// How long a wait for a replica is worthwhile; `None` if it is not. `turn` is how long the read
    /// waits for the proof of its [turn](crate::execute::turn), if it has taken one.
    pub(super) fn patience(&self, turn: Option<Duration>) -> Option<Duration> {
        // While unseen statements may run, each plan asks for more than the last one.
        if !self.plan.replicas().is_empty() || self.caller.session_ref().may_act_unwatched() {
            return None;
        }
        let (cluster, readers) = (self.caller.cluster(), self.route.route.among);
        match self.route.route.fallback {
            FallbackPolicy::Wait(longest)
                if self.plan.is_behind() && cluster.store().is_worth_waiting(readers, longest) =>
            {
                Some(longest)
            }
            _ if turn.is_some() && self.plan.is_behind() => {
                turn.map(|turn| turn.max(cluster.proof_patience(readers)))
            }
            _ if self.plan.awaits_proof_only()
                && self.caller.session_ref().should_wait_for_proof() =>
            {
                Some(cluster.proof_patience(readers))
            }
            _ => None,
        }
    }

    /// Plans as soon as a replica may serve, at the latest after `patience`.
    pub(super) async fn plan_within(&mut self, patience: Duration) {
        self.has_waited = true;
        let (caller, route) = (&self.caller, &self.route);
        let serves = |topology: &Topology| {
            !Plan::new(topology, &caller.request(route)).replicas().is_empty()
        };
        let store = caller.cluster().store();
        let end = Instant::now() + patience.min(LONGEST);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            // After the limit, the plan uses what is available.
            let _ =
                tokio::time::timeout(left.min(TopologyStore::AWAITED_AGAIN), store.until(serves))
                    .await;
            // This also tells the store again that somebody waits.
            (self.request, self.plan) = plan_now(caller, route);
            if !self.plan.replicas().is_empty() || Instant::now() >= end {
                return;
            }
        }
    }
}
