//! Makes a primary write out the end of its log if nothing else does.
//!
//! The unwritten end of the log may hold no commit at all: a query that prunes a page logs this,
//! and on an idle primary nothing writes it out for up to fifteen seconds, until the background
//! writer logs a snapshot. The primary's position must include this end, because it may also hold a
//! commit that did not wait (`synchronous_commit = off`). So without a flush no replica would be
//! proved up to date.
//!
//! A busy primary writes its log with each commit. So the probe asks for a flush only after it has
//! seen the same unwritten end for a while. The server checks once more when it gets the statement,
//! and if many processes ask at the same time, only one flushes.
//!
//! If the same end of the log is still unwritten 20 ms later, an empty message for logical
//! decoding, committed with `synchronous_commit = local`, makes the server write it out. The
//! statement takes an advisory lock, so that only one process does this. (Rejected: the written
//! position alone. Commits that did not wait lie beyond it.)

use std::time::Duration;

use sealane_core::Lsn;
use sqlx::{AssertSqlSafe, PgConnection};
use tokio::time::Instant;

/// How long an end must stay unwritten. On a busy primary many commits happen in this time. A
/// session that waits for a proof waits this much longer, once.
const PATIENCE: Duration = Duration::from_millis(20);

/// The end of a primary's log, and the place up to which it is written out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tail {
    pub(super) end: Lsn,
    pub(super) flushed: Lsn,
}

/// Watches the end of one primary's log.
#[derive(Debug, Default)]
pub(super) struct Flush {
    /// An unwritten end, and when it was first seen.
    seen: Option<(Lsn, Instant)>,
    /// Whether the unwritten end before it was written out by somebody else.
    is_busy: bool,
}

impl Flush {
    /// Records what was seen at `now`. Returns the end that must be written out, if any.
    pub(super) fn note(&mut self, tail: Option<Tail>, now: Instant) -> Option<Lsn> {
        let tail = tail.filter(|tail| tail.flushed < tail.end);
        (self.seen, self.is_busy) = match (tail, self.seen) {
            (None, _) => (None, false),
            (Some(tail), Some((end, since))) if tail.flushed < end => (Some((end, since)), false),
            (Some(tail), before) => (Some((tail.end, now)), before.is_some()),
        };
        let (end, since) = self.seen?;
        (now.duration_since(since) >= PATIENCE).then_some(end)
    }

    /// Whether an unwritten end was seen that nobody seems to write out. (A busy primary has another
    /// one at nearly every moment.)
    pub(super) fn is_pending(&self) -> bool {
        self.seen.is_some() && !self.is_busy
    }

    /// Forgets what was seen.
    pub(super) fn forget(&mut self) {
        self.seen = None;
    }
}

/// Makes the server write out its log up to `end` if that has not happened: the commit of a
/// transaction with a write does this. The setting `local` avoids a wait for synchronous replicas.
/// The transaction writes an empty message, which only logical decoding with messages sees. The
/// statement is one text and not prepared, because a pooler may be in between.
pub(super) async fn run(connection: &mut PgConnection, end: Lsn) -> Result<(), sqlx::Error> {
    // The lock's number is "sealane" in letters, so that no other application uses it.
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

    /// Each step: the time in milliseconds, the end, the written place, and the expected result.
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
    fn an_unwritten_end_is_due_after_a_while() {
        check(&[(0, 120, 100, None), (5, 120, 100, None), (20, 120, 100, Some(120))]);
    }

    #[test]
    fn nothing_is_due_while_commits_write_the_log() {
        check(&[
            (0, 120, 100, None),
            (15, 150, 130, None),
            (30, 180, 145, None),
            (50, 200, 190, None),
        ]);
    }

    #[test]
    fn a_busy_primary_is_asked_soon_once_and_then_as_usual() {
        let mut flush = Flush::default();
        let now = Instant::now();
        let mut pending = |end, flushed| {
            let (end, flushed) = (Lsn::from_bytes(end), Lsn::from_bytes(flushed));
            flush.note(Some(Tail { end, flushed }), now);
            flush.is_pending()
        };
        assert_eq!([pending(120, 100), pending(150, 130), pending(180, 160)], [true, false, false]);
        assert!(pending(180, 160), "nobody writes it out");
    }

    #[test]
    fn an_end_that_only_grows_is_due() {
        check(&[(0, 120, 100, None), (15, 150, 100, None), (30, 180, 100, Some(120))]);
    }

    #[test]
    fn a_written_end_is_forgotten() {
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
