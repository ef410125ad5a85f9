//! A reading of a local monotonic clock, passed in by the clock's owner.

use std::{
    ops::{Add, Sub},
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// Time since an origin that the owner of the clock chose (the start of the monitor). It only
/// grows, and it says nothing about the time of day.
///
/// A plain number instead of [`std::time::Instant`], so that observations can be written to data
/// files and replayed.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Moment(Duration);

impl Moment {
    /// The origin of the clock.
    pub const ZERO: Moment = Moment(Duration::ZERO);

    /// The moment this long after the origin.
    #[must_use]
    pub const fn from_origin(elapsed: Duration) -> Self {
        Moment(elapsed)
    }

    /// The time from `earlier` to this moment; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Moment) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Moment {
    type Output = Moment;

    fn add(self, duration: Duration) -> Moment {
        Moment(self.0.saturating_add(duration))
    }
}

impl Sub<Duration> for Moment {
    type Output = Moment;

    fn sub(self, duration: Duration) -> Moment {
        Moment(self.0.saturating_sub(duration))
    }
}
