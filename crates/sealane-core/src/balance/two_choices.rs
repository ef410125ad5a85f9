//! Two random candidates, the less loaded one wins.
//!
//! Nearly as even as asking all of them, and without the herd: when everybody
//! runs to the one least loaded endpoint, it is the most loaded a moment later.
//! (M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing",
//! IEEE TPDS 12(10), 2001.)

use super::Balancer;
use crate::{EndpointId, EndpointSet, Loads};

/// Draws two different candidates and takes the one with fewer statements in
/// flight.
#[derive(Debug, Default)]
pub struct TwoChoices;

impl Balancer for TwoChoices {
    fn name(&self) -> &'static str {
        "two-choices"
    }

    fn pick(&self, candidates: EndpointSet, loads: &Loads, random: u64) -> Option<EndpointId> {
        let count = candidates.len();
        if count < 2 {
            return candidates.nth(0);
        }
        // Two independent draws from the halves of the random word; the second is over
        // the others, so the two differ.
        let first = (random >> 32) as usize % count;
        let other = (random & 0xFFFF_FFFF) as usize % (count - 1);
        let second = if other >= first { other + 1 } else { other };
        let (first, second) = (candidates.nth(first)?, candidates.nth(second)?);
        Some(if loads.in_flight(second) < loads.in_flight(first) { second } else { first })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn set(indices: &[usize]) -> EndpointSet {
        indices.iter().copied().filter_map(EndpointId::from_index).collect()
    }

    /// splitmix64: enough for an even draw, the same in every run.
    fn draws(n: u64) -> impl Iterator<Item = u64> {
        (0..n).map(|i| {
            let mut z = (i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^ (z >> 31)
        })
    }

    #[test]
    fn idle_candidates_share_evenly() {
        let (candidates, loads) = (set(&[0, 1, 2]), Loads::new(3));
        let mut picks = [0_i32; 3];
        for random in draws(30_000) {
            picks[TwoChoices.pick(candidates, &loads, random).unwrap().index()] += 1;
        }
        assert!(picks.iter().all(|n| (n - 10_000).abs() < 500), "{picks:?}");
    }

    #[test]
    fn the_busiest_of_all_is_never_chosen() {
        let (candidates, loads) = (set(&[0, 1, 2]), Arc::new(Loads::new(3)));
        let _busy = loads.start_read(EndpointId::from_index(1).unwrap());
        for random in draws(1_000) {
            assert_ne!(TwoChoices.pick(candidates, &loads, random).unwrap().index(), 1);
        }
    }
}
