//! MariaDB.

use std::borrow::Cow;

use sealane_core::{Ancestry, Failure, GtidList, Position, Replication, ServerInfo};
use sqlx::mysql::MySqlRow;

use super::{Answer, channels_of, is_on, no_row, text, text_or_empty, unreadable};
use crate::mysql::{channel::Channel, shown};

/// The probe's statement: the settings, then the status variables, one row for each. The details need
/// `SLAVE MONITOR`. Without them, all is one statement, for proxies that take one at a time.
///
/// `SHOW STATUS LIKE` looks at one variable and not, as the table does, at those of all sessions.
///
/// (Folding the variables into one row would be a trap: next to an aggregate function, MariaDB (10.11,
/// 11.8) shows every setting that is ON as 0.)
pub(super) fn question(run: &str, details: bool) -> String {
    let settings = format!(
        "SELECT @@global.gtid_slave_pos AS replayed, @@global.gtid_binlog_pos AS written, \
         @@global.gtid_binlog_state AS passed, \
         @@global.log_bin AS log_bin, @@global.read_only AS read_only, \
         @@global.binlog_optimize_thread_scheduling AS in_one_thread, \
         DATABASE() AS used_database, @@global.server_id AS server_id, {run} AS incarnation"
    );
    match details {
        true => format!(
            "{settings}; SHOW GLOBAL STATUS LIKE 'Binlog_group_commits'; SHOW ALL SLAVES STATUS"
        ),
        false => format!(
            "{settings}, variable_name AS Variable_name, variable_value AS Value \
             FROM information_schema.global_status WHERE variable_name IN \
             ('Slave_running', 'Slaves_running', 'Slave_heartbeat_period', 'Binlog_group_commits')"
        ),
    }
}

/// MariaDB's answer.
#[derive(Debug, Clone)]
pub(super) struct Words {
    replayed: String,
    written: String,
    /// For each server, the last transaction that the log holds or held.
    passed: String,
    server_id: u32,
    log_bin: String,
    read_only: String,
    incarnation: String,
    /// How many groups of commits it has shown. `None` if the threads of a group show their commits
    /// only after the group was counted.
    groups: Option<u64>,
    status: Status,
    /// `None` if we may not see the channels.
    channels: Option<(Vec<Channel>, Vec<String>)>,
}

/// What every role may see of replication.
#[derive(Debug, Clone)]
struct Status {
    /// `ON` if both threads of the unnamed connection run.
    running: String,
    /// How many applying threads run, in all connections.
    applying: String,
    /// The heartbeat period of the unnamed connection, in seconds; zero if there is no such
    /// connection.
    heartbeat: String,
}

impl Words {
    pub(super) fn read(rows: &[MySqlRow], details: bool) -> Result<Self, Failure> {
        let first = rows.first().ok_or_else(no_row)?;
        let setting = |name| text(first, name).map_err(unreadable);
        let is_status = |row: &&MySqlRow| text(row, "Variable_name").is_ok();
        let status = |name: &str| {
            let says = |row: &&MySqlRow| {
                text(row, "Variable_name").is_ok_and(|its| its.eq_ignore_ascii_case(name))
            };
            rows.iter().find(says).map(|row| text_or_empty(row, "Value"))
        };
        // After the settings and the status.
        let channels = &rows[1 + rows.iter().skip(1).take_while(is_status).count()..];
        Ok(Words {
            replayed: setting("replayed")?,
            written: setting("written")?,
            passed: setting("passed")?,
            server_id: setting("server_id")?.parse().map_err(unreadable)?,
            log_bin: setting("log_bin")?,
            read_only: setting("read_only")?,
            incarnation: setting("incarnation")?,
            groups: status("Binlog_group_commits")
                .filter(|_| setting("in_one_thread").is_ok_and(|it| is_on(&it)))
                .and_then(|groups| groups.parse().ok()),
            status: Status {
                running: status("Slave_running").unwrap_or_default(),
                applying: status("Slaves_running").unwrap_or_default(),
                heartbeat: status("Slave_heartbeat_period").unwrap_or_default(),
            },
            channels: details.then(|| {
                let received = channels.iter().map(|row| text_or_empty(row, "Gtid_IO_Pos"));
                (channels_of(channels), received.collect())
            }),
        })
    }

    /// The same of a server that is `excused` from having a binary log.
    pub(super) fn logged(self, excused: bool) -> Self {
        if excused { Words { log_bin: "1".into(), ..self } } else { self }
    }

    pub(super) fn answer(self) -> Result<Answer, Failure> {
        let is_replica = is_on(&self.read_only);
        let replayed: GtidList = self.replayed.parse().map_err(unreadable)?;
        let (replication, received) = match &self.channels {
            None => (self.status.replication(), None),
            Some((channels, lists)) => {
                let mut received = replayed.clone();
                for list in lists {
                    received = received.union(&list.parse().map_err(unreadable)?);
                }
                let replication = Channel::replication(channels).unwrap_or(Replication::Stopped);
                (replication, Some(Position::GtidList(received)))
            }
        };
        let position = match is_replica {
            true if !self.never_followed(&replayed) => replayed,
            _ => self.as_primary(&replayed)?,
        };
        let transactions = self.groups.filter(|_| !is_replica).map(shown::counted);
        let ancestry = Ancestry::mariadb(self.server_id, &self.has_passed()).map_err(unreadable)?;
        Ok(Answer {
            is_replica,
            incarnation: self.incarnation,
            position: Some(Position::GtidList(position)),
            transactions,
            received,
            ancestry: Some(ancestry),
            replication,
            sources: self.channels.as_ref().map(|(it, _)| Channel::sources(it)).unwrap_or_default(),
            info: match &self.channels {
                Some((channels, _)) => Channel::info(channels),
                None => ServerInfo::default(),
            },
        })
    }

    /// For each server, the last transaction known to be in this server's data. With
    /// `log_slave_updates=OFF`, the default, replayed transactions are not in the log.
    fn has_passed(&self) -> Cow<'_, str> {
        match (&*self.passed, &*self.replayed) {
            (logged, "") => logged.into(),
            ("", replayed) => replayed.into(),
            (logged, replayed) => format!("{logged},{replayed}").into(),
        }
    }

    /// Whether it is a former primary that was set to be read-only and has never replayed anything:
    /// then its data are what its own log says. `SET read_only` waits for the commits under way, so
    /// the log holds nothing that is not visible.
    fn never_followed(&self, replayed: &GtidList) -> bool {
        let has_source = match &self.channels {
            Some((channels, _)) => !channels.is_empty(),
            None => {
                self.status.replication() != Replication::Stopped
                    || self.status.heartbeat.parse::<f64>().is_ok_and(|seconds| seconds > 0.0)
            }
        };
        replayed.is_empty() && !has_source && is_on(&self.log_bin)
    }

    /// What the primary's binary log holds, and what the server replayed before it became the
    /// primary. With `log_slave_updates=OFF`, the latter is not in its log.
    ///
    /// A replica's log does not count: transactions written only there have the same numbers as
    /// transactions of its primary.
    fn as_primary(&self, replayed: &GtidList) -> Result<GtidList, Failure> {
        // Otherwise an empty list would prove every replica to be up to date.
        if !is_on(&self.log_bin) {
            return Err(Failure::Misconfigured(
                "log_bin is OFF; only with a binary log is it known what a replica has replayed"
                    .to_owned(),
            ));
        }
        let written: GtidList = self.written.parse().map_err(unreadable)?;
        Ok(written.union(replayed))
    }
}

impl Status {
    fn replication(&self) -> Replication {
        let applies = self.applying != "0";
        let is_unnamed = self.heartbeat.parse::<f64>().is_ok_and(|seconds| seconds > 0.0);
        match (self.running.as_str(), applies, is_unnamed) {
            ("ON", _, _) => Replication::Running,
            // No new transactions arrive; it is not known whether the replica receives.
            (_, false, true) => Replication::Paused,
            (_, true, true) | (_, false, false) => Replication::Stopped,
            // Only named connections, about which no status is visible.
            (_, true, false) => Replication::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use sealane_core::Role;

    use super::*;

    fn status(running: &str, applying: &str, heartbeat: &str) -> Status {
        let [running, applying, heartbeat] = [running, applying, heartbeat].map(str::to_owned);
        Status { running, applying, heartbeat }
    }

    fn replica() -> Words {
        Words {
            replayed: "0-1-5".into(),
            written: "0-1-4".into(),
            passed: "0-1-4".into(),
            server_id: 2,
            log_bin: "1".into(),
            read_only: "1".into(),
            incarnation: "2 1795250371".into(),
            groups: Some(7),
            status: status("ON", "1", "1.000"),
            channels: None,
        }
    }

    fn positions(words: Words) -> (Option<String>, Option<String>) {
        let report = words.answer().unwrap().report();
        (report.position.map(|p| p.to_string()), report.received.map(|p| p.to_string()))
    }

    #[test]
    fn a_replica_is_where_it_has_replayed_to_whatever_its_log_says() {
        let words = Words { written: "0-2-9".into(), ..replica() };
        assert_eq!(positions(words), (Some("0-1-5".into()), None));
    }

    #[test]
    fn a_replica_has_received_what_it_replayed_and_what_waits() {
        let channel = Channel { receives: true, applies: false, lag: None, source: None };
        let channels = Some((vec![channel], vec!["0-1-8".into()]));
        let words = Words { channels, ..replica() };
        assert_eq!(words.clone().answer().unwrap().replication, Replication::Paused);
        assert_eq!(positions(words), (Some("0-1-5".into()), Some("0-1-8".into())));
    }

    #[test]
    fn a_primary_is_where_its_log_ends_and_where_it_has_replayed_to() {
        let primary = Words { read_only: "OFF".into(), ..replica() };
        assert_eq!(primary.clone().answer().unwrap().report().role, Role::Primary);
        let told = |words: Words| words.answer().unwrap().report().transactions;
        assert_eq!(told(primary.clone()), Some(shown::counted(7)));
        assert_eq!(told(Words { groups: None, ..primary.clone() }), None);
        assert_eq!(told(replica()), None);
        let written = Words { written: "0-1-9,3-1-2".into(), ..primary.clone() };
        assert_eq!(positions(written), (Some("0-1-9,3-1-2".into()), None));
        let promoted = Words { written: String::new(), ..primary };
        assert_eq!(positions(promoted), (Some("0-1-5".into()), None));
    }

    /// With `log_slave_updates=OFF`, a server's log contains nothing of its sources.
    #[test]
    fn a_promoted_server_has_passed_what_it_replayed_before() {
        let promoted = Words {
            read_only: "OFF".into(),
            replayed: "0-1-100".into(),
            written: "0-2-105".into(),
            passed: "0-2-105".into(),
            ..replica()
        };
        let passed = |words: Words| words.answer().unwrap().ancestry.unwrap();
        let both = Ancestry::mariadb(2, "0-2-105,0-1-100").unwrap();
        assert_eq!(passed(promoted.clone()), both);
        let silent = Words { passed: String::new(), ..promoted.clone() };
        assert_eq!(passed(silent), Ancestry::mariadb(2, "0-1-100").unwrap());
        let first = Words { replayed: String::new(), ..promoted };
        assert_eq!(passed(first), Ancestry::mariadb(2, "0-2-105").unwrap());
    }

    #[test]
    fn a_primary_that_is_made_read_only_is_where_its_log_ends() {
        let demoted = Words {
            replayed: String::new(),
            written: "0-1-9".into(),
            status: status("OFF", "0", "0.000"),
            ..replica()
        };
        assert_eq!(positions(demoted.clone()), (Some("0-1-9".into()), None));
        let told = Words { channels: Some((vec![], vec![])), ..demoted.clone() };
        assert_eq!(told.answer().unwrap().report().position.unwrap().to_string(), "0-1-9");
        // It has a source that has not sent anything yet.
        let channel = Channel { receives: true, applies: true, lag: None, source: None };
        let begins = Words { channels: Some((vec![channel], vec![])), ..demoted.clone() };
        assert_eq!(positions(begins).0, Some(String::new()));
        let begins = Words { status: status("ON", "1", "1.000"), ..demoted.clone() };
        assert_eq!(positions(begins).0, Some(String::new()));
        let without_log = Words { log_bin: "0".into(), ..demoted };
        assert_eq!(positions(without_log).0, Some(String::new()));
    }

    #[test]
    fn a_primary_without_a_log_proves_nothing() {
        let words = Words { read_only: "0".into(), log_bin: "0".into(), ..replica() };
        let error = words.clone().logged(false).answer().unwrap_err();
        assert!(matches!(&error, Failure::Misconfigured(why) if why.contains("log_bin")));
        assert!(words.logged(true).answer().is_ok(), "a member of Galera needs none");
    }

    #[test]
    fn everybody_may_see_whether_the_unnamed_connection_runs() {
        assert_eq!(status("ON", "1", "1.000").replication(), Replication::Running);
        assert_eq!(status("OFF", "1", "1.000").replication(), Replication::Stopped);
        assert_eq!(status("OFF", "0", "1.000").replication(), Replication::Paused);
        assert_eq!(status("OFF", "0", "0.000").replication(), Replication::Stopped);
        assert_eq!(status("OFF", "2", "0.000").replication(), Replication::Unknown);
    }
}
