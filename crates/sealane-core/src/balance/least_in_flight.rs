//! The candidate with the fewest statements of this process in flight.

use super::Balancer;
use crate::{Candidates, EndpointId};

/// Compares all candidates and takes the one with the fewest statements in flight relative to its
/// weight; among equals, a random one.
///
/// It suits a process that is alone. If many processes share the replicas, each sees only its own
/// statements; [`TwoChoices`](crate::TwoChoices) also sees how slow a replica is.
#[derive(Debug, Default, Clone, Copy)]
pub struct LeastInFlight;

impl Balancer for LeastInFlight {
    fn name(&self) -> &'static str {
        "least-in-flight"
    }

    fn pick(&self, candidates: &Candidates<'_>, random: u64) -> Option<EndpointId> {
        candidates.least(random, |id| candidates.crowd(id))
    }
}
