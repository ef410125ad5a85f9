//! Tries an ejected endpoint with a copy of a read, so that no caller waits for the trial.
//!
//! The copy runs beside the read, and its rows are thrown away: the first row shows whether the
//! endpoint serves again, and the rest is not fetched. It runs only where the read itself could run.
//!
//! (Rejected: probes. An endpoint is ejected because it answers probes and does not serve
//! statements.)

use std::time::Duration;

use futures_util::StreamExt;
use sea_orm::Statement;
use sealane_core::{AttemptOutcome, Ejections, EndpointId, Plan, RetryDecision, Role};
use sealane_monitor::Stage;

use super::{attempt::Attempt, attempt::Ended, opening::TakeLine, overdue, read};
use crate::{caller::Caller, cluster::ReadRoute};

impl Caller {
    /// Begins the trial of an ejected endpoint that is due for one, with the read `statement`.
    pub(crate) fn try_ejected(&self, route: &ReadRoute, statement: &Statement) {
        let cluster = self.cluster();
        if cluster.ejections.ejected().is_empty() {
            return;
        }
        let Some(id) = cluster.ejections.begin_trial(cluster.store().now()) else { return };
        match self.trial(route, id) {
            Some(attempt) => {
                let limit = overdue::limit(route.statement.as_deref(), &attempt);
                tokio::spawn(run(attempt, statement.clone(), limit.unwrap_or(Ejections::TRIAL)));
            }
            // Another read may try it.
            None => {
                let now = cluster.store().now();
                cluster.judge_ejection(id, AttemptOutcome::Abandoned, now);
            }
        }
    }

    /// An attempt of the read on `id`; `None` if it must not run there.
    fn trial(&self, route: &ReadRoute, id: EndpointId) -> Option<Attempt> {
        let cluster = self.cluster();
        let topology = cluster.store().topology();
        Plan::suits(&topology, id, &self.request(route)).ok()?;
        let footing = cluster.store().footing(&topology, id, Role::Replica)?;
        Some(Attempt::begin(cluster, footing, true))
    }
}

/// Runs `statement` until its first row, and records how that went. It ends after
/// [`Ejections::TRIAL`].
async fn run(attempt: Attempt, statement: Statement, limit: Duration) {
    let outcome = match tokio::time::timeout(Ejections::TRIAL, first_row(&attempt, statement)).await
    {
        Ok(Ok(took)) if took <= limit => AttemptOutcome::Served(took),
        Ok(Ok(_)) | Err(_) => AttemptOutcome::Overdue,
        Ok(Err(Ended::Moved)) => AttemptOutcome::Abandoned,
        Ok(Err(Ended::Failed(error))) => match read::decision(&attempt, &error) {
            RetryDecision::ReturnToCaller
            | RetryDecision::AskPrimary
            | RetryDecision::LearnWrite => AttemptOutcome::Refused,
            _ => AttemptOutcome::Failed,
        },
    };
    attempt.tell(outcome);
}

/// How long the statement took to its first row, without the wait for a connection.
async fn first_row(attempt: &Attempt, statement: Statement) -> Result<Duration, Ended> {
    let line = attempt.open(&TakeLine).await?;
    let store = attempt.cluster().store();
    let sent = store.now();
    let running = async {
        let mut rows = line.stream(statement).await?;
        rows.next().await.transpose()
    };
    attempt.race(Stage::Sent, running).await?;
    Ok(store.now().since(sent))
}
