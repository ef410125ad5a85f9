//! The candidate that answers soonest, however many statements it already runs.

use super::Balancer;
use crate::{Candidates, EndpointId};

/// Compares all candidates and takes the one with the least [slowness](Candidates::slowness); among
/// equals, a random one.
///
/// It sends nearly everything to one replica until this replica becomes slow. Use it where one
/// replica is much nearer than the others and can carry all reads.
#[derive(Debug, Default, Clone, Copy)]
pub struct FastestResponse;

impl Balancer for FastestResponse {
    fn name(&self) -> &'static str {
        "fastest-response"
    }

    fn pick(&self, candidates: &Candidates<'_>, random: u64) -> Option<EndpointId> {
        candidates.least(random, |id| candidates.slowness_units(id))
    }
}
