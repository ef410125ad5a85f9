//! Tries an ejected endpoint with a copy of a read, so that no caller waits for the trial.
//!
//! The copy runs beside the read, and its rows are thrown away. It runs only where the read itself
//! could run, and only if its statement has ended before and usually ends soon. An endpoint for which no such read comes
//! is used again after a while.
//!
//! (Rejected: probes. An endpoint is ejected because it answers probes and does not serve
//! statements.)

use std::time::Duration;

use sea_orm::Statement;
use sealane_core::{AttemptOutcome, EjectionChange, Ejections, EndpointId, Plan, Role, Topology};
use sealane_monitor::{Footing, Stage};

use super::{
    attempt::{Attempt, Ended},
    opening::TakeLine,
    overdue, read,
};
use crate::{
    caller::Caller,
    cluster::{Cluster, ReadRoute},
    pool::{QueryOne, Verb},
};

impl Cluster {
    /// Forgets ejections that are over without a trial. Each read does this first; and so does
    /// whoever asks for the state, because an application that is not ready gets no reads.
    pub(crate) fn settle_ejections(&self) {
        if self.ejections.ejected().is_empty() {
            return;
        }
        let (topology, now) = (self.store().topology(), self.store().now());
        for id in topology.members(self.ejections.retain(self.candidates_left(&topology))) {
            self.announce(id, Some(EjectionChange::Readmitted));
        }
        for id in topology.members(self.ejections.ejected()) {
            self.announce(id, self.ejections.readmit_untried(id, now));
        }
    }
}

impl Caller {
    /// Begins the trial of an ejected endpoint that is due for one, with the read `statement`.
    pub(crate) fn try_ejected(&self, route: &ReadRoute, statement: &Statement) {
        let ejections = &self.cluster().ejections;
        if ejections.ejected().is_empty() {
            return;
        }
        let (topology, now) = (self.cluster().store().topology(), self.cluster().store().now());
        let in_use = self.cluster().candidates_in_use(&topology);
        for id in topology.members(ejections.ejected().and(in_use)) {
            if !ejections.is_due(id, now) {
                continue;
            }
            let Some((footing, limit)) = self.trial(&topology, route, id) else { continue };
            if ejections.begin_trial(id, now) {
                let attempt = Attempt::begin(self.cluster(), footing, true);
                tokio::spawn(run(attempt, statement.clone(), limit));
                return;
            }
        }
    }

    /// What a trial of `id` with the read is based on, and how long it may take; `None` if it must
    /// not run there, or if it would take too long.
    fn trial(
        &self,
        topology: &Topology,
        route: &ReadRoute,
        id: EndpointId,
    ) -> Option<(Footing, Duration)> {
        let cluster = self.cluster();
        // One that never ended may be what breaks servers.
        route.statement.as_deref()?.pace.bound()?;
        let limit = overdue::limit(route.statement.as_deref(), cluster, id)?;
        let request = self.request(route);
        let is_primary = topology.primary() == Some(id);
        // Only reads that may take the primary's turn try whether it is quick again.
        if is_primary && !request.shares_primary || !Plan::may_try(topology, id, &request) {
            return None;
        }
        let footing = cluster.store().footing(topology, id, Role::Replica)?;
        (limit <= Ejections::TRIAL).then_some((footing, limit))
    }
}

/// Runs `statement`, and records how that went. It ends after [`Ejections::TRIAL`].
async fn run(attempt: Attempt, statement: Statement, limit: Duration) {
    let outcome = match tokio::time::timeout(Ejections::TRIAL, took(&attempt, &statement)).await {
        Ok(Ok(took)) if took <= limit => AttemptOutcome::Served(took),
        // The pool was full of other statements.
        Err(_) if !attempt.was_opened() => AttemptOutcome::Abandoned,
        Ok(Ok(_)) | Err(_) => AttemptOutcome::Overdue,
        Ok(Err(Ended::Moved)) => AttemptOutcome::Abandoned,
        // A dead connection was idle in the pool. The next trial may get another one.
        Ok(Err(Ended::Failed(_))) if !attempt.was_opened() && attempt.has_idle() => {
            AttemptOutcome::Abandoned
        }
        Ok(Err(Ended::Failed(error))) => {
            read::outcome(&attempt, &error, read::decision(&attempt, &error))
        }
    };
    let (cluster, id) = (attempt.cluster(), attempt.endpoint());
    if outcome == AttemptOutcome::Abandoned {
        cluster.ejections.release(id);
    }
    attempt.tell(outcome);
    if matches!(outcome, AttemptOutcome::Served(_)) && !cluster.ejections.is_ejected(id) {
        // What it was ejected for is over.
        cluster.loads.forgive(id);
    }
}

/// How long the statement takes, without the wait for a connection.
async fn took(attempt: &Attempt, statement: &Statement) -> Result<Duration, Ended> {
    let mut line = attempt.open(&TakeLine).await?;
    line.of_read();
    let store = attempt.cluster().store();
    let sent = store.now();
    attempt.race(Stage::Sent, QueryOne::send(&mut line, statement)).await?;
    Ok(store.now().since(sent))
}
