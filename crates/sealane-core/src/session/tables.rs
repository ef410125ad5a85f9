//! The newest write to each table.
//!
//! Each of 256 slots of table names (`TableSet`) has its own stamp. This needs no lock and no
//! growth, and a collision only costs a read on the primary. The tables of a read come from its
//! cached classification. The tables of a write come from its tokens (plain texts only), and the
//! catalog widens them: tables connected by inheritance are one family.
//!
//! Any doubt means all tables:
//! - While a statement or transaction runs that may change the schema, every read counts as reading
//!   all tables and every write as writing all tables.
//! - If the catalog changes between the beginning and the end of a write, the write counts for all
//!   tables.
//! - Every write before a schema change counts for all tables, because its tables were determined
//!   by the old schema.
//! - A schema change whose end was not observed counts as running for one more minute, because it
//!   may be waiting for a lock on the server.
//!
//! Creating a temporary table is not a schema change, because nobody else sees the table. But a
//! transaction that creates one counts as writing all tables: the default of a column may call a
//! function that writes elsewhere.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::{TableSet, WriteStamp, statement::SLOTS};

/// Which writes the reads of a shared handle wait for. A session of one user always waits for all
/// of its own writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum WriteTracking {
    /// Reads wait for writes to the tables that they read. A statement whose tables are unknown
    /// counts as reading or writing all tables. The knowledge comes from the catalog: sealane
    /// notices a schema change by another program within a minute.
    #[default]
    Tables,
    /// Reads wait for all writes through the handle. So while any user writes, all reads go to the
    /// primary.
    Whole,
}

/// The newest write, and the newest write to each table if tables are tracked.
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

    /// Determines tables by generation `catalog` from now on.
    pub(super) fn tell_by(&self, catalog: u64) {
        if let Some(tables) = &self.tables {
            tables.tell_by(catalog, &self.newest);
        }
    }

    pub(super) fn note(&self, stamp: WriteStamp, written: &TableSet) {
        if let Some(tables) = &self.tables {
            tables.note(stamp, written);
        }
        // Stored after the tables, so that a reader who finds this stamp also finds the tables'
        // stamps.
        self.newest.fetch_max(stamp.number(), Ordering::SeqCst);
    }

    /// The newest write that a read of the tables `read` must see. `catalog` is the generation that
    /// determined them.
    pub(super) fn newest(&self, read: &TableSet, catalog: u64) -> u64 {
        match &self.tables {
            Some(tables) if !read.is_whole() => {
                tables.tell_by(catalog, &self.newest);
                tables.newest(read)
            }
            _ => self.newest.load(Ordering::Acquire),
        }
    }
}

/// The stamp of the newest write to each slot of a [`TableSet`], and of the newest write to unknown
/// tables.
#[derive(Debug)]
struct TableStamps {
    slots: [AtomicU64; SLOTS],
    anywhere: AtomicU64,
    /// The catalog's generation that determined the tables.
    catalog: AtomicU64,
}

impl TableStamps {
    fn note(&self, stamp: WriteStamp, written: &TableSet) {
        if written.is_whole() {
            self.anywhere.fetch_max(stamp.number(), Ordering::AcqRel);
        }
        for slot in written.slots() {
            self.slots[slot].fetch_max(stamp.number(), Ordering::AcqRel);
        }
    }

    /// Switches to the catalog's generation `catalog`. Tables of earlier writes came from another
    /// generation and may be wrong. So all writes up to now (`written`) count as writes to any
    /// table.
    fn tell_by(&self, catalog: u64, written: &AtomicU64) {
        if self.catalog.load(Ordering::Acquire) != catalog {
            self.anywhere.fetch_max(written.load(Ordering::SeqCst), Ordering::AcqRel);
            self.catalog.store(catalog, Ordering::Release);
        }
    }

    /// The newest write that a read of these tables must see.
    fn newest(&self, read: &TableSet) -> u64 {
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

    /// A topology with a replica that has replayed none of the writes.
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

    fn tables<const N: usize>(names: [&str; N]) -> TableSet {
        names.into_iter().collect()
    }

    #[test]
    fn a_read_waits_for_writes_of_its_own_tables() {
        let (clock, session) = (WriteClock::default(), Session::shared(WriteTracking::Tables));
        session.wrote(&tables(["boat", "crew"]), 0, &clock);
        session.wrote(&tables(["harbour"]), 0, &clock);
        let needed = |read: TableSet| session.view_of(&read, 0).written().number();
        assert_eq!(needed(tables(["boat"])), 1);
        assert_eq!(needed(tables(["crew", "harbour"])), 2);
        assert_eq!(needed(tables(["cargo"])), 0);
        assert_eq!(needed(TableSet::WHOLE), 2);
    }

    #[test]
    fn a_write_to_unknown_tables_counts_for_each_table() {
        let (clock, session) = (WriteClock::default(), Session::shared(WriteTracking::Tables));
        session.wrote_anything(&clock);
        assert_eq!(session.view_of(&tables(["cargo"]), 0).written().number(), 1);
    }

    #[test]
    fn a_write_under_another_catalog_counts_for_each_table() {
        let (clock, session) = (WriteClock::default(), Session::shared(WriteTracking::Tables));
        session.wrote(&tables(["boat"]), 0, &clock);
        session.wrote(&tables(["crew"]), 0, &clock);
        let needed = |catalog| session.view_of(&tables(["cargo"]), catalog).written().number();
        assert_eq!((needed(0), needed(1)), (0, 2));
        session.wrote(&tables(["crew"]), 1, &clock);
        assert_eq!(needed(1), 2, "but later writes still count by table");
    }

    #[test]
    fn own_sessions_and_whole_tracking_ignore_tables() {
        for session in [Session::own(), Session::shared(WriteTracking::Whole)] {
            let clock = WriteClock::default();
            session.wrote(&tables(["boat"]), 0, &clock);
            assert_eq!(session.view_of(&tables(["cargo"]), 0).written().number(), 1);
        }
    }

    #[test]
    fn merged_writes_count_for_all_tables() {
        let (clock, session) = (WriteClock::default(), Session::shared(WriteTracking::Tables));
        let other = Session::own();
        other.wrote(&tables(["boat"]), 0, &clock);
        session.merge(&other.view(), &nowhere(), &clock);
        assert_eq!(session.view_of(&tables(["cargo"]), 0).written().number(), 1);
    }

    /// A clock, a shared session, and a user's session beside it.
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
        assert_eq!(
            shared.view().written(),
            WriteStamp::NONE,
            "the shared session itself has written nothing"
        );
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
    fn a_session_beside_an_own_session_reports_to_the_shared_one_too() {
        let (clock, shared, own) = two(true);
        let own = std::sync::Arc::new(own);
        own.fork().beside(&own).wrote(&tables(["boat"]), 0, &clock);
        assert_eq!(shared.view_of(&TableSet::WHOLE, 0).written().number(), 1);
        assert_eq!(own.view().written(), WriteStamp::NONE, "a fork goes its own way");
    }

    #[test]
    fn writes_of_others_under_another_catalog_count_for_each_table() {
        let (clock, shared, own) = two(true);
        own.wrote(&tables(["boat"]), 0, &clock);
        let needed = |catalog| shared.view_of(&tables(["cargo"]), catalog).written().number();
        assert_eq!((needed(0), needed(1)), (0, 1));
    }

    #[test]
    fn a_shared_session_that_does_not_wait_for_others_hears_of_no_writes() {
        let (clock, shared, own) = two(false);
        assert!(!own.tells_tables());
        own.wrote_anything(&clock);
        assert_eq!(shared.view_of(&TableSet::WHOLE, 0).written(), WriteStamp::NONE);
    }

    #[test]
    fn the_precaution_of_a_session_that_begins_anew_is_no_write_for_others() {
        let (clock, shared, _) = two(true);
        let _anew = Session::anew(&clock).beside(&shared);
        assert_eq!(shared.view_of(&TableSet::WHOLE, 0).written(), WriteStamp::NONE);
    }

    #[test]
    fn a_stray_is_reported_once_and_only_if_requested() {
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
            assert!(!stray("crew"), "the shared session's own write");
            assert!(stray("boat"), "waits: {waits}");
            assert!(!stray("boat") && !shared.reports_strays(), "once");
        }
    }

    #[test]
    fn a_read_by_an_older_catalog_than_that_of_a_write_waits_for_it_whatever_its_tables() {
        let (clock, shared, own) = two(true);
        let needed = || shared.view_of(&tables(["cargo"]), 0).written().number();
        shared.wrote(&tables(["boat"]), 1, &clock);
        assert_eq!(needed(), 1);
        own.wrote(&tables(["boat"]), 2, &clock);
        assert_eq!(needed(), 2);
    }
}
