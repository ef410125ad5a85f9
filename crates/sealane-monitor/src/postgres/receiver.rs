//! Decides whether a replica receives, from several observations of its WAL receiver.
//!
//! If the primary no longer has the log that a replica needs, the receiver connects, is refused and
//! ends, again and again. For a few milliseconds each time it looks like a streaming receiver. So a
//! new receiver counts as receiving only after it has lived for a while or something has arrived.

use std::time::Duration;

use sealane_core::Lsn;
use tokio::time::Instant;

/// Longer than a primary needs to refuse a receiver: a few round trips, at worst across the world.
const TRUSTED_AFTER: Duration = Duration::from_millis(500);

/// What is known about the receiver of one replica.
#[derive(Debug)]
pub(super) struct Receiver {
    /// The receiver's process, when it was first seen, and how far the replica had received by
    /// then.
    seen: Option<(i32, Instant, Option<Lsn>)>,
    receives: bool,
}

impl Default for Receiver {
    /// The first receiver counts as receiving, because most receivers work.
    fn default() -> Self {
        Receiver { seen: None, receives: true }
    }
}

impl Receiver {
    /// Records what was seen at `now`: the receiver's process, if any, and how far the replica has
    /// received. Returns whether the replica counts as receiving.
    pub(super) fn note(&mut self, pid: Option<i32>, received: Option<Lsn>, now: Instant) -> bool {
        let Some(pid) = pid else {
            *self = Receiver { seen: None, receives: false };
            return false;
        };
        match self.seen {
            Some((known, since, before)) if known == pid => {
                let has_lived = now.duration_since(since) >= TRUSTED_AFTER;
                self.receives |= has_lived || received > before;
            }
            _ => self.seen = Some((pid, now, received)),
        }
        self.receives
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each step: the time in milliseconds, the process, how far it has received, and whether it
    /// counts as receiving.
    fn check(steps: &[(u64, Option<i32>, u64, bool)]) {
        let (mut receiver, begin) = (Receiver::default(), Instant::now());
        for (at, pid, lsn, expected) in steps {
            let now = begin + Duration::from_millis(*at);
            let receives = receiver.note(*pid, Some(Lsn::from_bytes(*lsn)), now);
            assert_eq!(receives, *expected, "at {at} ms");
        }
    }

    #[test]
    fn the_first_receiver_counts_at_once() {
        check(&[(0, Some(7), 100, true), (1_000, Some(7), 100, true)]);
    }

    #[test]
    fn a_receiver_that_is_refused_again_and_again_does_not_count() {
        check(&[
            (0, None, 100, false),
            (100, Some(7), 100, false),
            (200, None, 100, false),
            (300, Some(8), 100, false),
            (700, Some(9), 100, false),
            (5_000, Some(10), 100, false),
        ]);
    }

    #[test]
    fn a_receiver_that_stays_alive_counts_even_if_nothing_arrives() {
        check(&[
            (0, None, 100, false),
            (100, Some(7), 100, false),
            (599, Some(7), 100, false),
            (600, Some(7), 100, true),
        ]);
    }

    #[test]
    fn a_receiver_counts_once_something_arrives() {
        check(&[(0, None, 100, false), (100, Some(7), 100, false), (105, Some(7), 101, true)]);
    }

    #[test]
    fn a_new_receiver_without_a_gap_counts_as_the_old_one_did() {
        check(&[(0, Some(7), 100, true), (100, Some(8), 100, true), (200, None, 100, false)]);
    }
}
