//! Aurora MySQL.
//!
//! # What is proved: nothing
//! Aurora's readers share the writer's storage volume and have no GTIDs of their own.
//! `information_schema.replica_host_status` shows how far each instance has got. Its manual page
//! documents the lag, but not the numbers beside it (the rest is "for Aurora internal use only"),
//! and each row is as old as its `last_update_timestamp`. The page does not say at which moment the
//! writer's row is taken, nor what a reader's new snapshots see. So a reader has no position: it
//! serves [`Eventual`](sealane_core::Consistency::Eventual) reads, all other reads run on the
//! writer, and the reported lag is only shown to people.
//!
//! # Who is the writer
//! `innodb_read_only` comes from the server itself. The table's `MASTER_SESSION_ID` comes from
//! other instances and arrives later.
//!
//! Never run on Aurora: the tests use rows as people have published them.

use std::time::Duration;

use sealane_core::{Failure, Position, Replication, ServerInfo};
use sqlx::mysql::MySqlRow;

use super::{Answer, is_on, no_row, text, unreadable};

/// The server's own state, with the lag that the topology reports for it, if there is any.
pub(super) fn question(run: &str) -> String {
    format!(
        "SELECT @@global.innodb_read_only AS read_only, DATABASE() AS used_database, \
         @@aurora_server_id AS instance, {run} AS incarnation; \
         SELECT server_id, replica_lag_in_milliseconds AS lag_ms \
         FROM information_schema.replica_host_status"
    )
}

/// Aurora's answer.
#[derive(Debug, Clone)]
pub(super) struct Words {
    read_only: String,
    instance: String,
    incarnation: String,
    topology: Vec<Instance>,
}

/// One row of the topology.
#[derive(Debug, Clone)]
struct Instance {
    server_id: String,
    lag_ms: Option<f64>,
}

impl Words {
    pub(super) fn read(rows: &[MySqlRow]) -> Result<Self, Failure> {
        let (first, topology) = rows.split_first().ok_or_else(no_row)?;
        let told = |name| text(first, name).map_err(unreadable);
        let instance = |row: &MySqlRow| {
            let lag_ms = text(row, "lag_ms").ok().and_then(|lag| lag.parse().ok());
            Some(Instance { server_id: text(row, "server_id").ok()?, lag_ms })
        };
        Ok(Words {
            read_only: told("read_only")?,
            instance: told("instance")?,
            incarnation: told("incarnation")?,
            topology: topology.iter().filter_map(instance).collect(),
        })
    }

    pub(super) fn answer(self) -> Answer {
        let is_replica = is_on(&self.read_only);
        let own = self.topology.iter().find(|row| row.server_id == self.instance);
        // The lag in the writer's row means nothing.
        let lag_ms = own.and_then(|row| row.lag_ms).filter(|_| is_replica);
        Answer {
            is_replica,
            incarnation: self.incarnation,
            position: (!is_replica).then_some(Position::Opaque),
            transactions: None,
            received: None,
            ancestry: None,
            // It is unknown whether a reader outside the topology receives anything.
            replication: own.map_or(Replication::Unknown, |_| Replication::Running),
            sources: Vec::new(),
            info: ServerInfo {
                reported_lag: lag_ms.and_then(|ms| Duration::try_from_secs_f64(ms / 1000.0).ok()),
                ..ServerInfo::default()
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use sealane_core::{Report, Role};

    use super::*;

    /// As published in sysown/proxysql, issue 3082 (2020-12-11).
    const RECORDED: &str = "\
        | node1     | MASTER_SESSION_ID                    |                           0 |
        | node2     | c3p3f337-c95d-4ss9-a05e-sdgsd5454sdf |                          19 |
        | node3     | 0033ds35-c241-4rrb-a444-aasdasd44sd4 |                          19 |";

    /// As published there in pull request 2412 (2019-11-22): lags with fractions.
    const WITH_FRACTIONS: &str = "\
        | host.1.11 | MASTER_SESSION_ID       | 0                |
        | host.1.12 | b80ef4b4-host.1.12-aa01 | 15.25            |";

    fn topology(table: &str) -> Vec<Instance> {
        let row = |line: &str| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            Instance { server_id: cells[1].to_owned(), lag_ms: cells[3].parse().ok() }
        };
        table.lines().map(row).collect()
    }

    fn report(instance: &str, read_only: &str, table: &str) -> Report {
        let words = Words {
            read_only: read_only.into(),
            instance: instance.into(),
            incarnation: "1 1795250371".into(),
            topology: topology(table),
        };
        words.answer().report()
    }

    #[rstest]
    #[case::whole("node2", RECORDED, 19_000)]
    #[case::fraction("host.1.12", WITH_FRACTIONS, 15_250)]
    fn a_reader_has_a_lag_for_people_and_no_position(
        #[case] instance: &str,
        #[case] table: &str,
        #[case] lag_us: u64,
    ) {
        let report = report(instance, "1", table);
        assert_eq!((report.role, report.replication), (Role::Replica, Replication::Running));
        assert_eq!((report.position, report.received), (None, None));
        assert_eq!(report.info.reported_lag, Some(Duration::from_micros(lag_us)));
    }

    #[test]
    fn the_writer_is_one_that_accepts_writes() {
        let report = report("node1", "0", RECORDED);
        assert_eq!((report.role, report.position), (Role::Primary, Some(Position::Opaque)));
        assert_eq!(report.info.writable, Some(true));
        assert_eq!(report.info.reported_lag, None);
    }

    #[test]
    fn a_writer_that_was_replaced_and_finds_itself_in_the_topology_as_before_is_a_reader() {
        assert_eq!(report("node1", "1", RECORDED).role, Role::Replica);
    }

    #[test]
    fn a_reader_that_is_not_in_the_topology_is_not_known_to_be_fed() {
        let report = report("node9", "1", RECORDED);
        assert_eq!(report.replication, Replication::Unknown);
        assert_eq!(report.info.reported_lag, None);
    }
}
