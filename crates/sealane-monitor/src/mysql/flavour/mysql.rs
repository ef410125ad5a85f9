//! MySQL.

use sealane_core::{Failure, GtidSet, Position, Replication, ServerInfo, Transactions};
use sqlx::mysql::MySqlRow;

use super::{Answer, channels_of, is_on, no_row, text, text_or_empty, unreadable};
use crate::mysql::{channel::Channel, owned};

/// The probe's statement. `gtid_owned` is read first: a transaction that the server no longer owns when
/// `gtid_executed` is read is in `gtid_executed`. The details need `REPLICATION CLIENT`.
pub(super) fn question(run: &str, details: bool) -> String {
    let details = if details { "; SHOW REPLICA STATUS" } else { "" };
    format!(
        "SELECT @@global.gtid_owned AS owned, @@global.gtid_executed AS executed, \
         @@global.gtid_mode AS gtid_mode, @@global.read_only AS read_only, \
         DATABASE() AS used_database, {run} AS incarnation{details}"
    )
}

/// MySQL's answer.
#[derive(Debug, Clone)]
pub(super) struct Words {
    owned: String,
    executed: String,
    gtid_mode: String,
    read_only: String,
    incarnation: String,
    /// `None` if we may not see the channels.
    channels: Option<(Vec<Channel>, Vec<String>)>,
}

impl Words {
    pub(super) fn read(rows: &[MySqlRow], details: bool) -> Result<Self, Failure> {
        let (first, channels) = rows.split_first().ok_or_else(no_row)?;
        let told = |name| text(first, name).map_err(unreadable);
        Ok(Words {
            owned: told("owned")?,
            executed: told("executed")?,
            gtid_mode: told("gtid_mode")?,
            read_only: told("read_only")?,
            incarnation: told("incarnation")?,
            channels: details.then(|| {
                let received = channels.iter().map(|row| text_or_empty(row, "Retrieved_Gtid_Set"));
                (channels_of(channels), received.collect())
            }),
        })
    }

    /// The same of a server that is `excused` from numbering its transactions.
    pub(super) fn logged(self, excused: bool) -> Self {
        if excused { Words { gtid_mode: "ON".to_owned(), ..self } } else { self }
    }

    pub(super) fn answer(self) -> Result<Answer, Failure> {
        // Otherwise some transactions have no number, and an empty set would prove every replica to
        // be up to date.
        if self.gtid_mode != "ON" {
            return Err(Failure::Misconfigured(format!(
                "gtid_mode is {}; only with ON is it known what a replica has replayed",
                self.gtid_mode
            )));
        }
        let executed: GtidSet = self.executed.parse().map_err(unreadable)?;
        let is_replica = is_on(&self.read_only);
        // Transactions that a primary has begun to commit may already be visible, on replicas and
        // on the primary itself.
        let begun = match is_replica {
            true => executed.clone(),
            false => executed.union(&owned::set(&self.owned).map_err(unreadable)?),
        };
        let transactions =
            (!is_replica).then(|| Transactions::Within(Position::GtidSet(executed.clone())));
        let sources = self.channels.as_ref().map(|(it, _)| Channel::sources(it));
        let (replication, received, info) = match self.channels {
            None => (Replication::Unknown, None, ServerInfo::default()),
            Some((channels, sets)) => {
                let mut received = executed.clone();
                for set in sets {
                    received = received.union(&set.parse().map_err(unreadable)?);
                }
                // Members of a replication group have no channel here.
                let replication = Channel::replication(&channels).unwrap_or(Replication::Unknown);
                let info = Channel::info(&channels);
                (replication, Some(Position::GtidSet(received)), info)
            }
        };
        Ok(Answer {
            is_replica,
            incarnation: self.incarnation,
            position: Some(Position::GtidSet(begun)),
            transactions,
            received,
            // The ancestry follows from the server's UUID, which was asked once.
            ancestry: None,
            replication,
            sources: sources.unwrap_or_default(),
            info,
        })
    }
}

#[cfg(test)]
mod tests {
    use sealane_core::Role;

    use super::*;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn replica() -> Words {
        Words {
            owned: String::new(),
            executed: format!("{A}:1-5"),
            gtid_mode: "ON".into(),
            read_only: "1".into(),
            incarnation: "2 1795250377".into(),
            channels: Some((
                vec![Channel { receives: true, applies: true, lag: None, source: None }],
                vec![format!("{A}:4-9")],
            )),
        }
    }

    #[test]
    fn a_replica_has_received_what_it_executed_and_what_waits() {
        let report = replica().answer().unwrap().report();
        assert_eq!(report.role, Role::Replica);
        assert_eq!(report.replication, Replication::Running);
        assert_eq!(report.position.unwrap().to_string(), format!("{A}:1-5"));
        assert_eq!(report.received.unwrap().to_string(), format!("{A}:1-9"));
    }

    #[test]
    fn without_the_privilege_replication_is_unknown() {
        let report = Words { channels: None, ..replica() }.answer().unwrap().report();
        assert_eq!((report.replication, report.received), (Replication::Unknown, None));
    }

    #[test]
    fn a_writable_server_is_the_primary_also_if_it_receives() {
        let report = Words { read_only: "0".into(), ..replica() }.answer().unwrap().report();
        assert_eq!((report.role, report.replication), (Role::Primary, Replication::NotApplicable));
        assert_eq!(report.received, None);
    }

    #[test]
    fn a_primary_has_begun_what_it_owns_and_shows_what_it_executed() {
        let primary = Words { owned: format!("{A}:6#12:7#15"), read_only: "0".into(), ..replica() };
        let report = primary.answer().unwrap().report();
        assert_eq!(report.position.unwrap().to_string(), format!("{A}:1-7"));
        let Some(Transactions::Within(shown)) = report.transactions else { panic!("not told") };
        assert_eq!(shown.to_string(), format!("{A}:1-5"));
    }

    #[test]
    fn a_replica_has_only_what_it_executed() {
        let applies = Words { owned: format!("{A}:6#12"), ..replica() };
        let report = applies.answer().unwrap().report();
        assert_eq!(report.position.unwrap().to_string(), format!("{A}:1-5"));
        assert_eq!(report.transactions, None);
    }

    #[test]
    fn without_gtids_nothing_could_be_proved() {
        let words = Words { gtid_mode: "OFF".into(), executed: String::new(), ..replica() };
        let error = words.answer().unwrap_err();
        assert!(matches!(&error, Failure::Misconfigured(why) if why.contains("OFF")), "{error}");
    }

    #[test]
    fn what_is_no_set_is_told() {
        let error = Words { executed: "0-1-5".into(), ..replica() }.answer().unwrap_err();
        assert!(matches!(error, Failure::Unexpected(_)), "{error}");
    }
}
