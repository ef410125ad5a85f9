//! When the sessions that begin anew take their turns; see `execute/turn`.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use sealane_core::Moment;

/// Least time between two turns: twenty proofs per second cost a server little, and a user does not
/// notice waiting for one turn.
const APART: Duration = Duration::from_millis(50);

/// The time of the last turn or of the next one.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<Option<Moment>>);

impl Turns {
    /// The turn of a read that arrives now: at once if there was no recent turn, otherwise the next
    /// turn.
    pub(crate) fn next(&self, now: Moment) -> Moment {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = match *last {
            Some(turn) if now < turn => turn,
            Some(turn) => now.max(turn + APART),
            None => now,
        };
        *last = Some(turn);
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::from_origin(Duration::from_millis(millis))
    }

    #[test]
    fn without_a_recent_turn_nobody_waits_and_many_share_the_next_one() {
        let turns = Turns::default();
        assert_eq!(turns.next(at(7)), at(7));
        assert_eq!([8, 20, 56].map(|now| turns.next(at(now))), [at(57); 3]);
        assert_eq!([57, 60, 106].map(|now| turns.next(at(now))), [at(107); 3]);
        assert_eq!(turns.next(at(500)), at(500));
    }

    #[test]
    fn no_turn_is_in_the_past() {
        let turns = Turns::default();
        assert!((0..1_000).all(|now| turns.next(at(now)) >= at(now)));
    }
}
