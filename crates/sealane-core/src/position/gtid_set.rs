//! The transactions that a MySQL server has executed.

mod parse;

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{gtid_text::ParseGtidError, intervals::Intervals};
use parse::parse_gtid_set;

/// A MySQL GTID set: which transactions of which sources are contained.
///
/// A GTID set describes itself. A transaction is named by the UUID of the server that first
/// committed it, an optional tag (8.3 and later) and a number. So the sets of any two servers
/// compare without a system id. The comparison is a partial order: each of two sets may hold what
/// the other lacks.
///
/// Text form as in the manual (MySQL 8.4 reference manual, section 19.1.3.1, "GTID Sets"):
/// `uuid:1-5:7:tag:1-3,uuid:…`. Parsing accepts all spellings that servers print or accept: any
/// case, white space and new lines, intervals in any order, several tags after one UUID, one UUID
/// several times. Formatting uses one spelling: lower case, sorted, adjacent intervals joined, no
/// white space.
///
/// The set is shared by its clones.
///
/// ```
/// use sealane_core::GtidSet;
///
/// let replica: GtidSet = "3E11FA47-71CA-11E1-9E33-C80AA9429562:1-5".parse()?;
/// let primary: GtidSet = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:7".parse()?;
/// assert!(primary.covers(&replica));
/// assert_eq!(replica.missing(&primary), 1);
/// # Ok::<(), sealane_core::ParseGtidError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GtidSet(Arc<[Part]>);

/// The transactions of one source. Parts are sorted by source; none is empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Part {
    pub(super) source: Source,
    pub(super) numbers: Intervals,
}

/// The source of numbered transactions: a server's UUID and a tag (empty for none). The manual
/// calls the pair a TSID.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Source {
    pub(super) uuid: u128,
    pub(super) tag: Box<str>,
}

impl GtidSet {
    /// Joins the parts of equal sources.
    pub(super) fn from_unsorted(mut parts: Vec<Part>) -> Self {
        parts.sort_by(|a, b| a.source.cmp(&b.source));
        parts.dedup_by(|next, kept| {
            let same = next.source == kept.source;
            if same {
                kept.numbers = kept.numbers.union(&next.numbers);
            }
            same
        });
        GtidSet(parts.into())
    }

    /// Whether no transaction is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many transactions are in the set; `u64::MAX` if there are more.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.0.iter().fold(0, |sum, part| sum.saturating_add(part.numbers.len()))
    }

    /// How many intervals the set consists of. They determine its size in memory.
    #[must_use]
    pub fn intervals(&self) -> usize {
        self.0.iter().map(|part| part.numbers.as_slice().len()).sum()
    }

    /// Whether every transaction of `other` is in this set.
    #[must_use]
    pub fn covers(&self, other: &GtidSet) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || other.0.iter().all(|part| {
                self.of(&part.source).is_some_and(|numbers| numbers.covers(&part.numbers))
            })
    }

    /// The transactions of both sets.
    #[must_use]
    pub fn union(&self, other: &GtidSet) -> GtidSet {
        GtidSet::from_unsorted(self.0.iter().chain(other.0.iter()).cloned().collect())
    }

    /// How many transactions of `other` are not in this set: a replica's lag
    /// behind its primary's `other`, in transactions.
    #[must_use]
    pub fn missing(&self, other: &GtidSet) -> u64 {
        other.0.iter().fold(0, |sum, part| {
            let held = self.of(&part.source).map_or(0, |numbers| numbers.common(&part.numbers));
            sum.saturating_add(part.numbers.len() - held)
        })
    }

    /// Whether some transaction is in both sets.
    #[must_use]
    pub fn intersects(&self, other: &GtidSet) -> bool {
        other.0.iter().any(|part| {
            self.of(&part.source).is_some_and(|numbers| numbers.intersects(&part.numbers))
        })
    }

    pub(super) fn parts(&self) -> &[Part] {
        &self.0
    }

    pub(super) fn of(&self, source: &Source) -> Option<&Intervals> {
        let index = self.0.binary_search_by(|part| part.source.cmp(source)).ok()?;
        self.0.get(index).map(|part| &part.numbers)
    }
}

impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut uuid = None;
        for Part { source, numbers } in self.0.iter() {
            if uuid != Some(source.uuid) {
                if uuid.is_some() {
                    f.write_str(",")?;
                }
                uuid = Some(source.uuid);
                write_uuid(f, source.uuid)?;
            }
            if !source.tag.is_empty() {
                write!(f, ":{}", source.tag)?;
            }
            for interval in numbers.as_slice() {
                write!(f, ":{}", interval.first)?;
                if interval.first < interval.last {
                    write!(f, "-{}", interval.last)?;
                }
            }
        }
        Ok(())
    }
}

fn write_uuid(f: &mut fmt::Formatter<'_>, uuid: u128) -> fmt::Result {
    let group = |shift: u32, bits: u32| (uuid >> shift) & ((1 << bits) - 1);
    let (a, b, c, d, e) =
        (group(96, 32), group(80, 16), group(64, 16), group(48, 16), group(0, 48));
    write!(f, "{a:08x}-{b:04x}-{c:04x}-{d:04x}-{e:012x}")
}

impl fmt::Debug for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GtidSet({self})")
    }
}

impl FromStr for GtidSet {
    type Err = ParseGtidError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_gtid_set(text)
    }
}

impl TryFrom<String> for GtidSet {
    type Error = ParseGtidError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<GtidSet> for String {
    fn from(set: GtidSet) -> String {
        set.to_string()
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    const B: &str = "4e11fa47-71ca-11e1-9e33-c80aa9429562";

    /// `a` and `b` stand for two UUIDs.
    fn set(text: &str) -> GtidSet {
        text.replace("b:", &format!("{B}:")).replace("a:", &format!("{A}:")).parse().unwrap()
    }

    #[rstest]
    #[case::one("a:7", "a:7")]
    #[case::joined("a:1-3:4:6-9", "a:1-4:6-9")]
    #[case::in_any_order("b:1,a:9:1-2", "a:1-2:9,b:1")]
    #[case::as_show_replica_status_prints("a:1-5,\nb:1-2", "a:1-5,b:1-2")]
    #[case::spaces_everywhere(" a: 1 - 5 : 7 , b:1 ", "a:1-5:7,b:1")]
    #[case::commas_without_a_set(",a:1,,", "a:1")]
    #[case::tags_behind_one_uuid("a:1-3:x:1-5:y_2:7", "a:1-3:x:1-5:y_2:7")]
    #[case::a_tag_for_several_intervals("a:X:1-3:15-21, a:Y:8-52", "a:x:1-3:15-21:y:8-52")]
    #[case::a_tag_and_then_none("a:x:1,a:2", "a:2:x:1")]
    fn every_spelling_is_read_and_one_is_written(#[case] text: &str, #[case] canonical: &str) {
        let expected = canonical.replace("b:", &format!("{B}:")).replace("a:", &format!("{A}:"));
        assert_eq!(set(text).to_string(), expected);
    }

    #[test]
    fn the_case_of_a_uuid_does_not_matter() {
        assert_eq!(format!("{}:1", A.to_uppercase()).parse::<GtidSet>().unwrap(), set("a:1"));
    }

    #[rstest]
    #[case("")]
    #[case(" \n")]
    fn a_server_that_executed_nothing_has_the_empty_set(#[case] text: &str) {
        let empty: GtidSet = text.parse().unwrap();
        assert!(empty.is_empty() && set("a:1").covers(&empty) && !empty.covers(&set("a:1")));
    }

    #[rstest]
    #[case::a_hole("a:1-3:5", "a:4", false, 1)]
    #[case::another_source("a:1-9", "b:1", false, 1)]
    #[case::an_errant_transaction_does_no_harm("a:1-9,b:1", "a:1-9", true, 0)]
    #[case::a_tag_is_another_source("a:1-9", "a:x:1", false, 1)]
    #[case::behind("a:1-90:95", "a:1-100", false, 9)]
    fn containment_is_by_transaction(
        #[case] ours: &str,
        #[case] theirs: &str,
        #[case] covers: bool,
        #[case] missing: u64,
    ) {
        let (ours, theirs) = (set(ours), set(theirs));
        assert_eq!((ours.covers(&theirs), ours.missing(&theirs)), (covers, missing));
    }

    #[test]
    fn strangers_have_nothing_in_common() {
        assert!(!set("a:1-5").intersects(&set("a:6-9,b:1-5")));
        assert!(set("a:1-5").intersects(&set("b:1,a:5-9")));
    }

    #[test]
    fn serde_uses_the_text() {
        let json = serde_json::to_string(&set("a:1-5")).unwrap();
        assert_eq!(json, format!("\"{A}:1-5\""));
        assert_eq!(serde_json::from_str::<GtidSet>(&json).unwrap(), set("a:1-5"));
    }
}
