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

mod entry;
mod failure;
mod freshness;
mod off_primary;
mod patience;
mod racing;
mod stale;
mod telling;
mod watching;

use std::{sync::Arc, time::Duration};

use sea_orm::DbErr;
use sealane_core::{
    AttemptOutcome, Candidates, Consistency, EndpointId, EndpointSet, Lent, Moment, Plan,
    ReadRequest, Role, SeenSoFar, Topology,
};
use sealane_monitor::Stage;
use tokio::time::Instant;

use super::{
    ahead,
    attempt::{Attempt, Whereabouts},
    deadline::Deadline,
    failover,
    opening::Opening,
    overdue,
    primary::PrimaryWait,
    race::Race,
    turn,
};
use crate::{Error, caller::Caller, cluster::ReadRoute, observe::span::Why};

pub(super) use failure::{decision, outcome};

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
    /// The replica that lost a connection of it last.
    lost_on: Option<Loss>,
    /// How many connections turned out to have been closed before the statement reached them.
    renewed: u32,
    /// Whether an attempt was overdue already. A statement that is slow everywhere is not sent
    /// around.
    was_overdue: bool,
    /// It was planned anew because its replica fell behind while it waited for a connection.
    began_anew: bool,
    /// How often it was planned again because every endpoint of its plan had been tried.
    rounds: u32,
    /// Whether it has waited for a replica.
    has_waited: bool,
    /// The replicas that were tried already.
    tried: EndpointSet,
    /// How many attempts were begun.
    attempts: u32,
    /// Why the last of them ran where it did.
    why: Why,
    /// The endpoint that the last attempt left, and why.
    left: Option<telling::Left>,
    /// Whether it is a stream of rows, of which only the first is waited for here.
    is_stream: bool,
    /// A hedge wants to know where the read runs.
    whereabouts: Option<Whereabouts>,
    /// It is hedged, or is a hedge.
    race: Option<Arc<Race>>,
}

/// A replica that has lost a connection. Other connections of its pool may be dead as well, so the read
/// does not go there again before a later probe has ended.
#[derive(Debug, Clone, Copy)]
struct Loss {
    endpoint: EndpointId,
    at: Moment,
    /// When the read no longer waits for the probe.
    until: Instant,
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

impl Caller {
    /// The end of a read that begins now.
    pub(super) fn deadline(&self) -> Deadline {
        Deadline::of(self.own_read_timeout())
    }
}

impl ReadExecution {
    /// Plans a read for `caller` on the current snapshot, or on a later one if waiting for it keeps
    /// the read off the primary.
    ///
    /// # Errors
    /// No replica is good enough, and the read must not run on the primary; or the read's time is
    /// over.
    pub(crate) async fn plan(caller: &Caller, route: ReadRoute) -> Result<ReadExecution, DbErr> {
        let deadline = caller.deadline();
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
            lost_on: None,
            renewed: 0,
            was_overdue: false,
            began_anew: false,
            rounds: 0,
            has_waited: false,
            tried: EndpointSet::EMPTY,
            attempts: 0,
            why: Why::Read,
            left: None,
            is_stream: false,
            whereabouts: None,
            race: None,
        };
        if let Some(patience) = read.patience(turn) {
            read.tell_of_wait();
            read.plan_within(patience).await;
        }
        read.keep_from_primary().await?;
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
            self.unless_outrun()?;
            let Some(mut attempt) = self.next() else {
                self.plan_again().await?;
                continue;
            };
            let mut why = self.why_there(&attempt);
            if attempt.role() == Role::Primary {
                if self.turn_to_stale_without_primary() {
                    continue;
                }
                if self.stays_off_primary() {
                    self.plan_again().await?;
                    continue;
                }
                let Some(used) = self.enter_primary(&mut attempt).await? else { continue };
                why = Why::OnPrimary(used);
                let (caller, seen) = (&self.caller, &self.request.session);
                let overtaken = async {
                    ahead::overtaken(caller, seen).await;
                    Ok(())
                };
                self.wait.deadline.bound(overtaken).await?;
                self.unless_outrun()?;
            }
            self.tell_of_attempt(&attempt, sql, why);
            self.note_begun(&attempt);
            let opened = match attempt.role() {
                Role::Primary => {
                    let mut wait = std::mem::take(&mut self.wait);
                    let (opening, leaves) = (attempt.open(opening), self.may_leave_lost_primary());
                    let opened = wait.bounded(&attempt, opening, leaves).await;
                    self.wait = wait;
                    match opened {
                        Ok(opened) => opened,
                        Err(_) if self.turn_to_stale_after(&attempt) => continue,
                        Err(error) => return Err(error),
                    }
                }
                _ => self.watched(&attempt, Stage::Unsent, attempt.open(opening)).await,
            };
            match opened {
                Ok(opened) if self.is_still_fresh(&attempt) => {
                    // Waiting for a connection is no slowness of the server.
                    self.unless_outrun()
                        .inspect_err(|_| attempt.tell(AttemptOutcome::Abandoned))?;
                    attempt.count_read();
                    return Ok((attempt, opened));
                }
                Ok(opened) => {
                    drop(opened);
                    let deadline = self.wait.deadline;
                    deadline.bound(self.begin_anew(attempt)).await?;
                }
                Err(ended) => match self.unopened(&attempt, ended).await {
                    Err(_) if self.turn_to_stale_after(&attempt) => {}
                    went_on => went_on?,
                },
            }
        }
    }

    /// Why `attempt` runs where it runs, if it does not fall back to the primary.
    fn why_there(&self, attempt: &Attempt) -> Why {
        match attempt.is_on_primary() {
            true => Why::Shared,
            false if self.plan.is_stale() => Why::Stale,
            false => Why::Read,
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
        if self.is_outrun() {
            // Nobody sees what was read.
            self.lost_race(attempt, usual);
            return true;
        }
        attempt.tell_served(usual);
        self.tell_of_race(attempt);
        if let Some(statement) = &self.route.statement {
            statement.usage.served(attempt.since_open());
        }
        // Other consistencies accept data without a proof, also on a primary that takes its turn.
        let proved = attempt.role() == Role::Primary
            || self.request.consistency == Consistency::ReadYourWrites && !self.plan.is_stale();
        let session = self.caller.session_ref();
        session.saw(
            attempt.server(),
            &self.request.session,
            proved,
            attempt.cluster().store().clock(),
        );
        true
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

    /// The time since `idle` does not count for the read's time limit: its caller asked for nothing.
    pub(crate) fn skip_since(&mut self, idle: Instant) {
        self.wait = PrimaryWait::until(self.wait.deadline.skip_since(idle));
    }

    /// Like [`served`](Self::served), for what a transaction shows after its beginning.
    pub(crate) fn served_again(&self, attempt: &Attempt) -> bool {
        let (session, clock) = (self.caller.session_ref(), attempt.cluster().store().clock());
        session.saw_unplanned(attempt.server(), self.held_by(attempt), clock);
        attempt.holds(Stage::Sent)
    }

    /// Statements may be sent there whose answers sealane does not see, until the guard is dropped.
    pub(crate) fn lend(&self, attempt: &Attempt) -> Lent {
        self.caller.session_ref().lend(attempt.server(), self.held_by(attempt))
    }

    /// Statements may be sent there within the next `time`, and nobody tells when they end.
    pub(crate) fn lend_for(&self, attempt: &Attempt, time: Duration) {
        let until = attempt.cluster().store().now() + time;
        self.caller.session_ref().lend_until(attempt.server(), self.held_by(attempt), until);
    }

    /// What of the session's past the server of `attempt` holds, if it is the primary.
    fn held_by(&self, attempt: &Attempt) -> Option<SeenSoFar> {
        (attempt.role() == Role::Primary).then(|| self.request.session.seen_so_far())
    }

    /// Whether the opened attempt may still be sent now, some time after it was planned.
    pub(crate) fn may_serve(&self, attempt: &Attempt) -> bool {
        let cluster = attempt.cluster();
        let request = self.caller.request(&self.route).or_stale(self.request.stale);
        let is_current = || {
            let topology = cluster.store().topology();
            cluster.is_settled()
                && !cluster.reads_with_writer()
                && Plan::may_try(&topology, attempt.endpoint(), &request)
        };
        attempt.holds(Stage::Unsent) && (attempt.role() == Role::Primary || is_current())
    }

    /// The caller of this read.
    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
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
            if role == Role::Replica && !Plan::may_try(&topology, id, &self.request) {
                continue;
            }
            let footing = cluster.store().footing(&topology, id, role)?;
            let mut attempt = Attempt::begin(cluster, footing, true);
            if role == Role::Replica {
                self.tried.insert(id);
                let statement = self.route.statement.as_deref();
                if !self.is_stream {
                    let look = overdue::look(statement);
                    attempt.long_after = self.long_after().map_or(look, |it| it.min(look));
                }
                let usual = statement.and_then(|statement| statement.pace.bound());
                // What never ran may take all of the time.
                let share = self.wait.deadline.share(usual.unwrap_or(Duration::MAX));
                attempt.share = share.into_iter().chain(self.limit_on(&topology, id)).min();
            }
            return Some(attempt);
        }
    }

    /// How long the read may take on this replica, if it can move to another one; it does so once.
    fn limit_on(&self, topology: &Topology, id: EndpointId) -> Option<Duration> {
        let may_move = !self.was_overdue && self.has_replica();
        topology.get(id).filter(|_| may_move)?.endpoint.read_timeout()
    }

    /// Plans again after every endpoint of the plan was tried: another endpoint may be the primary
    /// now, or may be soon.
    async fn plan_again(&mut self) -> Result<(), DbErr> {
        let cluster = Arc::clone(self.caller.cluster());
        self.rounds += 1;
        if self.turn_to_stale() {
            return Ok(());
        } else if self.stays_off_primary() {
            return self.wait_for_replica().await;
        } else if !self.only_replicas() {
            self.wait.another(&cluster).await?;
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
        self.keep_from_primary().await
    }

    fn only_replicas(&self) -> bool {
        self.route.only_replicas()
    }

    /// Takes the primary out of the plan if the read must not run there.
    ///
    /// # Errors
    /// Nothing else is left, and no replica appeared in time.
    async fn keep_from_primary(&mut self) -> Result<(), DbErr> {
        if self.only_replicas() {
            self.plan.forbid_primary();
            if !self.plan.has_next() {
                self.await_catalog().await?;
            }
            if !self.plan.has_next() {
                self.tell_of_refusal();
                return Err(Error::NoReplica.into());
            }
        } else if self.is_kept_off_primary()
            || self.plan.replicas().is_empty() && self.misses_primary()
        {
            self.plan.forbid_primary();
            if !self.plan.has_next() {
                return self.wait_for_replica().await;
            }
        }
        Ok(())
    }

    /// Plans again once servers have told their filters, and the catalog is loaded, for a moment at
    /// most. This mostly takes a few hundredths of a second.
    async fn await_catalog(&mut self) -> Result<(), DbErr> {
        let cluster = self.caller.cluster();
        let limit = cluster.quick * 10;
        let known = async {
            let told = cluster.await_filters(limit).await;
            let loaded = self.request.replicas_differ && cluster.await_catalog(limit).await;
            Ok(told || loaded)
        };
        if self.wait.deadline.bound(known).await? {
            (self.request, self.plan) = plan_now(&self.caller, &self.route);
            self.plan.forbid_primary();
        }
        Ok(())
    }
}

fn plan_now(caller: &Caller, route: &ReadRoute) -> (ReadRequest, Plan) {
    let request = caller.request(route);
    let plan = plan_for(caller, &request);
    (request, plan)
}

/// Plans for `request`, and has endpoints probed sooner if that may help.
pub(super) fn plan_for(caller: &Caller, request: &ReadRequest) -> Plan {
    let store = caller.cluster().store();
    let plan = Plan::new(&store.topology(), request);
    if !plan.replicas().is_empty() {
        // The read is served. Replicas that are behind catch up in their own time.
    } else if let Some(stamp) = plan.awaited() {
        store.await_stamp(stamp);
    } else if plan.awaits_freshness(request) {
        // A stamp drawn now is covered by samples taken from now on.
        store.await_stamp(store.clock().tick());
    }
    plan
}
