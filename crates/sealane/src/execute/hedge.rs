//! Hedged reads: a second attempt on another replica when the first one is slow.
//!
//! Some reads are slow by chance: a checkpoint, a cold page, a busy core. If a read is not answered
//! by the time within which 95 of 100 executions of its statement end, it is sent to a second
//! replica as well, and the first answer counts (Dean and Barroso, "The Tail at Scale", 2013). Both
//! are attempts like any other, so everything that is checked of an answer is checked of either.
//!
//! The slower attempt goes on for a moment without its caller, because a connection whose statement
//! is cut off has to be closed. Then its server ends it. Nobody sees what it reads, so its session
//! does not either. An endpoint whose attempts lose against their hedges again and again is ejected.
//! Hedges never run on the primary, and have a budget of their own.

use std::{sync::Arc, time::Duration};

use futures_util::future::{Either, select};
use sea_orm::{DbErr, Statement};
use sealane_core::{EndpointId, ErrorCode, FallbackPolicy, RetryDecision, Role};
use tokio::{sync::watch, time::timeout};

use super::{race::Race, read::ReadExecution};
use crate::{
    BoxFuture, Error,
    caller::Caller,
    cluster::{Cluster, ReadRoute},
    error,
    pool::Verb,
};

/// No read is hedged earlier: a timer is not more exact.
const LEAST_DELAY: Duration = Duration::from_millis(1);

type Found<T> = Result<Option<T>, DbErr>;

/// After which time a read of `caller` is hedged; `None` if it is not.
pub(super) fn delay(caller: &Caller, route: &ReadRoute) -> Option<Duration> {
    if !caller.hedges(&route.route) || route.stays_on_primary {
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
        let (first_at, first_begun) = watch::channel(None);
        let (race, deadline) = (Arc::new(Race::new(delay)), self.deadline());
        let first: BoxFuture<'static, _> = {
            let (caller, statement, race) =
                (self.clone(), Arc::clone(&statement), Arc::clone(&race));
            let route = route.clone();
            Box::pin(async move {
                let mut read = ReadExecution::plan(&caller, route).await?;
                read.is_first_of(race, first_at);
                caller.run_attempts::<V>(read, &statement).await
            })
        };
        let hedge: BoxFuture<'static, _> = {
            let (caller, race) = (self.clone(), Arc::clone(&race));
            Box::pin(async move { caller.hedge::<V>(route, &statement, first_begun, race).await })
        };
        // A hedge has no time limit of its own.
        let patience = race.long_after().max(race.delay + self.cluster().primary_wait);
        match select(first, hedge).await {
            Either::Left((Ok(found), hedge)) => {
                if race.is_hedged() {
                    race.go_on(hedge);
                }
                Ok(found)
            }
            Either::Left((Err(error), hedge)) => match Error::of(&error) {
                Some(Error::ReadTimeout { .. }) => Err(error),
                _ if !race.is_hedged() => Err(error),
                None if self.cluster().is_final(&error) => Err(error),
                _ => match deadline.bound(async { Ok(timeout(patience, hedge).await) }).await? {
                    Ok(Some(output)) => Ok(Some(output)),
                    Ok(None) | Err(_) => Err(error),
                },
            },
            Either::Right((Some(output), first)) => {
                race.go_on(first);
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
        mut first_begun: watch::Receiver<Option<EndpointId>>,
        race: Arc<Race>,
    ) -> Option<V::Output> {
        let first_at = (*first_begun.wait_for(Option::is_some).await.ok()?)?;
        let cluster = self.cluster();
        tokio::select! {
            biased;
            // The first attempt has ended, or moved.
            _ = first_begun.changed() => return None,
            () = tokio::time::sleep(race.delay) => {}
        }
        let mut read = ReadExecution::plan(self, beside(&route, first_at)).await.ok()?;
        let is_worth = read.has_replica() && first_begun.has_changed().is_ok();
        if !is_worth || !cluster.hedges.withdraw(cluster.store().now()) {
            return None;
        }
        race.hedged();
        read.is_hedge_of(Arc::clone(&race));
        cluster.counts.hedged.add();
        let output = self.run_attempts::<V>(read, statement).await.ok()??;
        if !race.is_over() {
            cluster.counts.hedges_won.add();
        }
        Some(output)
    }
}

impl Cluster {
    /// Whether every replica would answer a read with this error.
    fn is_final(&self, error: &DbErr) -> bool {
        let decision =
            |code: ErrorCode<'_>| RetryDecision::for_read(self.engine, Role::Replica, code);
        error::with_code(error, decision) == RetryDecision::ReturnToCaller
    }
}

/// The same route, on replicas only and without `avoid`.
fn beside(route: &ReadRoute, avoid: EndpointId) -> ReadRoute {
    let mut beside = route.clone();
    beside.route.among = beside.route.among.without([avoid].into_iter().collect());
    beside.route.fallback = FallbackPolicy::Fail;
    beside
}
