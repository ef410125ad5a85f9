//! What became of reads that did not simply run on a replica.

use std::sync::atomic::{AtomicU64, Ordering};

use sea_orm::DbErr;
use sealane_monitor::{DetourSeries, TopologyStore};
use serde::Serialize;

use crate::Error;

/// One count.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The count of one kind of detour, which is published, too.
#[derive(Debug)]
pub(crate) struct Detour {
    count: Count,
    series: DetourSeries,
}

impl Detour {
    fn of(store: &TopologyStore, detour: &'static str) -> Self {
        Detour { count: Count::default(), series: store.detour_series(detour) }
    }

    pub(crate) fn add(&self) {
        self.count.add();
        self.series.add();
    }

    fn get(&self) -> u64 {
        self.count.get()
    }
}

/// The counts of one cluster since its start.
#[derive(Debug)]
pub(crate) struct Counts {
    pub(crate) asked: Detour,
    pub(crate) pinned: Detour,
    pub(crate) fell_back: Detour,
    pub(crate) shared: Detour,
    pub(crate) stale: Detour,
    pub(crate) shed: Detour,
    pub(crate) retried: Detour,
    pub(crate) overdue: Detour,
    pub(crate) timed_out: Detour,
    pub(crate) hedged: Detour,
    pub(crate) hedges_won: Detour,
    /// Those of the pinned reads that came through the shared handle.
    pub(crate) pinned_shared: Count,
}

/// What became of proved reads that did not simply run on a replica, since the start. A read may
/// count more than once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ReadCounts {
    /// Ran on the primary because they asked for it, or because no replica could ever serve them.
    pub asked_for_primary: u64,
    /// Ran on the primary because no replica had replayed what their session wrote or saw.
    pub pinned_to_primary: u64,
    /// Of these, came through the handle that everybody shares, and not through a
    /// [session](crate::RoutedConnection::session).
    pub pinned_by_shared_handle: u64,
    /// Ran on the primary because no replica was usable or fresh enough.
    pub fell_back_to_primary: u64,
    /// Ran on the primary because it was its turn
    /// ([`PrimaryReads::Always`](crate::PrimaryReads::Always)).
    pub shared_with_primary: u64,
    /// Ran on a replica that was not fresh enough for them, because nothing else could serve them
    /// and they allowed it ([`FallbackPolicy::Stale`](crate::FallbackPolicy::Stale)).
    pub served_stale: u64,
    /// Failed because [`Config::fallback_limit`](crate::Config::fallback_limit) reads were running
    /// on the primary already, or because the primary is only for
    /// [intended](crate::PrimaryReads::Intended) reads.
    pub shed: u64,
    /// Ran again elsewhere after they had failed on one endpoint.
    pub retried: u64,
    /// Left a replica because they took much longer than their statements usually do.
    pub overdue: u64,
    /// Failed after their time limit.
    pub timed_out: u64,
    /// Were sent to a second replica because the first was slow.
    pub hedged: u64,
    /// Of these, were answered by the second replica first.
    pub hedges_won: u64,
}

impl Counts {
    /// Counts at zero, published by `store`.
    pub(crate) fn of(store: &TopologyStore) -> Self {
        let detour = |name| Detour::of(store, name);
        Counts {
            asked: detour("asked_for_primary"),
            pinned: detour("pinned_to_primary"),
            fell_back: detour("fell_back_to_primary"),
            shared: detour("shared_with_primary"),
            stale: detour("served_stale"),
            shed: detour("shed"),
            retried: detour("retried"),
            overdue: detour("overdue"),
            timed_out: detour("timed_out"),
            hedged: detour("hedged"),
            hedges_won: detour("hedges_won"),
            pinned_shared: Count::default(),
        }
    }

    /// Counts a read that failed with `error`.
    pub(crate) fn failed(&self, error: &DbErr) {
        match Error::of(error) {
            Some(Error::Shed { .. }) => self.shed.add(),
            Some(Error::ReadTimeout { .. }) => self.timed_out.add(),
            _ => {}
        }
    }

    pub(crate) fn read(&self) -> ReadCounts {
        let Counts {
            asked,
            pinned,
            fell_back,
            shared,
            stale,
            shed,
            retried,
            overdue,
            timed_out,
            hedged,
            hedges_won,
            pinned_shared,
        } = self;
        ReadCounts {
            asked_for_primary: asked.get(),
            pinned_to_primary: pinned.get(),
            pinned_by_shared_handle: pinned_shared.get(),
            fell_back_to_primary: fell_back.get(),
            shared_with_primary: shared.get(),
            served_stale: stale.get(),
            shed: shed.get(),
            retried: retried.get(),
            overdue: overdue.get(),
            timed_out: timed_out.get(),
            hedged: hedged.get(),
            hedges_won: hedges_won.get(),
        }
    }
}
