//! The newest write of each table.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::{Footprint, WriteStamp, footprint::SLOTS};

/// What reads through a handle that many users share wait for. A session of its
/// own always waits for all its writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum WriteTracking {
    /// For writes to the tables that they read. Where it is not known what a
    /// statement reads or writes, it is taken to be everything. What is known comes from
    /// the catalog: a change of the schema by another program is noticed within a minute.
    #[default]
    Tables,
    /// For all writes through the handle, so that while somebody writes all reads are
    /// on the primary.
    Whole,
}

/// The stamp of the newest write of each slot of a [`Footprint`], and of those
/// that may have been of any.
#[derive(Debug)]
pub(super) struct TableStamps {
    slots: [AtomicU64; SLOTS],
    anywhere: AtomicU64,
    /// By which state of the catalog tables were told apart.
    catalog: AtomicU64,
}

impl TableStamps {
    pub(super) fn note(&self, stamp: WriteStamp, written: &Footprint) {
        if written.is_whole() {
            self.anywhere.fetch_max(stamp.number(), Ordering::AcqRel);
        }
        for slot in written.slots() {
            self.slots[slot].fetch_max(stamp.number(), Ordering::AcqRel);
        }
    }

    /// Tells tables apart by `catalog` from now on. Under another one writes had other tables:
    /// those up to now, `written`, may have been any.
    pub(super) fn tell_by(&self, catalog: u64, written: &AtomicU64) {
        if self.catalog.load(Ordering::Acquire) != catalog {
            self.anywhere.fetch_max(written.load(Ordering::SeqCst), Ordering::AcqRel);
            self.catalog.store(catalog, Ordering::Release);
        }
    }

    /// The newest write that a read of these tables has to see.
    pub(super) fn newest(&self, read: &Footprint) -> u64 {
        let slots = read.slots().map(|slot| self.slots[slot].load(Ordering::Acquire));
        slots.fold(self.anywhere.load(Ordering::Acquire), u64::max)
    }
}

impl Default for TableStamps {
    fn default() -> Self {
        TableStamps {
            slots: [const { AtomicU64::new(0) }; SLOTS],
            anywhere: AtomicU64::new(0),
            catalog: AtomicU64::new(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::*;

    fn tables<const N: usize>(names: [&str; N]) -> Footprint {
        names.into_iter().collect()
    }

    #[test]
    fn a_read_waits_for_writes_of_its_own_tables() {
        let (clock, session) = (WriteClock::default(), Session::shared(WriteTracking::Tables));
        session.wrote(&tables(["boat", "crew"]), 0, &clock);
        session.wrote(&tables(["harbour"]), 0, &clock);
        let needed = |read: Footprint| session.view_of(&read, 0).written().number();
        assert_eq!(needed(tables(["boat"])), 1);
        assert_eq!(needed(tables(["crew", "harbour"])), 2);
        assert_eq!(needed(tables(["cargo"])), 0);
        assert_eq!(needed(Footprint::WHOLE), 2);
    }

    #[test]
    fn what_may_have_been_any_table_was_each_of_them() {
        let (clock, session) = (WriteClock::default(), Session::shared(WriteTracking::Tables));
        session.wrote_anything(&clock);
        assert_eq!(session.view_of(&tables(["cargo"]), 0).written().number(), 1);
    }

    #[test]
    fn what_was_written_under_another_catalog_may_have_been_any_table() {
        let (clock, session) = (WriteClock::default(), Session::shared(WriteTracking::Tables));
        session.wrote(&tables(["boat"]), 0, &clock);
        session.wrote(&tables(["crew"]), 0, &clock);
        let needed = |catalog| session.view_of(&tables(["cargo"]), catalog).written().number();
        assert_eq!((needed(0), needed(1)), (0, 2));
        session.wrote(&tables(["crew"]), 1, &clock);
        assert_eq!(needed(1), 2, "but not what was written since");
    }

    #[test]
    fn a_session_of_its_own_and_one_of_the_whole_do_not_ask_for_tables() {
        for session in [Session::own(), Session::shared(WriteTracking::Whole)] {
            let clock = WriteClock::default();
            session.wrote(&tables(["boat"]), 0, &clock);
            assert_eq!(session.view_of(&tables(["cargo"]), 0).written().number(), 1);
        }
    }

    #[test]
    fn what_was_merged_in_counts_for_all_tables() {
        let (clock, session) = (WriteClock::default(), Session::shared(WriteTracking::Tables));
        let other = Session::own();
        other.wrote(&tables(["boat"]), 0, &clock);
        session.merge(&other.view(), &clock);
        assert_eq!(session.view_of(&tables(["cargo"]), 0).written().number(), 1);
    }
}
