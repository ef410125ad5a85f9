//! Faults planted on MySQL and MariaDB.

use anyhow::ensure;
use sealane_tests::{Engine, fleet};

use crate::tally::{Tally, Wanted};

/// The finding, the server, what the remedy contains, the plant and its undoing.
type Plant =
    (&'static str, &'static str, &'static str, &'static [&'static str], &'static [&'static str]);

const BOTH: &[Plant] = &[
    (
        "not-receiving",
        "replica-1",
        "START REPLICA",
        &["STOP REPLICA IO_THREAD"],
        &["START REPLICA"],
    ),
    (
        "not-applying",
        "replica-2",
        "START REPLICA",
        &["STOP REPLICA SQL_THREAD"],
        &["START REPLICA"],
    ),
    (
        "binlog-expires-early",
        "primary",
        "binlog_expire_logs_seconds",
        &["SET GLOBAL binlog_expire_logs_seconds = 3600"],
        &["SET GLOBAL binlog_expire_logs_seconds = 0"],
    ),
    (
        "binlog-format-statement",
        "primary",
        "binlog_format = ROW",
        &["SET GLOBAL binlog_format = STATEMENT"],
        &["SET GLOBAL binlog_format = ROW"],
    ),
    (
        "binlog-not-synced",
        "primary",
        "sync_binlog = 1",
        &["SET GLOBAL sync_binlog = 0"],
        &["SET GLOBAL sync_binlog = 1"],
    ),
    (
        "commits-not-flushed",
        "replica-1",
        "innodb_flush_log_at_trx_commit = 1",
        &["SET GLOBAL innodb_flush_log_at_trx_commit = 2"],
        &["SET GLOBAL innodb_flush_log_at_trx_commit = 1"],
    ),
    (
        "primary-read-only",
        "primary",
        "read_only = OFF",
        &["SET GLOBAL read_only = ON"],
        &["SET GLOBAL read_only = OFF"],
    ),
    (
        "same-server-id",
        "replica-2",
        "server_id",
        &["SET GLOBAL server_id = 2"],
        &["SET GLOBAL server_id = 3"],
    ),
];

const MYSQL: &[Plant] = &[
    (
        "replica-writable",
        "replica-1",
        "read_only = ON",
        &["SET GLOBAL super_read_only = OFF", "SET GLOBAL read_only = OFF"],
        &["SET GLOBAL super_read_only = ON"],
    ),
    (
        "super-read-only-off",
        "replica-1",
        "super_read_only = ON",
        &["SET GLOBAL super_read_only = OFF"],
        &["SET GLOBAL super_read_only = ON"],
    ),
    (
        "commit-order-not-kept",
        "replica-1",
        "replica_preserve_commit_order = ON",
        &["STOP REPLICA", "SET GLOBAL replica_preserve_commit_order = OFF", "START REPLICA"],
        &["STOP REPLICA", "SET GLOBAL replica_preserve_commit_order = ON", "START REPLICA"],
    ),
    (
        "gtid-off",
        "replica-1",
        "gtid_mode",
        &["SET GLOBAL gtid_mode = ON_PERMISSIVE"],
        &["SET GLOBAL gtid_mode = ON"],
    ),
    (
        "replay-delayed",
        "replica-2",
        "SOURCE_DELAY = 0",
        &["STOP REPLICA", "CHANGE REPLICATION SOURCE TO SOURCE_DELAY = 5", "START REPLICA"],
        &["STOP REPLICA", "CHANGE REPLICATION SOURCE TO SOURCE_DELAY = 0", "START REPLICA"],
    ),
];

const MARIADB: &[Plant] = &[
    (
        "replica-writable",
        "replica-1",
        "read_only = ON",
        &["SET GLOBAL read_only = OFF"],
        &["SET GLOBAL read_only = ON"],
    ),
    (
        "replay-delayed",
        "replica-2",
        "MASTER_DELAY = 0",
        &["STOP REPLICA", "CHANGE MASTER TO MASTER_DELAY = 5", "START REPLICA"],
        &["STOP REPLICA", "CHANGE MASTER TO MASTER_DELAY = 0", "START REPLICA"],
    ),
];

pub(crate) async fn plant(tally: &mut Tally<'_>) -> anyhow::Result<()> {
    let is_mysql = tally.good.cluster.engine() == Engine::Mysql;
    let own = if is_mysql { MYSQL } else { MARIADB };
    for (code, on, remedy, plant, undo) in BOTH.iter().chain(own) {
        tally.sql(Wanted(code, Some(on), remedy), on, plant, undo).await?;
    }
    let (revoke, grant) = match is_mysql {
        true => (
            "REVOKE REPLICATION CLIENT ON *.* FROM checker@'%'",
            "GRANT REPLICATION CLIENT ON *.* TO checker@'%'",
        ),
        false => (
            "REVOKE SLAVE MONITOR ON *.* FROM checker@'%'",
            "GRANT SLAVE MONITOR ON *.* TO checker@'%'",
        ),
    };
    let hidden = Wanted("replication-status-hidden", Some("replica-1"), "GRANT");
    tally.sql(hidden, "primary", &[revoke], &[grant]).await?;
    let administrator = fleet::config_as(tally.good.cluster, |server| server.admin_url.clone());
    let unbound = Wanted("not-bound-by-read-only", Some("primary"), "REVOKE");
    tally.expect(unbound, &administrator, 1).await?;
    broken_replica(tally, is_mysql).await
}

/// A replica whose applying thread meets what it cannot apply: the finding tells the error.
async fn broken_replica(tally: &mut Tally<'_>, is_mysql: bool) -> anyhow::Result<()> {
    let (primary, replica) = (tally.server("primary"), tally.server("replica-1"));
    primary.sql("CREATE TABLE sealane.stray (id int PRIMARY KEY)").await?;
    fleet::replayed_by(primary, replica).await?;
    // Written on the replica itself, which leaves no trace in its log.
    let create = "SET SESSION sql_log_bin = 0; INSERT INTO sealane.stray VALUES (1)";
    let remove = "SET SESSION sql_log_bin = 0; DELETE FROM sealane.stray";
    let writable = async |is: bool| match is_mysql {
        true => {
            let value = if is { "OFF" } else { "ON" };
            replica.sql(&format!("SET GLOBAL super_read_only = {value}")).await
        }
        false => Ok(()),
    };
    writable(true).await?;
    replica.sql(create).await?;
    primary.sql("INSERT INTO sealane.stray VALUES (1)").await?;
    let broken = Wanted("not-applying", Some("replica-1"), "remedy the error");
    let expected = tally.expect(broken, &tally.config(), 1).await;
    replica.sql(remove).await?;
    writable(false).await?;
    replica.sql("START REPLICA").await?;
    primary.sql("DROP TABLE sealane.stray").await?;
    let finding = expected?;
    ensure!(finding.found.contains("1062"), "the last error is not told: {}", finding.found);
    Ok(())
}
