//! The clock of observations and of bounds on staleness.
//!
//! A bound on staleness is a promise about real time. But the clock behind [`Instant`] (Linux's
//! `CLOCK_MONOTONIC`) stands still while the machine is suspended: a replica that was up to date
//! before would still seem up to date hours later. So this clock adds the time of suspensions,
//! which is the lead of `CLOCK_BOOTTIME`. Tokio's clock remains the base, because tests pause it.
//!
//! Only Linux needs this. (On Windows `Instant` continues during a suspension. On macOS it does
//! not, but a sleeping laptop is no server.)

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use sealane_core::Moment;
use tokio::time::Instant;

/// Returns how far boot time is ahead of monotonic time: perhaps too little, never too much.
type Ahead = fn() -> Duration;

/// A clock that never goes back and includes suspensions.
#[derive(Debug)]
pub(crate) struct Clock {
    origin: Instant,
    ahead: Ahead,
    /// The value of [`Ahead`] at the origin.
    ahead_at_origin: Duration,
    /// How long the machine has been suspended since then, in nanoseconds.
    suspended_ns: AtomicU64,
}

/// A smaller difference is no suspension: a thread may be delayed between two readings.
const LEAST_SUSPENSION: Duration = Duration::from_millis(10);

impl Clock {
    pub(crate) fn new() -> Self {
        Clock::with(ahead)
    }

    pub(crate) fn with(ahead: Ahead) -> Self {
        let suspended_ns = AtomicU64::new(0);
        Clock { origin: Instant::now(), ahead, ahead_at_origin: ahead(), suspended_ns }
    }

    pub(crate) fn now(&self) -> Moment {
        // The suspended time is read first. So a suspension between the two readings makes the
        // moment too early, never too late. A question with a moment that is too late would prove
        // too much.
        let suspended = self.suspended();
        Moment::from_origin(self.origin.elapsed() + suspended)
    }

    fn suspended(&self) -> Duration {
        let known = Duration::from_nanos(self.suspended_ns.load(Ordering::Relaxed));
        let found = (self.ahead)().saturating_sub(self.ahead_at_origin);
        if found < known + LEAST_SUSPENSION {
            return known;
        }
        let found_ns = u64::try_from(found.as_nanos()).unwrap_or(u64::MAX);
        let before = self.suspended_ns.fetch_max(found_ns, Ordering::Relaxed);
        found.max(Duration::from_nanos(before))
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn ahead() -> Duration {
    use rustix::time::{ClockId, Timespec, clock_gettime};

    let duration = |time: Timespec| {
        let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
        Duration::new(seconds.unwrap_or(0), nanos.unwrap_or(0))
    };
    // Boot time is read first. So a delay between the two readings makes the difference too small.
    let boot = duration(clock_gettime(ClockId::Boottime));
    boot.saturating_sub(duration(clock_gettime(ClockId::Monotonic)))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn ahead() -> Duration {
    Duration::ZERO
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use sealane_core::{
        Access, Consistency, Endpoint, EndpointId, HealthPolicy, Incarnation, Lsn, Observation,
        Outcome, Plan, Position, ReadRequest, Report, Role, Topology, WriteStamp,
    };

    use crate::TopologyStore;

    use super::*;

    thread_local! {
        static AHEAD: Cell<Duration> = const { Cell::new(Duration::from_secs(100)) };
    }

    fn suspend(time: Duration) {
        AHEAD.set(AHEAD.get() + time);
    }

    #[tokio::test(start_paused = true)]
    async fn a_suspension_counts_as_time() {
        let clock = Clock::with(|| AHEAD.get());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(clock.now(), Moment::from_origin(Duration::from_secs(1)));
        suspend(Duration::from_secs(3600));
        assert_eq!(clock.now(), Moment::from_origin(Duration::from_secs(3601)));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(clock.now(), Moment::from_origin(Duration::from_secs(3602)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_delay_is_no_suspension_and_time_never_goes_back() {
        let clock = Clock::with(|| AHEAD.get());
        suspend(Duration::from_millis(9));
        assert_eq!(clock.now(), Moment::ZERO);
        suspend(Duration::from_secs(60));
        let after = clock.now();
        AHEAD.set(Duration::ZERO);
        assert_eq!(clock.now(), after);
    }

    #[tokio::test(start_paused = true)]
    async fn a_fresh_replica_is_stale_after_a_suspension() {
        let names = ["primary", "replica"].map(|name| Endpoint::new(name, name));
        let (topology, clock) = (Topology::new(names.to_vec()), Clock::with(|| AHEAD.get()));
        let store = TopologyStore::assemble(
            "",
            topology,
            HealthPolicy::default(),
            clock,
            crate::Entropy::default(),
        );
        let replica = EndpointId::from_index(1).unwrap();
        for (endpoint, role) in [(EndpointId::FIRST, Role::Primary), (replica, Role::Replica)] {
            let lsn = Lsn::from_bytes(100);
            let position = Some(Position::Wal { system: 1, timeline: 1, lsn });
            let report = Report { position, ..Report::new(role, Incarnation::new("first")) };
            let (started, finished) = (store.now(), store.now());
            let (stamp, outcome) = (WriteStamp::NONE, Outcome::Answered(report));
            store.apply(&Observation { endpoint, started, finished, stamp, outcome });
        }
        let bounded = Consistency::BoundedStaleness(Duration::from_secs(5));
        let readers = || {
            let request = ReadRequest::new(Access::Read, bounded, store.now());
            Plan::new(&store.topology(), &request).replicas().len()
        };
        assert_eq!(readers(), 1);
        suspend(Duration::from_secs(60));
        assert_eq!(readers(), 0);
    }

    #[test]
    fn the_machines_clocks_are_read() {
        let clock = Clock::new();
        let before = clock.now();
        std::thread::sleep(Duration::from_millis(20));
        let passed = clock.now().since(before);
        assert!(passed >= Duration::from_millis(20) && passed < Duration::from_secs(5));
    }
}
