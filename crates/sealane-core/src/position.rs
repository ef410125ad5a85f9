//! How far an endpoint has got.
//!
//! # What a position must mean
//! A primary's position contains every write that the primary answered before it was asked for the
//! position. A replica's position contains only what new snapshots see. The probes guarantee this
//! in each engine's own way (`postgres`, `postgres/subscriber` and `mysql` in `sealane-monitor`).
//! No way to guarantee this is known for Aurora, so its readers have no position.

mod ancestry;
mod gtid_list;
mod gtid_set;
mod gtid_text;
mod intervals;
mod lsn;

use std::fmt;

pub(crate) use ancestry::leads;
pub use ancestry::{Ancestry, Source};
pub use gtid_list::GtidList;
pub use gtid_set::GtidSet;
pub use gtid_text::{MAX_GTID_TEXT_BYTES, ParseGtidError};
pub use lsn::{Lsn, ParseLsnError};
use serde::{Deserialize, Serialize};

/// How far an endpoint has got, in the terms of its engine.
///
/// Positions are partially ordered by [`covers`](Position::covers): it is possible that neither of
/// two positions covers the other. Cloning a position copies no set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Position {
    /// One file with several connections: a read that begins now sees every commit.
    Current,
    /// PostgreSQL: positions compare only within one system and one timeline.
    Wal {
        /// `system_identifier`, given to a cluster by `initdb`.
        system: u64,
        /// The history that the position belongs to; a promotion starts a new
        /// one.
        timeline: u32,
        /// The end of the last record replayed (on a replica) or inserted (on
        /// the primary).
        lsn: Lsn,
    },
    /// MySQL: `gtid_executed`, on primaries and replicas alike.
    ///
    /// A GTID set has no system and no timeline, but it names its sources. A transaction committed
    /// on a replica alone (an errant transaction) makes the replica's set a superset of the
    /// primary's. The replica still holds everything that the primary holds, and covering claims no
    /// more than that.
    GtidSet(GtidSet),
    /// MariaDB. For a primary: `gtid_binlog_pos`, joined with what the server replayed before it
    /// became the primary. For a replica: `gtid_slave_pos`.
    GtidList(GtidList),
    /// Aurora: the position of a writer, of which nothing more is known. It covers nothing, not
    /// even itself, and nothing covers it.
    Opaque,
}

/// How much is missing, in the unit of the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "unit", content = "count")]
#[non_exhaustive]
pub enum Distance {
    /// Bytes of the write-ahead log.
    Bytes(u64),
    /// Transactions.
    Transactions(u64),
}

impl fmt::Display for Distance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Distance::Bytes(count) => write!(f, "{count} bytes"),
            Distance::Transactions(count) => write!(f, "{count} transactions"),
        }
    }
}

impl Position {
    /// Whether data at this position contains all data at `other`.
    ///
    /// A position of another engine, system or timeline never covers, because it may hold other
    /// data under the same number.
    #[must_use]
    pub fn covers(&self, other: &Position) -> bool {
        match (self, other) {
            (Position::Current, Position::Current) => true,
            (
                Position::Wal { system, timeline, lsn },
                Position::Wal { system: other_system, timeline: other_timeline, lsn: other_lsn },
            ) => system == other_system && timeline == other_timeline && lsn >= other_lsn,
            (Position::GtidSet(ours), Position::GtidSet(theirs)) => ours.covers(theirs),
            (Position::GtidList(ours), Position::GtidList(theirs)) => ours.covers(theirs),
            (
                Position::Current
                | Position::Wal { .. }
                | Position::GtidSet(_)
                | Position::GtidList(_)
                | Position::Opaque,
                _,
            ) => false,
        }
    }

    /// Like [`covers`](Self::covers), except that a greater number of another MariaDB server proves
    /// nothing.
    pub(crate) fn has_same(&self, other: &Position) -> bool {
        match (self, other) {
            (Position::GtidList(ours), Position::GtidList(theirs)) => ours.has_same(theirs),
            _ => self.covers(other),
        }
    }

    /// How much of `other` is missing here; zero if nothing is missing. `None` for positions that
    /// do not compare, and for one file.
    #[must_use]
    pub fn behind(&self, other: &Position) -> Option<Distance> {
        match (self, other) {
            (
                Position::Wal { system, timeline, lsn },
                Position::Wal { system: other_system, timeline: other_timeline, lsn: other_lsn },
            ) if system == other_system && timeline == other_timeline => {
                Some(Distance::Bytes(other_lsn.bytes().saturating_sub(lsn.bytes())))
            }
            (Position::GtidSet(ours), Position::GtidSet(theirs)) => {
                Some(Distance::Transactions(ours.missing(theirs)))
            }
            (Position::GtidList(ours), Position::GtidList(theirs)) => {
                Some(Distance::Transactions(ours.missing(theirs)))
            }
            (
                Position::Current
                | Position::Wal { .. }
                | Position::GtidSet(_)
                | Position::GtidList(_)
                | Position::Opaque,
                _,
            ) => None,
        }
    }

    /// Whether this position and `ours` can belong to the same data, as far as the engine shows it.
    ///
    /// PostgreSQL: both have the same system. MySQL: both have some transaction in common. MariaDB:
    /// both have some domain in common. So a server that was created anew and has replayed nothing
    /// yet is related only to another empty server. An empty `ours` can belong to any server.
    #[must_use]
    pub fn is_related_to(&self, ours: &Position) -> bool {
        match (self, ours) {
            (Position::Current, Position::Current) | (Position::Opaque, Position::Opaque) => true,
            (Position::Wal { system, .. }, Position::Wal { system: ours, .. }) => system == ours,
            (Position::GtidSet(theirs), Position::GtidSet(ours)) => {
                ours.is_empty() || theirs.intersects(ours)
            }
            (Position::GtidList(theirs), Position::GtidList(ours)) => {
                ours.is_empty() || theirs.intersects(ours)
            }
            (
                Position::Current
                | Position::Wal { .. }
                | Position::GtidSet(_)
                | Position::GtidList(_)
                | Position::Opaque,
                _,
            ) => false,
        }
    }

    /// Whether one of the two positions tells nothing and the other one names transactions, as those of a
    /// member of a group and of its ordinary replica.
    pub(crate) fn is_told_beside(&self, ours: &Position) -> bool {
        let is_named = |it: &Position| matches!(it, Position::GtidSet(_) | Position::GtidList(_));
        (*self == Position::Opaque && is_named(ours))
            || (*ours == Position::Opaque && is_named(self))
    }

    /// A position that contains both, for merging what two sessions have seen. `None` for positions
    /// that do not compare.
    #[must_use]
    pub fn union(&self, other: &Position) -> Option<Position> {
        match (self, other) {
            (Position::GtidSet(a), Position::GtidSet(b)) => Some(Position::GtidSet(a.union(b))),
            (Position::GtidList(a), Position::GtidList(b)) => Some(Position::GtidList(a.union(b))),
            _ if self.covers(other) => Some(self.clone()),
            _ if other.covers(self) => Some(other.clone()),
            _ => None,
        }
    }

    /// The system that the data belongs to, if the engine names one.
    #[must_use]
    pub fn system(&self) -> Option<u64> {
        match self {
            Position::Wal { system, .. } => Some(*system),
            Position::Current | Position::GtidSet(_) | Position::GtidList(_) | Position::Opaque => {
                None
            }
        }
    }

    /// The timeline; 0 if the engine has none.
    #[must_use]
    pub fn timeline(&self) -> u32 {
        match self {
            Position::Wal { timeline, .. } => *timeline,
            Position::Current | Position::GtidSet(_) | Position::GtidList(_) | Position::Opaque => {
                0
            }
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Position::Current => f.write_str("current"),
            Position::Opaque => f.write_str("not told"),
            Position::Wal { timeline, lsn, .. } => write!(f, "{lsn} on timeline {timeline}"),
            Position::GtidSet(set) => set.fmt(f),
            Position::GtidList(list) => list.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn wal(system: u64, timeline: u32, lsn: u64) -> Position {
        Position::Wal { system, timeline, lsn: Lsn::from_bytes(lsn) }
    }

    fn set(text: &str) -> Position {
        let uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        Position::GtidSet(text.replace('a', uuid).parse().unwrap())
    }

    fn list(text: &str) -> Position {
        Position::GtidList(text.parse().unwrap())
    }

    #[rstest]
    #[case::equal(wal(1, 1, 5), wal(1, 1, 5), true)]
    #[case::ahead(wal(1, 1, 6), wal(1, 1, 5), true)]
    #[case::behind(wal(1, 1, 4), wal(1, 1, 5), false)]
    #[case::another_timeline(wal(1, 2, 9), wal(1, 1, 5), false)]
    #[case::another_system(wal(2, 1, 9), wal(1, 1, 5), false)]
    #[case::another_engine(Position::Current, wal(1, 1, 5), false)]
    #[case::one_file(Position::Current, Position::Current, true)]
    #[case::a_set(set("a:1-5"), set("a:2"), true)]
    #[case::a_list(list("0-1-5"), list("0-1-4"), true)]
    #[case::even_nothing_of_another_engine(set("a:1-5"), list(""), false)]
    #[case::what_is_not_told(Position::Opaque, Position::Opaque, false)]
    fn covers_only_within_one_history(
        #[case] position: Position,
        #[case] other: Position,
        #[case] covers: bool,
    ) {
        assert_eq!(position.covers(&other), covers);
    }

    #[rstest]
    #[case::bytes(wal(1, 1, 4), wal(1, 1, 10), Some(Distance::Bytes(6)))]
    #[case::ahead(wal(1, 1, 12), wal(1, 1, 10), Some(Distance::Bytes(0)))]
    #[case::another_timeline(wal(1, 1, 4), wal(1, 2, 10), None)]
    #[case::transactions(set("a:1-5"), set("a:1-9"), Some(Distance::Transactions(4)))]
    #[case::sequences(list("0-1-5"), list("0-1-6,1-1-2"), Some(Distance::Transactions(3)))]
    #[case::another_engine(set("a:1-5"), list("0-1-5"), None)]
    fn a_distance_is_in_the_engines_unit(
        #[case] replica: Position,
        #[case] primary: Position,
        #[case] distance: Option<Distance>,
    ) {
        assert_eq!(replica.behind(&primary), distance);
    }

    #[rstest]
    #[case::one_system(wal(1, 2, 9), wal(1, 1, 5), true)]
    #[case::another_system(wal(2, 1, 9), wal(1, 1, 5), false)]
    #[case::a_replica(set("a:1-5"), set("a:1-9"), true)]
    #[case::created_anew(set(""), set("a:1-9"), false)]
    #[case::before_the_first_write(set(""), set(""), true)]
    #[case::another_domain(list("1-1-5"), list("0-1-5"), false)]
    #[case::another_engine(list(""), set(""), false)]
    fn strangers_are_told_as_far_as_the_engine_allows(
        #[case] theirs: Position,
        #[case] ours: Position,
        #[case] related: bool,
    ) {
        assert_eq!(theirs.is_related_to(&ours), related);
    }

    #[test]
    fn a_union_is_of_one_history() {
        assert_eq!(wal(1, 1, 4).union(&wal(1, 1, 9)), Some(wal(1, 1, 9)));
        assert_eq!(wal(1, 1, 4).union(&wal(1, 2, 9)), None);
        assert_eq!(set("a:1-5").union(&set("a:9")), Some(set("a:1-5:9")));
        assert_eq!(list("0-1-5").union(&list("1-1-5")), Some(list("0-1-5,1-1-5")));
    }
}
