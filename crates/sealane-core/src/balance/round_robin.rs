//! Each in turn: fair in numbers, blind to load.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::Balancer;
use crate::{EndpointId, EndpointSet, Loads};

/// Takes the candidates in turn.
#[derive(Debug, Default)]
pub struct RoundRobin(AtomicUsize);

impl Balancer for RoundRobin {
    fn name(&self) -> &'static str {
        "round-robin"
    }

    fn pick(&self, candidates: EndpointSet, _loads: &Loads, _random: u64) -> Option<EndpointId> {
        if candidates.is_empty() {
            return None;
        }
        let turn = self.0.fetch_add(1, Ordering::Relaxed);
        candidates.nth(turn % candidates.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_candidate_gets_the_same_number_of_turns() {
        let candidates: EndpointSet =
            [1, 4, 9].into_iter().filter_map(EndpointId::from_index).collect();
        let (balancer, loads) = (RoundRobin::default(), Loads::new(10));
        let mut turns = [0; 10];
        for _ in 0..300 {
            turns[balancer.pick(candidates, &loads, 0).unwrap().index()] += 1;
        }
        assert_eq!(turns, [0, 100, 0, 0, 100, 0, 0, 0, 0, 100]);
    }
}
