//! The source of everything that a world leaves to chance.

use std::ops::RangeInclusive;

/// Draws numbers. The same seed draws the same numbers.
#[derive(Debug, Clone)]
pub(crate) struct Draw(fastrand::Rng);

impl Draw {
    pub(crate) fn new(seed: u64) -> Self {
        Draw(fastrand::Rng::with_seed(seed))
    }

    /// A source of its own, so that what others draw does not change its numbers.
    pub(crate) fn split(&mut self) -> Self {
        Draw(self.0.fork())
    }

    pub(crate) fn word(&mut self) -> u64 {
        self.0.u64(..)
    }

    pub(crate) fn within(&mut self, range: RangeInclusive<u64>) -> u64 {
        self.0.u64(range)
    }

    pub(crate) fn below(&mut self, count: usize) -> usize {
        self.0.usize(..count.max(1))
    }

    /// Whether something happens that happens so often in a hundred times.
    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.0.u64(..100) < percent
    }
}
