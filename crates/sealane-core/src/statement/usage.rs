//! What the executions of one text came to.
//!
//! Each cached text has such counts beside its [`Pace`](crate::Pace), so that a report can say which
//! statements cost most, and which of them burden the primary. Counting is one relaxed addition.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Counts of the executions of one text.
///
/// Two usages are always equal: what was counted is no part of what is known about a text.
#[derive(Debug, Default)]
pub struct Usage {
    served: AtomicU64,
    total_us: AtomicU64,
    asked: AtomicU64,
    pinned: AtomicU64,
    fell_back: AtomicU64,
    unproved: AtomicU64,
}

/// The counts at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct UsageCounts {
    /// Reads that were answered.
    pub served: u64,
    /// How long these took together.
    pub total: Duration,
    /// Reads that asked for the primary, or that no replica could ever serve.
    pub asked: u64,
    /// Reads that ran on the primary because of what their session wrote or saw.
    pub pinned: u64,
    /// Reads that ran on the primary because no replica was usable or fresh enough.
    pub fell_back: u64,
    /// Executions on the primary because the text is not a proved read.
    pub unproved: u64,
}

impl UsageCounts {
    /// How long a read took on average; `None` before the first.
    #[must_use]
    pub fn mean(&self) -> Option<Duration> {
        let total_us = u64::try_from(self.total.as_micros()).unwrap_or(u64::MAX);
        total_us.checked_div(self.served).map(Duration::from_micros)
    }

    /// How often the text ran on the primary.
    #[must_use]
    pub fn on_primary(&self) -> u64 {
        self.asked + self.pinned + self.fell_back + self.unproved
    }
}

impl Usage {
    /// Counts a read that was answered after this time.
    pub fn served(&self, took: Duration) {
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        add(&self.served, 1);
        add(&self.total_us, took_us);
    }

    /// Counts a read on the primary that asked for it.
    pub fn asked(&self) {
        add(&self.asked, 1);
    }

    /// Counts a read on the primary that no replica has caught up for.
    pub fn pinned(&self) {
        add(&self.pinned, 1);
    }

    /// Counts a read on the primary that no replica could serve at that moment.
    pub fn fell_back(&self) {
        add(&self.fell_back, 1);
    }

    /// Counts an execution of a text that is not a proved read.
    pub fn unproved(&self) {
        add(&self.unproved, 1);
    }

    /// The counts now.
    #[must_use]
    pub fn read(&self) -> UsageCounts {
        let Usage { served, total_us, asked, pinned, fell_back, unproved } = self;
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        UsageCounts {
            served: get(served),
            total: Duration::from_micros(get(total_us)),
            asked: get(asked),
            pinned: get(pinned),
            fell_back: get(fell_back),
            unproved: get(unproved),
        }
    }

    /// Takes over what `other` has counted, for the same text classified anew.
    pub fn follow(&self, other: &Usage) {
        let pairs = [
            (&self.served, &other.served),
            (&self.total_us, &other.total_us),
            (&self.asked, &other.asked),
            (&self.pinned, &other.pinned),
            (&self.fell_back, &other.fell_back),
            (&self.unproved, &other.unproved),
        ];
        for (own, others) in pairs {
            own.store(others.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}

fn add(count: &AtomicU64, more: u64) {
    count.fetch_add(more, Ordering::Relaxed);
}

impl Clone for Usage {
    fn clone(&self) -> Self {
        let usage = Usage::default();
        usage.follow(self);
        usage
    }
}

impl PartialEq for Usage {
    fn eq(&self, _: &Usage) -> bool {
        true
    }
}

impl Eq for Usage {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_never_ran_has_no_mean() {
        assert_eq!(Usage::default().read(), UsageCounts::default());
        assert_eq!(UsageCounts::default().mean(), None);
    }

    #[test]
    fn each_way_to_the_primary_has_its_own_count() {
        let usage = Usage::default();
        usage.asked();
        (0..2).for_each(|_| usage.pinned());
        (0..3).for_each(|_| usage.fell_back());
        (0..4).for_each(|_| usage.unproved());
        let counts = usage.read();
        let each = (counts.asked, counts.pinned, counts.fell_back, counts.unproved);
        assert_eq!((each, counts.on_primary(), counts.served), ((1, 2, 3, 4), 10, 0));
    }

    #[test]
    fn the_mean_is_that_of_all_reads_and_a_copy_keeps_it() {
        let usage = Usage::default();
        usage.served(Duration::from_millis(1));
        usage.served(Duration::from_millis(5));
        let copied = usage.clone().read();
        assert_eq!((copied.served, copied.mean()), (2, Some(Duration::from_millis(3))));
    }
}
