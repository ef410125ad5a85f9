//! What traces and the log are told of a read.

use std::borrow::Cow;

use sea_orm::DbErr;
use sealane_core::{AttemptOutcome, EndpointId, Plan};

use super::{Next, ReadExecution};
use crate::{
    error::SILENT,
    execute::Attempt,
    observe::span::{self, Why},
};

/// An endpoint that a read left without a result, and why.
#[derive(Debug)]
pub(super) struct Left {
    from: EndpointId,
    why: Cow<'static, str>,
}

impl ReadExecution {
    /// Records why it leaves the endpoint of `attempt`. It is told when the next attempt begins.
    pub(in crate::execute) fn leaves(&mut self, attempt: &Attempt, why: &'static str) {
        self.left = Some(Left { from: attempt.endpoint(), why: why.into() });
    }

    /// The same for an attempt that was given up, unless the reason is known already.
    pub(super) fn leaves_silent(&mut self, attempt: &Attempt) {
        let from = attempt.endpoint();
        self.left.get_or_insert(Left { from, why: SILENT.into() });
    }

    /// The same, for an attempt that was sent.
    pub(super) fn moves_on(&mut self, attempt: &Attempt) -> Next {
        self.leaves_silent(attempt);
        Next::Retry
    }

    /// The same for an attempt that failed. The text of `error` is not told: it may quote literals.
    pub(super) fn leaves_failed(
        &mut self,
        attempt: &Attempt,
        condition: Option<&'static str>,
        error: &DbErr,
    ) {
        let why = condition.map_or_else(|| span::kind(error), Cow::Borrowed);
        self.left = Some(Left { from: attempt.endpoint(), why });
    }

    pub(super) fn tell_of_attempt(&mut self, attempt: &Attempt, sql: &str, why: Why) {
        self.why = why;
        match why {
            Why::Shared => attempt.cluster().counts.shared.add(),
            Why::Stale => attempt.cluster().counts.stale.add(),
            Why::Read | Why::OnPrimary(_) | Why::Write | Why::Transaction => {}
        }
        attempt.trace(&self.caller, sql, why, self.attempts);
        self.attempts += 1;
        if let Some(Left { from: id, why }) = self.left.take() {
            let cluster = self.caller.cluster();
            let (from, to) = (cluster.name(id), attempt.place());
            span::moved(&from, &to, &why);
            cluster.notices.moved(cluster.store().now(), id, &from, &to, &why);
        }
    }

    /// A read and its hedge share a span, which shall name the one that has served.
    pub(super) fn tell_of_race(&self, attempt: &Attempt) {
        if self.race.is_some() {
            let earlier = self.attempts.saturating_sub(1);
            span::sent(attempt.cluster(), attempt.sent(self.why, earlier));
        }
    }

    pub(super) fn tell_of_fallback(&self, attempt: &Attempt) {
        let cluster = attempt.cluster();
        let now = cluster.store().now();
        cluster.notices.fell_back(now, &attempt.place(), || self.refusals());
    }

    /// Tells that a bound on staleness makes it wait for a replica.
    pub(super) fn tell_of_wait(&self) {
        if self.plan.awaits_freshness(&self.request) {
            self.tell_of_staleness("it waits");
        }
    }

    /// Tells that it fails because replicas are behind.
    pub(super) fn tell_of_refusal(&self) {
        if self.plan.is_behind() {
            self.tell_of_staleness("it fails");
        }
    }

    pub(super) fn tell_of_staleness(&self, then: &str) {
        let cluster = self.caller.cluster();
        let (now, asked) = (cluster.store().now(), &self.request.consistency);
        cluster.notices.stale(now, asked, then, || self.refusals());
    }

    /// What keeps it from each replica, in one line.
    fn refusals(&self) -> String {
        let topology = self.caller.cluster().store().topology();
        let replicas = topology.iter().filter(|(id, _)| topology.primary() != Some(*id));
        let told = replicas.filter_map(|(id, state)| {
            let name = state.endpoint.name();
            match Plan::judge(&topology, id, &self.request) {
                Err(refusal) => Some(format!("{name} {refusal}")),
                Ok(()) => self.tried.contains(id).then(|| format!("{name} was tried")),
            }
        });
        told.collect::<Vec<_>>().join("; ")
    }
}

/// Why a watched attempt is left, in words.
pub(super) fn words(outcome: AttemptOutcome) -> &'static str {
    match outcome {
        AttemptOutcome::Silent => "it does not answer",
        _ => "it takes much longer than usual",
    }
}
