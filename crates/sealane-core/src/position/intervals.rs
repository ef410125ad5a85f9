//! Sets of sequence numbers, as sorted intervals.

use std::cmp::Ordering;

/// The numbers from `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Interval {
    pub(super) first: u64,
    pub(super) last: u64,
}

impl Interval {
    fn len(self) -> u64 {
        // No sequence number is 0, so even the whole range has a length.
        (self.last - self.first).saturating_add(1)
    }
}

/// Sorted intervals that neither overlap nor touch, so equal sets are equal values.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Intervals(Vec<Interval>);

impl Intervals {
    /// The set of all numbers in `intervals`, which may come in any order.
    pub(super) fn from_unsorted(mut intervals: Vec<Interval>) -> Self {
        intervals.sort_unstable();
        let mut merged: Vec<Interval> = Vec::with_capacity(intervals.len());
        for interval in intervals {
            match merged.last_mut() {
                Some(last) if interval.first <= last.last.saturating_add(1) => {
                    last.last = last.last.max(interval.last);
                }
                _ => merged.push(interval),
            }
        }
        merged.shrink_to_fit();
        Intervals(merged)
    }

    pub(super) fn as_slice(&self) -> &[Interval] {
        &self.0
    }

    pub(super) fn union(&self, other: &Intervals) -> Intervals {
        Intervals::from_unsorted(self.0.iter().chain(&other.0).copied().collect())
    }

    /// Whether every number of `other` is in this set. Looks up each interval of `other` by
    /// bisection.
    pub(super) fn covers(&self, other: &Intervals) -> bool {
        other.0.iter().all(|theirs| {
            // Only the last of our intervals that begins early enough can hold `theirs`.
            let after = self.0.partition_point(|ours| ours.first <= theirs.first);
            after.checked_sub(1).and_then(|i| self.0.get(i)).is_some_and(|i| theirs.last <= i.last)
        })
    }

    /// How many numbers are in the set.
    pub(super) fn len(&self) -> u64 {
        self.0.iter().fold(0, |sum, interval| sum.saturating_add(interval.len()))
    }

    /// Whether some number is in both sets.
    pub(super) fn intersects(&self, other: &Intervals) -> bool {
        other.0.iter().any(|theirs| {
            // Of our intervals that begin before `theirs` ends, the last one also ends last.
            let after = self.0.partition_point(|ours| ours.first <= theirs.last);
            after.checked_sub(1).and_then(|i| self.0.get(i)).is_some_and(|i| i.last >= theirs.first)
        })
    }

    /// How many numbers are in both sets.
    pub(super) fn common(&self, other: &Intervals) -> u64 {
        let (mut ours, mut theirs) = (self.0.iter().peekable(), other.0.iter().peekable());
        let mut sum = 0_u64;
        while let (Some(a), Some(b)) = (ours.peek(), theirs.peek()) {
            let both = Interval { first: a.first.max(b.first), last: a.last.min(b.last) };
            if both.first <= both.last {
                sum = sum.saturating_add(both.len());
            }
            match a.last.cmp(&b.last) {
                Ordering::Less => ours.next(),
                Ordering::Equal | Ordering::Greater => theirs.next(),
            };
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(intervals: &[(u64, u64)]) -> Intervals {
        let each = |&(first, last): &(u64, u64)| Interval { first, last };
        Intervals::from_unsorted(intervals.iter().map(each).collect())
    }

    #[test]
    fn intervals_that_overlap_or_touch_become_one() {
        assert_eq!(set(&[(4, 6), (1, 3), (2, 5)]), set(&[(1, 6)]));
        assert_eq!(set(&[(5, 6), (1, 3)]).as_slice().len(), 2);
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let all = set(&[(1, u64::MAX), (7, u64::MAX)]);
        assert_eq!(all.len(), u64::MAX);
        assert!(all.covers(&set(&[(u64::MAX, u64::MAX)])));
    }

    #[test]
    fn a_gap_is_not_covered() {
        let gap = set(&[(1, 3), (5, 9)]);
        assert!(!gap.covers(&set(&[(3, 5)])));
        assert!(gap.covers(&set(&[(2, 3), (5, 5)])));
        assert_eq!(gap.common(&set(&[(3, 5), (9, 20)])), 3);
    }
}
