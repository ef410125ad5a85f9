//! The candidates that are the least behind the primary.

use std::time::Duration;

use super::{Balancer, TwoChoices};
use crate::{Candidate, Candidates, EndpointId};

/// Lags that differ by less than this count as equal. Lag is measured by probes, so smaller
/// differences tell when a replica was asked, and not how far behind it is. Without this tolerance,
/// all reads would run to the replica that was probed last.
const SAME: Duration = Duration::from_millis(100);

/// Takes a candidate whose lag is at most 100 ms above the least one; among these,
/// [`TwoChoices`] decides. An unknown lag counts as the longest.
#[derive(Debug, Default, Clone, Copy)]
pub struct LeastLag;

impl Balancer for LeastLag {
    fn name(&self) -> &'static str {
        "least-lag"
    }

    fn pick(&self, candidates: &Candidates<'_>, random: u64) -> Option<EndpointId> {
        let lag = |it: &Candidate<'_>| it.lag().unwrap_or(Duration::MAX);
        let least = candidates.iter().map(|it| lag(&it)).min()?;
        let bound = least.saturating_add(SAME);
        let near = candidates.iter().filter(|it| lag(it) <= bound).map(|it| it.id()).collect();
        TwoChoices.pick(&candidates.with(near), random)
    }
}
