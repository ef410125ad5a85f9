//! Hedged reads: a second attempt on another replica when the first one is slow.
//!
//! Some reads are slow by chance: a checkpoint, a cold page, a busy core. If a read is not answered
//! by the time within which 95 of 100 executions of its statement end, it is sent to a second
//! replica as well, and the first answer counts (Dean and Barroso, "The Tail at Scale", 2013). Both
//! are attempts like any other, so everything that is checked of an answer is checked of either.
//!
//! The slower attempt is abandoned; `execute/overdue` says what becomes of its statement. An
//! endpoint whose attempts lose against their hedges again and again is ejected. Hedges never run on
//! the primary, and have a budget of their own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use sea_orm::{DbErr, Statement};
use sealane_core::{AttemptOutcome, EndpointId, EndpointSet, FallbackPolicy};

use super::read::ReadExecution;
use crate::{caller::Caller, cluster::ReadRoute, pool::Verb};

/// No read is hedged earlier: a timer is not more exact.
const LEAST_DELAY: Duration = Duration::from_millis(1);
const NOWHERE: usize = usize::MAX;

/// Where a read runs that may be hedged.
#[derive(Debug, Clone)]
pub(super) struct Whereabouts(Arc<AtomicUsize>);

impl Whereabouts {
    fn unknown() -> Self {
        Whereabouts(Arc::new(AtomicUsize::new(NOWHERE)))
    }

    pub(super) fn note(&self, endpoint: EndpointId) {
        self.0.store(endpoint.place(), Ordering::Relaxed);
    }

    fn endpoint(&self) -> Option<EndpointId> {
        EndpointId::from_index(self.0.load(Ordering::Relaxed))
    }
}

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
    ) -> Result<Option<V::Output>, DbErr> {
        let first_at = Whereabouts::unknown();
        let cluster = self.cluster();
        cluster.hedges.deposit();
        let hedge = async {
            tokio::time::sleep(delay).await;
            let (Some(avoid), true) =
                (first_at.endpoint(), cluster.hedges.withdraw(cluster.store().now()))
            else {
                return None;
            };
            cluster.counts.hedged.add();
            let began = cluster.store().now();
            let read = ReadExecution::plan(self, beside(&route, avoid)).await.ok()?;
            let found = self.run_attempts::<V>(read, statement).await.ok()??;
            cluster.counts.hedges_won.add();
            cluster.judge_ejection(avoid, AttemptOutcome::Outrun, began);
            Some(found)
        };
        let first = async {
            let mut read = ReadExecution::plan(self, route.clone()).await?;
            read.tell_where(first_at.clone());
            self.run_attempts::<V>(read, statement).await
        };
        let hedge = async {
            match hedge.await {
                Some(found) => found,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            result = first => result,
            found = hedge => Ok(Some(found)),
        }
    }
}

/// The same route, on replicas only and without `avoid`.
fn beside(route: &ReadRoute, avoid: EndpointId) -> ReadRoute {
    let mut beside = route.clone();
    let avoid: EndpointSet = [avoid].into_iter().collect();
    beside.route.among = beside.route.among.without(avoid);
    beside.route.fallback = FallbackPolicy::Fail;
    beside
}
