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
    /// Between probes of one endpoint when nobody waits, at least; a fifth more at
    /// most. It bounds how long a silent death goes unnoticed.
    pub idle: Duration,
    /// Between probes of one endpoint while a session waits.
    pub quick: Duration,
    /// A probe without an answer for this long has failed. One that has to
    /// connect first gets three times as long.
    pub timeout: Duration,
}

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

/// What a wait, or a replica's lag, is divided by to get the delay between quick
/// probes: nobody waits more than an eighth longer than the replica took.
const PART: u32 = 8;
/// Up to this many times [`Pace::quick`] the wait alone slows quick probing down.
/// Beyond, only the lag does: many short waits look like a long one.
const SLOWEST_QUICK: u32 = 4;
/// Connecting takes a handful of round trips (TCP, TLS, authentication), a probe one.
const CONNECT_TIMEOUTS: u32 = 3;
/// A server that is down is asked at least once in so many idle intervals: a
/// connection attempt every few seconds harms nobody, and who comes back is soon
/// in use.
const RARELY: u32 = 5;
/// Probes that errors call for are at most so far apart: ten connections a second
/// find a new primary soon, and are no storm.
const SLOWEST_CALLED: Duration = Duration::from_millis(100);

impl Pace {
    /// The timeout of a probe that has to connect first.
    #[must_use]
    pub fn timeout_with_connect(&self) -> Duration {
        self.timeout.saturating_mul(CONNECT_TIMEOUTS)
    }

    /// The delay to the next probe when somebody has waited for `waited` for a
    /// replica that is `behind` by so much.
    pub(crate) fn quick_after(&self, waited: Duration, behind: Duration) -> Duration {
        let slowest = (behind / PART).max(self.slowest_quick()).min(self.idle);
        (waited / PART).min(slowest).max(self.quick)
    }

    /// The longest delay between quick probes for a replica that is not far behind.
    pub(crate) fn slowest_quick(&self) -> Duration {
        self.quick.saturating_mul(SLOWEST_QUICK)
    }

    /// The delay to the next probe when nobody waits, spread over a fifth so that
    /// probes do not march in step; `random` is uniform over 0..1.
    pub(crate) fn idle_spread(&self, random: f64) -> Duration {
        self.idle.mul_f64(1.0 + 0.2 * random.clamp(0.0, 1.0))
    }

    /// The delay to the next probe of an endpoint that is out of use and has failed
    /// `failures` times in a row, at least once. It doubles up to a cap; spread over
    /// its upper half, because all clients of a server lose it at one time.
    pub(crate) fn retry_spread(&self, failures: u32, random: f64) -> Duration {
        let times = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(RARELY);
        self.idle.saturating_mul(times.clamp(1, RARELY)).mul_f64(0.5 + 0.5 * random.clamp(0.0, 1.0))
    }

    /// The time from one probe to the next that somebody called for, when `calls`
    /// have been answered in a row. A first call is answered at once; errors can call as
    /// often as statements run.
    pub(crate) fn called_after(&self, calls: u32) -> Duration {
        let times = 1_u32.checked_shl(calls).unwrap_or(u32::MAX);
        self.quick.saturating_mul(times).min(SLOWEST_CALLED.max(self.quick))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_long_wait_is_probed_less_often_and_for_a_near_replica_never_slowly() {
        let pace = Pace::default();
        assert_eq!(pace.quick_after(Duration::ZERO, LONG), ms(5));
        assert_eq!(pace.quick_after(ms(80), LONG), ms(10));
        assert_eq!(pace.quick_after(LONG, ms(10)), ms(20));
    }

    #[test]
    fn a_far_replica_is_probed_as_rarely_as_its_lag_allows_but_not_less_than_when_idle() {
        let pace = Pace::default();
        assert_eq!(pace.quick_after(LONG, ms(800)), ms(100));
        assert_eq!(pace.quick_after(LONG, LONG), ms(1_000));
        assert_eq!(pace.quick_after(ms(160), LONG), ms(20), "it may be level any moment");
        let slow = Pace { quick: LONG, ..pace };
        assert_eq!(slow.quick_after(LONG, LONG), LONG);
    }

    #[test]
    fn idle_probes_are_never_nearer_than_their_interval() {
        let pace = Pace::default();
        assert_eq!(pace.idle_spread(0.0), ms(1_000));
        assert_eq!(pace.idle_spread(1.0), ms(1_200));
    }

    #[test]
    fn retries_grow_rarer_up_to_the_cap() {
        let pace = Pace::default();
        let latest = |failures| pace.retry_spread(failures, 1.0).as_millis();
        assert_eq!(
            [1, 2, 3, 4, 5, 40, u32::MAX].map(latest),
            [1_000, 2_000, 4_000, 5_000, 5_000, 5_000, 5_000]
        );
        assert_eq!(pace.retry_spread(9, 0.0), ms(2_500));
    }

    #[test]
    fn the_first_call_is_answered_at_once_and_many_are_not_a_storm() {
        let pace = Pace::default();
        let after = |calls| pace.called_after(calls).as_millis();
        assert_eq!([0, 1, 2, 3, 4, 5, 40].map(after), [5, 10, 20, 40, 80, 100, 100]);
    }
}
