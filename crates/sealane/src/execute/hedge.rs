//! Hedged reads: a second attempt on another replica when the first one is slow.
//!
//! Some reads are slow by chance: a checkpoint, a cold page, a busy core. If a read is not answered
//! by the time within which 95 of 100 executions of its statement end, it is sent to a second
//! replica as well, and the first answer counts (Dean and Barroso, "The Tail at Scale", 2013). Both
//! are attempts like any other, so everything that is checked of an answer is checked of either.
//!
//! The slower attempt goes on for a moment without its caller, because a connection whose statement
//! is cut off has to be closed. An endpoint whose attempts lose against their hedges again and again
//! is ejected. Hedges never run on the primary, and have a budget of their own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::{Either, select};
use sea_orm::{DbErr, Statement};
use sealane_core::{AttemptOutcome, EndpointId, FallbackPolicy, Moment};
use tokio::sync::watch;

use super::read::ReadExecution;
use crate::{
    BoxFuture, Error,
    caller::Caller,
    cluster::{Cluster, ReadRoute},
    pool::Verb,
};

/// No read is hedged earlier: a timer is not more exact.
const LEAST_DELAY: Duration = Duration::from_millis(1);
/// For so long an attempt goes on that was outrun.
const GOES_ON: Duration = Duration::from_secs(1);

type Found<T> = Result<Option<T>, DbErr>;

/// After which time a read of `caller` is hedged; `None` if it is not.
pub(super) fn delay(caller: &Caller, route: &ReadRoute) -> Option<Duration> {
    if !caller.hedges() || route.stays_on_primary {
        return None;
    }
    // A statement that never ran may be slow everywhere.
    let p95 = route.statement.as_ref()?.pace.p95()?;
    Some(p95.max(LEAST_DELAY))
}

impl Caller {
    /// Runs a read, and after `delay` a hedge of it. `None`: it turned out to be a write, and
    /// nothing of it was executed.
    pub(super) async fn run_hedged<V: Verb>(
        &self,
        route: ReadRoute,
        statement: &Statement,
        delay: Duration,
    ) -> Found<V::Output> {
        self.cluster().hedges.deposit();
        let statement = Arc::new(statement.clone());
        let (first_at, first_sent) = watch::channel(None);
        let (is_sent, deadline) = (Arc::new(AtomicBool::new(false)), self.deadline());
        let first: BoxFuture<'static, _> = {
            let (caller, statement) = (self.clone(), Arc::clone(&statement));
            let route = route.clone();
            Box::pin(async move {
                let mut read = ReadExecution::plan(&caller, route).await?;
                read.tell_where(first_at);
                caller.run_attempts::<V>(read, &statement).await
            })
        };
        let hedge: BoxFuture<'static, _> = {
            let (caller, is_sent) = (self.clone(), Arc::clone(&is_sent));
            Box::pin(async move {
                caller.hedge::<V>(route, &statement, first_sent, delay, &is_sent).await
            })
        };
        let is_sent = || is_sent.load(Ordering::Relaxed);
        match select(first, hedge).await {
            Either::Left((Ok(found), hedge)) => {
                if is_sent() {
                    go_on(hedge);
                }
                Ok(found)
            }
            Either::Left((Err(error), hedge)) => match Error::of(&error) {
                Some(Error::ReadTimeout { .. }) => Err(error),
                _ if !is_sent() => Err(error),
                _ => match deadline.bound(async { Ok(hedge.await) }).await? {
                    Some(won) => Ok(Some(won.output)),
                    None => Err(error),
                },
            },
            Either::Right((Some(won), first)) => {
                let Won { output, outran, began } = won;
                judge(self.cluster(), outran, began);
                go_on(first);
                Ok(Some(output))
            }
            Either::Right((None, first)) => first.await,
        }
    }

    /// The hedge of a read that is sent to `first_at`. `None` if it found nothing.
    async fn hedge<V: Verb>(
        &self,
        route: ReadRoute,
        statement: &Statement,
        mut first_sent: watch::Receiver<Option<EndpointId>>,
        delay: Duration,
        is_sent: &AtomicBool,
    ) -> Option<Won<V::Output>> {
        let outran = (*first_sent.wait_for(Option::is_some).await.ok()?)?;
        let (cluster, began) = (self.cluster(), self.cluster().store().now());
        tokio::select! {
            biased;
            // The first attempt has ended, or moved.
            _ = first_sent.changed() => return None,
            () = tokio::time::sleep(delay) => {}
        }
        let mut read = ReadExecution::plan(self, beside(&route, outran)).await.ok()?;
        let is_worth = read.has_replica() && first_sent.has_changed().is_ok();
        if !is_worth || !cluster.hedges.withdraw(cluster.store().now()) {
            return None;
        }
        is_sent.store(true, Ordering::Relaxed);
        read.try_once();
        cluster.counts.hedged.add();
        let output = self.run_attempts::<V>(read, statement).await.ok()??;
        cluster.counts.hedges_won.add();
        Some(Won { output, outran, began })
    }
}

/// The answer of a hedge.
struct Won<T> {
    output: T,
    /// The endpoint of the first attempt, and when that began.
    outran: EndpointId,
    began: Moment,
}

fn judge(cluster: &Cluster, outran: EndpointId, began: Moment) {
    if cluster.is_watched() {
        cluster.judge_ejection(outran, AttemptOutcome::Outrun, began);
    }
}

/// Lets what was outrun end by itself, or closes its connection.
fn go_on<T: Send + 'static>(outrun: BoxFuture<'static, T>) {
    tokio::spawn(async move {
        let _ = tokio::time::timeout(GOES_ON, outrun).await;
    });
}

/// The same route, on replicas only and without `avoid`.
fn beside(route: &ReadRoute, avoid: EndpointId) -> ReadRoute {
    let mut beside = route.clone();
    beside.route.among = beside.route.among.without([avoid].into_iter().collect());
    beside.route.fallback = FallbackPolicy::Fail;
    beside
}
