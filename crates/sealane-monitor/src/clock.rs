//! The time that observations and bounds use.
//!
//! A bound on staleness is a promise about real time, and the clock behind
//! [`Instant`] stands still while the machine is suspended (Linux's `CLOCK_MONOTONIC`). A replica
//! that was level before would seem level still, hours later. So the time of the suspension is
//! added, which is what `CLOCK_BOOTTIME` is ahead by. Tokio's clock remains the base: tests
//! stop it.
//!
//! Elsewhere than on Linux nothing is added. (On Windows `Instant` goes on. On macOS it does not,
//! and a laptop that sleeps is no server.)

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use sealane_core::Moment;
use tokio::time::Instant;

/// By how much boot time is ahead of monotonic time, never more than that.
type Ahead = fn() -> Duration;

/// A clock that only grows, also over a suspension.
#[derive(Debug)]
pub(crate) struct Clock {
    origin: Instant,
    ahead: Ahead,
    /// What [`Ahead`] said at the origin.
    ahead_at_origin: Duration,
    /// How long the machine was suspended since, in nanoseconds.
    suspended_ns: AtomicU64,
}

/// Less than this is no suspension: a thread may be held up between two readings.
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
        // In this order: a moment may lie too early by a suspension in between, not too late.
        // Too late, the moment of a question would prove too much.
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
    // In this order: held up in between, it says too little.
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
        Access, Consistency, Demand, Endpoint, EndpointId, HealthPolicy, Incarnation, Lsn,
        Observation, Outcome, Plan, Position, Report, Role, Topology, WriteStamp,
    };

    use crate::Board;

    use super::*;

    thread_local! {
        static AHEAD: Cell<Duration> = const { Cell::new(Duration::from_secs(100)) };
    }

    fn suspend(time: Duration) {
        AHEAD.set(AHEAD.get() + time);
    }

    #[tokio::test(start_paused = true)]
    async fn a_suspension_is_time() {
        let clock = Clock::with(|| AHEAD.get());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(clock.now(), Moment::from_origin(Duration::from_secs(1)));
        suspend(Duration::from_secs(3600));
        assert_eq!(clock.now(), Moment::from_origin(Duration::from_secs(3601)));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(clock.now(), Moment::from_origin(Duration::from_secs(3602)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_busy_machine_does_is_no_suspension_and_time_never_goes_back() {
        let clock = Clock::with(|| AHEAD.get());
        suspend(Duration::from_millis(9));
        assert_eq!(clock.now(), Moment::ZERO);
        suspend(Duration::from_secs(60));
        let after = clock.now();
        AHEAD.set(Duration::ZERO);
        assert_eq!(clock.now(), after);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_fresh_before_a_suspension_is_not_fresh_after_it() {
        let names = ["primary", "replica"].map(|name| Endpoint::new(name, name));
        let (topology, clock) = (Topology::new(names.to_vec()), Clock::with(|| AHEAD.get()));
        let board = Board::with_clock(topology, HealthPolicy::default(), clock);
        let replica = EndpointId::from_index(1).unwrap();
        for (endpoint, role) in [(EndpointId::FIRST, Role::Primary), (replica, Role::Replica)] {
            let lsn = Lsn::from_bytes(100);
            let position = Some(Position::Wal { system: 1, timeline: 1, lsn });
            let report = Report { position, ..Report::new(role, Incarnation::new("first")) };
            let (started, finished) = (board.now(), board.now());
            let (stamp, outcome) = (WriteStamp::NONE, Outcome::Answered(report));
            board.apply(&Observation { endpoint, started, finished, stamp, outcome });
        }
        let bounded = Consistency::BoundedStaleness(Duration::from_secs(5));
        let readers = || {
            let demand = Demand::new(Access::Read, bounded, board.now());
            Plan::new(&board.topology(), &demand).replicas().len()
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
