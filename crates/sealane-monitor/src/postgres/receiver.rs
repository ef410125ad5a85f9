//! Whether a replica receives, from how its receiver looked each time.
//!
//! When the primary no longer has what a replica needs, the receiver connects, is refused and
//! ends, again and again; for the milliseconds in between it looks like one that
//! streams. So one that is new is believed to receive only once it has lived for a while, or
//! something has arrived.

use std::time::Duration;

use sealane_core::Lsn;
use tokio::time::Instant;

/// Longer than it takes a primary to refuse: a few round trips, at worst across the world.
const TRUSTED_AFTER: Duration = Duration::from_millis(500);

/// What is remembered of the receiver of one replica.
#[derive(Debug)]
pub(super) struct Receiver {
    /// The process, when it was first seen, and how far the replica had received then.
    seen: Option<(i32, Instant, Option<Lsn>)>,
    receives: bool,
}

impl Default for Receiver {
    /// The first one that is seen is believed: most work.
    fn default() -> Self {
        Receiver { seen: None, receives: true }
    }
}

impl Receiver {
    /// Notes what was seen at `now`: the process, if there is one, and how far
    /// the replica has received. Whether it counts as receiving.
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

    /// At so many milliseconds: the process, how far it has received, and whether that
    /// counts.
    fn check(steps: &[(u64, Option<i32>, u64, bool)]) {
        let (mut receiver, begin) = (Receiver::default(), Instant::now());
        for (at, pid, lsn, expected) in steps {
            let now = begin + Duration::from_millis(*at);
            let receives = receiver.note(*pid, Some(Lsn::from_bytes(*lsn)), now);
            assert_eq!(receives, *expected, "at {at} ms");
        }
    }

    #[test]
    fn the_first_that_is_seen_is_believed() {
        check(&[(0, Some(7), 100, true), (1_000, Some(7), 100, true)]);
    }

    #[test]
    fn one_that_is_refused_again_and_again_is_not() {
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
    fn one_that_lives_is_believed_also_while_nothing_arrives() {
        check(&[
            (0, None, 100, false),
            (100, Some(7), 100, false),
            (599, Some(7), 100, false),
            (600, Some(7), 100, true),
        ]);
    }

    #[test]
    fn what_arrives_is_proof() {
        check(&[(0, None, 100, false), (100, Some(7), 100, false), (105, Some(7), 101, true)]);
    }

    #[test]
    fn one_that_takes_anothers_place_between_two_questions_is_believed_as_that_was() {
        check(&[(0, Some(7), 100, true), (100, Some(8), 100, true), (200, None, 100, false)]);
    }
}
