//! A random candidate.

use super::Balancer;
use crate::{Candidates, EndpointId};

/// Draws one candidate, in proportion to the weights and without regard to load.
#[derive(Debug, Default, Clone, Copy)]
pub struct Random;

impl Balancer for Random {
    fn name(&self) -> &'static str {
        "random"
    }

    fn pick(&self, candidates: &Candidates<'_>, random: u64) -> Option<EndpointId> {
        match candidates.is_weighted() {
            true => candidates.draw(None, random >> 32),
            false => candidates.nth((random >> 32) as usize % candidates.len().max(1)),
        }
    }
}
