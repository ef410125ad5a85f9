//! Smooth weighted round robin: each candidate gets its weight's share of the turns, and the turns
//! of one candidate are spread over the round.
//!
//! The algorithm is nginx's (`ngx_http_upstream_get_peer`): each turn, every candidate earns its
//! weight, the richest is taken, and it pays what all have earned. With weights 5, 1, 1 the order is
//! a a b a c a a, and not a a a a a b c.

use std::sync::atomic::{AtomicI64, Ordering};

use super::Balancer;
use crate::{Candidates, EndpointId, MAX_ENDPOINTS};

/// Takes the candidates in turn, each as often as its weight says. An endpoint that came back a
/// moment ago gets a part of its turns.
///
/// Turns are taken without a lock. Two threads at once may take the same endpoint; nothing earned
/// is lost, so the shares stay exact in the long run.
#[derive(Debug)]
pub struct WeightedRoundRobin(Box<[AtomicI64; MAX_ENDPOINTS]>);

impl Default for WeightedRoundRobin {
    fn default() -> Self {
        WeightedRoundRobin(Box::new(std::array::from_fn(|_| AtomicI64::new(0))))
    }
}

impl Balancer for WeightedRoundRobin {
    fn name(&self) -> &'static str {
        "weighted-round-robin"
    }

    fn pick(&self, candidates: &Candidates<'_>, _random: u64) -> Option<EndpointId> {
        let (mut total, mut richest) = (0, None);
        for id in candidates.ids() {
            let share = i64::try_from(candidates.share(id)).unwrap_or(i64::MAX >> 8);
            let has = self.0[id.place()].fetch_add(share, Ordering::Relaxed) + share;
            total += share;
            if richest.is_none_or(|(most, _)| has > most) {
                richest = Some((has, id));
            }
        }
        let (_, id) = richest?;
        self.0[id.place()].fetch_sub(total, Ordering::Relaxed);
        Some(id)
    }
}
