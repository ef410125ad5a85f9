//! Choosing one endpoint among those that may serve a read.
//!
//! The trait is apart from its members so that an application can bring its
//! own. A balancer sees only endpoints that are allowed; it never decides
//! whether one is fresh enough or alive.

mod round_robin;
mod two_choices;

use std::fmt;

pub use round_robin::RoundRobin;
pub use two_choices::TwoChoices;

use crate::{EndpointId, EndpointSet, Loads};

/// A way to spread reads over the endpoints that may serve them.
pub trait Balancer: fmt::Debug + Send + Sync {
    /// The name in explanations and configuration.
    fn name(&self) -> &'static str;

    /// Chooses one of `candidates`, or `None` if there is none.
    ///
    /// `random` is uniform over all of `u64`; the balancer has no entropy of
    /// its own. Called once for each attempt of a read: it must neither block
    /// nor allocate.
    fn pick(&self, candidates: EndpointSet, loads: &Loads, random: u64) -> Option<EndpointId>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trait_is_object_safe() {
        let members: [Box<dyn Balancer>; 2] =
            [Box::new(RoundRobin::default()), Box::new(TwoChoices)];
        for balancer in members {
            assert_eq!(balancer.pick(EndpointSet::EMPTY, &Loads::new(0), 7), None);
        }
    }
}
