//! The last resort of a read whose caller allows stale data ([`FallbackPolicy::Stale`]).
//!
//! No replica is proved to be fresh enough, and the primary has no place for the read: the replica
//! that is least behind serves it. Everything else that is asked of a replica still holds, and each
//! attempt is judged again on the topology of its moment (`Plan::suits`).
//!
//! What the session saw is recorded as for an eventual read. The stale read itself may go back
//! behind what the session has seen; that is what the caller allowed. But later reads of the session
//! that are not served stale do not go back behind it: a replica may be further than what is proved
//! of it, so forgetting what it has shown would break monotonic reads.
//!
//! [`FallbackPolicy::Stale`]: sealane_core::FallbackPolicy::Stale

use sealane_core::{Plan, PrimaryUse, Role};

use super::ReadExecution;
use crate::execute::Attempt;

impl ReadExecution {
    /// Plans to be served stale, if the caller allows it and a replica can. Returns whether there is
    /// something to try now. The read may also find a fresh replica.
    pub(super) fn turn_to_stale(&mut self) -> bool {
        let Some(bound) = self.route.route.fallback.accepted_staleness() else { return false };
        if self.plan.is_stale() || self.plan.primary_use(&self.request) == PrimaryUse::Asked {
            return false;
        }
        let topology = self.caller.cluster().store().topology();
        let request = self.caller.request(&self.route);
        let mut plan = Plan::new(&topology, &request);
        plan.leave_out(self.tried);
        if !plan.replicas().is_empty() {
            (self.request, self.plan) = (request, plan);
            if self.stays_off_primary() {
                self.plan.forbid_primary();
            }
            return true;
        }
        // A fresh one that was tried does not hide those that are behind. Fresh ones that are ejected
        // are tried without this, before or after the primary.
        let among = request.among.without(self.tried);
        let request = request.among(among).or_stale(Some(bound));
        let plan = Plan::new(&topology, &request);
        if !plan.is_stale() || !plan.has_next() {
            return false;
        }
        self.tell_of_staleness("it is served stale");
        (self.request, self.plan) = (request, plan);
        true
    }

    /// The same, if the primary does not answer.
    pub(super) fn turn_to_stale_without_primary(&mut self) -> bool {
        !self.caller.cluster().store().topology().has_usable_primary() && self.turn_to_stale()
    }

    /// The same, after `attempt` could not be opened on the primary, and nothing was sent.
    pub(super) fn turn_to_stale_after(&mut self, attempt: &Attempt) -> bool {
        let is_over = self.wait.deadline.passed().is_some();
        attempt.role() == Role::Primary && !is_over && self.turn_to_stale()
    }
}
