//! A proved read on its way: what it asks for, what is left to try, what each attempt taught.
//!
//! `RetryDecision::for_read` decides by the server's code and by the role in which it was asked.
//! An error that breaks the connection takes the endpoint out of use until a probe has answered,
//! and a probe is sent at once. A read that waits on a replica is abandoned when a probe of that
//! replica fails, not when another statement does: one broken connection says nothing about the
//! others. A lost connection may be the statement's own doing. So a second one ends the read, and
//! what breaks servers visits two of them at most. If an administrator has ended the connection
//! and the server goes on, the read does not move to the primary either.

use std::time::Duration;

use sea_orm::DbErr;
use sealane_core::{
    AttemptOutcome, Candidates, Consistency, EndpointSet, Engine, ErrorCode, FallbackPolicy, Lent,
    Plan, ReadRequest, RetryDecision, Role, Topology,
};
use sealane_monitor::{Stage, TopologyStore};
use tokio::time::Instant;

use super::{
    ahead,
    attempt::{Attempt, Ended},
    failover,
    opening::Opening,
    primary::PrimaryWait,
    turn,
};
use crate::{Error, caller::Caller, cluster::ReadRoute, error, observe::explain};

/// A wait beyond this is one without end, and no clock counts further than it must.
const LONGEST: Duration = Duration::from_secs(3600);
/// A probe of a server that has just cut a connection answers within a round trip or two, unless
/// the server is away, too.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);
/// MySQL does not say that an administrator has ended a caller. Nobody finds a statement that
/// runs for less than this.
const LONG_ENOUGH_TO_BE_KILLED: Duration = Duration::from_secs(1);

/// How many connections in a row may turn out to be over. More than a pool keeps are not: something
/// in between says so every time.
const MAX_RENEWED: u32 = 100;

/// A read, and the attempts that are left.
#[derive(Debug)]
pub(crate) struct ReadExecution {
    caller: Caller,
    route: ReadRoute,
    request: ReadRequest,
    plan: Plan,
    wait: PrimaryWait,
    /// What the last attempt that was sent failed with: it is the caller's when nothing is left.
    last_error: Option<DbErr>,
    /// A connection was lost to it already: the statement itself may be what
    /// breaks servers, and is not sent around for ever.
    lost_connection: bool,
    /// How many connections were over before it came.
    renewed: u32,
}

/// What follows an attempt that was sent and failed.
#[derive(Debug)]
pub(crate) enum Next {
    /// Give the error to the caller.
    GiveUp(DbErr),
    /// Take the next attempt.
    Retry,
    /// It is a write: run it as one.
    Write,
}

impl ReadExecution {
    /// Plans a read for `caller`, on the snapshot of this moment; or on a later
    /// one, where waiting for it takes the read off the primary.
    ///
    /// # Errors
    /// No replica is good enough, and the read must not run on the primary.
    pub(crate) async fn plan(caller: &Caller, route: &ReadRoute) -> Result<ReadExecution, DbErr> {
        let asks_for_all =
            matches!(route.route.consistency, Consistency::ReadYourWrites | Consistency::Strong);
        if asks_for_all {
            failover::seen(caller).await;
        }
        let turn = turn::taken(caller, route.route.consistency).await;
        let (request, plan) = plan_now(caller, route);
        let mut read = ReadExecution {
            caller: caller.clone(),
            route: *route,
            request,
            plan,
            wait: PrimaryWait::default(),
            last_error: None,
            lost_connection: false,
            renewed: 0,
        };
        if let Some(patience) = read.patience() {
            read.plan_within(turn.map_or(patience, |turn| turn.max(patience))).await;
        }
        read.keep_from_primary()?;
        Ok(read)
    }

    /// Opens on the next endpoint where that works out.
    ///
    /// # Errors
    /// Nothing is left to try: the error of the last attempt, or why there was none.
    pub(crate) async fn open<O: Opening>(
        &mut self,
        opening: &O,
        sql: &str,
    ) -> Result<(Attempt, O::Output), DbErr> {
        loop {
            let Some(attempt) = self.next() else {
                self.plan_again().await?;
                continue;
            };
            if attempt.role() == Role::Primary {
                ahead::overtaken(&self.caller, Some(&self.request.session)).await;
            }
            explain::trace(&self.caller, attempt.endpoint(), sql);
            let opened = match attempt.role() {
                Role::Primary => self.wait.bounded(&attempt, attempt.open(opening)).await?,
                _ => attempt.open(opening).await,
            };
            match opened {
                Ok(opened) => return Ok((attempt, opened)),
                Err(ended) => self.unopened(&attempt, ended).await?,
            }
        }
    }

    /// Takes note that `attempt` succeeded. `false` if its server was restarted or replaced
    /// meanwhile, so that what the plan relied on is not proved of the data
    /// that was read: the result must not be used, and the next attempt is due.
    pub(crate) fn served(&self, attempt: &Attempt) -> bool {
        if !attempt.holds(Stage::Sent) || !attempt.is_schema_held() {
            return false;
        }
        attempt.tell_served();
        // Other consistencies take whatever there is.
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

    /// As [`served`](Self::served), for what a transaction shows after its beginning.
    pub(crate) fn served_again(&self, attempt: &Attempt) -> bool {
        let (session, clock) = (self.caller.session_ref(), attempt.cluster().store().clock());
        session.saw_unplanned(attempt.server(), attempt.role() == Role::Primary, clock);
        attempt.holds(Stage::Sent)
    }

    /// Statements may be sent there whose answers nobody sees, until the guard is dropped.
    pub(crate) fn lend(&self, attempt: &Attempt) -> Lent {
        let session = self.caller.session_ref();
        session.lend(attempt.server(), attempt.role() == Role::Primary)
    }

    /// Whether what is opened may be sent there now, some time after it was planned.
    pub(crate) fn may_serve(&self, attempt: &Attempt) -> bool {
        let cluster = attempt.cluster();
        let request = self.caller.request(&self.route);
        let is_current = || {
            let topology = cluster.store().topology();
            cluster.is_settled()
                && !cluster.reads_with_writer()
                && Plan::judge(&topology, attempt.endpoint(), &request).is_ok()
        };
        attempt.holds(Stage::Unsent) && (attempt.role() == Role::Primary || is_current())
    }

    /// Decides what follows an attempt that was sent and ended without a result.
    pub(crate) async fn ended(&mut self, attempt: &Attempt, ended: Ended) -> Next {
        let error = match ended {
            // Another endpoint may answer. What this one does with it is of no interest.
            Ended::Moved => return Next::Retry,
            Ended::Failed(error) => error,
        };
        let engine = attempt.cluster().engine;
        let decision = match (decision(attempt, &error), was_ended_there(attempt, &error)) {
            // PostgreSQL says the same when it shuts down.
            (RetryDecision::Suspect, true) if engine == Engine::MySql => RetryDecision::Reconnect,
            (decision, _) => decision,
        };
        let condition = condition(attempt, &error);
        tracing::debug!(
            target: "sealane::route", endpoint = attempt.place(), ?decision, condition, %error,
            "read failed"
        );
        match decision {
            // The server did what it must.
            RetryDecision::ReturnToCaller
            | RetryDecision::AskPrimary
            | RetryDecision::LearnWrite => attempt.tell(AttemptOutcome::Refused),
            _ => attempt.tell(AttemptOutcome::Failed),
        }
        match decision {
            RetryDecision::TryElsewhere => {}
            RetryDecision::Reconnect => {
                let is_second = std::mem::replace(&mut self.lost_connection, true);
                // Whether the server goes on, which it most probably does.
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
                    // Its connection may have died in the pool; one more try finds out. Not
                    // before a probe did: others of the pool may be dead as well.
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
            // Core may learn of more decisions; the caller can always take the error.
            _ => return Next::GiveUp(error),
        }
        match self.plan.has_next() {
            true => {
                self.last_error = Some(error);
                Next::Retry
            }
            false => Next::GiveUp(error),
        }
    }

    /// For whom it reads.
    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Whether an administrator has ended the connection of a statement that only the primary is
    /// left for, as far as can be told. The server answers all the same, so it was meant for this statement, and it would
    /// burden the primary next.
    async fn was_terminated(&self, attempt: &Attempt, error: &DbErr) -> bool {
        let cluster = attempt.cluster();
        if !was_ended_there(attempt, error)
            || attempt.role() == Role::Primary
            || !self.plan.replicas().is_empty()
        {
            return false;
        }
        // What was probed before says nothing: the server may be going away.
        let heard = cluster.store().heard_after(attempt.endpoint(), cluster.store().now());
        matches!(tokio::time::timeout(SIGN_OF_LIFE, heard).await, Ok(Ok(())))
    }

    /// The next endpoint to try. Each is judged once more, on the snapshot that its run is taken
    /// from: an attempt before may have lasted.
    fn next(&mut self) -> Option<Attempt> {
        let cluster = self.caller.cluster();
        let topology = cluster.store().topology();
        // What a bound on staleness is held against.
        self.request.now = cluster.store().now();
        loop {
            let all = Candidates::all(&topology, &cluster.loads, self.request.now);
            let random = cluster.store().entropy().word();
            let (id, role) = self.plan.next(&*cluster.balancer, all, random)?;
            if role == Role::Replica && Plan::judge(&topology, id, &self.request).is_err() {
                continue;
            }
            let footing = cluster.store().footing(&topology, id, role)?;
            return Some(Attempt::begin(cluster, footing, true));
        }
    }

    /// Takes note that nothing could be opened, and so nothing was sent.
    async fn unopened(&mut self, attempt: &Attempt, ended: Ended) -> Result<(), DbErr> {
        if matches!(ended, Ended::Failed(_)) {
            attempt.tell(AttemptOutcome::Failed);
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
            // Its pool is full, or it refuses us.
            _ => {}
        }
        self.last_error = Some(error);
        Ok(())
    }

    /// Plans anew when every endpoint of the plan was tried: another one may be the primary now,
    /// or will be soon.
    async fn plan_again(&mut self) -> Result<(), DbErr> {
        let cluster = self.caller.cluster();
        if !self.only_replicas() {
            self.wait.another(cluster).await?;
        } else if let Some(error) = self.last_error.take() {
            return Err(error);
        } else if cluster.is_split_file() {
            // Its schema changed under the readers, and only the writer is sure of it.
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

    /// How long it is worth waiting for a replica; `None` if it is not.
    fn patience(&self) -> Option<Duration> {
        // While something goes on that nobody sees, each plan asks for more than the last one.
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

    /// Plans as soon as a replica may serve, or else when `patience` is over.
    async fn plan_within(&mut self, patience: Duration) {
        let (caller, route) = (&self.caller, &self.route);
        let serves = |topology: &Topology| {
            !Plan::new(topology, &caller.request(route)).replicas().is_empty()
        };
        let store = caller.cluster().store();
        let end = Instant::now() + patience.min(LONGEST);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            // Out of patience: what there is will do.
            let _ =
                tokio::time::timeout(left.min(TopologyStore::AWAITED_AGAIN), store.until(serves))
                    .await;
            // Also tells the store again that somebody waits.
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
        // Served; those that are behind catch up in their own time.
    } else if let Some(stamp) = plan.awaited() {
        store.await_stamp(stamp);
    } else if plan.awaits_freshness(&request) {
        // A stamp of this moment is covered by what is sampled from now on.
        store.await_stamp(store.clock().tick());
    }
    (request, plan)
}

/// Whether somebody has ended the connection on the server: the server says so, or is one that
/// does not, and the statement ran for so long that somebody may have minded. (A server that
/// crashes ends short ones, too.)
fn was_ended_there(attempt: &Attempt, error: &DbErr) -> bool {
    let engine = attempt.cluster().engine;
    error::with_code(error, |code| {
        code.is_termination(engine)
            || (engine == Engine::MySql
                && code == ErrorCode::Connection
                && attempt.age() >= LONG_ENOUGH_TO_BE_KILLED)
    })
}

/// What `error` says of the server, in words.
fn condition(attempt: &Attempt, error: &DbErr) -> Option<&'static str> {
    error::with_code(error, |code| code.condition(attempt.cluster().engine))
}

fn decision(attempt: &Attempt, error: &DbErr) -> RetryDecision {
    let judge = |code: ErrorCode<'_>| {
        RetryDecision::for_read(attempt.cluster().engine, attempt.role(), code)
    };
    error::with_code(error, judge)
}
