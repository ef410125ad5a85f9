//! The source of randomness of one cluster.
//!
//! Probes spread their times, and balancers draw replicas. Both draw random numbers here. So the
//! code that makes the store decides whether a run is random or repeatable. Time needs no such
//! seam: everything waits on tokio's clock, which a test or a simulation stops and moves.

use std::{fmt, sync::Arc};

/// Draws random numbers.
#[derive(Clone)]
pub struct Entropy(Arc<dyn Fn() -> u64 + Send + Sync>);

impl Entropy {
    /// Numbers from `draw`, which must be uniform over all of `u64`. It is called for each read, so
    /// it must not block, allocate or panic.
    pub fn new(draw: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Entropy(Arc::new(draw))
    }

    /// A number that is uniform over all of `u64`.
    #[must_use]
    pub fn word(&self) -> u64 {
        (self.0)()
    }

    /// A number that is uniform from 0 to less than 1.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        /// The fraction of an `f64` has this many bits.
        const BITS: u32 = 53;
        #[allow(clippy::cast_precision_loss, reason = "53 bits fit")]
        let ratio = (self.word() >> (u64::BITS - BITS)) as f64 / (1_u64 << BITS) as f64;
        ratio
    }
}

impl Default for Entropy {
    /// The thread's generator, seeded by the operating system.
    #[allow(clippy::disallowed_methods, reason = "this is where randomness comes in")]
    fn default() -> Self {
        Entropy::new(|| fastrand::u64(..))
    }
}

impl fmt::Debug for Entropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entropy")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_never_one() {
        assert!(Entropy::new(|| u64::MAX).ratio() < 1.0);
        assert!(Entropy::new(|| 0).ratio() < f64::EPSILON);
        let half = Entropy::new(|| 1 << 63).ratio();
        assert!((half - 0.5).abs() < f64::EPSILON, "{half}");
    }
}
