//! The limit on the time of a read.
//!
//! It counts from the read's beginning, over all waits and attempts. An attempt on a replica gets
//! half of what is left, so that time remains for another one; but never less than its statement
//! usually takes. The limit is for reads only: a write that is cut off may have been executed.

use std::{future::pending, time::Duration};

use sea_orm::DbErr;
use tokio::time::{Instant, sleep_until};

use crate::Error;

/// When a read ends at the latest.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Deadline(Option<Limit>);

#[derive(Debug, Clone, Copy)]
struct Limit {
    after: Duration,
    at: Instant,
}

impl Deadline {
    /// The end of a read that begins now; `None` for no limit.
    pub(super) fn of(limit: Option<Duration>) -> Self {
        // A limit beyond what the clock can hold is none.
        let at = |after| Instant::now().checked_add(after).map(|at| Limit { after, at });
        Deadline(limit.and_then(at))
    }

    /// This moment, or the deadline if it is earlier.
    pub(super) fn before(self, moment: Instant) -> Instant {
        self.0.map_or(moment, |limit| limit.at.min(moment))
    }

    /// The error of the read, if its time is over.
    pub(super) fn passed(self) -> Option<DbErr> {
        let limit = self.0.filter(|limit| Instant::now() >= limit.at)?;
        Some(Error::ReadTimeout { after: limit.after }.into())
    }

    /// Completes with the error of the read when its time is over.
    pub(super) async fn passes(self) -> DbErr {
        let Some(Limit { after, at }) = self.0 else { return pending().await };
        sleep_until(at).await;
        Error::ReadTimeout { after }.into()
    }

    /// Waits for `running`, until the time is over at most.
    ///
    /// # Errors
    /// [`Error::ReadTimeout`], or the error of `running`.
    pub(super) async fn bound<T>(
        self,
        running: impl Future<Output = Result<T, DbErr>>,
    ) -> Result<T, DbErr> {
        tokio::select! {
            biased;
            result = running => result,
            error = self.passes() => Err(error),
        }
    }

    /// What one attempt that may usually take up to `usual` gets of the time that is left.
    pub(super) fn share(self, usual: Duration) -> Option<Duration> {
        let left = self.0?.at.saturating_duration_since(Instant::now());
        Some((left / 2).max(usual))
    }

    /// The same end, later by the time since `idle`.
    pub(super) fn skip_since(self, idle: Instant) -> Self {
        Deadline(self.0.map(|limit| Limit { at: limit.at + idle.elapsed(), ..limit }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_takes_longer_than_the_limit_fails_and_all_else_does_not() {
        let long = async || {
            tokio::time::sleep(Duration::from_secs(2)).await;
            Ok::<_, DbErr>(7)
        };
        assert_eq!(Deadline::of(None).bound(long()).await.unwrap(), 7);
        assert_eq!(Deadline::of(Some(Duration::MAX)).bound(long()).await.unwrap(), 7);
        let short = Deadline::of(Some(Duration::from_secs(1)));
        assert_eq!(short.share(Duration::ZERO), Some(Duration::from_millis(500)));
        assert_eq!(short.share(Duration::from_millis(700)), Some(Duration::from_millis(700)));
        let error = short.bound(long()).await.unwrap_err();
        assert!(error.to_string().contains("1s"), "{error}");
        assert_eq!(short.share(Duration::ZERO), Some(Duration::ZERO));
    }
}
