//! The comparison of a replica's answer with the primary's.
//!
//! Between the two answers, somebody may have written. So an answer that differs proves nothing yet:
//! the primary is asked once more. If it gives its first answer again, the data did not change in
//! between, and the replica's answer was another one than the primary's at every moment since. (A
//! write that was undone by a second one in these milliseconds would look the same.) If it gives
//! another answer, the comparison shows nothing.
//!
//! An answer is compared as far as it follows from the data (`sealane_sql::determinism`). With a
//! `LIMIT` and no order, servers may return any rows; the number of rows still follows from the
//! data. If such a statement reads a single table and both answers show the same `id`s, they show
//! the same rows, and their values are compared as well: `find_by_id(…).one(…)` is such a statement.
//!
//! A comparison takes connections only where some are free, and never any of the pool from which
//! callers write: the primary is asked the second time through a reading session. Nothing waits for
//! a comparison, and it tells neither the session nor the callers of failures.

use std::{sync::Arc, time::Duration};

use sea_orm::Statement;
use sealane_core::{ErrorCode, Event, Role};
use sealane_monitor::{Footing, Stage};
use sealane_sql::{Classification, Determinism, Sketch, determinism};

use crate::{
    cluster::{Cluster, Compared, ShadowDifference},
    error,
    execute::{
        attempt::{Attempt, Ended},
        opening::TakeLine,
    },
    pool::{Digest, Verb},
};

/// How long a comparison may take.
const LIMIT: Duration = Duration::from_secs(5);
/// Of a longer text, only the beginning is told.
const LONGEST_TEXT: usize = 500;

/// A read whose answer is to be compared with a replica's.
pub(super) struct Comparison {
    cluster: Arc<Cluster>,
    replica: Footing,
    found: Arc<Classification>,
    /// The replica's lag when the read was planned.
    lag_ms: Option<u64>,
}

/// What the comparison showed.
enum Verdict {
    Other(Compared),
    Differed { on_primary: Digest, on_replica: Digest },
}

/// Why a server gave no answer to compare.
enum NoAnswer {
    Skipped,
    NotComparable,
    Failed,
}

impl Comparison {
    pub(super) fn new(
        cluster: &Arc<Cluster>,
        replica: Footing,
        found: Arc<Classification>,
        lag_ms: Option<u64>,
    ) -> Self {
        Comparison { cluster: Arc::clone(cluster), replica, found, lag_ms }
    }

    /// Begins the comparison with `output`, the primary's answer, in a task.
    pub(super) fn begin<V: Verb>(self, statement: &Statement, output: &V::Output) {
        let (ledger, endpoint) = (&self.cluster.ledger, self.replica.endpoint);
        let Some(permit) = ledger.try_compare() else {
            return ledger.compared(endpoint, Compared::Skipped);
        };
        let Some(first) = V::rows(output).and_then(Digest::of) else {
            return ledger.compared(endpoint, Compared::NotComparable);
        };
        let statement = statement.clone();
        tokio::spawn(async move {
            let _permit = permit;
            let judging = self.judge::<V>(&statement, first);
            let verdict = tokio::time::timeout(LIMIT, judging).await;
            match verdict.unwrap_or(Verdict::Other(Compared::Failed)) {
                Verdict::Other(outcome) => {
                    self.cluster.ledger.compared(endpoint, outcome);
                }
                Verdict::Differed { on_primary, on_replica } => {
                    self.tell(&statement, on_primary, on_replica);
                }
            }
        });
    }

    async fn judge<V: Verb>(&self, statement: &Statement, first: Digest) -> Verdict {
        let sameness = self.sameness::<V>(&statement.sql);
        let Some(sameness) = sameness else { return Verdict::Other(Compared::NotComparable) };
        let on_replica = match self.ask::<V>(self.replica, statement).await {
            Ok(digest) => digest,
            Err(none) => return Verdict::Other(none.into()),
        };
        match sameness.of(first, on_replica) {
            Some(true) => return Verdict::Other(Compared::Equal),
            Some(false) => {}
            None => return Verdict::Other(Compared::NotComparable),
        }
        let Some(primary) = self.primary() else { return Verdict::Other(Compared::Skipped) };
        match self.ask::<V>(primary, statement).await {
            Ok(again) if again == first => Verdict::Differed { on_primary: first, on_replica },
            Ok(_) => Verdict::Other(Compared::Changed),
            Err(NoAnswer::NotComparable) => Verdict::Other(Compared::NotComparable),
            Err(NoAnswer::Skipped | NoAnswer::Failed) => Verdict::Other(Compared::Skipped),
        }
    }

    /// How answers to the statement are compared; `None` if they are not.
    fn sameness<V: Verb>(&self, sql: &str) -> Option<Sameness> {
        let dialect = self.cluster.classifier.as_ref()?.dialect();
        match determinism(sql, dialect) {
            Determinism::Ordered => Some(Sameness::Values),
            Determinism::Rows if !V::IS_FIRST_ROW => Some(Sameness::Values),
            Determinism::Rows | Determinism::Number => {
                let cost = &self.found.cost;
                let is_one_table = cost.joins == 0
                    && cost.subqueries == 0
                    && cost.set_operations == 0
                    && cost.aggregates == 0
                    && !cost.grouping
                    && self.found.tables.read.len() == 1;
                Some(if is_one_table { Sameness::ValuesByKey } else { Sameness::Number })
            }
            Determinism::Nothing(_) => None,
        }
    }

    /// The footing for asking the primary once more, in a reading session.
    fn primary(&self) -> Option<Footing> {
        let topology = self.cluster.store().topology();
        self.cluster.store().footing(&topology, topology.open_primary()?, Role::Replica)
    }

    /// The digest of the answer to `statement` on `footing`.
    async fn ask<V: Verb>(
        &self,
        footing: Footing,
        statement: &Statement,
    ) -> Result<Digest, NoAnswer> {
        let attempt = Attempt::begin(&self.cluster, footing, true);
        // A file has only one connection to its primary, from which callers write.
        let takes_writer = attempt.is_of_writer() && footing.endpoint != self.replica.endpoint;
        if !attempt.has_room() || takes_writer {
            return Err(NoAnswer::Skipped);
        }
        let mut line = attempt.open(&TakeLine).await?;
        line.of_read();
        let output = attempt.race(Stage::Sent, V::send(&mut line, statement)).await?;
        if !attempt.holds(Stage::Sent) || !attempt.is_schema_held() {
            return Err(NoAnswer::Skipped);
        }
        V::rows(&output).and_then(Digest::of).ok_or(NoAnswer::NotComparable)
    }

    /// Keeps the difference, and announces it if it is news.
    fn tell(&self, statement: &Statement, on_primary: Digest, on_replica: Digest) {
        let (cluster, endpoint) = (&self.cluster, self.replica.endpoint);
        let dialect = cluster.classifier.as_ref().map(|classifier| classifier.dialect());
        let sketch = dialect.map(|dialect| Sketch::of(&statement.sql, dialect));
        let text = sketch.and_then(|it| it.text).unwrap_or_default();
        let text: String = text.chars().take(LONGEST_TEXT).collect();
        let difference = ShadowDifference {
            statement: text.clone(),
            times: 0,
            endpoint: cluster.name(endpoint),
            lag_ms: self.lag_ms,
            rows_on_primary: on_primary.rows as u64,
            rows_on_replica: on_replica.rows as u64,
        };
        if cluster.ledger.differed(endpoint, difference, cluster.store().now()) {
            cluster.store().announce(Event::ShadowDiffered { endpoint, statement: text });
        }
    }
}

/// What must be the same in two answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sameness {
    Values,
    /// The number of rows; and their values, if both answers have the same keys.
    ValuesByKey,
    Number,
}

impl Sameness {
    /// Whether two answers are the same; `None` if nobody can know.
    fn of(self, one: Digest, other: Digest) -> Option<bool> {
        let is_same = one.values == other.values && one.rows == other.rows;
        if is_same || one.rows != other.rows {
            return Some(is_same);
        }
        let has_same_keys = one.keys.is_some() && one.keys == other.keys;
        match self {
            Sameness::Values => Some(false),
            Sameness::ValuesByKey if has_same_keys => Some(false),
            Sameness::ValuesByKey | Sameness::Number => None,
        }
    }
}

impl From<Ended> for NoAnswer {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Moved => NoAnswer::Skipped,
            Ended::Failed(error) => {
                let is_full = error::with_code(&error, |code| code == ErrorCode::PoolExhausted);
                if is_full { NoAnswer::Skipped } else { NoAnswer::Failed }
            }
        }
    }
}

impl From<NoAnswer> for Compared {
    fn from(none: NoAnswer) -> Self {
        match none {
            NoAnswer::Skipped => Compared::Skipped,
            NoAnswer::NotComparable => Compared::NotComparable,
            NoAnswer::Failed => Compared::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(rows: usize, values: u64, keys: Option<u64>) -> Digest {
        Digest { rows, values, keys }
    }

    #[test]
    fn what_does_not_follow_from_the_data_is_no_difference() {
        let first = digest(2, 10, Some(1));
        for (sameness, other, expected) in [
            (Sameness::Values, digest(2, 10, Some(1)), Some(true)),
            (Sameness::Values, digest(2, 11, Some(2)), Some(false)),
            (Sameness::ValuesByKey, digest(2, 11, Some(1)), Some(false)),
            (Sameness::ValuesByKey, digest(2, 11, Some(2)), None),
            (Sameness::ValuesByKey, digest(2, 11, None), None),
            (Sameness::ValuesByKey, digest(1, 11, Some(2)), Some(false)),
            (Sameness::Number, digest(2, 11, Some(1)), None),
            (Sameness::Number, digest(1, 11, Some(1)), Some(false)),
        ] {
            assert_eq!(sameness.of(first, other), expected, "{sameness:?}, {other:?}");
        }
        assert_eq!(Sameness::ValuesByKey.of(digest(1, 5, None), digest(1, 6, None)), None);
    }
}
