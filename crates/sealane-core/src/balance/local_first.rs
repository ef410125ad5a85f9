//! Endpoints of the client's own zone first.
//!
//! Traffic between zones costs money and a longer round trip, so a far endpoint has to be *much*
//! better before it is used. "Much" is one number, the spill ratio: the cheapest local endpoint may
//! [cost](Candidates::cost) up to this many times as much as the cheapest far one. The cost is
//! slowness times statements in flight, so with the default of 10 reads leave the zone if
//! - no local endpoint is a candidate: all are down, ejected, or not fresh enough for the read; or
//! - each local endpoint runs ten times as much as an idle far one would: ten statements of this
//!   process, which are all connections of a pool of the driver's default size; or
//! - each local endpoint is ten times as slow as the far ones, or fails.
//!
//! Only the surplus leaves. As reads arrive at the far endpoints, their cost rises too, and the next
//! read stays.
//!
//! Rejected: a bound on the number in flight alone (a local endpoint that hangs keeps the reads until
//! the bound is reached), and weights for distance (a part of the reads would always leave).

use super::Balancer;
use crate::{AttemptOutcome, Candidates, EndpointId, EndpointSet};

/// Chooses among the endpoints of one zone with another balancer, and among the others only if the
/// local ones are missing, overloaded or slow. See [`LocalFirst::DEFAULT_SPILL_RATIO`].
///
/// ```
/// use sealane_core::{LocalFirst, TwoChoices};
///
/// let balancer = LocalFirst::new("eu-1", TwoChoices).with_spill_ratio(5);
/// ```
#[derive(Debug, Clone)]
pub struct LocalFirst<B> {
    zone: Box<str>,
    spill_ratio: u32,
    inner: B,
}

impl<B: Balancer> LocalFirst<B> {
    /// The default of [`with_spill_ratio`](Self::with_spill_ratio): all connections of a pool of the
    /// driver's default size, while a far endpoint is idle.
    pub const DEFAULT_SPILL_RATIO: u32 = 10;

    /// Prefers the endpoints of `zone`; `inner` chooses among those that are considered.
    pub fn new(zone: impl Into<Box<str>>, inner: B) -> Self {
        LocalFirst { zone: zone.into(), spill_ratio: Self::DEFAULT_SPILL_RATIO, inner }
    }

    /// How many times as much as on the cheapest far endpoint a read may cost on the cheapest local
    /// one. 0 counts as 1: no preference for local endpoints over cheaper ones.
    #[must_use]
    pub fn with_spill_ratio(self, spill_ratio: u32) -> Self {
        LocalFirst { spill_ratio: spill_ratio.max(1), ..self }
    }

    /// The local candidates, or the far ones if the read should leave the zone.
    fn narrowed(&self, candidates: &Candidates<'_>) -> EndpointSet {
        let is_local = |zone: Option<&str>| zone == Some(&*self.zone);
        let local = candidates.iter().filter(|it| is_local(it.endpoint().zone()));
        let local: EndpointSet = local.map(|it| it.id()).collect();
        let far = candidates.set().without(local);
        if local.is_empty() || far.is_empty() {
            return candidates.set();
        }
        let cheapest =
            |set| candidates.with(set).ids().map(|id| candidates.cost(id)).min().unwrap_or(0);
        let most = cheapest(far).saturating_mul(self.spill_ratio.into());
        if cheapest(local) > most { far } else { local }
    }
}

impl<B: Balancer> Balancer for LocalFirst<B> {
    fn name(&self) -> &'static str {
        "local-first"
    }

    fn pick(&self, candidates: &Candidates<'_>, random: u64) -> Option<EndpointId> {
        self.inner.pick(&candidates.with(self.narrowed(candidates)), random)
    }

    fn ended(&self, endpoint: EndpointId, outcome: AttemptOutcome) {
        self.inner.ended(endpoint, outcome);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Debug, Default)]
    struct Hearing(Mutex<Vec<(EndpointId, AttemptOutcome)>>);

    impl Balancer for Hearing {
        fn name(&self) -> &'static str {
            "hearing"
        }

        fn pick(&self, _: &Candidates<'_>, _: u64) -> Option<EndpointId> {
            None
        }

        fn ended(&self, endpoint: EndpointId, outcome: AttemptOutcome) {
            self.0.lock().unwrap().push((endpoint, outcome));
        }
    }

    #[test]
    fn the_balancer_inside_hears_how_each_attempt_ended() {
        let balancer = LocalFirst::new("eu-1", Hearing::default());
        balancer.ended(EndpointId::FIRST, AttemptOutcome::Failed);
        let heard = balancer.inner.0.into_inner().unwrap();
        assert_eq!(heard, [(EndpointId::FIRST, AttemptOutcome::Failed)]);
    }
}
