//! Watches over the attempts of a read, and learns how long its statement takes.

use std::{future::pending, time::Duration};

use sealane_core::{AttemptOutcome, Moment, Role};
use sealane_monitor::Stage;

use super::{ReadExecution, telling};
use crate::execute::{
    Attempt, Ended,
    overdue::{Alarm, Exits},
};

impl ReadExecution {
    /// Waits for `running`, a step of `attempt`, until the attempt is overdue at most.
    pub(crate) async fn watched<T>(
        &mut self,
        attempt: &Attempt,
        stage: Stage,
        running: impl Future<Output = Result<T, Ended>>,
    ) -> Result<T, Ended> {
        let deadline = self.wait.deadline;
        let alarm = self.alarm(attempt);
        let alarm = async {
            match alarm {
                Some(alarm) => alarm.rings(stage).await,
                None => pending().await,
            }
        };
        let outcome = tokio::select! {
            biased;
            ended = running => return ended,
            outcome = alarm => outcome,
            error = deadline.passes() => return Err(Ended::Failed(error)),
        };
        self.leaves(attempt, telling::words(outcome));
        self.was_overdue |= outcome != AttemptOutcome::Silent;
        if stage == Stage::Sent && outcome == AttemptOutcome::Overdue {
            self.note_overdue(attempt.since_open());
        }
        Err(Ended::Moved)
    }

    /// What watches over `attempt`; `None` if nobody else could serve the read.
    fn alarm<'a>(&'a self, attempt: &'a Attempt) -> Option<Alarm<'a>> {
        let cluster = attempt.cluster();
        let is_worth = attempt.role() == Role::Replica
            && cluster.is_watched()
            && !cluster.monitor.is_stopped()
            && cluster.ejections.is_on();
        if !is_worth {
            return None;
        }
        let is_primary_there = || {
            self.plan.primary().is_some_and(|id| id != attempt.endpoint())
                && cluster.store().topology().has_usable_primary()
        };
        let exits = match self.plan.replicas().is_empty() {
            false => Exits::Replicas,
            true if is_primary_there() => Exits::Primary,
            // Better than a server that is silent.
            true if !self.plan.ejected().is_empty() => Exits::None,
            true => return None,
        };
        let alarm =
            Alarm::of(self.route.statement.as_deref(), attempt, self.race.as_deref(), exits);
        let may_be_slow = self.was_overdue || self.is_unknown_stream();
        Some(if may_be_slow { alarm.without_limit() } else { alarm })
    }

    /// Whether nobody knows how long its first row takes.
    fn is_unknown_stream(&self) -> bool {
        let statement = self.route.statement.as_deref();
        self.is_stream && statement.is_none_or(|statement| statement.pace.bound().is_none())
    }

    /// Records how long the statement took since it was `sent`.
    pub(crate) fn note_pace(&self, sent: Moment) {
        self.note_pace_of(self.caller.cluster().store().now().since(sent));
    }

    /// Records that the statement would have taken longer than this. It counts as little more than
    /// usual: a fault of one server must not make the next fault be looked into late. If the statement
    /// itself is slow now, its next attempt shows it.
    fn note_overdue(&self, took: Duration) {
        let bound = self.route.statement.as_ref().and_then(|statement| statement.pace.bound());
        self.note_pace_of(bound.map_or(took, |bound| took.min(bound.saturating_mul(2))));
    }

    fn note_pace_of(&self, took: Duration) {
        if let Some(statement) = &self.route.statement {
            statement.pace.record(took);
        }
    }
}
