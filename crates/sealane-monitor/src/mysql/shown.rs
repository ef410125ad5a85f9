//! What a MariaDB primary shows of its commits.
//!
//! A group of commits is written to the binary log, sent to replicas, waits for an answer where
//! replication is semi-synchronous (AFTER_SYNC), and is shown last. All of this happens in the order
//! of the log, and so do the counts: `Binlog_group_commits` counts a group when it is shown
//! (`MYSQL_BIN_LOG::trx_group_commit_leader`, under `LOCK_commit_ordered`).
//!
//! - **While there are writes** the count is enough. When it is read, two groups at most are in the
//!   log and not counted: one that holds `LOCK_log` and one that holds `LOCK_after_binlog_sync`. So
//!   when two more are counted, the primary shows all that a replica had shown before.
//! - **Without writes** nothing more is counted. Then the end of the log
//!   (`SHOW BINLOG STATUS`) must be the place up to which commits are shown
//!   (`Binlog_snapshot_file` and `_position`). Asked in this order, all that was in the log is shown
//!   if both are the same. The end of the log is told to roles with `BINLOG MONITOR`, and its
//!   reader waits while the log is written out. So it is asked only while somebody waits. For a role
//!   that may not ask, nobody waits.
//!
//! # A new file
//! When the log goes on in a new file, the second place moves there as well, past groups that are not
//! shown yet. So in a file other than the first one seen, the places say something once two more
//! groups are counted, or while nothing was written since they last did. A little later a checkpoint
//! is noted there, which moves the place in the same way. Only a group that waits for a replica
//! stays in between for any time, so while there is one the places say nothing.
//!
//! Rejected: `BINLOG_GTID_POS` of the second place, which everybody may ask. It reads the log's file
//! from its beginning.

use sealane_core::{Report, Transactions};
use sqlx::{MySqlConnection, mysql::MySqlRow};

use super::{is_refused, text};

/// So many groups at most are in the log and not counted.
const UNDERWAY: u64 = 2;

/// One text, so that the order of the answers is that of the words.
const ASK: &str = "SELECT @@global.gtid_binlog_pos AS written; SHOW BINLOG STATUS; \
     SELECT variable_name, variable_value FROM information_schema.global_status \
     WHERE variable_name IN ('Binlog_group_commits', 'Binlog_snapshot_file', \
     'Binlog_snapshot_position', 'Rpl_semi_sync_master_wait_sessions')";

/// Of a primary that has shown so many groups.
pub(super) fn counted(groups: u64) -> Transactions {
    Transactions::Numbered { oldest: groups, next: groups.saturating_add(UNDERWAY) }
}

/// What was learned of the log on one connection.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    may_ask: bool,
    /// The file that was in use, and the count from which on its places say something.
    file: Option<(String, u64)>,
    /// What was written when all of it was last seen to be shown.
    settled: Option<String>,
}

/// The answer to [`ASK`].
#[derive(Debug, Clone)]
struct Answer {
    written: String,
    /// The end of the log.
    file: String,
    end: String,
    groups: u64,
    shown_file: String,
    shown_end: String,
    waiting: u64,
}

impl Shown {
    pub(super) fn new() -> Self {
        Shown { may_ask: true, file: None, settled: None }
    }

    /// Completes the `report` of a primary: while somebody waits, by a question whether it shows all
    /// that is in its log. One round trip. What a role may not ask, nobody shall wait for.
    pub(super) async fn complete(
        &mut self,
        connection: &mut MySqlConnection,
        report: &mut Report,
        is_awaited: bool,
    ) -> Result<(), sqlx::Error> {
        let Some(Transactions::Numbered { oldest, .. }) = report.transactions else {
            return Ok(());
        };
        if self.may_ask && is_awaited {
            match sqlx::raw_sql(ASK).fetch_all(connection).await {
                Err(error) if is_refused(&error) => self.may_ask = false,
                rows => {
                    let answer = Answer::read(&rows?);
                    if answer.is_some_and(|answer| self.is_settled(&answer)) {
                        let (oldest, next) = (oldest, oldest);
                        report.transactions = Some(Transactions::Numbered { oldest, next });
                    }
                }
            }
        }
        if !self.may_ask {
            report.transactions = None;
        }
        Ok(())
    }

    /// Whether all is shown that was in the log when the answer began.
    fn is_settled(&mut self, answer: &Answer) -> bool {
        let since = match &self.file {
            None => 0,
            Some((file, since)) if *file == answer.file => *since,
            Some(_) => answer.groups.saturating_add(UNDERWAY),
        };
        self.file = Some((answer.file.clone(), since));
        let is_level = (&answer.file, &answer.end) == (&answer.shown_file, &answer.shown_end);
        let is_settled = (is_level && answer.waiting == 0 && answer.groups >= since)
            || self.settled.as_ref() == Some(&answer.written);
        if is_settled {
            self.settled = Some(answer.written.clone());
        }
        is_settled
    }
}

impl Answer {
    /// `None` of a server that says something else.
    fn read(rows: &[MySqlRow]) -> Option<Self> {
        let told = |column: &str| rows.iter().find_map(|row| text(row, column).ok());
        let status = |name: &str| {
            let says = |row: &&MySqlRow| {
                text(row, "variable_name").is_ok_and(|its| its.eq_ignore_ascii_case(name))
            };
            rows.iter().find(says).and_then(|row| text(row, "variable_value").ok())
        };
        Some(Answer {
            written: told("written")?,
            file: told("File")?,
            end: told("Position")?,
            groups: status("Binlog_group_commits")?.parse().ok()?,
            shown_file: status("Binlog_snapshot_file")?,
            shown_end: status("Binlog_snapshot_position")?,
            waiting: status("Rpl_semi_sync_master_wait_sessions")?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level() -> Answer {
        Answer {
            written: "0-1-9".into(),
            file: "binlog.000001".into(),
            end: "540".into(),
            groups: 7,
            shown_file: "binlog.000001".into(),
            shown_end: "540".into(),
            waiting: 0,
        }
    }

    fn in_new_file() -> Answer {
        let file = || "binlog.000002".to_owned();
        Answer { file: file(), shown_file: file(), written: "0-1-10".into(), ..level() }
    }

    #[test]
    fn the_whole_log_is_shown_when_its_end_is() {
        assert!(Shown::new().is_settled(&level()));
        let behind = Answer { shown_end: "500".into(), ..level() };
        assert!(!Shown::new().is_settled(&behind));
        let awaits_a_replica = Answer { waiting: 1, ..level() };
        assert!(!Shown::new().is_settled(&awaits_a_replica));
    }

    #[test]
    fn places_in_a_new_file_say_nothing_until_two_more_groups_are_shown() {
        let mut shown = Shown::new();
        assert!(shown.is_settled(&level()));
        assert!(!shown.is_settled(&in_new_file()));
        assert!(!shown.is_settled(&Answer { groups: 8, ..in_new_file() }));
        assert!(shown.is_settled(&Answer { groups: 9, ..in_new_file() }));
    }

    #[test]
    fn a_new_file_alone_changes_nothing() {
        let mut shown = Shown::new();
        assert!(shown.is_settled(&level()));
        assert!(shown.is_settled(&Answer { written: level().written, ..in_new_file() }));
        assert!(!shown.is_settled(&in_new_file()));
    }

    #[test]
    fn two_more_groups_show_what_was_in_the_log() {
        let Transactions::Numbered { oldest, next } = counted(7) else { panic!("no numbers") };
        assert_eq!((oldest, next), (7, 9));
    }
}
