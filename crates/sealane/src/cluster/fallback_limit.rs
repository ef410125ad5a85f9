//! Keeps an outage of replicas from becoming an outage of the primary.
//!
//! When replicas vanish, their reads fall back to the primary, which has to take all writes as
//! well. So only as many of them run there at a time as [`Config::fallback_limit`] allows; the
//! others stand in line, first come first served, for as long as a statement waits for a primary.
//! Then they fail ([`Error::Shed`]): a queue that grows without limit serves nobody.
//!
//! Reads that are *meant* to run on the primary pass: those that ask for it, those of a session
//! whose writes are not replayed yet, and those that no replica could ever serve.
//!
//! [`Config::fallback_limit`]: crate::Config::fallback_limit

use std::{sync::Arc, time::Duration};

use sea_orm::DbErr;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::{Config, Error};

/// The part of the primary's connections that may serve fallback reads, unless configured.
const SHARE: u32 = 2;
/// The driver's size of a pool, unless configured.
const DRIVERS_CONNECTIONS: u32 = 10;

/// How many reads may run on the primary because no replica serves them.
#[derive(Debug, Clone)]
pub(crate) struct FallbackLimit {
    most: usize,
    free: Arc<Semaphore>,
}

/// The place of one such read; given back when dropped.
pub(crate) type FallbackPermit = OwnedSemaphorePermit;

impl FallbackLimit {
    pub(crate) fn of(config: &Config) -> Self {
        let connections = config.primary.options.get_max_connections();
        let share = connections.unwrap_or(DRIVERS_CONNECTIONS).div_ceil(SHARE) as usize;
        FallbackLimit::new(config.fallback_limit.unwrap_or(share))
    }

    fn new(most: usize) -> Self {
        let most = most.min(Semaphore::MAX_PERMITS);
        FallbackLimit { most, free: Arc::new(Semaphore::new(most)) }
    }

    /// No limit.
    pub(crate) fn none() -> Self {
        FallbackLimit::new(Semaphore::MAX_PERMITS)
    }

    /// Whether a place is free now.
    pub(crate) fn has_room(&self) -> bool {
        self.free.available_permits() > 0
    }

    /// Takes a place if one is free.
    pub(crate) fn try_enter(&self) -> Option<FallbackPermit> {
        Arc::clone(&self.free).try_acquire_owned().ok()
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
        match tokio::time::timeout_at(end, Arc::clone(&self.free).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            // The semaphore is never closed.
            Ok(Err(_)) | Err(_) => Err(Error::Shed { limit: self.most, waited }.into()),
        }
    }
}
