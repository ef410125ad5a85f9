//! How far a MariaDB server has got in each of its streams.

mod parse;

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use super::gtid_text::ParseGtidError;
use parse::parse_gtid_list;
pub(super) use parse::parse_gtids;

/// A MariaDB GTID position: the last transaction of each replication domain.
///
/// Text form as in `gtid_binlog_pos`, `gtid_slave_pos` and `gtid_current_pos` (MariaDB
/// documentation, "Global Transaction ID"): `domain-server-sequence`, separated by commas, each
/// domain once. The transactions of one domain have one order, and the sequence grows along it.
///
/// # What it cannot tell
/// The numbers do not say who wrote the earlier transactions. Two servers of different histories
/// that both use domain 0 look alike. A server that continued alone after a failover seems, by its
/// numbers, to cover transactions that it does not hold. The difference is plain only where both
/// servers show the same sequence number from different servers. Then neither list covers the
/// other. `gtid_strict_mode=ON` keeps such histories from mixing.
///
/// The list is shared by its clones.
///
/// ```
/// use sealane_core::GtidList;
///
/// let replica: GtidList = "0-1-100,7-2-40".parse()?;
/// let primary: GtidList = "0-1-103,7-2-40".parse()?;
/// assert!(primary.covers(&replica));
/// assert_eq!(replica.missing(&primary), 3);
/// # Ok::<(), sealane_core::ParseGtidError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GtidList(Arc<[Gtid]>);

/// The last transaction of one domain. A list is sorted by domain.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Gtid {
    pub(super) domain: u32,
    pub(super) server: u32,
    pub(super) sequence: u64,
}

impl GtidList {
    pub(super) fn from_unsorted(mut gtids: Vec<Gtid>) -> Result<Self, ParseGtidError> {
        gtids.sort_by_key(|gtid| gtid.domain);
        match gtids.iter().zip(gtids.iter().skip(1)).find(|(a, b)| a.domain == b.domain) {
            Some((gtid, _)) => Err(ParseGtidError::DuplicateDomain(gtid.domain)),
            None => Ok(GtidList(gtids.into())),
        }
    }

    /// Whether no domain is in the list.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether everything up to `other` is contained: for each domain of `other`, this list has a
    /// greater sequence or the same transaction. A domain that is not in this list is not covered.
    #[must_use]
    pub fn covers(&self, other: &GtidList) -> bool {
        other.0.iter().all(|theirs| {
            self.of(theirs.domain)
                .is_some_and(|ours| ours.sequence > theirs.sequence || ours == theirs)
        })
    }

    /// Whether this list has, for each transaction of `other`, the same or a later transaction of
    /// the same server.
    pub(super) fn has_same(&self, other: &GtidList) -> bool {
        other.0.iter().all(|theirs| {
            self.of(theirs.domain).is_some_and(|ours| {
                ours.server == theirs.server && ours.sequence >= theirs.sequence
            })
        })
    }

    /// The later transaction of each domain.
    ///
    /// The union covers both lists, unless they show different transactions under one sequence.
    /// Then nothing covers both, and the transaction of the server with the greater id is kept.
    #[must_use]
    pub fn union(&self, other: &GtidList) -> GtidList {
        let mut gtids: Vec<Gtid> = self.0.iter().chain(other.0.iter()).copied().collect();
        gtids.sort_by_key(|gtid| (gtid.domain, gtid.sequence, gtid.server));
        // Keeps the last transaction of each domain.
        gtids.reverse();
        gtids.dedup_by_key(|gtid| gtid.domain);
        gtids.reverse();
        GtidList(gtids.into())
    }

    /// How far the sequences of `other` are ahead of this list, summed over the domains of `other`:
    /// a replica's lag in transactions. The number is too high where sequences were skipped. A
    /// domain that is not in this list counts from its beginning.
    #[must_use]
    pub fn missing(&self, other: &GtidList) -> u64 {
        other.0.iter().fold(0, |sum, theirs| {
            let ours = self.of(theirs.domain).map_or(0, |ours| ours.sequence);
            sum.saturating_add(theirs.sequence.saturating_sub(ours))
        })
    }

    /// Whether some domain is in both lists.
    #[must_use]
    pub fn intersects(&self, other: &GtidList) -> bool {
        other.0.iter().any(|theirs| self.of(theirs.domain).is_some())
    }

    pub(super) fn gtids(&self) -> &[Gtid] {
        &self.0
    }

    pub(super) fn of(&self, domain: u32) -> Option<&Gtid> {
        let index = self.0.binary_search_by_key(&domain, |gtid| gtid.domain).ok()?;
        self.0.get(index)
    }
}

impl fmt::Display for GtidList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, gtid) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{gtid:?}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for GtidList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GtidList({self})")
    }
}

impl fmt::Debug for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.domain, self.server, self.sequence)
    }
}

impl FromStr for GtidList {
    type Err = ParseGtidError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_gtid_list(text)
    }
}

impl TryFrom<String> for GtidList {
    type Error = ParseGtidError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<GtidList> for String {
    fn from(list: GtidList) -> String {
        list.to_string()
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn list(text: &str) -> GtidList {
        text.parse().unwrap()
    }

    #[rstest]
    #[case::equal("0-1-5", "0-1-5", true, 0)]
    #[case::behind("0-1-4", "0-1-5", false, 1)]
    #[case::behind_in_one_domain("0-1-9,1-1-4", "0-1-5,1-1-6", false, 2)]
    #[case::a_domain_never_seen("0-1-9", "0-1-5,1-1-6", false, 6)]
    #[case::a_domain_more("0-1-9,1-1-4", "0-1-5", true, 0)]
    #[case::written_by_another_server_later("0-2-6", "0-1-5", true, 0)]
    #[case::diverged("0-2-5", "0-1-5", false, 0)]
    #[case::nothing_yet("", "0-1-5", false, 5)]
    #[case::nothing_to_cover("0-1-5", "", true, 0)]
    fn a_list_covers_domain_by_domain(
        #[case] ours: &str,
        #[case] theirs: &str,
        #[case] covers: bool,
        #[case] missing: u64,
    ) {
        let (ours, theirs) = (list(ours), list(theirs));
        assert_eq!((ours.covers(&theirs), ours.missing(&theirs)), (covers, missing));
    }

    #[test]
    fn a_list_is_written_by_domain() {
        assert_eq!(
            list(" 7-1-2,\n0-1-18446744073709551615").to_string(),
            "0-1-18446744073709551615,7-1-2"
        );
    }

    #[test]
    fn of_diverged_histories_one_is_kept_whatever_the_order() {
        let (a, b) = (list("0-1-5"), list("0-2-5"));
        assert_eq!(a.union(&b), b.union(&a));
        assert!(!a.union(&b).covers(&a));
    }
}
