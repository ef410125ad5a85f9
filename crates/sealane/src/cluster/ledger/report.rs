//! What shadow mode tells people.

use std::fmt;

use sealane_core::printable;
use serde::Serialize;

use crate::config::Shadow;

/// What would have happened without shadow mode, since the start.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ShadowReport {
    /// The mode now.
    pub shadow: Shadow,
    /// How many proved reads, streams of them and read-only transactions began in shadow mode.
    pub reads: u64,
    /// How many of them would have stayed on the primary, by reason.
    pub stays: ShadowStays,
    /// The replicas on which the others would have run.
    pub endpoints: Vec<ShadowEndpoint>,
    /// The last 20 different statements to which a replica gave another answer than the primary; the
    /// one that differed last comes last.
    pub differences: Vec<ShadowDifference>,
}

/// How many reads would have stayed on the primary, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct ShadowStays {
    /// They were outside the share of the replicas
    /// ([`Config::replica_share`](crate::Config::replica_share)).
    pub outside_share: u64,
    /// They asked for the primary, or no replica could ever serve them.
    pub asked: u64,
    /// No replica had replayed what their session wrote.
    pub pinned: u64,
    /// No replica was usable or fresh enough. A read that would have waited for a replica counts
    /// here or as pinned, because reads in shadow mode do not wait.
    pub fell_back: u64,
    /// They would have failed, because they must not run on the primary.
    pub would_fail: u64,
}

/// The reads that would have run on one replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ShadowEndpoint {
    /// The replica's name.
    pub name: String,
    /// How many reads would have run there.
    pub reads: u64,
    /// What comparing some of them showed.
    pub comparisons: ShadowComparisons,
}

/// The comparisons of a replica's answers with the primary's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct ShadowComparisons {
    /// The answers were equal.
    pub equal: u64,
    /// The replica answered otherwise, and the primary, asked once more afterwards, gave its first
    /// answer again.
    pub differed: u64,
    /// The replica answered otherwise, and so did the primary when it was asked once more: the data
    /// changed in the meantime, and the comparison shows nothing.
    pub changed_meanwhile: u64,
    /// The answer does not follow from the data alone (`random()`, a `LIMIT` without an order), is
    /// too large, or is a stream or a transaction.
    pub not_comparable: u64,
    /// The replica answered with an error, or not in time.
    pub failed: u64,
    /// Not compared, because enough other reads were being compared, a pool was full, or a server
    /// was replaced.
    pub skipped: u64,
}

/// A statement to which a replica gave another answer than the primary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ShadowDifference {
    /// Its text, with `?` in the place of literals.
    pub statement: String,
    /// How often it differed since it is in the list. The following values are of the last time.
    pub times: u64,
    /// The replica's name.
    pub endpoint: String,
    /// How far the replica was behind the primary when the read began, in milliseconds. `None` if
    /// unknown.
    pub lag_ms: Option<u64>,
    /// How many rows the primary returned.
    pub rows_on_primary: u64,
    /// How many rows the replica returned.
    pub rows_on_replica: u64,
}

impl ShadowReport {
    /// Whether shadow mode is on, or was.
    pub(crate) fn is_any(&self) -> bool {
        self.shadow.is_on() || self.reads > 0
    }
}

impl ShadowEndpoint {
    pub(super) fn new(name: &str) -> Self {
        let comparisons = ShadowComparisons::default();
        ShadowEndpoint { name: name.to_owned(), reads: 0, comparisons }
    }
}

impl ShadowComparisons {
    /// How many comparisons came to a result: equal, or different.
    #[must_use]
    pub fn compared(&self) -> u64 {
        self.equal + self.differed
    }
}

impl fmt::Display for ShadowReport {
    /// A table for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "shadow mode: {}; {} reads", self.shadow, self.reads)?;
        let ShadowStays { outside_share, asked, pinned, fell_back, would_fail } = self.stays;
        let staying = [
            ("outside the share of the replicas", outside_share),
            ("ask for the primary, or no replica can serve them", asked),
            ("their session's writes were not replayed", pinned),
            ("no replica was usable or fresh enough", fell_back),
            ("would fail: no replica, and not allowed on the primary", would_fail),
        ];
        for (why, reads) in staying.into_iter().filter(|(_, reads)| *reads > 0) {
            writeln!(f, "  primary    {reads:>10}  {why}")?;
        }
        for endpoint in &self.endpoints {
            endpoint.fmt(f)?;
        }
        for difference in &self.differences {
            difference.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for ShadowEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ShadowEndpoint { name, reads, comparisons } = self;
        let compared = comparisons.compared();
        write!(f, "  {:<10} {reads:>10}  compared {compared}", printable(name).to_string())?;
        let ShadowComparisons {
            differed, changed_meanwhile, not_comparable, failed, skipped, ..
        } = comparisons;
        let counted = [
            ("DIFFERED", differed),
            ("changed meanwhile", changed_meanwhile),
            ("not comparable", not_comparable),
            ("failed", failed),
            ("skipped", skipped),
        ];
        for (what, count) in counted.into_iter().filter(|(_, count)| **count > 0) {
            write!(f, ", {what} {count}")?;
        }
        writeln!(f)
    }
}

impl fmt::Display for ShadowDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ShadowDifference { statement, times, endpoint, lag_ms, rows_on_primary, .. } = self;
        let lag = lag_ms.map_or_else(|| "unknown".to_owned(), |lag| format!("{lag} ms"));
        writeln!(f, "  differed {times} times: {}", printable(statement))?;
        writeln!(
            f,
            "    {rows_on_primary} rows on the primary, {} on {}, lag {lag}",
            self.rows_on_replica,
            printable(endpoint)
        )
    }
}
