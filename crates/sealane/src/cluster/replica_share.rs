//! The share of the reads that may leave the primary, for a gradual roll-out.

use std::sync::atomic::{AtomicU32, Ordering};

/// A share that may change while statements run. In millionths.
#[derive(Debug)]
pub(crate) struct ReplicaShare(AtomicU32);

const ALL: u32 = 1_000_000;

impl Default for ReplicaShare {
    fn default() -> Self {
        ReplicaShare(AtomicU32::new(ALL))
    }
}

impl ReplicaShare {
    pub(crate) fn new(ratio: f64) -> Self {
        let share = ReplicaShare::default();
        share.set(ratio);
        share
    }

    /// Sets the share, 0 to 1. A value outside is cut to the nearer end; what is not a number
    /// counts as 0.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is between 0 and a million"
    )]
    pub(crate) fn set(&self, ratio: f64) {
        let millionths = (ratio.clamp(0.0, 1.0) * f64::from(ALL)).round() as u32;
        self.0.store(millionths, Ordering::Relaxed);
    }

    pub(crate) fn ratio(&self) -> f64 {
        f64::from(self.0.load(Ordering::Relaxed)) / f64::from(ALL)
    }

    /// Whether the read that draws the word `random` may leave the primary.
    pub(crate) fn admits(&self, random: impl FnOnce() -> u64) -> bool {
        match self.0.load(Ordering::Relaxed) {
            ALL => true,
            share => random() % u64::from(ALL) < u64::from(share),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(ratio: f64) -> usize {
        let share = ReplicaShare::new(ratio);
        (0..100).filter(|number| share.admits(|| number * u64::from(ALL) / 100)).count()
    }

    #[test]
    fn the_share_is_exact_and_its_ends_are_none_and_all() {
        let shares = [f64::NAN, -1.0, 0.0, 0.25, 1.0, 7.0].map(admitted);
        assert_eq!(shares, [0, 0, 0, 25, 100, 100]);
        assert!((ReplicaShare::new(0.25).ratio() - 0.25).abs() < 1e-9);
    }
}
