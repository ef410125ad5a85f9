//! Choosing one endpoint among those that may serve a read.
//!
//! The trait is separate from its implementations, so that an application can bring its own. A
//! balancer sees only allowed endpoints. It never decides whether an endpoint is fresh enough or
//! alive.

mod candidates;
mod fastest_response;
mod least_in_flight;
mod least_lag;
mod load;
mod local_first;
mod random;
mod round_robin;
mod slowness;
mod sticky;
mod two_choices;
mod weighted_round_robin;

use std::{fmt, sync::Arc, time::Duration};

pub use candidates::Candidates;
pub use fastest_response::FastestResponse;
pub use least_in_flight::LeastInFlight;
pub use least_lag::LeastLag;
pub use load::{InFlight, Loads, Waiting};
pub use local_first::LocalFirst;
pub use random::Random;
pub use round_robin::RoundRobin;
pub use sticky::Sticky;
pub use two_choices::TwoChoices;
pub use weighted_round_robin::WeightedRoundRobin;

use crate::EndpointId;

/// A way to spread reads over the endpoints that may serve them.
///
/// ```
/// use sealane_core::{Balancer, Candidates, EndpointId};
///
/// /// Prefers replicas in our own zone, and among them the one with the fewest running statements.
/// #[derive(Debug)]
/// struct Near(&'static str);
///
/// impl Balancer for Near {
///     fn name(&self) -> &'static str {
///         "near"
///     }
///
///     fn pick(&self, candidates: &Candidates<'_>, _random: u64) -> Option<EndpointId> {
///         let far = |zone: Option<&str>| zone != Some(self.0);
///         candidates
///             .iter()
///             .min_by_key(|it| (far(it.endpoint().zone()), candidates.in_flight(it.id())))
///             .map(|it| it.id())
///     }
/// }
/// ```
pub trait Balancer: fmt::Debug + Send + Sync {
    /// The name shown in explanations and used in the configuration.
    fn name(&self) -> &'static str;

    /// Chooses one of `candidates`, or returns `None` if there is none.
    ///
    /// `random` is uniform over all of `u64`; the balancer has no entropy of its own. This is
    /// called once for each attempt of a read, even if a newer snapshot then refuses the
    /// candidates, so it must not block, allocate or panic. If it returns `None`, or an endpoint
    /// that is not a candidate, a random candidate is used.
    fn pick(&self, candidates: &Candidates<'_>, random: u64) -> Option<EndpointId>;

    /// Learns how an attempt on `endpoint` ended. Must not block, allocate or panic.
    fn ended(&self, endpoint: EndpointId, outcome: AttemptOutcome) {
        let _ = (endpoint, outcome);
    }
}

impl<T: Balancer + ?Sized> Balancer for Arc<T> {
    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn pick(&self, candidates: &Candidates<'_>, random: u64) -> Option<EndpointId> {
        (**self).pick(candidates, random)
    }

    fn ended(&self, endpoint: EndpointId, outcome: AttemptOutcome) {
        (**self).ended(endpoint, outcome);
    }
}

/// How an attempt of a read ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttemptOutcome {
    /// The attempt was served. The time runs from its beginning, including the wait for a
    /// connection, to the answer; for a stream, to its first row; for a transaction, to its
    /// beginning.
    Served(Duration),
    /// The server answered with an error that the statement itself caused, or sent it to the
    /// primary.
    Refused,
    /// The endpoint failed.
    Failed,
    /// The attempt took much longer than its statement usually does, and was abandoned, although
    /// the endpoint answered a probe meanwhile.
    Overdue,
    /// The attempt took longer than its statement usually does, and the endpoint did not answer a
    /// probe either.
    Silent,
    /// The attempt was abandoned after it had taken longer than its statement usually does: a hedge
    /// was quicker, or the caller did not wait.
    Outrun,
    /// The outcome is unknown: the caller gave up, or the endpoint is no longer the one that was
    /// planned.
    Abandoned,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EndpointSet, Loads, Moment, Topology};

    #[test]
    fn the_trait_is_object_safe() {
        let members: [Box<dyn Balancer>; 9] = [
            Box::new(FastestResponse),
            Box::new(LeastInFlight),
            Box::new(LeastLag),
            Box::new(LocalFirst::new("here", TwoChoices)),
            Box::new(Random),
            Box::new(RoundRobin::default()),
            Box::new(Sticky),
            Box::new(TwoChoices),
            Box::new(WeightedRoundRobin::default()),
        ];
        let (topology, loads) = (Topology::new(Vec::new()), Loads::new());
        let nobody = Candidates::new(EndpointSet::EMPTY, &topology, &loads, Moment::ZERO);
        for balancer in members {
            assert_eq!(balancer.pick(&nobody, 7), None);
        }
    }
}
