//! The same replica for all reads of one session, as long as this replica may serve them.
//!
//! A session's reads find their pages in one replica's cache, and the session does not have to wait
//! for a proof that another replica shows what it has seen. The replica is chosen by weighted
//! rendezvous hashing (D. Thaler, C. Ravishankar, "Using Name-Based Mappings to Increase Hit Rates",
//! IEEE/ACM Trans. Networking 6(1), 1998; with weights: J. Schindelhauer, G. Schomaker, "Weighted
//! Distributed Hash Tables", SPAA 2005). Nothing is stored: if a replica goes away, only its own
//! sessions move, each to another replica, and they move back when it is usable again.

use super::{Balancer, TwoChoices};
use crate::{Candidates, EndpointId};

/// Sends all reads of a session to one replica, in proportion to the weights over all sessions.
/// Reads of the shared session, which has no number, are distributed by [`TwoChoices`].
///
/// It does not look at the load: a replica that becomes slow keeps its sessions.
#[derive(Debug, Default, Clone, Copy)]
pub struct Sticky;

impl Balancer for Sticky {
    fn name(&self) -> &'static str {
        "sticky"
    }

    fn pick(&self, candidates: &Candidates<'_>, random: u64) -> Option<EndpointId> {
        let Some(key) = candidates.key() else {
            return TwoChoices.pick(candidates, random);
        };
        let score = |id| score(key, id, candidates.share(id));
        candidates.ids().max_by(|one, other| score(*one).total_cmp(&score(*other)))
    }
}

/// How well `id` suits the session. The best of all candidates is each of them as often as its share
/// says.
#[allow(clippy::cast_precision_loss, reason = "53 bits are enough")]
fn score(key: u64, id: EndpointId, share: u64) -> f64 {
    let word = mix(mix(key) ^ (id.place() as u64 + 1));
    // Uniform between 0 and 1, and neither of them.
    let uniform = ((word >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    share as f64 / -uniform.ln()
}

/// The finaliser of splitmix64 (S. Vigna), which turns consecutive numbers into unrelated ones.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
