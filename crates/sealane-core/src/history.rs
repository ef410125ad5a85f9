//! Where the primary was, and when: the proof behind fences and staleness.

use crate::{Moment, Position, WriteStamp};

/// How many samples are kept. At the idle pace of one a second this reaches
/// back four minutes; when it is full the older half is thinned to every other
/// sample, so that it reaches further back at a coarser grain.
const CAPACITY: usize = 256;

/// One sample of the primary's position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sample {
    /// Before the position was asked for: all commits until then are in it.
    pub(crate) at: Moment,
    /// The write clock, read at that time.
    pub(crate) stamp: WriteStamp,
    pub(crate) position: Position,
}

/// Samples of the primary, oldest first.
///
/// Forgetting a sample is always safe: a replica then counts as covering an
/// older one, that is, as staler than it is.
#[derive(Debug, Clone, Default)]
pub(crate) struct History(Vec<Sample>);

impl History {
    /// Adds a sample. While the primary stands still the newer sample replaces
    /// the older one: who covers one covers both.
    pub(crate) fn push(&mut self, sample: Sample) {
        if let Some(last) = self.0.last_mut() {
            if sample.at < last.at {
                // A late answer proves nothing that a newer sample does not.
                return;
            }
            if last.position == sample.position {
                *last = sample;
                return;
            }
        }
        if self.0.len() >= CAPACITY {
            self.thin();
        }
        self.0.push(sample);
    }

    /// The newest sample that `position` covers.
    pub(crate) fn newest_covered(&self, position: &Position) -> Option<&Sample> {
        self.0.iter().rev().find(|sample| position.covers(&sample.position))
    }

    /// The newest sample of all.
    pub(crate) fn newest(&self) -> Option<&Sample> {
        self.0.last()
    }

    fn thin(&mut self) {
        let mut index = 0;
        self.0.retain(|_| {
            index += 1;
            index > CAPACITY / 2 || index % 2 == 0
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Lsn;

    fn sample(n: u64) -> Sample {
        Sample {
            at: Moment::from_origin(Duration::from_secs(n)),
            stamp: WriteStamp::from_number(n),
            position: position(n),
        }
    }

    fn position(lsn: u64) -> Position {
        Position::Wal { system: 1, timeline: 1, lsn: Lsn::from_bytes(lsn) }
    }

    fn history(samples: u64) -> History {
        let mut history = History::default();
        (1..=samples).for_each(|n| history.push(sample(n)));
        history
    }

    #[test]
    fn the_newest_covered_sample_is_found() {
        let history = history(10);
        assert_eq!(history.newest_covered(&position(7)), Some(&sample(7)));
        assert_eq!(history.newest_covered(&position(99)), Some(&sample(10)));
        assert_eq!(history.newest_covered(&position(0)), None);
    }

    #[test]
    fn a_primary_that_stands_still_keeps_one_sample_with_the_newest_time() {
        let mut history = history(3);
        let idle = Sample { position: position(3), ..sample(9) };
        history.push(idle.clone());
        assert_eq!(history.0.len(), 3);
        assert_eq!(history.newest_covered(&position(3)), Some(&idle));
    }

    #[test]
    fn a_late_sample_changes_nothing() {
        let mut history = history(3);
        history.push(Sample { position: position(50), ..sample(2) });
        assert_eq!(history.newest(), Some(&sample(3)));
    }

    #[test]
    fn thinning_never_proves_more_than_was_sampled() {
        let history = history(10_000);
        assert!(history.0.len() <= CAPACITY);
        for lsn in 1..=10_000 {
            if let Some(found) = history.newest_covered(&position(lsn)) {
                assert!(found.stamp.number() <= lsn);
            }
        }
        assert_eq!(history.newest_covered(&position(10_000)), Some(&sample(10_000)));
    }
}
