//! The probe for a primary or a streaming replica.

use std::time::Duration;

use sealane_core::{
    Failure, Feed, Incarnation, Lsn, Position, Replication, Report, Role, ServerInfo, Transactions,
};
use sqlx::{FromRow, Row, postgres::PgRow};
use tokio::time::Instant;

use super::{
    Link, failure, flush::Tail, greeting::incarnation_sql, no_row, receiver::Receiver,
    timeline::Timeline, unreadable,
};

/// Asks everything in one round trip. Columns of `pg_stat_wal_receiver` that an ordinary role may
/// not read come as NULL, but every role sees whether there is a row.
macro_rules! probe {
    ($feeds:literal) => {
        concat!(
            "SELECT \
         pg_is_in_recovery() AS in_recovery, \
         (SELECT system_identifier FROM pg_control_system()) AS system_id, \
         CASE WHEN pg_is_in_recovery() \
           THEN coalesce((SELECT received_tli FROM pg_stat_wal_receiver), \
                         greatest((SELECT timeline_id FROM pg_control_checkpoint()), \
                                  (SELECT min_recovery_end_timeline FROM pg_control_recovery()))) \
           ELSE ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int \
         END AS timeline, \
         CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() \
           ELSE pg_current_wal_insert_lsn() END::text AS lsn, \
         CASE WHEN pg_is_in_recovery() \
           THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) END::text AS received, \
         CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_flush_lsn() END::text AS flushed, \
         pg_size_bytes(current_setting('wal_segment_size')) AS segment_bytes, \
         CASE WHEN pg_is_in_recovery() THEN pg_is_wal_replay_paused() ELSE false END AS paused, \
         CASE WHEN NOT pg_is_in_recovery() \
           THEN pg_snapshot_xmin(pg_current_snapshot())::text::int8 END AS oldest_transaction, \
         CASE WHEN NOT pg_is_in_recovery() \
           THEN age(pg_snapshot_xmin(pg_current_snapshot())::xid) END AS transactions_since, \
         (SELECT pid FROM pg_stat_wal_receiver \
          WHERE coalesce(status, 'streaming') = 'streaming') AS receiver, \
         ",
            incarnation_sql!(),
            " AS incarnation, \
         current_setting('transaction_read_only') = 'off' AS writable, \
         extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8 \
           AS replayed_ago_s, ",
            $feeds,
            " AS feeds"
        )
    };
}

pub(super) const PROBE: &str = probe!("NULL::text[]");
/// The subscribers' slots, each as name, space, confirmed position.
pub(super) const PROBE_WITH_FEEDS: &str = probe!(
    "(SELECT array_agg(concat(slot_name, ' ', confirmed_flush_lsn)) FROM pg_replication_slots \
      WHERE slot_type = 'logical' AND active AND NOT pg_is_in_recovery())"
);

/// Asks in one round trip.
pub(super) async fn ask(link: &mut Link) -> Result<Answer, Failure> {
    let rows = link.rows().await?;
    Answer::from_row(rows.first().ok_or_else(no_row)?).map_err(|e| failure(&e))
}

#[derive(Debug)]
pub(super) struct Answer {
    in_recovery: bool,
    system_id: i64,
    timeline: i32,
    lsn: Option<String>,
    received: Option<String>,
    /// The place up to which a primary's log is written out.
    flushed: Option<String>,
    segment_bytes: i64,
    paused: bool,
    receiver: Option<i32>,
    incarnation: String,
    writable: bool,
    replayed_ago_s: Option<f64>,
    feeds: Option<Vec<String>>,
    /// The lowest number of an unfinished transaction, and how many numbers the server has assigned
    /// since then. The sum of both is the next number.
    oldest_transaction: Option<i64>,
    transactions_since: Option<i32>,
}

impl FromRow<'_, PgRow> for Answer {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Answer {
            in_recovery: row.try_get("in_recovery")?,
            system_id: row.try_get("system_id")?,
            timeline: row.try_get("timeline")?,
            lsn: row.try_get("lsn")?,
            received: row.try_get("received")?,
            flushed: row.try_get("flushed")?,
            segment_bytes: row.try_get("segment_bytes")?,
            paused: row.try_get("paused")?,
            receiver: row.try_get("receiver")?,
            incarnation: row.try_get("incarnation")?,
            writable: row.try_get("writable")?,
            replayed_ago_s: row.try_get("replayed_ago_s")?,
            feeds: row.try_get("feeds")?,
            oldest_transaction: row.try_get("oldest_transaction")?,
            transactions_since: row.try_get("transactions_since")?,
        })
    }
}

impl Answer {
    pub(super) fn report(
        self,
        link: &mut Link,
        receiver: &mut Receiver,
        timeline: &mut Timeline,
    ) -> Result<Report, Failure> {
        let received = self.received()?;
        let receives = receiver.note(self.receiver, received, Instant::now());
        // The server stores this number unsigned and shows it signed, with the same bits.
        let identity = link.identity(self.system_id.cast_unsigned());
        let timeline = timeline.note(&self.incarnation, self.timeline);
        let mut report = Answer { timeline, ..self }.told(received, receives)?;
        report.info.identity = Some(identity);
        Ok(link.complete(report))
    }

    /// The end of a primary's log, if it is not written out.
    pub(super) fn tail(&self) -> Result<Option<Tail>, Failure> {
        let (false, Some(end), Some(flushed)) = (self.in_recovery, &self.lsn, &self.flushed) else {
            return Ok(None);
        };
        let end: Lsn = end.parse().map_err(unreadable)?;
        let end = end.without_page_header(self.segment_bytes.unsigned_abs());
        let flushed = flushed.parse().map_err(unreadable)?;
        Ok(Some(Tail { end, flushed }))
    }

    fn received(&self) -> Result<Option<Lsn>, Failure> {
        self.received.as_deref().map(str::parse).transpose().map_err(unreadable)
    }

    fn told(&self, received: Option<Lsn>, receives: bool) -> Result<Report, Failure> {
        let replayed = self.lsn.as_deref().map(str::parse).transpose().map_err(unreadable)?;
        let (role, replication) = match (self.in_recovery, receives, self.paused) {
            (false, _, _) => (Role::Primary, Replication::NotApplicable),
            (true, true, false) => (Role::Replica, Replication::Running),
            (true, true, true) => (Role::Replica, Replication::Paused),
            (true, false, _) => (Role::Replica, Replication::Stopped),
        };
        Ok(Report {
            position: replayed.map(|lsn| self.position(lsn)),
            received: received.map(|lsn| self.at(lsn)),
            replication,
            feeds: self.feeds.iter().flatten().map(|text| feed(text)).collect::<Result<_, _>>()?,
            transactions: self.transactions(),
            info: ServerInfo {
                writable: Some(self.writable),
                receives: self.in_recovery.then_some(receives),
                applies: self.in_recovery.then_some(!self.paused),
                reported_lag: self.reported_lag(replayed, received.filter(|_| receives)),
                ..ServerInfo::default()
            },
            ..Report::new(role, Incarnation::new(self.incarnation.as_str()))
        })
    }

    fn transactions(&self) -> Option<Transactions> {
        let oldest = u64::try_from(self.oldest_transaction?).ok()?;
        let since = u64::try_from(self.transactions_since?).ok()?;
        Some(Transactions::Numbered { oldest, next: oldest + since })
    }

    fn position(&self, lsn: Lsn) -> Position {
        // Only an insert position can point just past a page header.
        self.at(match self.in_recovery {
            true => lsn,
            false => lsn.without_page_header(self.segment_bytes.unsigned_abs()),
        })
    }

    fn at(&self, lsn: Lsn) -> Position {
        Position::Wal {
            system: self.system_id.cast_unsigned(),
            timeline: self.timeline.cast_unsigned(),
            lsn,
        }
    }

    /// The time since the commit that was replayed last, measured with the clocks of two servers.
    /// Zero if the replica has replayed everything it has received.
    fn reported_lag(&self, replayed: Option<Lsn>, received: Option<Lsn>) -> Option<Duration> {
        if self.in_recovery && received.is_some() && replayed == received {
            return Some(Duration::ZERO);
        }
        let seconds = self.replayed_ago_s.filter(|_| self.in_recovery)?;
        Duration::try_from_secs_f64(seconds.max(0.0)).ok()
    }
}

/// A slot's name and its confirmed position, which is empty at first.
fn feed(text: &str) -> Result<Feed, Failure> {
    let (slot, confirmed) = text.split_once(' ').unwrap_or((text, ""));
    let confirmed = match confirmed {
        "" => None,
        lsn => Some(lsn.parse().map_err(unreadable)?),
    };
    Ok(Feed { slot: slot.to_owned(), confirmed })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Answer {
        Answer {
            in_recovery: false,
            system_id: -1,
            timeline: 3,
            lsn: Some("0/5000028".into()),
            received: None,
            flushed: Some("0/5000000".into()),
            segment_bytes: 16 << 20,
            paused: false,
            receiver: None,
            incarnation: "now".into(),
            writable: true,
            replayed_ago_s: None,
            feeds: None,
            oldest_transaction: Some(750),
            transactions_since: Some(3),
        }
    }

    impl Answer {
        /// The report from a server's first answer.
        fn told_first(&self) -> Result<Report, Failure> {
            self.told(self.received()?, self.receiver.is_some())
        }
    }

    #[test]
    fn a_primary_just_past_a_segment_switch_is_at_the_segments_beginning() {
        let report = answer().told_first().unwrap();
        assert_eq!(report.role, Role::Primary);
        let lsn = Lsn::from_bytes(0x500_0000);
        assert_eq!(report.position, Some(Position::Wal { system: u64::MAX, timeline: 3, lsn }));
    }

    #[test]
    fn a_replica_that_has_replayed_nothing_has_no_position() {
        let report = Answer { in_recovery: true, lsn: None, ..answer() }.told_first().unwrap();
        assert_eq!((report.role, report.position), (Role::Replica, None));
        assert_eq!(report.replication, Replication::Stopped);
    }

    #[test]
    fn an_unreadable_position_is_a_failure() {
        let error = Answer { lsn: Some("here".into()), ..answer() }.told_first().unwrap_err();
        assert!(matches!(error, Failure::Unexpected(_)));
    }

    #[test]
    fn a_replica_reports_no_lag_when_nothing_waits_however_long_ago_the_last_commit_was() {
        let level = Answer {
            in_recovery: true,
            receiver: Some(7),
            received: Some("0/5000028".into()),
            replayed_ago_s: Some(3600.0),
            ..answer()
        };
        let lag = |answer: &Answer| answer.told_first().unwrap().info.reported_lag;
        assert_eq!(lag(&level), Some(Duration::ZERO));
        let behind = Answer { received: Some("0/6000000".into()), ..level };
        assert_eq!(lag(&behind), Some(Duration::from_secs(3600)));
        let alone = Answer { receiver: None, received: Some("0/5000028".into()), ..behind };
        assert_eq!(lag(&alone), Some(Duration::from_secs(3600)));
        assert_eq!(lag(&answer()), None);
    }

    #[test]
    fn receiving_and_applying_are_reported_separately() {
        let paused = Answer { in_recovery: true, receiver: Some(7), paused: true, ..answer() };
        let told = paused.told_first().unwrap().info;
        assert_eq!((told.receives, told.applies), (Some(true), Some(false)));
        assert_eq!(
            (answer().told_first().unwrap().info.receives, told.writable),
            (None, Some(true))
        );
    }

    #[test]
    fn a_primary_tells_which_transactions_are_over() {
        let told = |answer: &Answer| answer.told_first().unwrap().transactions.clone();
        assert_eq!(told(&answer()), Some(Transactions::Numbered { oldest: 750, next: 753 }));
        assert_eq!(told(&Answer { oldest_transaction: None, ..answer() }), None);
    }

    #[test]
    fn a_primary_tells_to_whom_it_sends() {
        let feeds = Some(vec!["sub 0/5000028".into(), "new ".into()]);
        let told = Answer { feeds, ..answer() }.told_first().unwrap().feeds;
        let confirmed = Some(Lsn::from_bytes(0x500_0028));
        assert_eq!(told[0], Feed { slot: "sub".into(), confirmed });
        assert_eq!(told[1], Feed { slot: "new".into(), confirmed: None });
    }
}
