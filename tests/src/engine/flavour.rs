//! The differences between MySQL and MariaDB: the form of GTIDs and the names of statements.

use std::collections::BTreeMap;

use anyhow::Context;

use crate::Server;

/// MySQL or MariaDB.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Flavour {
    /// A position is the set of all transactions that a server has run.
    /// <https://dev.mysql.com/doc/refman/8.4/en/replication-gtids-concepts.html>
    Mysql,
    /// A position is the last transaction of each domain.
    /// <https://mariadb.com/kb/en/gtid/>
    Mariadb,
}

/// For each domain: the server that wrote last, and the number of its last transaction.
#[derive(Debug, Eq, PartialEq)]
struct Domains(BTreeMap<u32, (u32, u64)>);

impl Flavour {
    /// What the server's log holds; on a primary, everything written.
    pub(super) async fn written(self, server: &Server) -> anyhow::Result<String> {
        let position: String = server
            .query_scalar(match self {
                Self::Mysql => "SELECT @@global.gtid_executed",
                Self::Mariadb => "SELECT @@global.gtid_binlog_pos",
            })
            .await?;
        // MySQL breaks a long set into lines.
        Ok(position.replace('\n', ""))
    }

    pub(super) async fn has_replayed(
        self,
        replica: &Server,
        position: &str,
    ) -> anyhow::Result<bool> {
        match self {
            Self::Mysql => {
                let sql = format!("SELECT GTID_SUBSET('{position}', @@global.gtid_executed)");
                replica.query_scalar(&sql).await
            }
            Self::Mariadb => {
                let sql = "SELECT @@global.gtid_slave_pos";
                let replayed: String = replica.query_scalar(sql).await?;
                Ok(Domains::parse(&replayed)?.cover(&Domains::parse(position)?))
            }
        }
    }

    /// Whether the replica has transactions that its primary does not have.
    pub(super) async fn has_strayed(
        self,
        replica: &Server,
        primary: &Server,
    ) -> anyhow::Result<bool> {
        let written = self.written(replica).await?;
        match self {
            Self::Mysql => Ok(!self.has_replayed(primary, &written).await?),
            Self::Mariadb => {
                let sql = "SELECT CAST(@@global.server_id AS SIGNED)";
                let own: i64 = replica.query_scalar(sql).await?;
                Ok(Domains::parse(&written)?.last_written_by(own))
            }
        }
    }

    /// A statement whose first column is the newest file of the binary log.
    pub(super) fn log_status(self) -> &'static str {
        match self {
            Self::Mysql => "SHOW BINARY LOG STATUS",
            Self::Mariadb => "SHOW BINLOG STATUS",
        }
    }

    /// Makes the primary wait before it shows a commit (AFTER_SYNC) until a replica has received it,
    /// for an hour.
    pub(super) fn wait_for_replica(self) -> &'static str {
        match self {
            Self::Mysql => {
                "SET GLOBAL rpl_semi_sync_source_wait_point = AFTER_SYNC, \
                 GLOBAL rpl_semi_sync_source_timeout = 3600000, \
                 GLOBAL rpl_semi_sync_source_enabled = ON"
            }
            Self::Mariadb => {
                "SET GLOBAL rpl_semi_sync_master_wait_point = AFTER_SYNC, \
                 GLOBAL rpl_semi_sync_master_timeout = 3600000, \
                 GLOBAL rpl_semi_sync_master_enabled = ON"
            }
        }
    }

    pub(super) fn wait_for_nobody(self) -> &'static str {
        match self {
            Self::Mysql => "SET GLOBAL rpl_semi_sync_source_enabled = OFF",
            Self::Mariadb => "SET GLOBAL rpl_semi_sync_master_enabled = OFF",
        }
    }

    /// Makes a replica tell its primary what it receives, or not. The thread that receives has to
    /// start again for this.
    pub(super) fn acknowledge(self, acknowledges: bool) -> String {
        // A replica of MariaDB that stops to receive ends its session on the primary, and would wait for a
        // frozen one for five seconds at each step of that.
        let settings = match self {
            Self::Mysql => "rpl_semi_sync_replica_enabled",
            Self::Mariadb => {
                "rpl_semi_sync_slave_kill_conn_timeout = 1, GLOBAL rpl_semi_sync_slave_enabled"
            }
        };
        format!(
            "SET GLOBAL {settings} = {acknowledges}; \
             STOP REPLICA IO_THREAD; START REPLICA IO_THREAD"
        )
    }

    /// How many replicas tell the primary what they receive.
    pub(super) async fn replicas_waited_for(self, primary: &Server) -> anyhow::Result<i64> {
        let status = match self {
            Self::Mysql => {
                "SELECT CAST(variable_value AS SIGNED) FROM performance_schema.global_status \
                 WHERE variable_name = 'Rpl_semi_sync_source_clients'"
            }
            Self::Mariadb => {
                "SELECT CAST(variable_value AS SIGNED) FROM information_schema.global_status \
                 WHERE variable_name = 'Rpl_semi_sync_master_clients'"
            }
        };
        primary.query_scalar(status).await
    }

    pub(super) fn change_source(self, host: &str) -> String {
        match self {
            Self::Mysql => format!("CHANGE REPLICATION SOURCE TO SOURCE_HOST = '{host}'"),
            Self::Mariadb => format!("CHANGE MASTER TO MASTER_HOST = '{host}'"),
        }
    }

    pub(super) fn change_delay(self, seconds: u128) -> String {
        match self {
            Self::Mysql => format!("CHANGE REPLICATION SOURCE TO SOURCE_DELAY = {seconds}"),
            Self::Mariadb => format!("CHANGE MASTER TO MASTER_DELAY = {seconds}"),
        }
    }
}

impl Domains {
    /// Parses `domain-server-number,…`.
    fn parse(text: &str) -> anyhow::Result<Self> {
        let gtids = text.split(',').map(str::trim).filter(|gtid| !gtid.is_empty());
        let parsed = gtids.map(|gtid| {
            let mut parts = gtid.splitn(3, '-');
            let mut part = || parts.next().context("too few parts");
            let (domain, server, number) = (part()?, part()?, part()?);
            Ok((domain.parse()?, (server.parse()?, number.parse()?)))
        });
        let parsed: anyhow::Result<_> = parsed.collect();
        Ok(Self(parsed.with_context(|| format!("not a MariaDB position: `{text}`"))?))
    }

    fn cover(&self, goal: &Self) -> bool {
        let reached = |domain| self.0.get(domain).map_or(0, |(_, number)| *number);
        goal.0.iter().all(|(domain, (_, number))| reached(domain) >= *number)
    }

    fn last_written_by(&self, server: i64) -> bool {
        self.0.values().any(|(by, _)| i64::from(*by) == server)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domains(text: &str) -> Domains {
        Domains::parse(text).unwrap()
    }

    #[test]
    fn a_position_covers_another_if_it_does_so_in_every_domain() {
        assert!(domains("0-1-10,2-1-5").cover(&domains("0-1-10")));
        assert!(domains("0-3-11").cover(&domains("0-1-10")));
        assert!(!domains("0-1-9,2-1-50").cover(&domains("0-1-10")));
        assert!(!domains("0-1-10").cover(&domains("0-1-10,2-1-5")));
        assert!(domains("").cover(&domains("")));
        assert!(!domains("").cover(&domains("0-1-1")));
    }

    #[test]
    fn the_last_writer_is_known() {
        assert!(domains("0-1-10,2-3-5").last_written_by(3));
        assert!(!domains("0-1-10,3-1-5").last_written_by(3));
    }

    #[test]
    fn text_that_is_no_position_is_refused() {
        for text in ["0-1", "x-1-1", "3E11FA47-71CA-11E1-9E33-C80AA9429562:1-5"] {
            assert!(Domains::parse(text).is_err(), "{text}");
        }
    }
}
