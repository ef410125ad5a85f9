//! What follows from an attempt without a result.

use std::time::Duration;

use sea_orm::DbErr;
use sealane_core::{AttemptOutcome, EndpointSet, Engine, ErrorCode, Moment, RetryDecision, Role};
use tokio::time::{Instant, timeout_at};

use super::{Loss, Next, ReadExecution};
use crate::{
    Error, error,
    execute::{Attempt, Ended},
};

/// A server that has just cut a connection answers a probe within a round trip or two, unless the
/// server is away, too.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

/// MySQL does not say that an administrator has ended a connection. Nobody would find and end a
/// statement that runs for less than this.
const LONG_ENOUGH_TO_BE_KILLED: Duration = Duration::from_secs(1);

/// How many connections in a row may turn out to be closed. No pool holds more than this; beyond
/// it, something in between closes every connection.
const MAX_RENEWED: u32 = 100;

impl ReadExecution {
    /// Decides what follows an attempt that was sent and ended without a result.
    pub(crate) async fn ended(&mut self, attempt: &Attempt, ended: Ended) -> Next {
        let error = match ended {
            // Another endpoint may answer. What this one does with the statement does not matter.
            Ended::Moved => return self.moves_on(attempt),
            Ended::Failed(error) => error,
        };
        if matches!(Error::of(&error), Some(Error::ReadTimeout { .. })) {
            return Next::GiveUp(error);
        }
        let engine = attempt.cluster().engine;
        let decision = match (decision(attempt, &error), was_ended_there(attempt, &error)) {
            // PostgreSQL reports the same error when it shuts down.
            (RetryDecision::Suspect, true) if engine == Engine::MySql => RetryDecision::Reconnect,
            (decision, _) => decision,
        };
        let condition = condition(attempt, &error);
        tracing::debug!(
            target: "sealane::route", endpoint = attempt.place(), ?decision, condition, %error,
            "read failed"
        );
        attempt.tell(outcome(attempt, &error, decision));
        match decision {
            RetryDecision::TryElsewhere => {
                let cluster = attempt.cluster();
                if !cluster.retries.withdraw(cluster.store().now()) {
                    return Next::GiveUp(error);
                }
            }
            RetryDecision::Reconnect => {
                let is_second = self.lost(attempt);
                // Checks whether the server goes on, which is most likely.
                let asked = attempt.cluster().store().probe_anew(attempt.endpoint());
                if is_second || self.was_terminated(attempt, &error, asked).await {
                    return Next::GiveUp(error);
                }
                if attempt.role() == Role::Primary {
                    self.plan.retry_primary(attempt.endpoint());
                }
            }
            RetryDecision::Suspect => {
                let (is_second, asked) = (self.lost(attempt), attempt.cluster().store().now());
                attempt.suspect(&error);
                if is_second || self.was_terminated(attempt, &error, asked).await {
                    return Next::GiveUp(error);
                }
                if attempt.role() == Role::Primary {
                    // The connection may have died in the pool; one more try finds out. It waits
                    // for a probe first, because other connections of the pool may be dead as well.
                    let store = attempt.cluster().store();
                    let heard = store.heard_after(attempt.endpoint(), asked);
                    let _ = timeout_at(self.sign_of_life(), heard).await;
                    self.plan.retry_primary(attempt.endpoint());
                }
            }
            RetryDecision::Renew => {
                self.renewed += 1;
                if self.renewed > MAX_RENEWED {
                    return Next::GiveUp(error);
                }
                if attempt.role() == Role::Primary {
                    self.plan.retry_primary(attempt.endpoint());
                }
            }
            RetryDecision::AskPrimary => self.asks_primary(),
            RetryDecision::LearnWrite => return Next::Write,
            // Core may add more decisions; returning the error is always possible.
            _ => return Next::GiveUp(error),
        }
        match self.goes_on(decision) {
            true => {
                attempt.cluster().counts.retried.add();
                self.leaves_failed(attempt, condition, &error);
                self.last_error = Some(error);
                Next::Retry
            }
            false => Next::GiveUp(error),
        }
    }

    /// Whether another attempt may follow. If only the primary can serve the statement, and there is
    /// none now, the next plan waits for one.
    fn goes_on(&mut self, decision: RetryDecision) -> bool {
        let awaits_primary = decision == RetryDecision::AskPrimary && self.route.stays_on_primary;
        awaits_primary
            || self.plan.has_next()
            || self.plan.is_stale()
            || self.tries_replicas_again()
    }

    /// Only the primary can serve the statement, so the statement counts as asking for it.
    fn asks_primary(&mut self) {
        if !self.only_replicas() {
            self.route.route.among = EndpointSet::EMPTY;
            self.route.stays_on_primary = true;
        }
        let is_kept =
            self.plan.primary().is_none() && (self.plan.is_stale() || self.stays_off_primary());
        self.plan.only_primary();
        if let Some(id) =
            self.caller.cluster().store().topology().open_primary().filter(|_| is_kept)
        {
            self.plan.retry_primary(id);
        }
    }

    /// Records that nothing could be opened, and so nothing was sent.
    pub(super) async fn unopened(&mut self, attempt: &Attempt, ended: Ended) -> Result<(), DbErr> {
        if let Some(error) = self.wait.deadline.passed() {
            return Err(error);
        }
        if let Ended::Failed(error) = &ended {
            attempt.tell(match is_incidental(attempt, error) {
                true if is_shut_out(attempt, error) => AttemptOutcome::Overdue,
                true => AttemptOutcome::Abandoned,
                false => AttemptOutcome::Failed,
            });
        }
        if attempt.role() == Role::Primary {
            if !self.plan.ejected().is_empty() {
                // They are better than waiting for a primary.
                self.plan.prefer_ejected(attempt.endpoint());
                return Ok(());
            }
            if self.wait.is_gone(attempt, ended)? && !self.stays_off_primary() {
                self.wait.another(attempt.cluster()).await?;
            }
            return Ok(());
        }
        let Ended::Failed(error) = ended else {
            self.leaves_silent(attempt);
            return Ok(());
        };
        let engine = attempt.cluster().engine;
        let decision = error::with_code(&error, |code| {
            RetryDecision::for_opening(engine, attempt.role(), code)
        });
        let condition = condition(attempt, &error);
        tracing::debug!(
            target: "sealane::route", endpoint = attempt.place(), ?decision, condition, %error,
            "no connection for a read"
        );
        match decision {
            RetryDecision::Suspect => attempt.suspect(&error),
            RetryDecision::AskPrimary | RetryDecision::LearnWrite => self.asks_primary(),
            // The pool is full, or the server refuses us.
            _ => {}
        }
        self.leaves_failed(attempt, condition, &error);
        self.last_error = Some(error);
        Ok(())
    }

    /// Whether, as far as can be told, an administrator has ended the connection of a statement for
    /// which only the primary is left. The server still answers, so the administrator meant this
    /// statement, and it would burden the primary next.
    async fn was_terminated(&self, attempt: &Attempt, error: &DbErr, asked: Moment) -> bool {
        let cluster = attempt.cluster();
        if !was_ended_there(attempt, error)
            || attempt.role() == Role::Primary
            || !self.plan.replicas().is_empty()
        {
            return false;
        }
        // Earlier probes than that asked for say nothing: the server may be shutting down.
        let heard = cluster.store().heard_after(attempt.endpoint(), asked);
        matches!(timeout_at(self.sign_of_life(), heard).await, Ok(Ok(())))
    }

    /// Records that the connection of `attempt` was lost, before anybody probes its server because of
    /// that. Returns whether it was not the first.
    fn lost(&mut self, attempt: &Attempt) -> bool {
        let cluster = attempt.cluster();
        if attempt.role() == Role::Replica && cluster.is_watched() {
            let (endpoint, at, until) =
                (attempt.endpoint(), cluster.store().now(), self.sign_of_life());
            self.lost_on = Some(Loss { endpoint, at, until });
        }
        std::mem::replace(&mut self.lost_connection, true)
    }

    /// Until when a server that has cut a connection may answer a probe.
    fn sign_of_life(&self) -> Instant {
        self.wait.deadline.before(Instant::now() + SIGN_OF_LIFE)
    }
}

/// Whether somebody has ended the connection on the server. Either the server says so, or it is one
/// that never says so and the statement ran long enough for somebody to end it. (A server that
/// crashes ends short statements, too.)
fn was_ended_there(attempt: &Attempt, error: &DbErr) -> bool {
    let engine = attempt.cluster().engine;
    error::with_code(error, |code| {
        code.is_termination(engine)
            || (engine == Engine::MySql
                && code == ErrorCode::Connection
                && attempt.age() >= LONG_ENOUGH_TO_BE_KILLED)
    })
}

/// What `error` says about the server, in words.
fn condition(attempt: &Attempt, error: &DbErr) -> Option<&'static str> {
    error::with_code(error, |code| code.condition(attempt.cluster().engine))
}

/// What `error`, for which `decision` was taken, says about the endpoint.
pub(in crate::execute) fn outcome(
    attempt: &Attempt,
    error: &DbErr,
    decision: RetryDecision,
) -> AttemptOutcome {
    match decision {
        // The server behaved correctly.
        RetryDecision::ReturnToCaller | RetryDecision::AskPrimary | RetryDecision::LearnWrite => {
            AttemptOutcome::Refused
        }
        RetryDecision::Renew | RetryDecision::Reconnect => AttemptOutcome::Abandoned,
        _ if is_shut_out(attempt, error) => AttemptOutcome::Overdue,
        _ if is_incidental(attempt, error) => AttemptOutcome::Abandoned,
        _ => AttemptOutcome::Failed,
    }
}

/// Whether no connection came although most of its pool were unused, so that the server seems to let
/// nobody in.
fn is_shut_out(attempt: &Attempt, error: &DbErr) -> bool {
    let is_waited_for = error::with_code(error, |code| code == ErrorCode::PoolExhausted);
    is_waited_for && !attempt.is_pool_busy()
}

/// Whether `error` shows nothing wrong with the server.
fn is_incidental(attempt: &Attempt, error: &DbErr) -> bool {
    error::with_code(error, |code| code.is_incidental(attempt.cluster().engine))
}

pub(in crate::execute) fn decision(attempt: &Attempt, error: &DbErr) -> RetryDecision {
    let judge = |code: ErrorCode<'_>| {
        RetryDecision::for_read(attempt.cluster().engine, attempt.role(), code)
    };
    error::with_code(error, judge)
}
