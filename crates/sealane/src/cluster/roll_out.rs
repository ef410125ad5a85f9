//! How far a gradual roll-out has come: the share of the reads that may leave the primary, and
//! whether they only seem to (shadow mode).
//!
//! Both are in one word, so that a read without a roll-out loads one number and compares it with
//! another.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::config::Shadow;

/// The share and the mode. Both may change while statements run.
///
/// The low half of the word is the share in millionths. The high half is 0 without shadow mode, 1 if
/// it records, and otherwise 2 plus the share of compared reads in millionths.
#[derive(Debug)]
pub(crate) struct RollOut(AtomicU64);

const ALL: u64 = 1_000_000;
const RECORD: u64 = 1;
const COMPARE: u64 = 2;
const HALF: u32 = u32::BITS;
const LOW: u64 = u32::MAX as u64;

impl Default for RollOut {
    fn default() -> Self {
        RollOut(AtomicU64::new(ALL))
    }
}

impl RollOut {
    pub(crate) fn new(ratio: f64, shadow: Shadow) -> Self {
        let roll_out = RollOut::default();
        roll_out.set_share(ratio);
        roll_out.set_shadow(shadow);
        roll_out
    }

    /// Sets the share, 0 to 1. A value outside is cut to the nearer end; what is not a number
    /// counts as 0.
    pub(crate) fn set_share(&self, ratio: f64) {
        self.update(|word| word & !LOW | millionths(ratio));
    }

    pub(crate) fn share(&self) -> f64 {
        ratio(self.word() & LOW)
    }

    /// Sets the mode; its share is cut like the share of the replicas.
    pub(crate) fn set_shadow(&self, shadow: Shadow) {
        let mode = match shadow {
            Shadow::Off => 0,
            Shadow::Record => RECORD,
            Shadow::Compare { share } => COMPARE + millionths(share),
        };
        self.update(|word| word & LOW | mode << HALF);
    }

    pub(crate) fn shadow(&self) -> Shadow {
        match self.word() >> HALF {
            0 => Shadow::Off,
            RECORD => Shadow::Record,
            mode => Shadow::Compare { share: ratio(mode - COMPARE) },
        }
    }

    /// Whether the read that draws the word `random` may leave the primary.
    pub(crate) fn admits(&self, random: impl FnOnce() -> u64) -> bool {
        match self.word() {
            ALL => true,
            word if word > LOW => false,
            share => random() % ALL < share,
        }
    }

    /// Whether the read that draws the word `random` might leave the primary without shadow mode.
    pub(crate) fn would_admit(&self, random: u64) -> bool {
        random % ALL < self.word() & LOW
    }

    /// Whether the read that draws the word `random` is compared.
    pub(crate) fn compares(&self, random: u64) -> bool {
        (self.word() >> HALF).checked_sub(COMPARE).is_some_and(|share| random % ALL < share)
    }

    fn word(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn update(&self, change: impl Fn(u64) -> u64) {
        // The closure always returns a value, so this cannot fail.
        let _ =
            self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| Some(change(word)));
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is between 0 and a million"
)]
fn millionths(ratio: f64) -> u64 {
    (ratio.clamp(0.0, 1.0) * 1e6).round() as u64
}

#[allow(clippy::cast_precision_loss, reason = "it is between 0 and a million")]
fn ratio(millionths: u64) -> f64 {
    millionths as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words that are spread evenly.
    fn drawn() -> impl Iterator<Item = u64> {
        (0..100).map(|number| number * ALL / 100)
    }

    #[test]
    fn the_share_is_exact_and_its_ends_are_none_and_all() {
        let shares = [f64::NAN, -1.0, 0.0, 0.25, 1.0, 7.0].map(|ratio| {
            let roll_out = RollOut::new(ratio, Shadow::Off);
            drawn().filter(|word| roll_out.admits(|| *word)).count()
        });
        assert_eq!(shares, [0, 0, 0, 25, 100, 100]);
        assert!((RollOut::new(0.25, Shadow::Off).share() - 0.25).abs() < 1e-9);
    }

    #[test]
    fn in_shadow_mode_no_read_leaves_the_primary_and_the_share_says_which_would() {
        for shadow in [Shadow::Record, Shadow::Compare { share: 0.0 }, Shadow::COMPARE_ALL] {
            let roll_out = RollOut::new(0.25, shadow);
            assert_eq!((roll_out.shadow(), roll_out.share()), (shadow, 0.25));
            assert!(!drawn().any(|word| roll_out.admits(|| word)), "{shadow}");
            assert_eq!(drawn().filter(|word| roll_out.would_admit(*word)).count(), 25);
            roll_out.set_share(1.0);
            assert!(!drawn().any(|word| roll_out.admits(|| word)), "{shadow}");
            roll_out.set_shadow(Shadow::Off);
            assert!(drawn().all(|word| roll_out.admits(|| word)), "{shadow}");
        }
    }

    #[test]
    fn the_share_of_compared_reads_is_exact_and_recording_compares_none() {
        let compared = |shadow| {
            let roll_out = RollOut::new(1.0, shadow);
            drawn().filter(|word| roll_out.compares(*word)).count()
        };
        let shares = [f64::NAN, -1.0, 0.0, 0.25, 1.0, 7.0];
        assert_eq!(
            shares.map(|share| compared(Shadow::Compare { share })),
            [0, 0, 0, 25, 100, 100]
        );
        assert_eq!([Shadow::Off, Shadow::Record].map(compared), [0, 0]);
    }
}
