//! Keeps an outage of replicas from becoming an outage of the primary.
//!
//! When replicas vanish, their reads fall back to the primary, which has to take all writes as
//! well. So only as many of them run there at a time as [`Config::fallback_limit`] allows, or, if
//! that is not set, as the primary's own writes bear ([`AdaptiveLimit`]). The others stand in line,
//! first come first served, for as long as a statement waits for a primary. Then they fail
//! ([`Error::Shed`]): a queue that grows without limit serves nobody.
//!
//! Reads that are *meant* to run on the primary pass: those that ask for it, those of a session
//! whose writes are not replayed yet, and those that no replica could ever serve. Reads that
//! take the primary's turn pass, too ([`PrimaryReads::Always`]): a replica beside it could serve them.
//!
//! [`Config::fallback_limit`]: crate::Config::fallback_limit

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use sea_orm::DbErr;
use sealane_core::{AdaptiveLimit, Moment, PrimaryReads};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::{Config, Error};

/// The part of the primary's connections that may serve fallback reads at first, unless configured.
const SHARE: u32 = 2;
/// This part of its connections is left to everything else, however well the writes fare.
const LEFT_FREE: u32 = 4;
/// The driver's size of a pool, unless configured.
const DRIVERS_CONNECTIONS: u32 = 10;

/// How many reads may run on the primary because no replica serves them.
#[derive(Debug)]
pub(crate) struct FallbackLimit {
    places: Arc<Places>,
    adaptive: Option<AdaptiveLimit>,
}

#[derive(Debug)]
struct Places {
    most: AtomicUsize,
    free: Arc<Semaphore>,
    /// How many places end with the reads that have them, because the limit has fallen.
    owed: AtomicUsize,
}

/// The place of one such read; given back when dropped.
#[derive(Debug)]
pub(crate) struct FallbackPermit {
    permit: Option<OwnedSemaphorePermit>,
    places: Arc<Places>,
}

impl FallbackLimit {
    pub(crate) fn of(config: &Config) -> Self {
        if config.reading.primary_reads == PrimaryReads::Intended {
            return FallbackLimit::new(0);
        }
        if let Some(fixed) = config.fallback_limit {
            return FallbackLimit::new(fixed);
        }
        let connections = config.primary.options.get_max_connections();
        let connections = connections.unwrap_or(DRIVERS_CONNECTIONS);
        let start = connections.div_ceil(SHARE) as usize;
        let most = (connections - connections.div_ceil(LEFT_FREE)) as usize;
        let adaptive = Some(AdaptiveLimit::new(start, most));
        FallbackLimit { adaptive, ..FallbackLimit::new(start) }
    }

    fn new(most: usize) -> Self {
        let most = most.min(Semaphore::MAX_PERMITS);
        let free = Arc::new(Semaphore::new(most));
        let places = Places { most: AtomicUsize::new(most), free, owed: AtomicUsize::new(0) };
        FallbackLimit { places: Arc::new(places), adaptive: None }
    }

    /// No limit.
    pub(crate) fn none() -> Self {
        FallbackLimit::new(Semaphore::MAX_PERMITS)
    }

    /// How many such reads may run now; `None` if there is no limit.
    pub(crate) fn most(&self) -> Option<usize> {
        Some(self.places.most()).filter(|most| *most < Semaphore::MAX_PERMITS)
    }

    /// Whether a place is free now.
    pub(crate) fn has_room(&self) -> bool {
        self.places.free.available_permits() > 0
    }

    /// Takes a place if one is free.
    pub(crate) fn try_enter(&self) -> Option<FallbackPermit> {
        let permit = Arc::clone(&self.places.free).try_acquire_owned().ok();
        self.note_fallback();
        permit.map(|permit| self.places.permit(permit))
    }

    /// Takes a place, and waits for one until `end`, which is `waited` after the wait began.
    ///
    /// # Errors
    /// [`Error::Shed`].
    pub(crate) async fn enter(
        &self,
        end: Instant,
        waited: Duration,
    ) -> Result<FallbackPermit, DbErr> {
        let entering = Arc::clone(&self.places.free).acquire_owned();
        match tokio::time::timeout_at(end, entering).await {
            Ok(Ok(permit)) => {
                self.note_fallback();
                Ok(self.places.permit(permit))
            }
            // The semaphore is never closed.
            Ok(Err(_)) | Err(_) => Err(Error::Shed { limit: self.places.most(), waited }.into()),
        }
    }

    /// Records that a write on the primary `took` so long and ended at `now`.
    pub(crate) fn write_ended(&self, took: Duration, now: Moment) {
        let Some(adaptive) = &self.adaptive else { return };
        let running = self.places.most().saturating_sub(self.places.free.available_permits());
        if let Some(limit) = adaptive.write_ended(took, running, now) {
            self.places.resize(limit);
            tracing::debug!(target: "sealane::route", limit, "fallback limit");
        }
    }

    fn note_fallback(&self) {
        if let Some(adaptive) = &self.adaptive {
            adaptive.fell_back(!self.has_room());
        }
    }
}

impl Places {
    fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }

    fn permit(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> FallbackPermit {
        FallbackPermit { permit: Some(permit), places: Arc::clone(self) }
    }

    /// Called by one at a time.
    fn resize(&self, most: usize) {
        let before = self.most.swap(most, Ordering::Relaxed);
        for _ in before..most {
            if !self.is_owed() {
                self.free.add_permits(1);
            }
        }
        let fewer = before.saturating_sub(most);
        let taken = self.free.forget_permits(fewer);
        self.owed.fetch_add(fewer - taken, Ordering::Relaxed);
    }

    /// Takes back one place that is owed.
    fn is_owed(&self) -> bool {
        let less = |owed: usize| owed.checked_sub(1);
        self.owed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }
}

impl Drop for FallbackPermit {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take_if(|_| self.places.is_owed()) {
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many places can be taken.
    fn room(limit: &FallbackLimit) -> (usize, Vec<FallbackPermit>) {
        let taken: Vec<_> = std::iter::from_fn(|| limit.try_enter()).collect();
        (taken.len(), taken)
    }

    #[test]
    fn a_limit_that_falls_takes_places_back_from_reads_that_have_them() {
        let limit = FallbackLimit::new(4);
        let (four, mut taken) = room(&limit);
        limit.places.resize(2);
        assert_eq!((four, limit.has_room()), (4, false));
        taken.truncate(2);
        assert!(!limit.has_room(), "both places were owed");
        taken.pop();
        assert_eq!(room(&limit).0, 1);
        drop(taken);
        assert_eq!(room(&limit).0, 2);
    }

    #[test]
    fn a_limit_that_rises_forgives_what_is_owed_first() {
        let limit = FallbackLimit::new(4);
        let (_, taken) = room(&limit);
        limit.places.resize(1);
        limit.places.resize(5);
        assert_eq!(room(&limit).0, 1);
        drop(taken);
        assert_eq!(room(&limit).0, 5);
    }

    #[test]
    fn a_number_fixes_the_limit_and_its_absence_lets_it_adapt() {
        let config = Config::new("postgres://localhost/a");
        assert!(FallbackLimit::of(&config).adaptive.is_some());
        let fixed = FallbackLimit::of(&config.clone().fallback_limit(3));
        assert!(fixed.adaptive.is_none());
        assert_eq!(fixed.most(), Some(3));
        let none = FallbackLimit::of(&config.clone().fallback_limit(usize::MAX));
        assert_eq!(none.most(), None);
        let intended = FallbackLimit::of(&config.primary_reads(PrimaryReads::Intended));
        assert_eq!(intended.most(), Some(0));
    }
}
