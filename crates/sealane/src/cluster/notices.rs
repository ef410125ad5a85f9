//! Lines in the log about reads that did not simply run, and about statements that were misjudged.
//!
//! Under load each of these happens thousands of times a second, so each kind of line is written
//! at most once in ten seconds (moved reads: for each endpoint), with the number of lines that were
//! left out since. Lines name endpoints and reasons. They hold no literal of a statement and no
//! text of a server, which may quote literals.
//!
//! Changes of the topology, ejections among them, have lines of their own with target
//! `sealane::topology`.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use sealane_core::{EndpointId, MAX_ENDPOINTS, Moment};
use tracing::Level;

/// The least time between two lines of a kind.
const EVERY: Duration = Duration::from_secs(10);

/// What is logged with the target `sealane`.
#[derive(Debug)]
pub(crate) struct Notices {
    fell_back: Limiter,
    /// By the place of the endpoint that the read left.
    moved: [Limiter; MAX_ENDPOINTS],
    stale: Limiter,
    learned: Limiter,
}

/// Admits one line in [`EVERY`].
#[derive(Debug, Default)]
struct Limiter {
    /// When the next line is due, in milliseconds since the clock's origin.
    due_ms: AtomicU64,
    left_out: AtomicU64,
}

impl Limiter {
    /// Whether a line may be written now. If so, returns how many were left out since the last one.
    fn admit(&self, now: Moment) -> Option<u64> {
        let now_ms = millis(now.since(Moment::ZERO));
        let due_ms = self.due_ms.load(Ordering::Relaxed);
        let next_ms = now_ms.saturating_add(millis(EVERY));
        let is_due = now_ms >= due_ms;
        let order = Ordering::Relaxed;
        if is_due && self.due_ms.compare_exchange(due_ms, next_ms, order, order).is_ok() {
            return Some(self.left_out.swap(0, order));
        }
        self.left_out.fetch_add(1, order);
        None
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Whether a subscriber wants such lines. Asked first, so that a line that nobody sees is not counted
/// as written.
fn is_wanted() -> bool {
    tracing::enabled!(target: "sealane", Level::WARN)
}

impl Default for Notices {
    fn default() -> Self {
        let (fell_back, stale, learned) = Default::default();
        Notices { fell_back, moved: std::array::from_fn(|_| Limiter::default()), stale, learned }
    }
}

impl Notices {
    /// A read that replicas should serve runs on the primary. `why`: what keeps it from each
    /// replica.
    pub(crate) fn fell_back(&self, now: Moment, endpoint: &str, why: impl FnOnce() -> String) {
        if let Some(left_out) = admitted(&self.fell_back, now) {
            let why = why();
            tracing::warn!(
                target: "sealane", endpoint, why, left_out,
                "a read falls back to the primary"
            );
        }
    }

    /// A read left the endpoint `id` without a result and runs on another one, or there again.
    pub(crate) fn moved(&self, now: Moment, id: EndpointId, from: &str, to: &str, why: &str) {
        if let Some(left_out) = admitted(&self.moved[id.place()], now) {
            tracing::warn!(target: "sealane", from, to, why, left_out, "a read is tried again");
        }
    }

    /// No replica is as fresh as a read asks for. `then`: what becomes of the read.
    pub(crate) fn stale(
        &self,
        now: Moment,
        asked: impl fmt::Display,
        then: &str,
        why: impl FnOnce() -> String,
    ) {
        if let Some(left_out) = admitted(&self.stale, now) {
            let why = why();
            tracing::warn!(
                target: "sealane", %asked, then, why, left_out,
                "no replica is fresh enough for a read"
            );
        }
    }

    /// A server refused a proved read as a write. `sql`: its text without literals.
    pub(crate) fn learned(&self, now: Moment, sql: impl FnOnce() -> String) {
        if let Some(left_out) = admitted(&self.learned, now) {
            let sql = sql();
            tracing::warn!(
                target: "sealane", sql, left_out,
                "a replica refused a statement as a write; from now on it runs on the primary"
            );
        }
    }
}

fn admitted(limiter: &Limiter, now: Moment) -> Option<u64> {
    is_wanted().then(|| limiter.admit(now)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_in_ten_seconds_is_admitted_with_the_number_of_those_left_out() {
        let (limiter, at) =
            (Limiter::default(), |millis| Moment::from_origin(Duration::from_millis(millis)));
        assert_eq!(limiter.admit(at(0)), Some(0));
        assert_eq!(limiter.admit(at(1)), None);
        assert_eq!(limiter.admit(at(9_999)), None);
        assert_eq!(limiter.admit(at(10_000)), Some(2));
        assert_eq!(limiter.admit(at(19_999)), None);
        assert_eq!(limiter.admit(at(60_000)), Some(1));
        assert_eq!(limiter.admit(at(70_000)), Some(0));
    }
}
