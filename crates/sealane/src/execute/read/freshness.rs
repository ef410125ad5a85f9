//! A read is judged again if it waited for its connection.

use std::time::Duration;

use sea_orm::DbErr;
use sealane_core::{AttemptOutcome, Consistency, Plan, Role};

use super::{ReadExecution, plan_now};
use crate::execute::Attempt;

/// A free connection of a pool takes less time than this. For so long a replica that was found fresh
/// enough need not be judged again.
const NO_WAIT: Duration = Duration::from_millis(1);

impl ReadExecution {
    /// Whether an attempt that has just been opened is fresh enough for its read. It was judged
    /// before it waited for its connection, and its server may have fallen behind since then. What
    /// a replica has replayed, it keeps; so only bounds in time are judged again.
    pub(super) fn is_still_fresh(&mut self, attempt: &Attempt) -> bool {
        let is_bounded = matches!(self.request.consistency, Consistency::BoundedStaleness(_))
            || self.request.policy.is_some();
        if !is_bounded || attempt.role() == Role::Primary || attempt.waited() < NO_WAIT {
            return true;
        }
        let store = attempt.cluster().store();
        self.request.now = store.now();
        Plan::suits(&store.topology(), attempt.endpoint(), &self.request).is_ok()
    }

    /// Plans anew, once, because `attempt` fell behind before it had its connection.
    ///
    /// # Errors
    /// No replica is good enough, and the read must not run on the primary.
    pub(super) async fn begin_anew(&mut self, attempt: Attempt) -> Result<(), DbErr> {
        attempt.tell(AttemptOutcome::Abandoned);
        let endpoint = attempt.endpoint();
        drop(attempt);
        if std::mem::replace(&mut self.began_anew, true) {
            return Ok(());
        }
        (self.request, self.plan) = plan_now(&self.caller, &self.route);
        if let Some(patience) = self.patience() {
            self.plan_within(patience).await;
        }
        self.tried.remove(endpoint);
        self.plan.leave_out(self.tried);
        self.keep_from_primary()
    }
}
