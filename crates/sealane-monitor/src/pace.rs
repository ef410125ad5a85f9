//! How often to ask.

use std::time::Duration;

use tokio::time::Instant;

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
    /// Between probes of one endpoint while a session waits, at least; see
    /// [`Pace::quick_among`].
    pub quick: Duration,
    /// How many probes a second one server gets at most from all processes together.
    pub budget_per_s: u32,
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
            // What one process may send when it is alone. A probe takes a quarter of a
            // millisecond of a server, so that is a twentieth of one core.
            budget_per_s: 200,
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
/// Whoever asked for less than its share may ask for so much of it at once: a write now and
/// then is proved as soon in a large fleet as in a small one.
const SAVED: Duration = Duration::from_secs(1);
/// After this time something may have changed that a probe has only begun to see.
const SOON: Duration = Duration::from_millis(20);

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

    /// The time from one probe to the next that each of `monitors` may take for good, so that
    /// all of them together stay within the budget.
    pub(crate) fn share(&self, monitors: u32) -> Duration {
        Duration::from_secs(1).saturating_mul(monitors.max(1)) / self.budget_per_s.max(1)
    }

    /// The time between probes of one endpoint while sessions wait all the time, if
    /// `monitors` of as many processes ask the same server.
    #[must_use]
    pub fn quick_among(&self, monitors: u32) -> Duration {
        self.quick.max(self.share(monitors))
    }

    /// How long servers are given before they are asked, once that is worth it: the primary to
    /// end the read that was refused elsewhere and is to be proved, too; a replica to replay
    /// what the primary was seen to have. Whoever may ask often finds out by asking.
    pub(crate) fn grace(&self, monitors: u32) -> Duration {
        if self.share(monitors) > self.quick { self.quick } else { Duration::ZERO }
    }

    /// The delay to the next probe after one that has only begun to see something.
    pub(crate) fn soon(&self) -> Duration {
        SOON.max(self.quick).min(self.idle)
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

/// What one monitor has used of its share in a server's budget: the generic cell rate
/// algorithm (ITU-T I.371), which is a token bucket in one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Allowance {
    /// When it would be due to ask again, had it kept to its share from the beginning.
    due: Option<Instant>,
}

impl Allowance {
    /// Notes a probe at `now` by one whose share is one probe in each `share`. A probe that
    /// could not wait makes the next ones wait, but for no longer than one share.
    pub(crate) fn spend(&mut self, now: Instant, share: Duration) {
        let due = self.due.map_or(now, |due| due.max(now)) + share;
        self.due = Some(due.min(now + SAVED + share));
    }

    /// Not before this is the next probe due; `None` if at any time.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.due?.checked_sub(SAVED)
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

    #[test]
    fn the_budget_is_shared_by_all_and_one_alone_has_it_to_itself() {
        let pace = Pace::default();
        assert_eq!([1, 2, 8, 50].map(|n| pace.quick_among(n)), [5, 10, 40, 250].map(ms));
        assert_eq!(pace.quick_among(0), ms(5), "whoever cannot count is alone");
        let modest = Pace { quick: ms(100), ..pace };
        assert_eq!([1, 8, 50].map(|n| modest.quick_among(n)), [100, 100, 250].map(ms));
        let none = Pace { budget_per_s: 0, ..pace };
        assert_eq!(none.quick_among(3), ms(3_000), "a budget of nothing is one probe a second");
    }

    #[test]
    fn who_may_ask_seldom_gives_servers_time() {
        let pace = Pace::default();
        assert_eq!([1, 2].map(|n| pace.grace(n)), [ms(0), ms(5)]);
    }

    /// Probes in `time` of one that asks every `wish`, if it may.
    fn asked(allowance: &mut Allowance, begin: Instant, time: Duration, wish: Duration) -> u32 {
        let (mut now, mut asked) = (begin, 0);
        while now < begin + time {
            allowance.spend(now, ms(250));
            asked += 1;
            now = (now + wish).max(allowance.next().unwrap_or(now));
        }
        asked
    }

    #[test]
    fn whoever_asks_all_the_time_gets_its_share_and_at_first_what_it_saved() {
        let (mut allowance, begin) = (Allowance::default(), Instant::now());
        assert_eq!(asked(&mut allowance, begin, ms(100), ms(5)), 5);
        assert_eq!(asked(&mut allowance, begin + ms(250), ms(10_000), ms(5)), 40);
    }

    #[test]
    fn what_was_not_used_is_saved_for_a_second() {
        let (mut allowance, begin) = (Allowance::default(), Instant::now());
        asked(&mut allowance, begin, ms(10_000), ms(5));
        let later = begin + ms(3_600_000);
        assert_eq!(asked(&mut allowance, later, ms(100), ms(5)), 5);
    }

    #[test]
    fn probes_that_could_not_wait_cost_no_more_than_one_share() {
        let (mut allowance, begin) = (Allowance::default(), Instant::now());
        (0..1_000).for_each(|_| allowance.spend(begin, ms(250)));
        assert_eq!(allowance.next(), Some(begin + ms(250)));
    }
}
