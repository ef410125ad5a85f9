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

/// The newest write, and that of each table, if tables are told apart.
#[derive(Debug)]
pub(super) struct Writes {
    newest: AtomicU64,
    tables: Option<Box<TableStamps>>,
}

impl Writes {
    pub(super) fn of(tracking: WriteTracking) -> Self {
        let tables = match tracking {
            WriteTracking::Tables => Some(Box::default()),
            WriteTracking::Whole => None,
        };
        Writes { newest: AtomicU64::new(0), tables }
    }

    pub(super) fn tells_tables(&self) -> bool {
        self.tables.is_some()
    }

    /// Tells tables apart by `catalog` from now on.
    pub(super) fn tell_by(&self, catalog: u64) {
        if let Some(tables) = &self.tables {
            tables.tell_by(catalog, &self.newest);
        }
    }

    pub(super) fn note(&self, stamp: WriteStamp, written: &Footprint) {
        if let Some(tables) = &self.tables {
            tables.note(stamp, written);
        }
        // Behind its tables, so that whoever finds it finds them.
        self.newest.fetch_max(stamp.number(), Ordering::SeqCst);
    }

    /// The newest that a read of these tables, which `catalog` told, has to see.
    pub(super) fn newest(&self, read: &Footprint, catalog: u64) -> u64 {
        match &self.tables {
            Some(tables) if !read.is_whole() => {
                tables.tell_by(catalog, &self.newest);
                tables.newest(read)
            }
            _ => self.newest.load(Ordering::Acquire),
        }
    }
}

/// The stamp of the newest write of each slot of a [`Footprint`], and of those
/// that may have been of any.
#[derive(Debug)]
struct TableStamps {
    slots: [AtomicU64; SLOTS],
    anywhere: AtomicU64,
    /// By which state of the catalog tables were told apart.
    catalog: AtomicU64,
}

impl TableStamps {
    fn note(&self, stamp: WriteStamp, written: &Footprint) {
        if written.is_whole() {
            self.anywhere.fetch_max(stamp.number(), Ordering::AcqRel);
        }
        for slot in written.slots() {
            self.slots[slot].fetch_max(stamp.number(), Ordering::AcqRel);
        }
    }

    /// Tells tables apart by `catalog` from now on. Under another one writes had other tables:
    /// those up to now, `written`, may have been any.
    fn tell_by(&self, catalog: u64, written: &AtomicU64) {
        if self.catalog.load(Ordering::Acquire) != catalog {
            self.anywhere.fetch_max(written.load(Ordering::SeqCst), Ordering::AcqRel);
            self.catalog.store(catalog, Ordering::Release);
        }
    }

    /// The newest write that a read of these tables has to see.
    fn newest(&self, read: &Footprint) -> u64 {
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

    fn nowhere() -> Topology {
        Topology::new(vec![Endpoint::new("primary", "here")])
    }

    /// A replica that has replayed nothing of what was written.
    fn behind() -> Topology {
        let endpoints = ["primary", "replica"].map(|name| Endpoint::new(name, name)).to_vec();
        let mut reducer = TopologyReducer::new(Topology::new(endpoints));
        for (index, role) in [Role::Primary, Role::Replica].into_iter().enumerate() {
            let position = Position::Wal { system: 7, timeline: 1, lsn: Lsn::from_bytes(100) };
            let report = Report::new(role, Incarnation::new(format!("run of {index}")));
            reducer.apply(&Observation {
                endpoint: EndpointId::from_index(index).unwrap(),
                started: Moment::ZERO,
                finished: Moment::ZERO,
                stamp: WriteStamp::NONE,
                outcome: Outcome::Answered(Report { position: Some(position), ..report }),
            });
        }
        reducer.topology().clone()
    }

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
        session.merge(&other.view(), &nowhere(), &clock);
        assert_eq!(session.view_of(&tables(["cargo"]), 0).written().number(), 1);
    }

    /// A shared session, and one of a user beside it.
    fn two(waits: bool) -> (WriteClock, std::sync::Arc<Session>, Session) {
        let shared = Session::shared(WriteTracking::Tables).waiting_for_others(waits);
        let shared = std::sync::Arc::new(shared);
        let own = Session::own().beside(&shared);
        (WriteClock::default(), shared, own)
    }

    #[test]
    fn a_shared_session_waits_for_the_writes_of_others_by_their_tables() {
        let (clock, shared, own) = two(true);
        assert!(own.tells_tables());
        own.wrote(&tables(["boat"]), 0, &clock);
        let needed = |name| shared.view_of(&tables([name]), 0).written().number();
        assert_eq!((needed("boat"), needed("crew")), (1, 0));
        assert_eq!(shared.view().written(), WriteStamp::NONE, "it has written nothing itself");
        assert_eq!(shared.fork().view().written().number(), 1, "a fork waits as well");
        own.wrote_anything(&clock);
        assert_eq!((needed("boat"), needed("crew")), (2, 2));
    }

    #[test]
    fn a_session_waits_for_all_its_own_writes_and_for_no_others() {
        let (clock, shared, own) = two(true);
        let other = Session::own().beside(&shared);
        own.wrote(&tables(["boat"]), 0, &clock);
        shared.wrote(&tables(["boat"]), 0, &clock);
        assert_eq!(own.view_of(&tables(["crew"]), 0).written().number(), 1);
        assert_eq!(other.view().written(), WriteStamp::NONE);
    }

    #[test]
    fn a_session_beside_one_that_is_beside_the_shared_one_tells_it_too() {
        let (clock, shared, own) = two(true);
        let own = std::sync::Arc::new(own);
        own.fork().beside(&own).wrote(&tables(["boat"]), 0, &clock);
        assert_eq!(shared.view_of(&Footprint::WHOLE, 0).written().number(), 1);
        assert_eq!(own.view().written(), WriteStamp::NONE, "a fork goes its own way");
    }

    #[test]
    fn what_others_wrote_under_another_catalog_may_have_been_any_table() {
        let (clock, shared, own) = two(true);
        own.wrote(&tables(["boat"]), 0, &clock);
        let needed = |catalog| shared.view_of(&tables(["cargo"]), catalog).written().number();
        assert_eq!((needed(0), needed(1)), (0, 1));
    }

    #[test]
    fn one_that_does_not_wait_for_others_is_not_told() {
        let (clock, shared, own) = two(false);
        assert!(!own.tells_tables());
        own.wrote_anything(&clock);
        assert_eq!(shared.view_of(&Footprint::WHOLE, 0).written(), WriteStamp::NONE);
    }

    #[test]
    fn what_is_made_up_to_be_on_the_safe_side_is_nobody_elses_write() {
        let (clock, shared, _) = two(true);
        let _anew = Session::anew(&clock).beside(&shared);
        assert_eq!(shared.view_of(&Footprint::WHOLE, 0).written(), WriteStamp::NONE);
    }

    #[test]
    fn a_stray_is_told_once_and_only_where_somebody_asks() {
        for waits in [true, false] {
            let (clock, shared, own) = two(waits);
            let topology = behind();
            let stray = |name| shared.is_stray(&tables([name]), 0, &topology);
            own.wrote(&tables(["boat"]), 0, &clock);
            assert!(!stray("boat"), "nobody asks");
            own.report_strays();
            assert!(shared.reports_strays());
            own.wrote(&tables(["boat"]), 0, &clock);
            shared.wrote(&tables(["crew"]), 0, &clock);
            assert!(!stray("crew"), "its own write");
            assert!(stray("boat"), "waits: {waits}");
            assert!(!stray("boat") && !shared.reports_strays(), "once");
        }
    }
}
