//! Round robin: an equal number of reads for each candidate, without regard to load.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::Balancer;
use crate::{Candidates, EndpointId};

/// Takes the candidates in turn, whatever their weights.
#[derive(Debug, Default)]
pub struct RoundRobin(AtomicUsize);

impl Balancer for RoundRobin {
    fn name(&self) -> &'static str {
        "round-robin"
    }

    fn pick(&self, candidates: &Candidates<'_>, _random: u64) -> Option<EndpointId> {
        // Who is alone takes nobody's turn.
        if candidates.len() < 2 {
            return candidates.nth(0);
        }
        let turn = self.0.fetch_add(1, Ordering::Relaxed);
        candidates.nth(turn % candidates.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Endpoint, Loads, Moment, Topology};

    #[test]
    fn every_candidate_gets_the_same_number_of_turns() {
        let set = [1, 4, 9].into_iter().filter_map(EndpointId::from_index).collect();
        let (balancer, loads) = (RoundRobin::default(), Loads::new());
        let endpoints = (0..10).map(|n| Endpoint::new(n.to_string(), "")).collect();
        let topology = Topology::new(endpoints);
        let candidates = Candidates::new(set, &topology, &loads, Moment::ZERO);
        let mut turns = [0; 10];
        for _ in 0..300 {
            turns[balancer.pick(&candidates, 0).unwrap().place()] += 1;
        }
        assert_eq!(turns, [0, 100, 0, 0, 100, 0, 0, 0, 0, 100]);
    }

    #[test]
    fn who_is_alone_takes_no_turn() {
        let topology = Topology::new(["a", "b"].map(|name| Endpoint::new(name, name)).to_vec());
        let (balancer, loads) = (RoundRobin::default(), Loads::new());
        let among = |places: &[usize]| {
            let set = places.iter().filter_map(|it| EndpointId::from_index(*it)).collect();
            let candidates = Candidates::new(set, &topology, &loads, Moment::ZERO);
            balancer.pick(&candidates, 0).map(EndpointId::place)
        };
        let picked = [among(&[0, 1]), among(&[1]), among(&[0, 1]), among(&[])];
        assert_eq!(picked, [Some(0), Some(1), Some(1), None]);
    }
}
