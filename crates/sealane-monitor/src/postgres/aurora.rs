//! The probe for Aurora PostgreSQL.
//!
//! # What is proved: nothing
//! Aurora's instances share one storage volume. A reader applies the writer's log to the pages in
//! its memory, and `aurora_replica_status()` reports on both. According to its manual page,
//! `durable_lsn` of the writer is what is safe in the volume, and `durable_lsn` of a reader is how
//! far this log "has successfully been applied" there; `current_read_lsn` belongs to a snapshot
//! "that's been applied to all readers". The page does not say
//! - that the writer's row is current at the moment of the question, so that it contains every
//!   commit that was answered before: rows have a `last_update_timestamp`;
//! - that all new snapshots of a reader see what its row shows.
//!
//! Without both guarantees, a comparison of two such numbers proves nothing, and PostgreSQL's own
//! functions for positions do not work on Aurora. So a reader has no position. It serves
//! [`Eventual`](sealane_core::Consistency::Eventual) reads; all other reads run on the writer. The
//! lag that Aurora reports is only shown to people.
//!
//! # Who is the writer
//! The server itself says this (`pg_is_in_recovery`). One instance reports the topology's
//! `MASTER_SESSION_ID` to the others, and it arrives later: after a failover, the old writer may
//! still find itself there.
//!
//! Never run on Aurora: the tests use rows in the form that the manual page gives.

use std::time::Duration;

use sealane_core::{Failure, Incarnation, Position, Replication, Report, Role, ServerInfo};
use sqlx::{FromRow, Row, postgres::PgRow};

use super::{Link, failure, greeting::incarnation_sql, no_row};

/// Asks everything in one round trip: the server's own state, with each row of the topology. There
/// may be no such row.
pub(super) const PROBE: &str = concat!(
    "SELECT \
     pg_is_in_recovery() AS in_recovery, \
     aurora_db_instance_identifier()::text AS instance, \
     current_setting('transaction_read_only') = 'off' AS writable, \
     ",
    incarnation_sql!(),
    " AS incarnation, \
     server_id::text AS server_id, replica_lag_in_msec::float8 AS lag_ms \
     FROM (SELECT) AS here LEFT JOIN aurora_replica_status() ON true"
);

/// Asks in one round trip.
pub(super) async fn ask(link: &mut Link) -> Result<Report, Failure> {
    let rows = link.rows().await?;
    let rows: Result<Vec<_>, _> = rows.iter().map(Answer::from_row).collect();
    let rows = rows.map_err(|e| failure(&e))?;
    let mut report = report(&rows)?;
    if let Some(first) = rows.first() {
        report.info.identity = Some(link.identity(&first.instance));
    }
    Ok(link.complete(report))
}

/// What the server says about itself, with one row of the topology.
#[derive(Debug, Clone)]
struct Answer {
    in_recovery: bool,
    instance: String,
    writable: bool,
    incarnation: String,
    server_id: Option<String>,
    lag_ms: Option<f64>,
}

impl FromRow<'_, PgRow> for Answer {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Answer {
            in_recovery: row.try_get("in_recovery")?,
            instance: row.try_get("instance")?,
            writable: row.try_get("writable")?,
            incarnation: row.try_get("incarnation")?,
            server_id: row.try_get("server_id")?,
            lag_ms: row.try_get("lag_ms")?,
        })
    }
}

fn report(rows: &[Answer]) -> Result<Report, Failure> {
    let told = rows.first().ok_or_else(no_row)?;
    let own = rows.iter().find(|row| row.server_id.as_ref() == Some(&told.instance));
    let (role, position, replication) = match told.in_recovery {
        false => (Role::Primary, Some(Position::Opaque), Replication::NotApplicable),
        // It is unknown whether a reader outside the topology receives anything.
        true if own.is_none() => (Role::Replica, None, Replication::Unknown),
        true => (Role::Replica, None, Replication::Running),
    };
    let lag_ms = own.and_then(|row| row.lag_ms).filter(|_| told.in_recovery);
    Ok(Report {
        position,
        replication,
        info: ServerInfo {
            writable: Some(told.writable),
            reported_lag: lag_ms.and_then(|ms| Duration::try_from_secs_f64(ms / 1000.0).ok()),
            ..ServerInfo::default()
        },
        ..Report::new(role, Incarnation::new(told.incarnation.as_str()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows of an example in Aurora's manual ("Best practices with Aurora PostgreSQL", "Other
    /// options for obtaining the host string", 2017-03-07). All three rows were older than the
    /// question by more than a second.
    const RECORDED: &str = "\
        mynode-1 | 3e3c5044-02e2-11e7-b70d-95172646d6ca | 594221001 | 201421
        mynode-2 | 1efdd188-02e4-11e7-becd-f12d7c88a28a | 594221001 | 201350
        mynode-3 | MASTER_SESSION_ID | |";

    fn answers(instance: &str, in_recovery: bool, lag_ms: Option<f64>) -> Vec<Answer> {
        let answer = |line: &str| Answer {
            in_recovery,
            instance: instance.to_owned(),
            writable: !in_recovery,
            incarnation: "now".to_owned(),
            server_id: line.split('|').next().map(|id| id.trim().to_owned()),
            lag_ms,
        };
        RECORDED.lines().map(answer).collect()
    }

    #[test]
    fn a_reader_has_a_lag_for_people_and_no_position() {
        let report = report(&answers("mynode-2", true, Some(201.35))).unwrap();
        assert_eq!((report.role, report.replication), (Role::Replica, Replication::Running));
        assert_eq!((report.position, report.received), (None, None));
        assert_eq!(report.info.reported_lag, Some(Duration::from_micros(201_350)));
        assert_eq!(report.info.writable, Some(false));
    }

    #[test]
    fn the_writer_reports_no_position() {
        let report = report(&answers("mynode-3", false, None)).unwrap();
        assert_eq!((report.role, report.position), (Role::Primary, Some(Position::Opaque)));
        assert_eq!(report.info.reported_lag, None);
    }

    #[test]
    fn the_server_and_not_the_topology_says_who_is_the_writer() {
        assert_eq!(report(&answers("mynode-3", true, None)).unwrap().role, Role::Replica);
    }

    #[test]
    fn a_reader_that_is_not_in_the_topology_is_not_known_to_be_fed() {
        let report = report(&answers("mynode-9", true, Some(5.0))).unwrap();
        assert_eq!(report.replication, Replication::Unknown);
        assert_eq!(report.info.reported_lag, None);
    }

    #[test]
    fn an_answer_without_rows_is_a_failure() {
        assert!(report(&[]).is_err());
    }
}
