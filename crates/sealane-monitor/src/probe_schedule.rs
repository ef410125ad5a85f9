//! How often endpoints are probed.
//!
//! # While nobody waits
//! Each endpoint gets at most one query a second, jittered (1.0 to 1.2 s).
//!
//! # While a session waits
//! A read that is refused for a session's sake wakes the tasks. A proof takes two steps: a sample
//! of the primary that began after the write, then an answer of a replica that covers this sample.
//! So the primary is asked while a session waits, and a replica is asked while it does not cover
//! the newest sample. A monitor that has to share its budget first gives them a few milliseconds:
//! the primary to finish the refused read, which needs a proof, too, and the replica to replay.
//! Both are asked at most every 5 to 20 ms. The farther a replica is behind, the less often it is
//! asked: after every eighth part of its lag, down to the idle cadence. A task that is woken or
//! nudged never probes twice within the quick interval, so any number of refusals costs one probe.
//!
//! # Many processes
//! Each server has a budget of 200 quick probes a second for all processes. Each of *n* monitors
//! may continuously send one probe in *n*/200 s, and may send at once what it did not use in the
//! last second (`Allowance`). So an occasional write is proved as soon in a large fleet as in a
//! small one. *n* is counted once a second. PostgreSQL shows the names of connections to every
//! role; for MySQL and MariaDB see `mysql/fleet.rs`. (Rejected: counting only the monitors that
//! probe quickly now. A server shows their activity only to their own role and to monitoring
//! roles.)
//!
//! # Trouble
//! - A replica that is down is asked again after half a second to a second, then less and less
//!   often, down to once in 2.5 to 5 s. This delay is spread over its upper half, because all
//!   clients lose a server at the same time.
//! - While no primary answers, the endpoints that are connected are asked about ten times a second,
//!   because one of them may be promoted although no statement waits for it. After half a minute
//!   they are asked at the idle cadence again.
//! - A primary that is down is connected to at the idle cadence, because everybody waits for its return.
//! - A database that a server does not have yet is asked for after 50 ms, then less and less often:
//!   on a replica it may be about to appear.
//! - A probe that panics is reported, and begins again.
//! - A statement's error is followed by a probe at once; if errors continue, by ten probes a second
//!   at most. A suspected endpoint is probed on a new connection, because the old one may lead to
//!   the previous server.
//!
//! (Rejected: a crate for back-off. Back-off is one line of this file, and must take nudges into
//! account.)

use std::time::Duration;

use tokio::time::Instant;

/// The cadence of probes.
///
/// Probes are slow while no session needs them: the snapshot is enough for reads of sessions
/// without recent writes. Probes are quick while a session waits because its write is not yet
/// proved on a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProbeSchedule {
    /// Least time between probes of one endpoint while no session waits; the most is a fifth
    /// longer. It limits how long a silent death goes unnoticed.
    pub idle: Duration,
    /// Least time between probes of one endpoint while sessions wait without a pause; see
    /// [`ProbeSchedule::quick_among`]. When a session starts to wait for a replica, its first
    /// probes follow each other up to four times as quickly.
    pub quick: Duration,
    /// The most probes per second that one server gets from all processes together.
    pub budget_per_s: u32,
    /// A probe fails if it has no answer after this time. A probe that must connect first gets
    /// three times as long, or less if the server used to connect quickly.
    pub timeout: Duration,
}

impl Default for ProbeSchedule {
    fn default() -> Self {
        ProbeSchedule {
            // One cheap query a second per endpoint.
            idle: Duration::from_secs(1),
            // A few times the round trip in one data centre.
            quick: Duration::from_millis(5),
            // As many as one process alone sends at its quick pace. A probe takes a quarter of a
            // millisecond on a server, so this is a twentieth of one core.
            budget_per_s: 200,
            // Long enough for a busy server, short enough for a user.
            timeout: Duration::from_secs(1),
        }
    }
}

/// The delay between quick probes is the wait so far, or the replica's lag, divided by this number.
/// So a session waits at most an eighth longer than the replica needs.
const PART: u32 = 8;
/// The same number for the first few probes of a replica. They come quicker than
/// [`ProbeSchedule::quick`], because most replicas show a write within two or three milliseconds.
/// The budget includes these probes.
const FIRST_PART: u32 = 2;
/// The very first probes follow each other after [`ProbeSchedule::quick`] divided by this number.
const FIRST_STEPS: u32 = 4;
/// A long wait alone slows quick probing down to at most this many times [`ProbeSchedule::quick`].
/// Only a large lag slows it further, because many short waits look like one long wait.
const SLOWEST_QUICK: u32 = 4;
/// Connecting takes a handful of round trips (TCP, TLS, authentication), a probe one.
const CONNECT_TIMEOUTS: u32 = 3;
/// A server that is not silent connects again within so many times of what it needed before.
const RECONNECT_FACTOR: u32 = 4;
/// A server that is down is probed at least once in this many idle intervals: a connection attempt
/// every few seconds does no harm, and a server that comes back is soon in use.
const RARELY: u32 = 5;
/// The longest delay between probes that errors request: ten connections per second find a new
/// primary soon and are no storm.
const SLOWEST_CALLED: Duration = Duration::from_millis(100);
/// How long connected endpoints are asked quickly once no primary answers. Failovers take less.
const SEARCH: Duration = Duration::from_secs(30);
/// A process that used less than its share may use this much of it at once. So an occasional write
/// is proved as quickly in a large fleet as in a small one.
const SAVED: Duration = Duration::from_secs(1);
/// The delay after a probe that left something open.
const SOON: Duration = Duration::from_millis(20);

impl ProbeSchedule {
    /// The timeout of a probe that has to connect first.
    #[must_use]
    pub fn timeout_with_connect(&self) -> Duration {
        self.timeout.saturating_mul(CONNECT_TIMEOUTS)
    }

    /// The timeout of a probe on a new connection to a server that has answered until now, and for
    /// which such a probe took `connected_in` the last time. Whoever connects within milliseconds is
    /// silent after [`ProbeSchedule::timeout`], so that a frozen primary is found as soon as a
    /// frozen connection. If this probe fails, the next one has all the time.
    pub(crate) fn timeout_to_reconnect(&self, connected_in: Option<Duration>) -> Duration {
        let most = self.timeout_with_connect();
        connected_in
            .map_or(most, |took| took.saturating_mul(RECONNECT_FACTOR).clamp(self.timeout, most))
    }

    /// The delay to the next probe when a session has waited for `waited` and the replica's lag is
    /// `behind`. It grows from `quickest` to [`ProbeSchedule::quick`] within a few probes.
    pub(crate) fn quick_after(
        &self,
        waited: Duration,
        behind: Duration,
        quickest: Duration,
    ) -> Duration {
        let slowest = (behind / PART).max(self.slowest_quick()).min(self.idle);
        let quickest = (waited / FIRST_PART).clamp(quickest, self.quick);
        (waited / PART).min(slowest).max(quickest)
    }

    /// The delay between the first probes of a replica that a session waits for.
    pub(crate) fn first_quick(&self) -> Duration {
        self.quick / FIRST_STEPS
    }

    /// The longest delay between quick probes for a replica that is not far behind.
    pub(crate) fn slowest_quick(&self) -> Duration {
        self.quick.saturating_mul(SLOWEST_QUICK)
    }

    /// The average time between probes for each of `monitors`, so that all of them together stay
    /// within the budget.
    pub(crate) fn share(&self, monitors: u32) -> Duration {
        Duration::from_secs(1).saturating_mul(monitors.max(1)) / self.budget_per_s.max(1)
    }

    /// The time between probes of one endpoint while sessions wait without a pause, if the monitors
    /// of `monitors` processes probe the same server.
    #[must_use]
    pub fn quick_among(&self, monitors: u32) -> Duration {
        self.quick.max(self.share(monitors))
    }

    /// How long a monitor waits before a useful probe. It gives the primary time to finish the read
    /// that a replica refused and that needs a proof too, and it gives a replica time to replay the
    /// primary's last sample. A monitor that may probe often does not wait: it finds out by
    /// probing.
    pub(crate) fn grace(&self, monitors: u32) -> Duration {
        if self.share(monitors) > self.quick { self.quick } else { Duration::ZERO }
    }

    /// The delay to the next probe after one that left something open.
    pub(crate) fn soon(&self) -> Duration {
        SOON.max(self.quick).min(self.idle)
    }

    /// The delay to the next probe while no session waits, spread over a fifth so that processes do
    /// not probe in step. `random` is uniform over 0..1.
    pub(crate) fn idle_spread(&self, random: f64) -> Duration {
        self.idle.mul_f64(1.0 + 0.2 * random.clamp(0.0, 1.0))
    }

    /// The longest delay to the next probe when no primary has answered for `missed_for`, spread because
    /// all processes lose a primary at the same time; `None` if that is too long ago to hurry. `random`
    /// is uniform over 0..1.
    pub(crate) fn search_after(&self, missed_for: Duration, random: f64) -> Option<Duration> {
        let delay = SLOWEST_CALLED.max(self.quick).mul_f64(0.8 + 0.4 * random.clamp(0.0, 1.0));
        (missed_for < SEARCH).then_some(delay)
    }

    /// The delay to the next probe of an endpoint that is out of use and has failed `failures`
    /// times in a row, at least once. It doubles up to a cap, and is spread over its upper half,
    /// because all clients lose a server at the same time.
    pub(crate) fn retry_spread(&self, failures: u32, random: f64) -> Duration {
        let times = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(RARELY);
        self.idle.saturating_mul(times.clamp(1, RARELY)).mul_f64(0.5 + 0.5 * random.clamp(0.0, 1.0))
    }

    /// The time between two requested probes after `calls` requests in a row. The first request is
    /// served at once. The time grows, because errors may request probes as often as statements
    /// run.
    pub(crate) fn called_after(&self, calls: u32) -> Duration {
        let times = 1_u32.checked_shl(calls).unwrap_or(u32::MAX);
        self.quick.saturating_mul(times).min(SLOWEST_CALLED.max(self.quick))
    }
}

/// How much of its share in a server's budget one monitor has used. This is the generic cell rate
/// algorithm (ITU-T I.371): a token bucket stored as a single moment.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Allowance {
    /// When the next probe would be due if the monitor had always kept to its share.
    due: Option<Instant>,
}

impl Allowance {
    /// Records a probe at `now`. The monitor may send one probe per `share`. A probe that could not
    /// wait delays the next ones, but by no more than one share.
    pub(crate) fn spend(&mut self, now: Instant, share: Duration) {
        let due = self.due.map_or(now, |due| due.max(now)) + share;
        self.due = Some(due.min(now + SAVED + share));
    }

    /// The earliest time of the next probe; `None` if it may be sent at any time.
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
    fn a_long_wait_slows_probes_down_but_little_for_a_near_replica() {
        let schedule = ProbeSchedule::default();
        let after = |waited, behind| schedule.quick_after(waited, behind, schedule.quick);
        assert_eq!(after(Duration::ZERO, LONG), ms(5));
        assert_eq!(after(ms(80), LONG), ms(10));
        assert_eq!(after(LONG, ms(10)), ms(20));
    }

    #[test]
    fn the_first_probes_of_a_replica_follow_each_other_quickly() {
        let schedule = ProbeSchedule::default();
        let after = |waited_ms| {
            schedule.quick_after(ms(waited_ms), Duration::ZERO, schedule.first_quick()).as_micros()
        };
        assert_eq!([0, 2, 4, 8, 10, 40].map(after), [1_250, 1_250, 2_000, 4_000, 5_000, 5_000]);
    }

    #[test]
    fn a_far_replica_is_probed_as_rarely_as_its_lag_allows_but_no_slower_than_idle() {
        let schedule = ProbeSchedule::default();
        let after = |waited, behind| schedule.quick_after(waited, behind, schedule.quick);
        assert_eq!(after(LONG, ms(800)), ms(100));
        assert_eq!(after(LONG, LONG), ms(1_000));
        assert_eq!(after(ms(160), LONG), ms(20), "the replica may catch up at any moment");
        let slow = ProbeSchedule { quick: LONG, ..schedule };
        assert_eq!(slow.quick_after(LONG, LONG, LONG), LONG);
    }

    #[test]
    fn idle_probes_are_never_nearer_than_their_interval() {
        let schedule = ProbeSchedule::default();
        assert_eq!(schedule.idle_spread(0.0), ms(1_000));
        assert_eq!(schedule.idle_spread(1.0), ms(1_200));
    }

    #[test]
    fn retries_become_rarer_up_to_the_cap() {
        let schedule = ProbeSchedule::default();
        let latest = |failures| schedule.retry_spread(failures, 1.0).as_millis();
        assert_eq!(
            [1, 2, 3, 4, 5, 40, u32::MAX].map(latest),
            [1_000, 2_000, 4_000, 5_000, 5_000, 5_000, 5_000]
        );
        assert_eq!(schedule.retry_spread(9, 0.0), ms(2_500));
    }

    #[test]
    fn the_first_request_is_served_at_once_and_many_make_no_storm() {
        let schedule = ProbeSchedule::default();
        let after = |calls| schedule.called_after(calls).as_millis();
        assert_eq!([0, 1, 2, 3, 4, 5, 40].map(after), [5, 10, 20, 40, 80, 100, 100]);
    }

    #[test]
    fn monitors_share_the_budget_and_a_single_one_has_all_of_it() {
        let schedule = ProbeSchedule::default();
        assert_eq!([1, 2, 8, 50].map(|n| schedule.quick_among(n)), [5, 10, 40, 250].map(ms));
        assert_eq!(
            schedule.quick_among(0),
            ms(5),
            "a monitor that cannot count assumes that it is alone"
        );
        let modest = ProbeSchedule { quick: ms(100), ..schedule };
        assert_eq!([1, 8, 50].map(|n| modest.quick_among(n)), [100, 100, 250].map(ms));
        let none = ProbeSchedule { budget_per_s: 0, ..schedule };
        assert_eq!(none.quick_among(3), ms(3_000), "a budget of nothing is one probe a second");
    }

    #[test]
    fn a_monitor_that_may_probe_seldom_gives_servers_time() {
        let schedule = ProbeSchedule::default();
        assert_eq!([1, 2].map(|n| schedule.grace(n)), [ms(0), ms(5)]);
    }

    /// Counts the probes in `time` of a monitor that wants to probe every `wish`.
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
    fn a_busy_monitor_gets_its_share_and_at_first_what_it_saved() {
        let (mut allowance, begin) = (Allowance::default(), Instant::now());
        assert_eq!(asked(&mut allowance, begin, ms(100), ms(5)), 5);
        assert_eq!(asked(&mut allowance, begin + ms(250), ms(10_000), ms(5)), 40);
    }

    #[test]
    fn unused_share_is_saved_for_a_second() {
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
