//! Has a primary write out the end of its log, where nobody else does.
//!
//! What waits there may be nobody's commit: a query that tidies a page logs it, and
//! on an idle primary nothing writes that out for up to fifteen seconds (when the
//! background writer logs a snapshot). The position ends behind it, because a
//! commit that did not wait (`synchronous_commit = off`) may be in it too; so
//! without this no replica would be proved to be up to date.
//!
//! A busy primary writes its log with each commit. So the same end has to be seen unwritten
//! for a while; the server looks once more when it gets the statement; and of many
//! processes that ask for it at a time, one does it.

use std::time::Duration;

use sealane_core::Lsn;
use sqlx::{AssertSqlSafe, PgConnection};
use tokio::time::Instant;

/// Many commits fit in here, on a primary that has any. Whoever waits for a proof waits so
/// much longer, once.
const PATIENCE: Duration = Duration::from_millis(20);

/// The end of a primary's log, and up to where that is written out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tail {
    pub(super) end: Lsn,
    pub(super) flushed: Lsn,
}

/// Watches the end of one primary's log.
#[derive(Debug, Default)]
pub(super) struct Flush {
    /// An end that was not written out, and when it was first seen.
    seen: Option<(Lsn, Instant)>,
}

impl Flush {
    /// Notes what was seen at `now`; the end that is to be written out, if one is.
    pub(super) fn note(&mut self, tail: Option<Tail>, now: Instant) -> Option<Lsn> {
        let tail = tail.filter(|tail| tail.flushed < tail.end);
        self.seen = match (tail, self.seen) {
            (None, _) => None,
            (Some(tail), Some((end, since))) if tail.flushed < end => Some((end, since)),
            (Some(tail), _) => Some((tail.end, now)),
        };
        let (end, since) = self.seen?;
        (now.duration_since(since) >= PATIENCE).then_some(end)
    }

    /// Whether an end was seen that may have to be written out.
    pub(super) fn is_pending(&self) -> bool {
        self.seen.is_some()
    }

    /// Begins anew.
    pub(super) fn forget(&mut self) {
        self.seen = None;
    }
}

/// Writes the log out up to `end` if it is not: a transaction that has written something does
/// so when it commits. `local`, so that it does not wait for synchronous replicas. The message
/// is empty; logical decoding that asks for messages sees it. One text, without a statement
/// that is prepared: a pooler may be in between.
pub(super) async fn run(connection: &mut PgConnection, end: Lsn) -> Result<(), sqlx::Error> {
    // A number of ours, nobody else's: "sealane" in letters.
    let text = format!(
        "SELECT set_config('synchronous_commit', 'local', true), \
         pg_logical_emit_message(true, 'sealane', '')::text \
         WHERE pg_current_wal_flush_lsn() < '{end}' AND pg_try_advisory_xact_lock({LOCK})"
    );
    sqlx::raw_sql(AssertSqlSafe(text)).execute(connection).await.map(drop)
}

const LOCK: i64 = i64::from_be_bytes(*b"\0sealane");

#[cfg(test)]
mod tests {
    use super::*;

    /// At so many milliseconds: the end, what is written, and what is to be.
    fn check(steps: &[(u64, u64, u64, Option<u64>)]) {
        let (mut flush, begin) = (Flush::default(), Instant::now());
        for (at, end, flushed, expected) in steps {
            let (end, flushed) = (Lsn::from_bytes(*end), Lsn::from_bytes(*flushed));
            let now = begin + Duration::from_millis(*at);
            let due = flush.note(Some(Tail { end, flushed }), now);
            assert_eq!(due, expected.map(Lsn::from_bytes), "at {at} ms");
        }
    }

    #[test]
    fn an_end_that_nobody_writes_out_is_due_after_a_while() {
        check(&[(0, 120, 100, None), (5, 120, 100, None), (20, 120, 100, Some(120))]);
    }

    #[test]
    fn where_there_are_commits_nothing_is_due() {
        check(&[
            (0, 120, 100, None),
            (15, 150, 130, None),
            (30, 180, 145, None),
            (50, 200, 190, None),
        ]);
    }

    #[test]
    fn an_end_that_only_grows_is_due() {
        check(&[(0, 120, 100, None), (15, 150, 100, None), (30, 180, 100, Some(120))]);
    }

    #[test]
    fn what_is_written_is_forgotten() {
        let mut flush = Flush::default();
        let now = Instant::now();
        let tail =
            |flushed| Some(Tail { end: Lsn::from_bytes(120), flushed: Lsn::from_bytes(flushed) });
        flush.note(tail(100), now);
        assert!(flush.is_pending());
        assert_eq!(flush.note(tail(120), now + PATIENCE), None);
        assert!(!flush.is_pending());
    }
}
