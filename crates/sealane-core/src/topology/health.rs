//! Decides when an endpoint goes out of use and when it may come back.
//!
//! A server that fails now and then should not be dropped for one lost packet (if the application
//! configures this). It must also not come back with its first answer: each return sends it a share
//! of all reads, and each loss costs some caller a retry. So going down and coming back have
//! separate thresholds, and an endpoint that soon goes down again stays away longer each time.
//!
//! Rejected: one score with one threshold (the endpoint flaps around the threshold), and a fixed
//! time out of use (too long after a hiccup, too short for a server that dies under load again and
//! again).
//!
//! A single failure takes an endpoint out of use at once, and the next answer brings it back,
//! because the failure may concern one connection only. Only several failures in a row, or a high
//! failure rate, count as having been down. A primary is never held back.

use std::time::Duration;

use serde::Serialize;

use crate::{Failure, Moment};

/// Whether an endpoint answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
#[non_exhaustive]
pub enum Health {
    /// Not observed yet.
    Unknown,
    /// The endpoint answers and is in use.
    Up,
    /// The endpoint does not answer.
    Down {
        /// Why.
        failure: Failure,
    },
    /// The endpoint answers again, but must go on answering before it is used.
    Probation,
}

/// When endpoints go down and come back.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct HealthPolicy {
    /// An endpoint goes down after this many failures in a row; 0 counts as 1.
    pub down_after: u32,
    /// An endpoint also goes down if at least this part of its last sixteen observations failed,
    /// once there are eight observations; 0 to 1.
    pub down_ratio: f64,
    /// An endpoint comes back after this many answers in a row; 0 counts as 1.
    pub up_after: u32,
    /// An endpoint that goes down a second time stays away at least this long; the third time twice
    /// as long, and so on.
    pub back_off: Duration,
    /// The longest time that an endpoint must stay away.
    pub back_off_cap: Duration,
    /// After this time in use, earlier downs are forgotten.
    pub forgiven_after: Duration,
    /// A replica whose lag exceeds this limit counts as lagging.
    pub lagging_above: Duration,
    /// A replica stops lagging once its lag is at most this, and at most `lagging_above`.
    pub lagging_until: Duration,
    /// Another system is served if no endpoint has shown our data for this long, and if all
    /// endpoints that answer (more than half of all) hold that system's data, with one primary.
    pub replaced_after: Duration,
}

impl Default for HealthPolicy {
    fn default() -> Self {
        HealthPolicy {
            // Reads go to other endpoints, and a probe follows at once. So caution costs a few
            // milliseconds, while patience would cost failed attempts.
            down_after: 1,
            down_ratio: 0.5,
            // One answer is enough, because the back-off already makes a second return harder.
            up_after: 1,
            // About the time that a crashed backend needs to be replaced.
            back_off: Duration::from_millis(250),
            // One trial in ten seconds does no harm, and a repaired server is soon back.
            back_off_cap: Duration::from_secs(10),
            forgiven_after: Duration::from_secs(60),
            // The value of Vitess (`discovery_low_replication_lag`).
            lagging_above: Duration::from_secs(30),
            // Half of the limit above, so that a replica near the limit does not come and go.
            lagging_until: Duration::from_secs(15),
            // Restoring a cluster takes longer than this; a restart does not.
            replaced_after: Duration::from_secs(60),
        }
    }
}

/// How many of the last observations [`HealthPolicy::down_ratio`] considers.
const WINDOW: u32 = 16;
/// With fewer observations the ratio says nothing.
const LEAST: u32 = 8;
/// One failure may concern a single connection; this many in a row concern the server.
const CONFIRMED_AFTER: u32 = 2;

/// The history of one endpoint's answers and failures.
///
/// With a strict policy, the first failure takes an endpoint out of use, and the next answer brings
/// it back: somebody may have cut one connection. Only a confirmed outage (several failures in a
/// row, or a high rate) counts as a down and lengthens the back-off.
#[derive(Debug, Clone, Default)]
pub(crate) struct Standing {
    /// Failures in a row.
    failures: u32,
    /// Answers in a row.
    answers: u32,
    /// The last observations, the newest in the lowest bit; a failure is 1.
    recent: u32,
    /// How many observations `recent` holds.
    observed: u32,
    /// Whether the endpoint is in use.
    stage: Stage,
    /// How often the endpoint was down since its downs were last forgotten.
    downs: u32,
    /// When the endpoint last came back after a confirmed outage.
    back_since: Option<Moment>,
    /// The earliest time at which the endpoint may come back.
    held_until: Moment,
}

#[derive(Debug, Clone, Copy, Default)]
enum Stage {
    /// Not observed yet.
    #[default]
    New,
    InUse,
    OutOfUse {
        since: Moment,
        confirmed: bool,
    },
}

impl Standing {
    /// Records a failure at `at`. Returns whether the endpoint is out of use. It stays out of use
    /// until [`Standing::answered`] returns true.
    pub(crate) fn failed(&mut self, at: Moment, policy: &HealthPolicy) -> bool {
        self.answers = 0;
        self.failures = self.failures.saturating_add(1);
        self.note(true);
        let by_rate = self.rate_exceeds(policy.down_ratio);
        let is_confirmed = by_rate || self.failures >= policy.down_after.max(CONFIRMED_AFTER);
        let (since, before) = match self.stage {
            Stage::InUse if !by_rate && self.failures < policy.down_after => return false,
            // An endpoint that was never in use goes down at once.
            Stage::New | Stage::InUse => (at, false),
            Stage::OutOfUse { since, confirmed } => (since, confirmed),
        };
        if is_confirmed && !before {
            self.forgive(since, policy);
            self.downs = self.downs.saturating_add(1);
            self.held_until = since + self.back_off(policy);
        }
        self.stage = Stage::OutOfUse { since, confirmed: before || is_confirmed };
        true
    }

    /// Records an answer at `at`. Returns whether the endpoint is in use.
    pub(crate) fn answered(&mut self, at: Moment, policy: &HealthPolicy) -> bool {
        self.failures = 0;
        self.answers = self.answers.saturating_add(1);
        self.note(false);
        let ready = match self.stage {
            Stage::New | Stage::InUse => true,
            Stage::OutOfUse { .. } => self.answers >= policy.up_after && at >= self.held_until,
        };
        if ready {
            self.trust(at);
        }
        ready
    }

    /// Puts the endpoint in use whatever happened before. This is for the primary, because no other
    /// endpoint can replace it.
    pub(crate) fn trust(&mut self, at: Moment) {
        if let Stage::OutOfUse { confirmed: true, .. } = self.stage {
            self.back_since = Some(at);
        }
        self.stage = Stage::InUse;
    }

    fn forgive(&mut self, at: Moment, policy: &HealthPolicy) {
        if self.back_since.is_some_and(|back| at.since(back) >= policy.forgiven_after) {
            self.downs = 0;
        }
    }

    /// When the endpoint last came back after a confirmed outage.
    pub(crate) fn back_since(&self) -> Option<Moment> {
        self.back_since
    }

    /// No back-off for the first down. From the second on, the back-off doubles each time, up to
    /// the cap.
    fn back_off(&self, policy: &HealthPolicy) -> Duration {
        match self.downs.checked_sub(2) {
            None => Duration::ZERO,
            Some(doublings) => {
                let factor = 2_u32.saturating_pow(doublings);
                policy.back_off.saturating_mul(factor).min(policy.back_off_cap)
            }
        }
    }

    fn note(&mut self, failed: bool) {
        self.recent = (self.recent << 1 | u32::from(failed)) & ((1 << WINDOW) - 1);
        self.observed = (self.observed + 1).min(WINDOW);
    }

    fn rate_exceeds(&self, ratio: f64) -> bool {
        let failures = self.recent.count_ones();
        self.observed >= LEAST && f64::from(failures) >= ratio * f64::from(self.observed)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn ms(ms: u64) -> Moment {
        Moment::from_origin(Duration::from_millis(ms))
    }

    fn patient() -> HealthPolicy {
        HealthPolicy { down_after: 3, up_after: 2, ..HealthPolicy::default() }
    }

    /// `x` is a failure, `.` an answer, one per second. Returns the state after each of them, `U`
    /// for in use.
    fn run(policy: &HealthPolicy, observations: &str) -> String {
        let mut standing = Standing::default();
        let state = |(n, observation): (u64, char)| {
            let in_use = match observation {
                'x' => !standing.failed(ms(n * 1_000), policy),
                _ => standing.answered(ms(n * 1_000), policy),
            };
            if in_use { 'U' } else { '-' }
        };
        (0..).zip(observations.chars()).map(state).collect()
    }

    #[rstest]
    #[case::one_failure_is_enough_and_one_answer("..x.", "UU-U")]
    #[case::single_failures_are_no_downs("..x....x....x....x....x..", "UU-UUUU-UUUU-UUUU-UUUU-UU")]
    #[case::the_back_off_ends_within_a_second(".xx.xx.xx.", "U--U--U--U")]
    #[case::and_then_it_does_not(".xx.xx.xx.xx.xx....", "U--U--U--U--U--UUUU")]
    #[case::a_sixth_time_it_takes_four_seconds(".xx.xx.xx.xx.xx.xx....", "U--U--U--U--U--U----UU")]
    fn the_default_trusts_at_once_and_then_less(#[case] observations: &str, #[case] states: &str) {
        // Back-offs of 0, 0.25, 0.5, 1, 2 and 4 seconds.
        assert_eq!(run(&HealthPolicy::default(), observations), states);
    }

    #[rstest]
    #[case::two_failures_are_tolerated("..xx..", "UUUUUU")]
    #[case::the_third_is_not("..xxx", "UUUU-")]
    #[case::one_answer_is_not_enough("..xxx.x", "UUUU---")]
    #[case::two_are("..xxx..", "UUUU--U")]
    #[case::at_the_start_one_is("..", "UU")]
    #[case::who_was_never_up_is_down_at_once("x..", "--U")]
    fn thresholds_count_in_a_row(#[case] observations: &str, #[case] states: &str) {
        assert_eq!(run(&patient(), observations), states);
    }

    #[test]
    fn every_other_failure_is_too_many_once_there_are_eight_observations() {
        assert_eq!(run(&patient(), ".x.x.x.x"), "UUUUUUU-");
        assert_eq!(run(&patient(), "....x....x....x....x"), "U".repeat(20));
    }

    #[test]
    fn the_back_off_doubles_up_to_the_cap() {
        let (policy, mut standing) = (HealthPolicy::default(), Standing::default());
        let mut now = 0;
        let mut waits = Vec::new();
        for _ in 0..9 {
            let begun = now;
            assert!(standing.failed(ms(now), &policy) && standing.failed(ms(now), &policy));
            while !standing.answered(ms(now), &policy) {
                now += 50;
            }
            waits.push(now - begun);
        }
        assert_eq!(waits, [0, 250, 500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000]);
    }

    #[test]
    fn a_minute_without_being_down_is_forgiven() {
        let (policy, mut standing) = (HealthPolicy::default(), Standing::default());
        let mut down = |from: u64, to: u64| {
            standing.failed(ms(from), &policy);
            standing.failed(ms(from), &policy);
            standing.answered(ms(to), &policy)
        };
        for n in 0..6 {
            assert!(down(n * 20_000, n * 20_000 + 19_000));
        }
        assert!(!down(130_000, 130_000), "six times before");
        assert!(down(138_000, 138_000), "the back-off began when it went down");
        assert!(down(198_000, 198_000), "forgiven");
    }

    #[test]
    fn failing_on_while_down_does_not_lengthen_the_back_off() {
        let (policy, mut standing) = (HealthPolicy::default(), Standing::default());
        standing.answered(ms(0), &policy);
        for second in 1..100 {
            standing.failed(ms(second * 1_000), &policy);
        }
        assert!(standing.answered(ms(100_000), &policy), "it went down once");
    }

    #[test]
    fn a_flapping_endpoint_comes_into_use_ever_less_often() {
        let found = run(&HealthPolicy::default(), &".x".repeat(200));
        let returns = |part: &str| part.as_bytes().windows(2).filter(|pair| *pair == b"-U").count();
        assert!(returns(&found[..15]) >= 7, "{found}");
        assert!(returns(&found[300..]) <= 10, "{found}");
    }

    #[test]
    fn a_connection_cut_every_few_seconds_costs_no_back_off() {
        let found = run(&HealthPolicy::default(), &"x.....".repeat(50));
        assert!(!found.contains("--"), "{found}");
    }
}
