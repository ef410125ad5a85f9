//! A read is judged again if it waited for its connection.

use std::time::Duration;

use sea_orm::DbErr;
use sealane_core::{AttemptOutcome, Consistency, Plan, Refusal, Role};

use super::{ReadExecution, plan_now};
use crate::execute::Attempt;

/// A free connection of a pool takes less time than this. For so long a replica that was found fresh
/// enough need not be judged again.
const NO_WAIT: Duration = Duration::from_millis(1);

impl ReadExecution {
    /// Whether an attempt that has just been opened is fresh enough for its read. It was judged
    /// before it waited for its connection, and since then its server may have fallen behind, or
    /// may have missed a promotion.
    pub(super) fn is_still_fresh(&mut self, attempt: &Attempt) -> bool {
        let (consistency, has_policy) = (self.request.consistency, self.request.policy.is_some());
        let may_be_old = consistency == Consistency::Eventual && !has_policy;
        if may_be_old || attempt.role() == Role::Primary || attempt.waited() < NO_WAIT {
            return true;
        }
        let store = attempt.cluster().store();
        self.request.now = store.now();
        match Plan::suits(&store.topology(), attempt.endpoint(), &self.request) {
            Ok(()) => true,
            // Another statement failed there. This connection is open, and what the replica has
            // replayed, it keeps; only how old that is by now is not known.
            Err(Refusal::Down | Refusal::Probation) => {
                consistency == Consistency::ReadYourWrites && !has_policy
            }
            Err(_) => false,
        }
    }

    /// Plans anew, once, because `attempt` fell behind before it had its connection.
    ///
    /// # Errors
    /// No replica is good enough, and the read must not run on the primary.
    pub(super) async fn begin_anew(&mut self, attempt: Attempt) -> Result<(), DbErr> {
        attempt.tell(AttemptOutcome::Abandoned);
        let endpoint = attempt.endpoint();
        self.leaves(&attempt, "it fell behind");
        drop(attempt);
        if std::mem::replace(&mut self.began_anew, true) {
            return Ok(());
        }
        (self.request, self.plan) = plan_now(&self.caller, &self.route);
        if let Some(patience) = self.patience(None) {
            self.plan_within(patience).await;
        }
        self.tried.remove(endpoint);
        self.plan.leave_out(self.tried);
        let kept = self.keep_from_primary().await;
        kept.map_err(|none| self.last_error.take().unwrap_or(none))
    }
}
