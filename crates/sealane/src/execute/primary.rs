//! Reaching the primary, also while there is none or another one takes its place.

use std::{future::pending, sync::Arc, time::Duration};

use sea_orm::DbErr;
use sealane_core::{
    Condition, EndpointId, Engine, ErrorCode, Health, RetryDecision, Role, Topology,
};
use tokio::time::Instant;

use super::{
    attempt::{Attempt, Ended},
    deadline::Deadline,
    opening::Opening,
    writing::Writing,
};
use crate::{Error, cluster::Cluster, error};

/// How long a probe takes, unless its server hangs.
const ASKED_WITHIN: Duration = Duration::from_secs(1);
/// So soon after the first answer a demoted server shows that it is read-only. What is refused for other
/// reasons is rare, so it may wait as long.
const SHOWN_WITHIN: Duration = Duration::from_millis(250);
/// Between two probes that are asked for.
const ASKED_AGAIN: Duration = Duration::from_millis(25);

/// How long a statement has been without a primary, and how much longer it waits for one.
#[derive(Debug, Default)]
pub(crate) struct PrimaryWait {
    until: Option<Instant>,
    /// Why the last attempt failed.
    pub(super) last: Option<DbErr>,
    /// How many attempts were begun by [`open`](Self::open).
    attempts: u32,
    /// The limit on the statement's time.
    pub(super) deadline: Deadline,
}

impl PrimaryWait {
    /// For a statement that has a deadline of its own.
    pub(super) fn until(deadline: Deadline) -> Self {
        PrimaryWait { deadline, ..PrimaryWait::default() }
    }

    /// For a statement that a replica has refused as a write: that was its first attempt.
    pub(crate) fn after_refusal() -> Self {
        PrimaryWait { attempts: 1, ..PrimaryWait::default() }
    }

    /// Opens on the current primary, or on a later one: nothing is sent, so any primary that
    /// appears within `primary_wait` will do. Calls `begun` with each attempt and the number of
    /// those before.
    ///
    /// # Errors
    /// No primary appeared in time, or the primary answered with an error that is not about its
    /// role.
    pub(crate) async fn open<O: Opening>(
        &mut self,
        cluster: &Arc<Cluster>,
        opening: &O,
        mut begun: impl FnMut(&Attempt, u32),
    ) -> Result<(Attempt, O::Output), DbErr> {
        loop {
            let footing = {
                let topology = cluster.store().topology();
                let id = topology.open_primary();
                id.and_then(|id| cluster.store().footing(&topology, id, Role::Primary))
            };
            let Some(footing) = footing else {
                self.another(cluster).await?;
                continue;
            };
            let attempt = Attempt::begin(cluster, footing, false);
            begun(&attempt, self.attempts);
            self.attempts += 1;
            match self.bounded(&attempt, attempt.open(opening), pending()).await? {
                Ok(opened) => return Ok((attempt, opened)),
                Err(ended) => self.unopened(&attempt, ended).await?,
            }
        }
    }

    /// Waits for `opening` on the primary. While the primary does not answer probes either, waits
    /// for `primary_wait` in all, or until `leaves` completes: then the statement goes elsewhere.
    ///
    /// # Errors
    /// The limit has passed.
    pub(crate) async fn bounded<T>(
        &mut self,
        attempt: &Attempt,
        opening: impl Future<Output = Result<T, Ended>>,
        leaves: impl Future<Output = ()>,
    ) -> Result<Result<T, Ended>, DbErr> {
        let (cluster, deadline) = (attempt.cluster(), self.deadline);
        // Time lost before this attempt still counts.
        let before = self.until;
        let away = async {
            if !cluster.is_watched() {
                pending::<()>().await;
            }
            loop {
                cluster.store().until(|topology| !topology.has_usable_primary()).await;
                if tokio::time::timeout_at(self.end(cluster), cluster.store().next_primary())
                    .await
                    .is_err()
                {
                    return;
                }
                // The primary is only busy: from here its pool limits the wait.
                self.until = before;
            }
        };
        tokio::select! {
            biased;
            opened = opening => Ok(opened),
            () = leaves => Ok(Err(Ended::Moved)),
            () = away => Err(self.give_up(cluster)),
            error = deadline.passes() => Err(error),
        }
    }

    /// Records that nothing could be opened, and waits until another try makes sense.
    ///
    /// # Errors
    /// Another try makes no sense: the error goes to the caller.
    pub(crate) async fn unopened(&mut self, attempt: &Attempt, ended: Ended) -> Result<(), DbErr> {
        match self.is_gone(attempt, ended)? {
            true => self.another(attempt.cluster()).await,
            false => Ok(()),
        }
    }

    /// Records that nothing could be opened. Returns whether the primary is away, as far as this
    /// shows; if not, it can be tried again at once.
    ///
    /// # Errors
    /// Another try makes no sense: the error goes to the caller.
    pub(super) fn is_gone(&mut self, attempt: &Attempt, ended: Ended) -> Result<bool, DbErr> {
        let cluster = attempt.cluster();
        // The time counts from now, not only from the next attempt on.
        let _ = self.end(cluster);
        let error = match ended {
            Ended::Moved => return Ok(false),
            Ended::Failed(error) => error,
        };
        let decision = error::with_code(&error, |code| {
            (
                RetryDecision::for_opening(cluster.engine, Role::Primary, code),
                code == ErrorCode::PoolExhausted,
            )
        });
        match decision {
            _ if !cluster.is_watched() => Err(error),
            (RetryDecision::Suspect | RetryDecision::Reconnect, _) => {
                attempt.suspect(&error);
                self.last = Some(error);
                Ok(true)
            }
            // Either the pool itself is full, or the primary is away: the pool cannot distinguish
            // the two. How long its pool waits says nothing about when there is another primary.
            (_, true) if !cluster.store().topology().has_usable_primary() => Ok(true),
            _ => Err(error),
        }
    }

    /// Waits for a primary that answers.
    ///
    /// # Errors
    /// No primary answered within `primary_wait`, or before the deadline.
    pub(crate) async fn another(&mut self, cluster: &Arc<Cluster>) -> Result<(), DbErr> {
        if !cluster.is_watched() {
            return Err(self.give_up(cluster));
        }
        let end = self.end(cluster);
        let found = tokio::time::timeout_at(end, cluster.store().next_primary()).await;
        found.map_err(|_| self.give_up(cluster))
    }

    /// Whether a write that the primary refused as read-only should run on another primary: the
    /// write was provably not executed, and the primary may have just been demoted.
    pub(crate) async fn is_worth_again(&mut self, writing: &Writing, error: &DbErr) -> bool {
        let cluster = writing.attempt().cluster();
        let is_refused = |code: ErrorCode<'_>| code.is_read_only_refusal(cluster.engine);
        if !cluster.is_watched() || !error::with_code(error, is_refused) {
            return false;
        }
        let asked = writing.attempt().endpoint();
        let mut heard = None;
        loop {
            self.hear(cluster, asked).await;
            // A primary that stays one has refused for other reasons.
            if cluster.store().topology().primary() != Some(asked) {
                return true;
            }
            // MySQL and MariaDB refuse writes a moment before `@@read_only` says why: `fix_read_only`
            // lets the waiting writers go first.
            let since = heard.get_or_insert_with(Instant::now).elapsed();
            if cluster.engine != Engine::MySql || since >= SHOWN_WITHIN {
                return false;
            }
            tokio::time::sleep(ASKED_AGAIN).await;
        }
    }

    /// Waits until `endpoint` was probed. All others are asked as well.
    async fn hear(&self, cluster: &Cluster, endpoint: EndpointId) {
        let store = cluster.store();
        let heard = store.heard_after(endpoint, store.now());
        store.nudge_all();
        let _ = tokio::time::timeout(ASKED_WITHIN, heard).await;
    }

    /// When the statement has waited long enough.
    pub(super) fn end(&mut self, cluster: &Cluster) -> Instant {
        let until = *self.until.get_or_insert_with(|| Instant::now() + cluster.primary_wait);
        self.deadline.before(until)
    }

    pub(super) fn give_up(&mut self, cluster: &Cluster) -> DbErr {
        if let Some(error) = self.deadline.passed() {
            return error;
        }
        let topology = cluster.store().topology();
        let why = match topology.primary().and_then(|id| topology.get(id)) {
            None => nobody(&topology),
            Some(state) => match &state.health {
                Health::Down { failure } => failure.told_of(state.endpoint.name()),
                _ if state.draining => format!("{} is being drained", state.endpoint.name()),
                _ => format!("{} did not take it in time", state.endpoint.name()),
            },
        };
        let waited = if cluster.is_watched() { cluster.primary_wait } else { Duration::ZERO };
        Error::NoPrimary { why, waited, cause: self.last.take() }.into()
    }
}

/// Why no endpoint is the primary.
fn nobody(topology: &Topology) -> String {
    let is_replaced = |id| topology.condition(id) == Condition::StalePrimary;
    let claims = topology.iter().filter(|(id, _)| is_replaced(*id));
    let names: Vec<&str> = claims.map(|(_, state)| state.endpoint.name()).collect();
    let status = "(see RoutedConnection::status)";
    match names.as_slice() {
        [] => format!("no endpoint is the primary now {status}"),
        names => format!(
            "no endpoint is the primary now: {} is not proved to have what the last primary wrote {status}",
            names.join(", ")
        ),
    }
}
