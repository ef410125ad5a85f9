//! Draws two random candidates; the one that costs less wins.
//!
//! This spreads load nearly as evenly as a comparison of all candidates, and it avoids herding: if
//! every caller runs to the least loaded endpoint, that endpoint is the most loaded one a moment
//! later. (M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", IEEE TPDS
//! 12(10), 2001.)
//!
//! The cost is that of Finagle's and linkerd's balancer "peak EWMA": how slow the endpoint is, times
//! the statements in flight there. The number in flight alone was rejected: an endpoint that fails
//! at once has nothing in flight and would win always, and an endpoint that is ten times slower than
//! the others would still get a read whenever it is idle.
//!
//! Endpoints that are nearly as quick as each other count as equally quick, and of two that cost the
//! same the first one drawn wins. Otherwise an application that reads one after the other would read
//! everything from the one that is a little quicker, and never learn that the others have become as
//! quick.

use super::Balancer;
use crate::{Candidates, EndpointId};

/// Draws two different candidates and takes the one where a read [costs](Candidates::cost) less:
/// its slowness, times what is in flight there, relative to its weight. Differences in slowness of up to
/// a fifth do not count. Candidates are drawn in proportion to their weights.
#[derive(Debug, Default, Clone, Copy)]
pub struct TwoChoices;

impl Balancer for TwoChoices {
    fn name(&self) -> &'static str {
        "two-choices"
    }

    fn pick(&self, candidates: &Candidates<'_>, random: u64) -> Option<EndpointId> {
        if candidates.is_weighted() {
            let (first, second) = draw_by_share(candidates, random)?;
            let crowd = |id| candidates.crowd(id);
            return Some(cheaper(candidates, first, second, crowd));
        }
        let (first, second) = draw(candidates, random)?;
        Some(cheaper(candidates, first, second, |id| candidates.crowd_among_equals(id)))
    }
}

/// The one of two where a read costs less; `first` if that is the same.
#[inline]
fn cheaper(
    candidates: &Candidates<'_>,
    first: EndpointId,
    second: EndpointId,
    crowd: impl Fn(EndpointId) -> u64,
) -> EndpointId {
    let [slow, other_slow] = [first, second].map(|id| candidates.slowness_units(id));
    let [crowd, other_crowd] = [first, second].map(crowd);
    let is_second = match is_near(slow, other_slow) {
        true => other_crowd < crowd,
        // The first factors are at most 2^26, so nothing that runs in practice exceeds the numbers.
        false => {
            (other_slow >> 10).saturating_mul(other_crowd) < (slow >> 10).saturating_mul(crowd)
        }
    };
    if is_second { second } else { first }
}

/// Whether two values differ by a fifth of the greater one at most.
#[inline]
fn is_near(one: u64, other: u64) -> bool {
    let greater = one.max(other);
    one.min(other) >= greater - greater / 5
}

/// Draws two different candidates, or the only one twice.
#[inline]
fn draw(candidates: &Candidates<'_>, random: u64) -> Option<(EndpointId, EndpointId)> {
    let count = candidates.len();
    if count < 2 {
        let only = candidates.nth(0)?;
        return Some((only, only));
    }
    // The halves of the random word give two independent draws. The second draw is among the
    // other candidates, so the two differ.
    let first = (random >> 32) as usize % count;
    let other = (random & 0xFFFF_FFFF) as usize % (count - 1);
    let second = if other >= first { other + 1 } else { other };
    Some((candidates.nth(first)?, candidates.nth(second)?))
}

/// Like [`draw`], in proportion to the shares.
fn draw_by_share(candidates: &Candidates<'_>, random: u64) -> Option<(EndpointId, EndpointId)> {
    let first = candidates.draw(None, random >> 32)?;
    let second = candidates.draw(Some(first), random & 0xFFFF_FFFF);
    Some((first, second.unwrap_or(first)))
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::{AttemptOutcome, Endpoint, EndpointSet, Loads, Moment, Topology};

    fn set(indices: &[usize]) -> EndpointSet {
        indices.iter().copied().filter_map(EndpointId::from_index).collect()
    }

    fn topology() -> Topology {
        Topology::new(["a", "b", "c"].map(|name| Endpoint::new(name, name)).to_vec())
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
        let (topology, loads) = (topology(), Loads::new());
        let candidates = Candidates::new(set(&[0, 1, 2]), &topology, &loads, Moment::ZERO);
        let mut picks = [0_i32; 3];
        for random in draws(30_000) {
            picks[TwoChoices.pick(&candidates, random).unwrap().place()] += 1;
        }
        assert!(picks.iter().all(|n| (n - 10_000).abs() < 500), "{picks:?}");
    }

    #[test]
    fn the_busiest_of_all_is_never_chosen() {
        let (topology, loads) = (topology(), Arc::new(Loads::new()));
        let candidates = Candidates::new(set(&[0, 1, 2]), &topology, &loads, Moment::ZERO);
        let _busy = loads.start_read(EndpointId::from_index(1).unwrap());
        for random in draws(1_000) {
            assert_ne!(TwoChoices.pick(&candidates, random).unwrap().place(), 1);
        }
    }

    #[test]
    fn idle_candidates_share_by_weight_and_a_busy_one_by_what_it_carries() {
        let weights = [("a", 1), ("b", 2), ("c", 5)];
        let endpoints = weights.map(|(name, weight)| Endpoint::new(name, name).with_weight(weight));
        let (topology, loads) = (Topology::new(endpoints.into()), Arc::new(Loads::new()));
        let candidates = Candidates::new(set(&[0, 1, 2]), &topology, &loads, Moment::ZERO);
        let mut picks = [0_i32; 3];
        for random in draws(80_000) {
            picks[TwoChoices.pick(&candidates, random).unwrap().place()] += 1;
        }
        let expected = [10_000, 20_000, 50_000];
        let is_near = |(picks, expected): (&i32, &i32)| (picks - expected).abs() < 900;
        assert!(picks.iter().zip(&expected).all(is_near), "{picks:?}");

        // One statement is as much for `a` as five are for `c`.
        let ids = [0, 2].map(|index| EndpointId::from_index(index).unwrap());
        let _one = loads.start_read(ids[0]);
        let _four: Vec<_> = (0..4).map(|_| loads.start_read(ids[1])).collect();
        let two = Candidates::new(set(&[0, 2]), &topology, &loads, Moment::ZERO);
        assert!(draws(1_000).all(|random| TwoChoices.pick(&two, random) == Some(ids[1])));
    }

    #[test]
    fn a_difference_of_a_tenth_decides_nothing() {
        let (topology, loads) = (topology(), Arc::new(Loads::new()));
        let (usual, now) = (Duration::from_millis(10), Moment::ZERO);
        for (index, took_ms) in [(0, 10), (1, 11)] {
            let id = EndpointId::from_index(index).unwrap();
            let took = AttemptOutcome::Served(Duration::from_millis(took_ms));
            loads.ended(id, took, Some(usual), now, None);
        }
        let two = Candidates::new(set(&[0, 1]), &topology, &loads, now);
        let mut picks = [0_i32; 2];
        for random in draws(10_000) {
            picks[TwoChoices.pick(&two, random).unwrap().place()] += 1;
        }
        assert!((picks[0] - picks[1]).abs() < 400, "{picks:?}");
    }

    #[test]
    fn the_slower_of_two_idle_candidates_loses_until_the_other_is_as_much_busier() {
        let (topology, loads) = (topology(), Arc::new(Loads::new()));
        let [quick, slow] = [0, 1].map(|index| EndpointId::from_index(index).unwrap());
        let (usual, now) = (Duration::from_millis(1), Moment::ZERO);
        loads.ended(quick, AttemptOutcome::Served(usual), Some(usual), now, None);
        loads.ended(slow, AttemptOutcome::Served(usual * 4), Some(usual), now, None);
        let mut running = Vec::new();
        for _ in 0..3 {
            let two = Candidates::new(set(&[0, 1]), &topology, &loads, now);
            assert!(draws(100).all(|random| TwoChoices.pick(&two, random) == Some(quick)));
            running.push(loads.start_read(quick));
        }
        running.push(loads.start_read(quick));
        let two = Candidates::new(set(&[0, 1]), &topology, &loads, now);
        assert!(draws(100).all(|random| TwoChoices.pick(&two, random) == Some(slow)));
    }
}
