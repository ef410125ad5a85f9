//! The execution of a proved read: what it asks for, which attempts are left, and what each one
//! showed.
//!
//! `RetryDecision::for_read` decides by the server's error code and by the role in which the server
//! was asked. An error that breaks the connection takes the endpoint out of use until a probe has
//! answered, and this probe is sent at once. A read that waits on a replica is abandoned when a
//! probe of that replica fails, not when another statement fails: one broken connection says
//! nothing about the others. The statement itself may have caused a lost connection. So a second
//! lost connection ends the read, and a statement that breaks servers reaches two of them at most.
//! If an administrator has ended the connection and the server goes on, the read does not move to
//! the primary either.

use std::{sync::Arc, time::Duration};

use sea_orm::DbErr;
use sealane_core::{
    AttemptOutcome, Candidates, Consistency, EndpointSet, Engine, ErrorCode, FallbackPolicy, Lent,
    Moment, Plan, PrimaryUse, ReadRequest, RetryDecision, Role, Topology,
};
use sealane_monitor::{Stage, TopologyStore};
use tokio::time::Instant;

use super::{
    ahead,
    attempt::{Attempt, Ended},
    deadline::Deadline,
    failover,
    hedge::Whereabouts,
    opening::Opening,
    overdue::{self, Alarm, Exits},
    primary::PrimaryWait,
    turn,
};
use crate::{Error, caller::Caller, cluster::ReadRoute, error, observe::explain};

/// A longer wait counts as endless, and is cut to this so that no clock overflows.
const LONGEST: Duration = Duration::from_secs(3600);
/// A server that has just cut a connection answers a probe within a round trip or two, unless the
/// server is away, too.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);
/// MySQL does not say that an administrator has ended a connection. Nobody would find and end a
/// statement that runs for less than this.
const LONG_ENOUGH_TO_BE_KILLED: Duration = Duration::from_secs(1);

/// How many connections in a row may turn out to be closed. No pool holds more than this; beyond
/// it, something in between closes every connection.
const MAX_RENEWED: u32 = 100;

/// A read, and its remaining attempts.
#[derive(Debug)]
pub(crate) struct ReadExecution {
    caller: Caller,
    route: ReadRoute,
    request: ReadRequest,
    plan: Plan,
    wait: PrimaryWait,
    /// The error of the last attempt that was sent. It goes to the caller if nothing is left to
    /// try.
    last_error: Option<DbErr>,
    /// Whether a connection was already lost. The statement itself may break servers, so it is not
    /// sent around endlessly.
    lost_connection: bool,
    /// How many connections turned out to have been closed before the statement reached them.
    renewed: u32,
    /// Whether an attempt was overdue already. A statement that is slow everywhere is not sent
    /// around.
    was_overdue: bool,
    /// The replicas that were tried already.
    tried: EndpointSet,
    /// Whether it is a stream of rows, of which only the first is waited for here.
    is_stream: bool,
    /// A hedge wants to know where the read runs.
    whereabouts: Option<Whereabouts>,
}

/// What follows an attempt that was sent and failed.
#[derive(Debug)]
pub(crate) enum Next {
    /// Return the error to the caller.
    GiveUp(DbErr),
    /// Take the next attempt.
    Retry,
    /// The statement is a write: run it as one.
    Write,
}

impl ReadExecution {
    /// Plans a read for `caller` on the current snapshot, or on a later one if waiting for it keeps
    /// the read off the primary.
    ///
    /// # Errors
    /// No replica is good enough, and the read must not run on the primary; or the read's time is
    /// over.
    pub(crate) async fn plan(caller: &Caller, route: ReadRoute) -> Result<ReadExecution, DbErr> {
        let deadline = Deadline::of(caller.own_read_timeout());
        deadline.bound(ReadExecution::plan_by(caller, route, deadline)).await
    }

    async fn plan_by(
        caller: &Caller,
        route: ReadRoute,
        deadline: Deadline,
    ) -> Result<ReadExecution, DbErr> {
        let asks_for_all =
            matches!(route.route.consistency, Consistency::ReadYourWrites | Consistency::Strong);
        if asks_for_all {
            failover::seen(caller).await;
        }
        let turn = turn::taken(caller, route.route.consistency).await;
        caller.cluster().settle_ejections();
        let (request, plan) = plan_now(caller, &route);
        caller.cluster().retries.deposit();
        let mut read = ReadExecution {
            caller: caller.clone(),
            route,
            request,
            plan,
            wait: PrimaryWait::until(deadline),
            last_error: None,
            lost_connection: false,
            renewed: 0,
            was_overdue: false,
            tried: EndpointSet::EMPTY,
            is_stream: false,
            whereabouts: None,
        };
        if let Some(patience) = read.patience() {
            read.plan_within(turn.map_or(patience, |turn| turn.max(patience))).await;
        }
        read.keep_from_primary()?;
        Ok(read)
    }

    /// Opens on the next endpoint that can be opened.
    ///
    /// # Errors
    /// Nothing is left to try, or the read's time is over. The error is that of the last attempt, or
    /// says why there was none.
    pub(crate) async fn open<O: Opening>(
        &mut self,
        opening: &O,
        sql: &str,
    ) -> Result<(Attempt, O::Output), DbErr> {
        loop {
            let Some(mut attempt) = self.next() else {
                self.plan_again().await?;
                continue;
            };
            if attempt.role() == Role::Primary {
                if !self.enter_primary(&mut attempt).await? {
                    continue;
                }
                let (caller, seen) = (&self.caller, Some(&self.request.session));
                let overtaken = async {
                    ahead::overtaken(caller, seen).await;
                    Ok(())
                };
                self.wait.deadline.bound(overtaken).await?;
            }
            explain::trace(&self.caller, attempt.endpoint(), sql);
            let opened = match attempt.role() {
                Role::Primary => self.wait.bounded(&attempt, attempt.open(opening)).await?,
                _ => self.watched(&attempt, Stage::Unsent, attempt.open(opening)).await,
            };
            match opened {
                Ok(opened) => return Ok((attempt, opened)),
                Err(ended) => self.unopened(&attempt, ended).await?,
            }
        }
    }

    /// Records that `attempt` succeeded. Returns `false` if its server was restarted or replaced in
    /// the meantime: then the plan's basis is not proved for the data that were read, the result
    /// must not be used, and the next attempt is due.
    pub(crate) fn served(&self, attempt: &Attempt) -> bool {
        if !attempt.holds(Stage::Sent) || !attempt.is_schema_held() {
            return false;
        }
        // The pace of this attempt is recorded afterwards.
        let usual = self.route.statement.as_ref().and_then(|statement| statement.pace.mean());
        attempt.tell_served(usual);
        // Other consistencies accept data without a proof.
        let proved = attempt.role() == Role::Primary
            || self.request.consistency == Consistency::ReadYourWrites;
        let session = self.caller.session_ref();
        session.saw(
            attempt.server(),
            &self.request.session,
            proved,
            attempt.cluster().store().clock(),
        );
        true
    }

    /// Whether `attempt` may run on the primary now. A read that falls back to the primary takes a
    /// place among such reads first; if none is free, an ejected replica is better. Returns `false`
    /// if a replica is to serve the read.
    ///
    /// # Errors
    /// No place became free in time.
    async fn enter_primary(&mut self, attempt: &mut Attempt) -> Result<bool, DbErr> {
        let cluster = Arc::clone(attempt.cluster());
        match self.plan.primary_use(&self.request) {
            PrimaryUse::Asked => cluster.counts.asked.add(),
            PrimaryUse::Pinned => cluster.counts.pinned.add(),
            PrimaryUse::Fallback => {
                attempt.fallback = cluster.fallback_limit.try_enter();
                if attempt.fallback.is_none() && !self.plan.ejected().is_empty() {
                    self.plan.prefer_ejected(attempt.endpoint());
                    return Ok(false);
                }
                if attempt.fallback.is_none() && !self.enter_later(attempt).await? {
                    (self.request, self.plan) = plan_now(&self.caller, &self.route);
                    self.plan.leave_out(self.tried);
                    return Ok(false);
                }
                cluster.counts.fell_back.add();
            }
        }
        Ok(true)
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
            let plan = Plan::new(topology, &caller.request(route));
            !plan.replicas().without(tried).is_empty()
        };
        let place = cluster.fallback_limit.enter(end, cluster.primary_wait);
        tokio::select! {
            biased;
            permit = self.wait.deadline.bound(place) => attempt.fallback = Some(permit?),
            () = cluster.store().until(serves) => {}
        }
        Ok(attempt.fallback.is_some())
    }

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
                Some(alarm) => alarm.rings(attempt, stage).await,
                None => std::future::pending().await,
            }
        };
        let outcome = tokio::select! {
            biased;
            ended = running => return ended,
            outcome = alarm => outcome,
            error = deadline.passes() => return Err(Ended::Failed(error)),
        };
        self.was_overdue |= outcome != AttemptOutcome::Silent;
        if stage == Stage::Sent && outcome == AttemptOutcome::Overdue {
            // It would have taken at least this long.
            self.note_pace_of(attempt.age());
        }
        Err(Ended::Moved)
    }

    /// What watches over `attempt`; `None` if nobody else could serve the read.
    fn alarm(&self, attempt: &Attempt) -> Option<Alarm> {
        let cluster = attempt.cluster();
        let is_worth = attempt.role() == Role::Replica
            && cluster.is_watched()
            && !cluster.monitor.is_stopped()
            && cluster.ejections.is_on();
        let exits = match (self.plan.replicas().is_empty(), self.plan.primary()) {
            (true, None) => return None,
            _ if self.was_overdue || self.is_unknown_stream() => Exits::None,
            (false, _) => Exits::Replicas,
            (true, Some(_)) => Exits::Primary,
        };
        is_worth.then(|| Alarm::of(self.route.statement.as_deref(), attempt, exits))
    }

    /// Whether nobody knows how long its first row takes.
    fn is_unknown_stream(&self) -> bool {
        let statement = self.route.statement.as_deref();
        self.is_stream && statement.is_none_or(|statement| statement.pace.bound().is_none())
    }

    /// Whether a replica that is not ejected is left to try.
    pub(super) fn has_replica(&self) -> bool {
        !self.plan.replicas().is_empty()
    }

    /// Marks it as a stream of rows.
    pub(crate) fn of_stream(mut self) -> Self {
        self.is_stream = true;
        self
    }

    /// The statement is being sent: a hedge counts its time from now on.
    pub(super) fn note_sent(&self, attempt: &Attempt) {
        if let (Some(whereabouts), Role::Replica) = (&self.whereabouts, attempt.role()) {
            whereabouts.send_replace(Some(attempt.endpoint()));
        }
    }

    /// Lets a hedge know where the read runs.
    pub(super) fn tell_where(&mut self, whereabouts: Whereabouts) {
        self.whereabouts = Some(whereabouts);
    }

    /// The time since `idle` does not count for the read's time limit: its caller asked for nothing.
    pub(crate) fn skip_since(&mut self, idle: Instant) {
        self.wait.deadline = self.wait.deadline.skip_since(idle);
    }

    /// Records how long the statement took since it was `sent`.
    pub(crate) fn note_pace(&self, sent: Moment) {
        self.note_pace_of(self.caller.cluster().store().now().since(sent));
    }

    fn note_pace_of(&self, took: Duration) {
        if let Some(statement) = &self.route.statement {
            statement.pace.record(took);
        }
    }

    /// Like [`served`](Self::served), for what a transaction shows after its beginning.
    pub(crate) fn served_again(&self, attempt: &Attempt) -> bool {
        let (session, clock) = (self.caller.session_ref(), attempt.cluster().store().clock());
        session.saw_unplanned(attempt.server(), attempt.role() == Role::Primary, clock);
        attempt.holds(Stage::Sent)
    }

    /// Statements may be sent there whose answers sealane does not see, until the guard is dropped.
    pub(crate) fn lend(&self, attempt: &Attempt) -> Lent {
        let session = self.caller.session_ref();
        session.lend(attempt.server(), attempt.role() == Role::Primary)
    }

    /// Whether the opened attempt may still be sent now, some time after it was planned.
    pub(crate) fn may_serve(&self, attempt: &Attempt) -> bool {
        let cluster = attempt.cluster();
        let request = self.caller.request(&self.route);
        let is_current = || {
            let topology = cluster.store().topology();
            cluster.is_settled()
                && !cluster.reads_with_writer()
                && Plan::suits(&topology, attempt.endpoint(), &request).is_ok()
        };
        attempt.holds(Stage::Unsent) && (attempt.role() == Role::Primary || is_current())
    }

    /// Decides what follows an attempt that was sent and ended without a result.
    pub(crate) async fn ended(&mut self, attempt: &Attempt, ended: Ended) -> Next {
        let error = match ended {
            // Another endpoint may answer. What this one does with the statement does not matter.
            Ended::Moved => return Next::Retry,
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
        match decision {
            // The server behaved correctly.
            RetryDecision::ReturnToCaller
            | RetryDecision::AskPrimary
            | RetryDecision::LearnWrite => attempt.tell(AttemptOutcome::Refused),
            RetryDecision::Renew | RetryDecision::Reconnect => {
                attempt.tell(AttemptOutcome::Abandoned);
            }
            _ if is_incidental(attempt, &error) => attempt.tell(AttemptOutcome::Abandoned),
            _ => attempt.tell(AttemptOutcome::Failed),
        }
        match decision {
            RetryDecision::TryElsewhere => {
                let cluster = attempt.cluster();
                if !cluster.retries.withdraw(cluster.store().now()) {
                    return Next::GiveUp(error);
                }
            }
            RetryDecision::Reconnect => {
                let is_second = std::mem::replace(&mut self.lost_connection, true);
                // Checks whether the server goes on, which is most likely.
                attempt.cluster().store().probe_anew(attempt.endpoint());
                if is_second || self.was_terminated(attempt, &error).await {
                    return Next::GiveUp(error);
                }
                if attempt.role() == Role::Primary {
                    self.plan.retry_primary(attempt.endpoint());
                }
            }
            RetryDecision::Suspect => {
                let is_second = std::mem::replace(&mut self.lost_connection, true);
                attempt.suspect(&error);
                if is_second || self.was_terminated(attempt, &error).await {
                    return Next::GiveUp(error);
                }
                if attempt.role() == Role::Primary {
                    // The connection may have died in the pool; one more try finds out. It waits
                    // for a probe first, because other connections of the pool may be dead as well.
                    let store = attempt.cluster().store();
                    let heard = store.heard_after(attempt.endpoint(), store.now());
                    let _ = tokio::time::timeout(SIGN_OF_LIFE, heard).await;
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
            RetryDecision::AskPrimary => self.plan.only_primary(),
            RetryDecision::LearnWrite => return Next::Write,
            // Core may add more decisions; returning the error is always possible.
            _ => return Next::GiveUp(error),
        }
        match self.plan.has_next() {
            true => {
                attempt.cluster().counts.retried.add();
                self.last_error = Some(error);
                Next::Retry
            }
            false => Next::GiveUp(error),
        }
    }

    /// The caller of this read.
    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Whether, as far as can be told, an administrator has ended the connection of a statement for
    /// which only the primary is left. The server still answers, so the administrator meant this
    /// statement, and it would burden the primary next.
    async fn was_terminated(&self, attempt: &Attempt, error: &DbErr) -> bool {
        let cluster = attempt.cluster();
        if !was_ended_there(attempt, error)
            || attempt.role() == Role::Primary
            || !self.plan.replicas().is_empty()
        {
            return false;
        }
        // Earlier probes say nothing: the server may be shutting down.
        let heard = cluster.store().heard_after(attempt.endpoint(), cluster.store().now());
        matches!(tokio::time::timeout(SIGN_OF_LIFE, heard).await, Ok(Ok(())))
    }

    /// The next endpoint to try. Each endpoint is judged again, on the same snapshot that its run
    /// is taken from, because an earlier attempt may have taken long.
    fn next(&mut self) -> Option<Attempt> {
        let cluster = self.caller.cluster();
        let topology = cluster.store().topology();
        // The time that bounds on staleness are measured from.
        self.request.now = cluster.store().now();
        loop {
            let all = Candidates::all(&topology, &cluster.loads, self.request.now)
                .with_key(self.caller.session_number());
            let random = cluster.store().entropy().word();
            let balancer =
                if self.route.route.sticky { &cluster.sticky } else { &cluster.balancer };
            let (id, role) = self.plan.next(&**balancer, all, random)?;
            if role == Role::Replica && Plan::suits(&topology, id, &self.request).is_err() {
                continue;
            }
            let footing = cluster.store().footing(&topology, id, role)?;
            let mut attempt = Attempt::begin(cluster, footing, true);
            if role == Role::Replica {
                self.tried.insert(id);
                let statement = self.route.statement.as_deref();
                if !self.is_stream {
                    attempt.long_after = overdue::look(statement);
                }
                let usual = statement.and_then(|statement| statement.pace.bound());
                // What never ran may take all of the time.
                attempt.share = self.wait.deadline.share(usual.unwrap_or(Duration::MAX));
            }
            return Some(attempt);
        }
    }

    /// Records that nothing could be opened, and so nothing was sent.
    async fn unopened(&mut self, attempt: &Attempt, ended: Ended) -> Result<(), DbErr> {
        if let Some(error) = self.wait.deadline.passed() {
            return Err(error);
        }
        if let Ended::Failed(error) = &ended {
            attempt.tell(match is_incidental(attempt, error) {
                true => AttemptOutcome::Abandoned,
                false => AttemptOutcome::Failed,
            });
        }
        if attempt.role() == Role::Primary {
            return self.wait.unopened(attempt, ended).await;
        }
        let Ended::Failed(error) = ended else { return Ok(()) };
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
            RetryDecision::AskPrimary | RetryDecision::LearnWrite => self.plan.only_primary(),
            // The pool is full, or the server refuses us.
            _ => {}
        }
        self.last_error = Some(error);
        Ok(())
    }

    /// Plans again after every endpoint of the plan was tried: another endpoint may be the primary
    /// now, or may be soon.
    async fn plan_again(&mut self) -> Result<(), DbErr> {
        let cluster = self.caller.cluster();
        if !self.only_replicas() {
            self.wait.another(cluster).await?;
        } else if let Some(error) = self.last_error.take() {
            return Err(error);
        } else if cluster.is_split_file() {
            // The file's schema changed under the readers, and only the writer is certain to have
            // the new one.
            self.route.route.among = EndpointSet::EMPTY;
            self.route.stays_on_primary = true;
        } else {
            return Err(Error::NoReplica.into());
        }
        (self.request, self.plan) = plan_now(&self.caller, &self.route);
        self.keep_from_primary()
    }

    fn only_replicas(&self) -> bool {
        self.route.only_replicas()
    }

    fn keep_from_primary(&mut self) -> Result<(), DbErr> {
        if self.only_replicas() {
            self.plan.forbid_primary();
            if !self.plan.has_next() {
                return Err(Error::NoReplica.into());
            }
        }
        Ok(())
    }

    /// How long a wait for a replica is worthwhile; `None` if it is not.
    fn patience(&self) -> Option<Duration> {
        // While unseen statements may run, each plan asks for more than the last one.
        if !self.plan.replicas().is_empty() || self.caller.session_ref().is_unwatched() {
            return None;
        }
        let (cluster, readers) = (self.caller.cluster(), self.route.route.among);
        match self.route.route.fallback {
            FallbackPolicy::Wait(longest)
                if self.plan.is_behind() && cluster.store().is_worth_waiting(readers, longest) =>
            {
                Some(longest)
            }
            _ if self.plan.awaits_proof_only()
                && self.caller.session_ref().should_wait_for_proof() =>
            {
                Some(cluster.proof_patience(readers))
            }
            _ => None,
        }
    }

    /// Plans as soon as a replica may serve, at the latest after `patience`.
    async fn plan_within(&mut self, patience: Duration) {
        let (caller, route) = (&self.caller, &self.route);
        let serves = |topology: &Topology| {
            !Plan::new(topology, &caller.request(route)).replicas().is_empty()
        };
        let store = caller.cluster().store();
        let end = Instant::now() + patience.min(LONGEST);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            // After the limit, the plan uses what is available.
            let _ =
                tokio::time::timeout(left.min(TopologyStore::AWAITED_AGAIN), store.until(serves))
                    .await;
            // This also tells the store again that somebody waits.
            (self.request, self.plan) = plan_now(caller, route);
            if !self.plan.replicas().is_empty() || Instant::now() >= end {
                return;
            }
        }
    }
}

fn plan_now(caller: &Caller, route: &ReadRoute) -> (ReadRequest, Plan) {
    let store = caller.cluster().store();
    let request = caller.request(route);
    let plan = Plan::new(&store.topology(), &request);
    if !plan.replicas().is_empty() {
        // The read is served. Replicas that are behind catch up in their own time.
    } else if let Some(stamp) = plan.awaited() {
        store.await_stamp(stamp);
    } else if plan.awaits_freshness(&request) {
        // A stamp drawn now is covered by samples taken from now on.
        store.await_stamp(store.clock().tick());
    }
    (request, plan)
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

/// Whether `error` shows nothing wrong with the server.
pub(super) fn is_incidental(attempt: &Attempt, error: &DbErr) -> bool {
    error::with_code(error, |code| code.is_incidental(attempt.cluster().engine))
}

pub(super) fn decision(attempt: &Attempt, error: &DbErr) -> RetryDecision {
    let judge = |code: ErrorCode<'_>| {
        RetryDecision::for_read(attempt.cluster().engine, attempt.role(), code)
    };
    error::with_code(error, judge)
}
