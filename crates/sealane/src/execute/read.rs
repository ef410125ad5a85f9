//! A proved read on its way: what it asks for, what is left to try, what each attempt taught.

use std::time::Duration;

use sea_orm::DbErr;
use sealane_core::{
    Consistency, Demand, ErrorCode, Lent, Plan, Remedy, Role, Topology, WhenBehind,
};
use sealane_monitor::Stage;
use tokio::time::Instant;

use super::{
    attempt::{Attempt, Ended},
    opening::Opening,
    primary::PrimaryWait,
};
use crate::{Error, ahead, cluster::Reach, connection::RoutedConnection, error, explain, failover};

/// Less than what the board forgets a waiting session after.
const AWAITED_AGAIN: Duration = Duration::from_millis(500);
/// A wait beyond this is one without end, and no clock counts further than it must.
const LONGEST: Duration = Duration::from_secs(3600);
/// A probe of a server that has just cut a connection answers within a round trip or two, unless
/// the server is away, too.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

/// A read, and the attempts that are left.
#[derive(Debug)]
pub(crate) struct ReadExecution {
    connection: RoutedConnection,
    reach: Reach,
    demand: Demand,
    plan: Plan,
    wait: PrimaryWait,
    /// What the last attempt that was sent failed with: it is the caller's when nothing is left.
    last_error: Option<DbErr>,
    /// A connection was lost to it already: the statement itself may be what
    /// breaks servers, and is not sent around for ever.
    lost_connection: bool,
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
    /// Plans a read for `connection`, on the snapshot of this moment; or on a later
    /// one, where waiting for it takes the read off the primary.
    ///
    /// # Errors
    /// No replica is good enough, and the read must not run on the primary.
    pub(crate) async fn plan(
        connection: &RoutedConnection,
        reach: &Reach,
    ) -> Result<ReadExecution, DbErr> {
        let asks_for_all = matches!(
            connection.own_consistency(),
            Consistency::ReadYourWrites | Consistency::Strong
        );
        if asks_for_all {
            failover::seen(connection).await;
        }
        let (demand, plan) = plan_now(connection, reach);
        let mut read = ReadExecution {
            connection: connection.clone(),
            reach: *reach,
            demand,
            plan,
            wait: PrimaryWait::default(),
            last_error: None,
            lost_connection: false,
        };
        if let Some(patience) = read.patience() {
            read.plan_within(patience).await;
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
                ahead::overtaken(&self.connection, Some(&self.demand.session)).await;
            }
            explain::trace(&self.connection, attempt.endpoint(), sql);
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
        if !attempt.holds(Stage::Sent) {
            return false;
        }
        // Other consistencies take whatever there is.
        let proved = attempt.role() == Role::Primary
            || self.demand.consistency == Consistency::ReadYourWrites;
        let session = self.connection.session_ref();
        session.saw(
            attempt.server(),
            &self.demand.session,
            proved,
            attempt.cluster().board().clock(),
        );
        true
    }

    /// As [`served`](Self::served), for what a transaction shows after its beginning.
    pub(crate) fn served_again(&self, attempt: &Attempt) -> bool {
        let (session, clock) = (self.connection.session_ref(), attempt.cluster().board().clock());
        session.saw_unplanned(attempt.server(), attempt.role() == Role::Primary, clock);
        attempt.holds(Stage::Sent)
    }

    /// Statements may be sent there whose answers nobody sees, until the guard is dropped.
    pub(crate) fn lend(&self, attempt: &Attempt) -> Lent {
        let session = self.connection.session_ref();
        session.lend(attempt.server(), attempt.role() == Role::Primary)
    }

    /// Whether what is opened may be sent there now, some time after it was planned.
    pub(crate) fn may_serve(&self, attempt: &Attempt) -> bool {
        let board = attempt.cluster().board();
        let demand = self.connection.demand(&self.reach);
        attempt.holds(Stage::Unsent)
            && (attempt.role() == Role::Primary
                || Plan::judge(&board.topology(), attempt.endpoint(), &demand).is_ok())
    }

    /// Decides what follows an attempt that was sent and ended without a result.
    pub(crate) async fn ended(&mut self, attempt: &Attempt, ended: Ended) -> Next {
        let error = match ended {
            // Another endpoint may answer. What this one does with it is of no interest.
            Ended::Moved => return Next::Retry,
            Ended::Failed(error) => error,
        };
        let remedy = remedy(attempt, &error);
        tracing::debug!(
            target: "sealane::route", endpoint = %attempt.endpoint(), ?remedy, %error, "read failed"
        );
        match remedy {
            Remedy::TryElsewhere => {}
            Remedy::Suspect => {
                let is_second = std::mem::replace(&mut self.lost_connection, true);
                attempt.suspect(&error);
                if is_second || self.was_terminated(attempt, &error).await {
                    return Next::GiveUp(error);
                }
                if attempt.role() == Role::Primary {
                    // Its connection may have died in the pool; one more try finds out. Not
                    // before a probe did: others of the pool may be dead as well.
                    let board = attempt.cluster().board();
                    let heard = board.heard_after(attempt.endpoint(), board.now());
                    let _ = tokio::time::timeout(SIGN_OF_LIFE, heard).await;
                    self.plan.retry_primary(attempt.endpoint());
                }
            }
            Remedy::AskPrimary => self.plan.only_primary(),
            Remedy::LearnWrite => return Next::Write,
            // Core may learn of more remedies; the caller can always take the error.
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

    /// The handle that it reads for.
    pub(crate) fn connection(&self) -> &RoutedConnection {
        &self.connection
    }

    /// Whether an administrator has ended the connection of a statement that only the primary is
    /// left for. The server answers all the same, so it was meant for this statement, and it would
    /// burden the primary next.
    async fn was_terminated(&self, attempt: &Attempt, error: &DbErr) -> bool {
        let cluster = attempt.cluster();
        let is_termination = error::with_code(error, |code| code.is_termination(cluster.engine));
        if !is_termination || attempt.role() == Role::Primary || !self.plan.replicas().is_empty() {
            return false;
        }
        // What was probed before says nothing: the server may be going away.
        let heard = cluster.board().heard_after(attempt.endpoint(), cluster.board().now());
        matches!(tokio::time::timeout(SIGN_OF_LIFE, heard).await, Ok(Ok(())))
    }

    /// The next endpoint to try. Each is judged once more, on the snapshot that its run is taken
    /// from: an attempt before may have lasted.
    fn next(&mut self) -> Option<Attempt> {
        let cluster = self.connection.cluster();
        let topology = cluster.board().topology();
        // What a bound on staleness is held against.
        self.demand.now = cluster.board().now();
        loop {
            let (id, role) =
                self.plan.next(&*cluster.balancer, &cluster.loads, fastrand::u64(..))?;
            if role == Role::Replica && Plan::judge(&topology, id, &self.demand).is_err() {
                continue;
            }
            let footing = cluster.board().footing(&topology, id, role)?;
            return Some(Attempt::begin(cluster, footing, true));
        }
    }

    /// Takes note that nothing could be opened, and so nothing was sent.
    async fn unopened(&mut self, attempt: &Attempt, ended: Ended) -> Result<(), DbErr> {
        if attempt.role() == Role::Primary {
            return self.wait.unopened(attempt, ended).await;
        }
        let Ended::Failed(error) = ended else { return Ok(()) };
        match remedy(attempt, &error) {
            Remedy::Suspect => attempt.suspect(&error),
            Remedy::AskPrimary | Remedy::LearnWrite => self.plan.only_primary(),
            // Its pool is full, or it refuses us.
            _ => {}
        }
        self.last_error = Some(error);
        Ok(())
    }

    /// Plans anew when every endpoint of the plan was tried: another one may be the primary now,
    /// or will be soon.
    async fn plan_again(&mut self) -> Result<(), DbErr> {
        let cluster = self.connection.cluster();
        if self.only_replicas() {
            return Err(self.last_error.take().unwrap_or_else(|| Error::NoReplica.into()));
        }
        self.wait.another(cluster).await?;
        (self.demand, self.plan) = plan_now(&self.connection, &self.reach);
        self.keep_from_primary()
    }

    fn only_replicas(&self) -> bool {
        self.connection.own_way_out() == WhenBehind::Fail
            && !self.reach.readers.is_empty()
            && self.demand.consistency != Consistency::Strong
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
        if !self.plan.replicas().is_empty() || self.connection.session_ref().is_unwatched() {
            return None;
        }
        let (cluster, readers) = (self.connection.cluster(), self.reach.readers);
        match self.connection.own_way_out() {
            WhenBehind::Wait(longest)
                if self.plan.is_behind() && cluster.board().is_worth_waiting(readers, longest) =>
            {
                Some(longest)
            }
            _ if self.plan.awaits_proof_only()
                && self.connection.session_ref().should_wait_for_proof() =>
            {
                Some(cluster.proof_patience(readers))
            }
            _ => None,
        }
    }

    /// Plans as soon as a replica may serve, or else when `patience` is over.
    async fn plan_within(&mut self, patience: Duration) {
        let (connection, reach) = (&self.connection, &self.reach);
        let serves = |topology: &Topology| {
            !Plan::new(topology, &connection.demand(reach)).replicas().is_empty()
        };
        let board = connection.cluster().board();
        let end = Instant::now() + patience.min(LONGEST);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            // Out of patience: what there is will do.
            let _ = tokio::time::timeout(left.min(AWAITED_AGAIN), board.until(serves)).await;
            // Also tells the board again that somebody waits.
            (self.demand, self.plan) = plan_now(connection, reach);
            if !self.plan.replicas().is_empty() || Instant::now() >= end {
                return;
            }
        }
    }
}

fn plan_now(connection: &RoutedConnection, reach: &Reach) -> (Demand, Plan) {
    let board = connection.cluster().board();
    let demand = connection.demand(reach);
    let plan = Plan::new(&board.topology(), &demand);
    if !plan.replicas().is_empty() {
        // Served; those that are behind catch up in their own time.
    } else if let Some(stamp) = plan.awaited() {
        board.await_stamp(stamp);
    } else if plan.awaits_freshness(demand.consistency) {
        // A stamp of this moment is covered by what is sampled from now on.
        board.await_stamp(board.clock().tick());
    }
    (demand, plan)
}

fn remedy(attempt: &Attempt, error: &DbErr) -> Remedy {
    let judge =
        |code: ErrorCode<'_>| Remedy::for_read(attempt.cluster().engine, attempt.role(), code);
    error::with_code(error, judge)
}
