//! The life of one statement: its plan, its attempts, what they teach.

use std::{pin::Pin, sync::Arc, time::Duration};

use sea_orm::{DatabaseConnection, DbErr, Statement};
use sealane_core::{
    Consistency, Demand, Failure, InFlight, Moment, Plan, Remedy, Role, Server, Topology,
    WhenBehind,
};
use tokio::time::Instant;

use crate::{
    cluster::{Cluster, Reach},
    connection::RoutedConnection,
    error, explain, failover,
    scope::Here,
    writing::Writing,
};

/// A future as SeaORM's traits return it.
pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A method of `ConnectionTrait` that takes a finished statement.
pub(crate) type Verb<T> =
    for<'a> fn(&'a DatabaseConnection, Statement) -> BoxFuture<'a, Result<T, DbErr>>;

/// Makes the statement once more, for another attempt.
pub(crate) type Rebuild<'a> = &'a (dyn Fn() -> Statement + Sync);

/// Less than what the board forgets a waiting session after.
const AWAITED_AGAIN: Duration = Duration::from_millis(500);

/// A read on its way: what it asked for, and what is left to try.
#[derive(Debug)]
pub(crate) struct Lane {
    demand: Demand,
    plan: Plan,
    /// A connection was lost to it already: the statement itself may be what
    /// breaks servers, and is not sent around for ever.
    lost_connection: bool,
}

/// One attempt of a read.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) guard: InFlight,
    pub(crate) role: Role,
    run: u32,
    started: Moment,
}

/// What follows an attempt that failed.
#[derive(Debug)]
pub(crate) enum Next {
    /// Give the error to the caller.
    GiveUp,
    /// Take the next attempt.
    Retry,
    /// It is a write: run it as one.
    Write,
}

impl Lane {
    /// Plans a read for `connection`, on the snapshot of this moment; or on a later
    /// one, where waiting for it takes the read off the primary.
    ///
    /// # Errors
    /// No replica is good enough, and the read must not run on the primary.
    pub(crate) async fn plan(connection: &RoutedConnection, reach: &Reach) -> Result<Lane, DbErr> {
        let asks_for_all = matches!(
            connection.own_consistency(),
            Consistency::ReadYourWrites | Consistency::Strong
        );
        if asks_for_all {
            failover::seen(connection).await;
        }
        let mut lane = Lane::plan_now(connection, reach);
        if let Some(patience) = lane.patience(connection, reach) {
            lane = Lane::plan_within(patience, connection, reach).await;
        }
        let is_for_primary =
            reach.readers.is_empty() || lane.demand.consistency == Consistency::Strong;
        if connection.own_way_out() == WhenBehind::Fail && !is_for_primary {
            lane.plan.forbid_primary();
            if !lane.plan.has_next() {
                return Err(error::behind());
            }
        }
        Ok(lane)
    }

    /// How long it is worth waiting for a replica; `None` if it is not.
    fn patience(&self, connection: &RoutedConnection, reach: &Reach) -> Option<Duration> {
        if !self.plan.replicas().is_empty() {
            return None;
        }
        let cluster = connection.cluster();
        match connection.own_way_out() {
            WhenBehind::Wait(longest)
                if self.plan.is_behind()
                    && cluster.board().is_worth_waiting(reach.readers, longest) =>
            {
                Some(longest)
            }
            _ if self.plan.awaits_proof_only()
                && connection.session_ref().should_wait_for_proof() =>
            {
                Some(cluster.proof_patience(reach.readers))
            }
            _ => None,
        }
    }

    /// Plans as soon as a replica may serve, or else when `patience` is over.
    async fn plan_within(patience: Duration, connection: &RoutedConnection, reach: &Reach) -> Lane {
        let serves = |topology: &Topology| {
            !Plan::new(topology, &connection.demand(reach)).replicas().is_empty()
        };
        let board = connection.cluster().board();
        let end = Instant::now() + patience;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            // Out of patience: what there is will do.
            let _ = tokio::time::timeout(left.min(AWAITED_AGAIN), board.until(serves)).await;
            // Also tells the board again that somebody waits.
            let lane = Lane::plan_now(connection, reach);
            if !lane.plan.replicas().is_empty() || Instant::now() >= end {
                return lane;
            }
        }
    }

    fn plan_now(connection: &RoutedConnection, reach: &Reach) -> Lane {
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
        Lane { demand, plan, lost_connection: false }
    }

    /// The next endpoint to try, counted as running until the guard is dropped.
    /// Each is judged once more, on the snapshot that its run is taken from: an
    /// attempt before may have lasted.
    pub(crate) fn next(&mut self, cluster: &Cluster) -> Option<Attempt> {
        let topology = cluster.board().topology();
        // What a bound on staleness is held against.
        self.demand.now = cluster.board().now();
        loop {
            let (id, role) =
                self.plan.next(&*cluster.balancer, &cluster.loads, fastrand::u64(..))?;
            if role == Role::Replica && Plan::judge(&topology, id, &self.demand).is_err() {
                continue;
            }
            let run = topology.get(id)?.run;
            let guard = cluster.loads.start_read(id);
            return Some(Attempt { guard, role, run, started: cluster.board().now() });
        }
    }

    /// Takes note that `attempt` succeeded. `false` if its server was restarted
    /// meanwhile, so that what the plan relied on is not proved of the data
    /// that was read: the result must not be used, and the next attempt is due.
    pub(crate) fn served(&self, connection: &RoutedConnection, attempt: &Attempt) -> bool {
        let board = connection.cluster().board();
        let id = attempt.guard.endpoint();
        let topology = board.topology();
        let same_run = topology.get(id).is_some_and(|state| state.run == attempt.run);
        let is_primary = attempt.role == Role::Primary;
        let still_primary = is_primary && topology.primary() == Some(id);
        if !(same_run || still_primary) {
            return false;
        }
        // Other consistencies take whatever there is.
        let proved = is_primary || self.demand.consistency == Consistency::ReadYourWrites;
        let server = Server { endpoint: id, run: attempt.run };
        connection.session_ref().saw(server, &self.demand.session, proved, board.clock());
        true
    }

    /// Decides what follows the failure of `attempt`.
    pub(crate) fn failed(&mut self, cluster: &Cluster, attempt: &Attempt, error: &DbErr) -> Next {
        let id = attempt.guard.endpoint();
        let remedy =
            error::with_code(error, |code| Remedy::for_read(cluster.engine, attempt.role, code));
        tracing::debug!(target: "sealane::route", endpoint = %id, ?remedy, %error, "read failed");
        match remedy {
            Remedy::ReturnToCaller => return Next::GiveUp,
            Remedy::TryElsewhere => {}
            Remedy::Suspect => {
                let failure = Failure::Connection(error.to_string());
                cluster.board().suspect(id, attempt.started, failure);
                if attempt.role == Role::Primary && !self.lost_connection {
                    // Its connection may have died in the pool; one more try finds out.
                    self.plan.retry_primary(id);
                }
                self.lost_connection = true;
            }
            Remedy::AskPrimary => self.plan.only_primary(),
            Remedy::LearnWrite => return Next::Write,
            // Core may learn of more remedies; the caller can always take the error.
            _ => return Next::GiveUp,
        }
        if self.plan.has_next() { Next::Retry } else { Next::GiveUp }
    }
}

impl Attempt {
    /// The end of `running`, or an error when the attempt hangs.
    pub(crate) async fn unless_hung<T>(
        &self,
        cluster: &Arc<Cluster>,
        running: impl Future<Output = Result<T, DbErr>>,
    ) -> Result<T, DbErr> {
        tokio::select! {
            biased;
            result = running => result,
            error = self.watch(cluster) => Err(error),
        }
    }

    /// As [`Attempt::unless_hung`], to be polled beside a stream.
    pub(crate) fn hung(&self, cluster: &Arc<Cluster>) -> BoxFuture<'static, DbErr> {
        Box::pin(self.watch(cluster))
    }

    /// Ready when the attempt's replica does not even answer probes: nothing
    /// more can be hoped for there, and the read has somewhere else to go. On
    /// the primary, waiting is all that is left.
    fn watch(&self, cluster: &Arc<Cluster>) -> impl Future<Output = DbErr> + Send + use<> {
        let (board, id, role) = (Arc::clone(cluster.board()), self.guard.endpoint(), self.role);
        async move {
            match role {
                Role::Primary => std::future::pending().await,
                _ => board.unanswered(id).await,
            }
            error::hung()
        }
    }
}

impl RoutedConnection {
    /// Runs one autocommit statement where it belongs.
    pub(crate) async fn run<T>(
        &self,
        statement: Statement,
        rebuild: Option<Rebuild<'_>>,
        verb: Verb<T>,
    ) -> Result<T, DbErr> {
        let here = Here::of(self);
        match here.cluster().reach(&statement.sql) {
            Some(reach) => here.run_read(&reach, statement, rebuild, verb).await,
            None => here.run_write(statement, verb).await,
        }
    }

    /// Runs on the primary whatever is not a proved read.
    pub(crate) async fn run_write<T>(
        &self,
        statement: Statement,
        verb: Verb<T>,
    ) -> Result<T, DbErr> {
        let (writing, primary) = Writing::start(self, &statement.sql).await?;
        writing.looked_at(verb(primary, statement).await)
    }

    async fn run_read<T>(
        &self,
        reach: &Reach,
        mut statement: Statement,
        rebuild: Option<Rebuild<'_>>,
        verb: Verb<T>,
    ) -> Result<T, DbErr> {
        let cluster = self.cluster();
        let mut lane = Lane::plan(self, reach).await?;
        let mut last_error = None;
        while let Some(attempt) = lane.next(cluster) {
            let id = attempt.guard.endpoint();
            let Some(pool) = cluster.pool(id, attempt.role) else { break };
            explain::trace(self, id, &statement.sql);
            let spare = rebuild.map_or_else(|| Spare::Kept(statement.clone()), Spare::Builder);
            let error = match attempt.unless_hung(cluster, verb(pool, statement)).await {
                Ok(value) if lane.served(self, &attempt) => return Ok(value),
                Ok(_) => None,
                Err(error) => Some(error),
            };
            statement = spare.statement();
            let Some(error) = error else { continue };
            match lane.failed(cluster, &attempt, &error) {
                Next::GiveUp => return Err(error),
                Next::Retry => last_error = Some(error),
                Next::Write => {
                    cluster.learn_write(&statement.sql);
                    return self.run_write(statement, verb).await;
                }
            }
        }
        Err(last_error.unwrap_or_else(error::no_primary))
    }
}

/// Where another attempt takes its statement from. SeaORM's methods consume
/// it: one that came finished is copied beforehand, one that came as a builder
/// is built again, so that only a failure costs.
enum Spare<'a> {
    Kept(Statement),
    Builder(Rebuild<'a>),
}

impl Spare<'_> {
    fn statement(self) -> Statement {
        match self {
            Spare::Kept(statement) => statement,
            Spare::Builder(build) => build(),
        }
    }
}
