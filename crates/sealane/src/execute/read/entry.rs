//! The place that a read needs on the primary if it only falls back to it.

use std::sync::Arc;

use sea_orm::DbErr;
use sealane_core::{Plan, PrimaryUse, Topology};

use super::{ReadExecution, plan_now};
use crate::execute::Attempt;

impl ReadExecution {
    /// Why `attempt` may run on the primary now. A read that falls back to the primary takes a
    /// place among such reads first; if none is free, an ejected replica is better. Returns `None`
    /// if a replica is to serve the read.
    ///
    /// # Errors
    /// No place became free in time.
    pub(super) async fn enter_primary(
        &mut self,
        attempt: &mut Attempt,
    ) -> Result<Option<PrimaryUse>, DbErr> {
        let cluster = Arc::clone(attempt.cluster());
        let used = self.plan.primary_use(&self.request);
        match used {
            PrimaryUse::Asked => cluster.counts.asked.add(),
            PrimaryUse::Pinned => {
                cluster.counts.pinned.add();
                if self.caller.session_number().is_none() {
                    cluster.counts.pinned_shared.add();
                }
            }
            PrimaryUse::Fallback => {
                attempt.fallback = cluster.fallback_limit.try_enter();
                if attempt.fallback.is_none() && self.turn_to_stale() {
                    return Ok(None);
                }
                if attempt.fallback.is_none() && !self.plan.ejected().is_empty() {
                    self.plan.prefer_ejected(attempt.endpoint());
                    return Ok(None);
                }
                if attempt.fallback.is_none() && !self.enter_later(attempt).await? {
                    (self.request, self.plan) = plan_now(&self.caller, &self.route);
                    self.plan.leave_out(self.tried);
                    self.keep_from_primary().await?;
                    return Ok(None);
                }
                cluster.counts.fell_back.add();
                self.tell_of_fallback(attempt);
            }
        }
        if let Some(statement) = &self.route.statement {
            match used {
                PrimaryUse::Asked => statement.usage.asked(),
                PrimaryUse::Pinned => statement.usage.pinned(),
                PrimaryUse::Fallback => statement.usage.fell_back(),
            }
        }
        Ok(Some(used))
    }

    /// Waits for a place for `attempt` among the reads that fall back to the primary. Returns
    /// `false` if a replica that was not tried yet may serve the read before one is free.
    ///
    /// # Errors
    /// No place became free in time.
    async fn enter_later(&mut self, attempt: &mut Attempt) -> Result<bool, DbErr> {
        let cluster = Arc::clone(attempt.cluster());
        let end = self.wait.end(&cluster);
        let (caller, route, tried) = (&self.caller, &self.route, self.tried);
        let serves = |topology: &Topology| {
            let stale = route.route.fallback.accepted_staleness();
            let plan = Plan::new(topology, &caller.request(route).or_stale(stale));
            !plan.replicas().without(tried).is_empty()
        };
        let place = cluster.fallback_limit.enter(end, cluster.primary_wait);
        tokio::select! {
            biased;
            // The wait for a place ends with the read's time, too.
            permit = self.wait.deadline.bound(place) => {
                let permit = permit.map_err(|shed| self.wait.deadline.passed().unwrap_or(shed));
                attempt.fallback = Some(permit?);
            }
            () = cluster.store().until(serves) => {}
        }
        Ok(attempt.fallback.is_some())
    }
}
