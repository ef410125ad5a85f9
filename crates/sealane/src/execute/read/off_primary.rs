//! Reads that would fall back to a primary which is not there for them: it serves intended reads only
//! ([`PrimaryReads::Intended`]), or it is away.
//!
//! Such a read waits for a replica, for as long as others wait for a primary, or for as long as its
//! [`FallbackPolicy::Wait`] says; then it is shed. It is not shed while a replica would answer: it
//! does not leave its last replica for being slow, and when every replica was tried it tries them
//! again.
//!
//! If the primary is away, whichever comes first serves the read: a primary, or a replica. Replicas
//! that were silent for a moment, as all servers of a busy machine may be, are tried again and again.
//! A replica that has lost the read's connection is tried again after a probe that began later, or
//! after a second.

use std::{future::pending, time::Duration};

use sea_orm::DbErr;
use sealane_core::{FallbackPolicy, Plan, PrimaryReads, PrimaryUse, Topology};
use sealane_monitor::TopologyStore;
use tokio::time::{Instant, sleep_until, timeout};

use super::{Loss, ReadExecution, plan_now};
use crate::{BoxFuture, Error};

/// How often a read tries all replicas without a pause; one that could run on a primary which is only
/// for intended reads then fails as its last attempt did.
const ROUNDS: u32 = 2;
/// The first pause before it tries them once more. Each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(320);

impl ReadExecution {
    /// Whether the plan would have it fall back to a primary that is not there for it.
    pub(super) fn stays_off_primary(&self) -> bool {
        self.is_kept_off_primary() || self.misses_primary()
    }

    /// Whether the plan would have it fall back to a primary that is only for intended reads.
    pub(super) fn is_kept_off_primary(&self) -> bool {
        self.caller.cluster().reading.primary_reads == PrimaryReads::Intended
            && !self.only_replicas()
            && self.plan.primary_use(&self.request) == PrimaryUse::Fallback
    }

    /// Whether the primary is away, and a replica may serve the read as well.
    pub(super) fn misses_primary(&self) -> bool {
        self.may_leave_primary() && !self.caller.cluster().store().topology().has_usable_primary()
    }

    /// Whether a replica may serve the read, too, as far as the read is concerned.
    fn may_leave_primary(&self) -> bool {
        self.caller.cluster().is_watched()
            && !self.only_replicas()
            && self.plan.primary_use(&self.request) != PrimaryUse::Asked
    }

    /// Whether the replicas may be tried once more after an attempt that failed.
    pub(super) fn tries_replicas_again(&self) -> bool {
        self.misses_primary() || self.is_kept_off_primary() && self.rounds + 1 < ROUNDS
    }

    /// Completes when the primary is away and a replica may serve the read; never for one that asks
    /// for the primary.
    pub(super) async fn may_leave_lost_primary(&self) {
        if !self.may_leave_primary() {
            return pending().await;
        }
        let serves = |topology: &Topology| {
            !topology.has_usable_primary() && {
                let mut plan = Plan::new(topology, &self.caller.request(&self.route));
                plan.forbid_primary();
                plan.has_next()
            }
        };
        self.caller.cluster().store().until(serves).await;
    }

    /// As [`plan_for_replica`](Self::plan_for_replica), in a box: few reads wait, and what they need
    /// would make the future of every read larger, and its type too deep for an application's compiler.
    pub(super) fn wait_for_replica(&mut self) -> BoxFuture<'_, Result<(), DbErr>> {
        Box::pin(self.plan_for_replica())
    }

    /// Plans as soon as a replica may serve, even an ejected one; if the primary is away, also as soon
    /// as there is one.
    ///
    /// # Errors
    /// No replica appeared in time, or those that did have failed again.
    async fn plan_for_replica(&mut self) -> Result<(), DbErr> {
        let cluster = self.caller.cluster().clone();
        let (began, most) = (Instant::now(), self.wait.end(&cluster));
        if let Some(again) = self.rounds.checked_sub(ROUNDS) {
            let is_kept_off = self.is_kept_off_primary();
            if let Some(error) = self.last_error.take_if(|_| is_kept_off) {
                return Err(error);
            }
            let pause = PAUSE.saturating_mul(2_u32.saturating_pow(again)).min(LONGEST_PAUSE);
            tokio::select! {
                () = sleep_until(most.min(began + pause)) => {}
                () = cluster.store().next_primary(), if !is_kept_off => {}
            }
        }
        loop {
            (self.request, self.plan) = plan_now(&self.caller, &self.route);
            if !self.stays_off_primary() {
                return Ok(());
            }
            // A later plan may use the primary in another way: a primary that is there ends no wait for
            // a replica then.
            let is_kept_off = self.is_kept_off_primary();
            let end = match self.route.route.fallback {
                _ if !is_kept_off => most,
                FallbackPolicy::Wait(_) if self.has_waited => began,
                FallbackPolicy::Wait(longest) => {
                    began.checked_add(longest).map_or(most, |end| end.min(most))
                }
                _ => most,
            };
            self.plan.forbid_primary();
            let unprobed = leave_out_unprobed(&mut self.plan, self.lost_on, cluster.store());
            let end = unprobed.map_or(end, |loss| end.max(loss.until));
            if !self.plan.has_next() && self.turn_to_stale() {
                return Ok(());
            }
            let left = end.saturating_duration_since(Instant::now());
            // Replicas that come and go do not keep it here for ever.
            if self.plan.has_next() && (!left.is_zero() || self.rounds <= ROUNDS) {
                return Ok(());
            }
            if left.is_zero() {
                if !is_kept_off {
                    self.wait.last = self.wait.last.take().or_else(|| self.last_error.take());
                    return Err(self.wait.give_up(&cluster));
                }
                let shed = || Error::Shed { limit: 0, waited: began.elapsed() }.into();
                let last = || self.last_error.take().unwrap_or_else(shed);
                return Err(self.wait.deadline.passed().unwrap_or_else(last));
            }
            let (caller, route, tried) = (&self.caller, &self.route, self.tried);
            let lost_on = self.lost_on;
            let serves = |topology: &Topology| {
                let stale = route.route.fallback.accepted_staleness();
                let mut plan = Plan::new(topology, &caller.request(route).or_stale(stale));
                plan.forbid_primary();
                leave_out_unprobed(&mut plan, lost_on, caller.cluster().store());
                if plan.is_stale() {
                    // Stale replicas are tried once, so those that were tried end no wait.
                    plan.leave_out(tried);
                }
                plan.has_next()
            };
            let turn = left.min(TopologyStore::AWAITED_AGAIN);
            let found = async {
                tokio::select! {
                    () = cluster.store().until(serves) => {}
                    () = cluster.store().next_primary(), if !is_kept_off => {}
                }
            };
            let _ = timeout(turn, found).await;
        }
    }
}

/// Takes the replica that lost a connection out of the plan while it [may not be
/// tried](Loss::is_unprobed), and returns the loss then.
fn leave_out_unprobed(
    plan: &mut Plan,
    lost_on: Option<Loss>,
    store: &TopologyStore,
) -> Option<Loss> {
    let unprobed = lost_on.filter(|loss| loss.is_unprobed(store))?;
    plan.leave_out([unprobed.endpoint].into_iter().collect());
    Some(unprobed)
}

impl Loss {
    /// Whether a probe that began later may still tell of the replica.
    fn is_unprobed(&self, store: &TopologyStore) -> bool {
        store.heard(self.endpoint, self.at).is_none() && Instant::now() < self.until
    }
}
