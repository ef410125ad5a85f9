//! The probe of PostgreSQL 15 and later with streaming replication.

mod catalog;

use std::{fmt, time::Duration};

use sealane_core::{Failure, Incarnation, Lsn, ParseLsnError, Position, Replication, Report, Role};
use sqlx::{
    ConnectOptions, Connection, FromRow, PgConnection, Row,
    postgres::{PgConnectOptions, PgDatabaseError, PgRow},
};

use tokio::time::Instant;

pub use catalog::PostgresCatalog;

use crate::Probe;

/// Which run of the server this is. The start time changes with every start of
/// the postmaster; the statistics are reset when it restarts its children after
/// one of them crashed, which a replica may survive with less data too.
/// Readable without privileges.
const INCARNATION: &str = "SELECT concat(pg_postmaster_start_time(), ' ', stats_reset) \
     FROM pg_stat_bgwriter";

/// Everything in one round trip. What an ordinary role may not read of
/// `pg_stat_wal_receiver` comes as NULL; that there is a row is visible to all.
const PROBE: &str = "SELECT \
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
     CASE WHEN pg_is_in_recovery() THEN false \
       ELSE pg_current_wal_insert_lsn() > pg_current_wal_flush_lsn() END AS unflushed, \
     pg_size_bytes(current_setting('wal_segment_size')) AS segment_bytes, \
     CASE WHEN pg_is_in_recovery() THEN pg_is_wal_replay_paused() ELSE false END AS paused, \
     EXISTS (SELECT FROM pg_stat_wal_receiver \
             WHERE coalesce(status, 'streaming') = 'streaming') AS receiving, \
     (SELECT concat(pg_postmaster_start_time(), ' ', stats_reset) FROM pg_stat_bgwriter) \
       AS incarnation";

/// Has the primary write out what is in its log: a transaction that has written
/// something does so when it commits. `local`, so that it does not wait for synchronous
/// replicas. The message is empty; logical decoding that asks for messages sees it.
///
/// What waits there may be nobody's commit: a query that tidies a page logs it, and
/// on an idle primary nothing writes that out for up to fifteen seconds (when the
/// background writer logs a snapshot). The position ends behind it, because a
/// commit that did not wait (`synchronous_commit = off`) may be in it too; so
/// without this no replica would be proved to be up to date.
const FLUSH: &str = "SELECT set_config('synchronous_commit', 'local', true), \
     pg_logical_emit_message(true, 'sealane', '')::text";

/// Between two of them at least, however often somebody waits.
const FLUSH_INTERVAL: Duration = Duration::from_millis(100);

/// Asks a PostgreSQL server over a connection of its own.
pub struct PostgresProbe {
    options: PgConnectOptions,
    connection: Option<PgConnection>,
    /// When the primary's log was last written out for us.
    flushed: Option<Instant>,
}

impl PostgresProbe {
    /// A probe that connects with `options` when it is first asked.
    #[must_use]
    pub fn new(options: PgConnectOptions) -> Self {
        let options = options.application_name("sealane monitor").disable_statement_logging();
        PostgresProbe { options, connection: None, flushed: None }
    }
}

impl Probe for PostgresProbe {
    async fn ask(&mut self) -> Result<Report, Failure> {
        // Only a connection that has just answered is kept: a call that is dropped
        // half-way leaves none behind.
        if let Some(connection) = self.connection.take() {
            match self.ask_on(connection).await {
                // The connection may be all that was lost; a new one tells.
                Err(Failure::Connection(_) | Failure::Unavailable(_)) => {}
                answer => return answer,
            }
        }
        let connection =
            PgConnection::connect_with(&self.options).await.map_err(|e| failure(&e))?;
        self.ask_on(connection).await
    }

    fn disconnect(&mut self) {
        self.connection = None;
    }

    fn is_connected(&self) -> bool {
        self.connection.is_some()
    }
}

impl PostgresProbe {
    async fn ask_on(&mut self, mut connection: PgConnection) -> Result<Report, Failure> {
        let answer: Answer =
            sqlx::query_as(PROBE).fetch_one(&mut connection).await.map_err(|e| failure(&e))?;
        self.flush(&answer, &mut connection).await?;
        self.connection = Some(connection);
        answer.report()
    }

    /// Writes the log out if its end is not: where there are commits that costs one
    /// more, and where there are none nobody else would do it for a long time.
    async fn flush(
        &mut self,
        answer: &Answer,
        connection: &mut PgConnection,
    ) -> Result<(), Failure> {
        let is_due = self.flushed.is_none_or(|flushed| flushed.elapsed() >= FLUSH_INTERVAL);
        if !(answer.unflushed && is_due) {
            return Ok(());
        }
        self.flushed = Some(Instant::now());
        match sqlx::query(FLUSH).execute(connection).await {
            Ok(_) => Ok(()),
            // It answers all the same; replicas will be proved a little later.
            Err(error @ sqlx::Error::Database(_)) => {
                tracing::debug!(target: "sealane::probe", %error, "the log is not written out");
                Ok(())
            }
            Err(error) => Err(failure(&error)),
        }
    }
}

impl fmt::Debug for PostgresProbe {
    /// Without the options: they hold the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresProbe")
            .field("connected", &self.is_connected())
            .finish_non_exhaustive()
    }
}

/// Which run of the server `connection` leads to. One round trip.
///
/// # Errors
/// Whatever the server or the connection says.
pub async fn incarnation(connection: &mut PgConnection) -> Result<Incarnation, sqlx::Error> {
    let text: String = sqlx::query_scalar(INCARNATION).fetch_one(connection).await?;
    Ok(Incarnation::new(text))
}

#[derive(Debug)]
struct Answer {
    in_recovery: bool,
    system_id: i64,
    timeline: i32,
    lsn: Option<String>,
    received: Option<String>,
    unflushed: bool,
    segment_bytes: i64,
    paused: bool,
    receiving: bool,
    incarnation: String,
}

impl FromRow<'_, PgRow> for Answer {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Answer {
            in_recovery: row.try_get("in_recovery")?,
            system_id: row.try_get("system_id")?,
            timeline: row.try_get("timeline")?,
            lsn: row.try_get("lsn")?,
            received: row.try_get("received")?,
            unflushed: row.try_get("unflushed")?,
            segment_bytes: row.try_get("segment_bytes")?,
            paused: row.try_get("paused")?,
            receiving: row.try_get("receiving")?,
            incarnation: row.try_get("incarnation")?,
        })
    }
}

impl Answer {
    fn report(&self) -> Result<Report, Failure> {
        let told = |error: ParseLsnError| Failure::Unexpected(error.to_string());
        let position = self.position().map_err(told)?;
        let received = self.received.as_deref().map(str::parse).transpose().map_err(told)?;
        let (role, replication) = match (self.in_recovery, self.receiving, self.paused) {
            (false, _, _) => (Role::Primary, Replication::NotApplicable),
            (true, true, false) => (Role::Replica, Replication::Running),
            (true, true, true) => (Role::Replica, Replication::Paused),
            (true, false, _) => (Role::Replica, Replication::Stopped),
        };
        let incarnation = Incarnation::new(self.incarnation.as_str());
        let received = received.map(|lsn| self.at(lsn));
        Ok(Report { role, position, received, replication, incarnation })
    }

    fn position(&self) -> Result<Option<Position>, ParseLsnError> {
        let Some(lsn) = &self.lsn else {
            return Ok(None);
        };
        let lsn: Lsn = lsn.parse()?;
        // Only an insert position can point behind a page header.
        let lsn = if self.in_recovery {
            lsn
        } else {
            lsn.without_page_header(self.segment_bytes.unsigned_abs())
        };
        Ok(Some(self.at(lsn)))
    }

    fn at(&self, lsn: Lsn) -> Position {
        Position::Wal {
            // Stored unsigned, shown signed: the same bits.
            system: self.system_id.cast_unsigned(),
            timeline: self.timeline.cast_unsigned(),
            lsn,
        }
    }
}

/// What a driver's error says about the endpoint. Messages of the server and
/// of the operating system carry no password.
#[must_use]
pub fn failure(error: &sqlx::Error) -> Failure {
    match error {
        sqlx::Error::Database(answer) => {
            let message = answer.try_downcast_ref::<PgDatabaseError>().map_or_else(
                || answer.message().to_owned(),
                |answer| format!("{} ({})", answer.message(), answer.code()),
            );
            match answer.code().as_deref() {
                Some("3D000" | "42501") => Failure::Misconfigured(message),
                Some(code) if code.starts_with("28") => Failure::Misconfigured(message),
                Some(code) if code.starts_with("57P") || code.starts_with("53") => {
                    Failure::Unavailable(message)
                }
                Some(_) | None => Failure::Unexpected(message),
            }
        }
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::WorkerCrashed => Failure::Connection(error.to_string()),
        other => Failure::Unexpected(other.to_string()),
    }
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
            unflushed: false,
            segment_bytes: 16 << 20,
            paused: false,
            receiving: false,
            incarnation: "now".into(),
        }
    }

    #[test]
    fn a_primary_just_past_a_segment_switch_is_at_the_segments_beginning() {
        let report = answer().report().unwrap();
        assert_eq!(report.role, Role::Primary);
        let lsn = Lsn::from_bytes(0x500_0000);
        assert_eq!(report.position, Some(Position::Wal { system: u64::MAX, timeline: 3, lsn }));
    }

    #[test]
    fn a_replica_that_has_replayed_nothing_has_no_position() {
        let report = Answer { in_recovery: true, lsn: None, ..answer() }.report().unwrap();
        assert_eq!((report.role, report.position), (Role::Replica, None));
        assert_eq!(report.replication, Replication::Stopped);
    }

    #[test]
    fn an_answer_that_is_no_position_is_told() {
        let error = Answer { lsn: Some("here".into()), ..answer() }.report().unwrap_err();
        assert!(matches!(error, Failure::Unexpected(_)));
    }
}
