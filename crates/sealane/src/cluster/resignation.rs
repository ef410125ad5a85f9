//! Failovers that tokens have reported and probes have not seen; see `execute/failover`.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use sealane_core::Moment;

/// The record of vain waits for failovers that this process has not seen.
#[derive(Debug, Default)]
pub(crate) struct Resignation {
    /// When a statement last waited in vain, in milliseconds after the origin of moments; 0 if none
    /// did. For a while after this, other statements do not wait.
    at_ms: AtomicU64,
    /// Timelines that tokens have reported while a primary on a lower timeline answers.
    unseen: Mutex<Vec<Unseen>>,
}

/// A timeline that no probe here has seen.
#[derive(Debug)]
struct Unseen {
    theirs: u32,
    /// The primary's timeline here when the first token arrived.
    ours: u32,
    since: Moment,
}

impl Resignation {
    const LASTS: Duration = Duration::from_secs(10);
    /// Probes see a failover within seconds. A failover that is not seen after this time did not
    /// happen to this primary: the database was restored to an earlier state.
    const GONE_AFTER: Duration = Duration::from_secs(60);
    /// How many timelines are kept. More do not occur in practice, because only signed tokens
    /// count.
    const UNSEEN_KEPT: usize = 16;

    /// Records a token from timeline `theirs`, which is newer than the primary's timeline `ours`.
    /// Returns whether that timeline is gone: tokens have reported it for a minute, and the primary
    /// is still on `ours`.
    pub(crate) fn is_gone(&self, theirs: u32, ours: u32, now: Moment) -> bool {
        let mut unseen = self.unseen.lock().unwrap_or_else(PoisonError::into_inner);
        unseen.retain(|it| it.ours == ours);
        if let Some(known) = unseen.iter().find(|it| it.theirs == theirs) {
            return now.since(known.since) >= Self::GONE_AFTER;
        }
        if unseen.len() == Self::UNSEEN_KEPT {
            unseen.remove(0);
        }
        unseen.push(Unseen { theirs, ours, since: now });
        false
    }

    pub(crate) fn note(&self, now: Moment) {
        let ms = u64::try_from(now.since(Moment::ZERO).as_millis()).unwrap_or(u64::MAX);
        self.at_ms.store(ms, Ordering::Relaxed);
    }

    pub(crate) fn holds(&self, now: Moment) -> bool {
        match self.at_ms.load(Ordering::Relaxed) {
            0 => false,
            ms => now.since(Moment::from_origin(Duration::from_millis(ms))) < Self::LASTS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeline_that_is_not_seen_for_a_minute_is_gone() {
        let resignation = Resignation::default();
        let at = |seconds| Moment::from_origin(Duration::from_secs(seconds));
        assert!(!resignation.is_gone(5, 3, at(0)));
        assert!(!resignation.is_gone(5, 3, at(59)));
        assert!(!resignation.is_gone(4, 3, at(61)), "another one");
        assert!(resignation.is_gone(5, 3, at(61)));
        assert!(!resignation.is_gone(5, 4, at(62)), "the primary has moved on meanwhile");
    }

    #[test]
    fn a_resignation_holds_for_a_while() {
        let resignation = Resignation::default();
        let at = |seconds| Moment::from_origin(Duration::from_secs(seconds));
        assert!(!resignation.holds(at(3)));
        resignation.note(at(3));
        assert!(resignation.holds(at(3)) && resignation.holds(at(12)));
        assert!(!resignation.holds(at(13)));
    }
}
