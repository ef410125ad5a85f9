//! How often to ask.

use std::time::Duration;

/// The cadence of probes.
///
/// Probes are slow while nobody needs them: the snapshot serves reads of
/// sessions that wrote nothing lately. They are quick while a session was
/// refused by a replica for a write not yet proved there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pace {
    /// Between probes of one endpoint when nobody waits. It bounds how long a
    /// silent death goes unnoticed.
    pub idle: Duration,
    /// Between probes of one endpoint while a session waits.
    pub quick: Duration,
    /// A probe without an answer for this long has failed. One that has to
    /// connect first gets three times as long.
    pub timeout: Duration,
}

/// Quick probing slows down to this many times [`Pace::quick`] when the wait is
/// long: a replica that needs seconds is not caught sooner by more questions.
const SLOWEST_QUICK: u32 = 4;

impl Default for Pace {
    fn default() -> Self {
        Pace {
            // One cheap query a second per endpoint.
            idle: Duration::from_secs(1),
            // A few times the round trip in one data centre.
            quick: Duration::from_millis(5),
            // Long enough for a busy server, short enough for a user.
            timeout: Duration::from_secs(1),
        }
    }
}

/// Connecting takes a handful of round trips (TCP, TLS, authentication), a probe one.
const CONNECT_TIMEOUTS: u32 = 3;

impl Pace {
    /// The timeout of a probe that has to connect first.
    #[must_use]
    pub fn timeout_with_connect(&self) -> Duration {
        self.timeout.saturating_mul(CONNECT_TIMEOUTS)
    }

    /// The delay to the next probe when somebody has waited for `waited`.
    pub(crate) fn quick_after(&self, waited: Duration) -> Duration {
        (waited / 8).clamp(self.quick, self.quick * SLOWEST_QUICK)
    }

    /// The idle delay, spread by a tenth so that probes do not march in step;
    /// `random` is uniform over 0..1.
    pub(crate) fn idle_spread(&self, random: f64) -> Duration {
        self.idle.mul_f64(0.9 + 0.2 * random.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_wait_is_probed_less_often_but_never_slowly() {
        let pace = Pace::default();
        assert_eq!(pace.quick_after(Duration::ZERO), Duration::from_millis(5));
        assert_eq!(pace.quick_after(Duration::from_millis(80)), Duration::from_millis(10));
        assert_eq!(pace.quick_after(Duration::from_secs(60)), Duration::from_millis(20));
    }

    #[test]
    fn idle_probes_stay_near_their_interval() {
        let pace = Pace::default();
        assert_eq!(pace.idle_spread(0.0), Duration::from_millis(900));
        assert_eq!(pace.idle_spread(1.0), Duration::from_millis(1100));
    }
}
