//! What is wrong or risky on MySQL and MariaDB.
//!
//! Sources: <https://dev.mysql.com/doc/refman/8.4/en/replication-options.html>,
//! <https://mariadb.com/kb/en/replication-and-binary-log-system-variables/>.

use std::collections::BTreeMap;

use crate::check::{
    code,
    facts::{EndpointFacts, Facts, ServerFacts},
    finding::Finding,
};

/// A replica that is away for a night must find its log again.
const SHORT_BINLOG_S: i64 = 12 * 3_600;

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = server_ids(facts);
    let has_replicas = facts.endpoints.len() > 1;
    for (endpoint, server) in facts.answered().filter(|(_, server)| !server.is_aurora) {
        findings.extend(role(endpoint, server, has_replicas));
        if has_replicas {
            findings.extend(log(endpoint, server));
        }
        findings.extend(durability(endpoint, server));
        if server.receiving.follows == Some(false) && server.is_replica {
            findings.push(unled(endpoint, facts));
        } else if server.is_replica {
            findings.extend(replica(endpoint, server));
        }
    }
    findings
}

/// Our user on the server.
fn role(endpoint: &EndpointFacts, server: &ServerFacts, has_replicas: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let user = server.user.as_deref().unwrap_or("the user");
    if !server.unbound_by.is_empty() {
        let privileges = server.unbound_by.join(", ");
        findings.push(Finding::at(
            code::NOT_BOUND,
            &endpoint.name,
            format!(
                "{user} may write where read_only is on ({privileges}): a demoted primary does not \
                 refuse its writes"
            ),
            format!("REVOKE {privileges} ON *.* FROM {user}; or connect as a user without them"),
        ));
    }
    if has_replicas && server.receiving.is_visible == Some(false) {
        let privilege = match server.is_mariadb {
            true => "REPLICA MONITOR, BINLOG MONITOR",
            false => "REPLICATION CLIENT",
        };
        findings.push(Finding::at(
            code::STATUS_HIDDEN,
            &endpoint.name,
            format!("{user} may not see whether the server replicates"),
            format!("GRANT {privilege} ON *.* TO {user}"),
        ));
    }
    if server.settings.is_off("performance_schema") && !server.is_mariadb {
        findings.push(Finding::at(
            code::PERFORMANCE_SCHEMA,
            &endpoint.name,
            "performance_schema is off, so nobody can see why the server waits",
            "set performance_schema = ON in the [mysqld] section, and restart",
        ));
    }
    findings
}

/// The log that replicas need, on every server: each may become the primary. A replica without it
/// is no error: the library proves what the replica has by what it has replayed.
fn log(endpoint: &EndpointFacts, server: &ServerFacts) -> Vec<Finding> {
    let settings = &server.settings;
    let at = |code, found: String, remedy: &str| Finding::at(code, &endpoint.name, found, remedy);
    let mut findings = Vec::new();
    let is_without = settings.is_off("log_bin");
    if is_without && server.is_replica {
        findings.push(at(
            code::UPDATES_NOT_LOGGED,
            "log_bin is off, so no other replica could follow it after its promotion".into(),
            "set log_bin = binlog in its configuration, and restart",
        ));
    } else if is_without {
        findings.push(at(
            code::BINLOG_OFF,
            "log_bin is off: nobody can replicate from it, and its writes have no positions".into(),
            "set log_bin = binlog in its configuration, and restart",
        ));
    }
    let gtid = settings.text("gtid_mode").filter(|mode| !mode.eq_ignore_ascii_case("ON"));
    if let Some(mode) = gtid.filter(|_| !server.is_mariadb) {
        findings.push(at(
            code::GTID_OFF,
            format!("gtid_mode is {mode}: without GTIDs no replica can be proved to have a write"),
            "SET GLOBAL enforce_gtid_consistency = ON, then gtid_mode = OFF_PERMISSIVE, \
             ON_PERMISSIVE and ON one after the other, on all servers",
        ));
    }
    let enforces = settings.text("enforce_gtid_consistency").filter(|_| !server.is_mariadb);
    if let Some(mode) = enforces.filter(|mode| !mode.eq_ignore_ascii_case("ON")) {
        findings.push(at(
            code::GTID_UNENFORCED,
            format!(
                "enforce_gtid_consistency is {mode}: statements that GTIDs cannot name are allowed"
            ),
            "SET PERSIST enforce_gtid_consistency = ON",
        ));
    }
    let logs_updates = ["log_replica_updates", "log_slave_updates"].map(|it| settings.is_off(it));
    // Without a binary log, this setting is off by itself.
    if logs_updates.contains(&true) && !is_without {
        findings.push(at(
            code::UPDATES_NOT_LOGGED,
            "it does not log what it replicates, so no other replica could follow it after its \
             promotion"
                .into(),
            "set log_replica_updates = ON (MariaDB: log_slave_updates), and restart",
        ));
    }
    if settings.text("binlog_format").is_some_and(|it| it.eq_ignore_ascii_case("STATEMENT")) {
        findings.push(at(
            code::BINLOG_STATEMENT,
            "binlog_format is STATEMENT: replicas run statements again, with results that may \
             differ"
                .into(),
            "SET GLOBAL binlog_format = ROW (or MIXED), and in its configuration",
        ));
    }
    let expires = settings.number("binlog_expire_logs_seconds");
    if let Some(seconds) = expires.filter(|it| (1..SHORT_BINLOG_S).contains(it)) {
        findings.push(at(
            code::BINLOG_SHORT,
            format!(
                "binlog_expire_logs_seconds is {seconds}: a replica that is away for longer must \
                 be made anew"
            ),
            "SET GLOBAL binlog_expire_logs_seconds = 259200 (three days), and in its configuration",
        ));
    }
    findings
}

/// What a power cut loses.
fn durability(endpoint: &EndpointFacts, server: &ServerFacts) -> Vec<Finding> {
    let settings = &server.settings;
    let at = |code, found: String, remedy: &str| Finding::at(code, &endpoint.name, found, remedy);
    let mut findings = Vec::new();
    let is_logged = settings.is_on("log_bin") == Some(true);
    if let Some(sync) = settings.number("sync_binlog").filter(|sync| *sync != 1 && is_logged) {
        findings.push(at(
            code::BINLOG_NOT_SYNCED,
            format!(
                "sync_binlog is {sync}: after a power cut, replicas may have what it has lost, and \
                 stop"
            ),
            "SET GLOBAL sync_binlog = 1, and in its configuration",
        ));
    }
    let flush = settings.number("innodb_flush_log_at_trx_commit");
    if let Some(flush) = flush.filter(|flush| *flush != 1) {
        findings.push(at(
            code::COMMITS_NOT_FLUSHED,
            format!(
                "innodb_flush_log_at_trx_commit is {flush}: a crash loses up to a second of \
                 answered writes"
            ),
            "SET GLOBAL innodb_flush_log_at_trx_commit = 1, and in its configuration",
        ));
    }
    findings
}

/// A server that refuses writes although it follows nobody: a primary that was left read-only, or a
/// replica that lost its source.
fn unled(endpoint: &EndpointFacts, facts: &Facts) -> Finding {
    let name = &*endpoint.name;
    match facts.primaries().next() {
        None => Finding::at(
            code::PRIMARY_READ_ONLY,
            name,
            "it follows no other server, and read_only is on: writes are refused",
            "SET GLOBAL super_read_only = OFF (MySQL only); SET GLOBAL read_only = OFF",
        ),
        Some((primary, _)) => Finding::at(
            code::NOT_RECEIVING,
            name,
            "it is read-only and follows no other server: it shows the same for ever",
            format!(
                "CHANGE REPLICATION SOURCE TO … (MariaDB: CHANGE MASTER TO …) with the host of {}; \
                 START REPLICA",
                primary.name
            ),
        ),
    }
}

fn replica(endpoint: &EndpointFacts, server: &ServerFacts) -> Vec<Finding> {
    let (settings, receiving) = (&server.settings, &server.receiving);
    let at = |code, found: String, remedy: &str| Finding::at(code, &endpoint.name, found, remedy);
    let mut findings = Vec::new();
    if settings.is_off("read_only") {
        findings.push(at(
            code::REPLICA_WRITABLE,
            "it is a replica, and read_only is off: whoever writes there loses the write, and \
             breaks its replication"
                .into(),
            "SET GLOBAL read_only = ON (MySQL: super_read_only = ON), and in its configuration",
        ));
    } else if settings.is_off("super_read_only") {
        findings.push(at(
            code::SUPER_WRITABLE,
            "super_read_only is off: administrators can still write there by mistake".into(),
            "SET GLOBAL super_read_only = ON, and in its configuration",
        ));
    }
    let order = ["replica_preserve_commit_order", "slave_preserve_commit_order"];
    let workers = ["replica_parallel_workers", "slave_parallel_workers"];
    let is_parallel = workers.iter().any(|name| settings.number(name).is_some_and(|it| it > 1));
    if order.iter().any(|name| settings.is_off(name)) && is_parallel {
        findings.push(at(
            code::ORDER_NOT_KEPT,
            "replica_preserve_commit_order is off: it can show a later commit before an earlier \
             one"
            .into(),
            "STOP REPLICA SQL_THREAD; SET GLOBAL replica_preserve_commit_order = ON; START REPLICA",
        ));
    }
    let told = |error: &Option<String>| match error {
        Some(error) => format!(": {error}"),
        None => String::new(),
    };
    if receiving.receives == Some(false) {
        findings.push(at(
            code::NOT_RECEIVING,
            format!("its receiving (IO) thread is not connected{}", told(&receiving.receive_error)),
            "START REPLICA; if it stops again, remedy the error (1236: the primary has removed log \
             that it needs, so make it anew)",
        ));
    }
    if receiving.applies == Some(false) {
        findings.push(at(
            code::NOT_APPLYING,
            format!("its applying (SQL) thread does not run{}", told(&receiving.apply_error)),
            "remedy the error, then START REPLICA SQL_THREAD; or make the replica anew",
        ));
    }
    findings
}

/// A server ignores what comes from a source with its own `server_id`.
fn server_ids(facts: &Facts) -> Vec<Finding> {
    let mut known: BTreeMap<i64, (&str, Option<&str>)> = BTreeMap::new();
    let mut findings = Vec::new();
    for (endpoint, server) in facts.answered().filter(|(_, server)| !server.is_aurora) {
        let Some(id) = server.settings.number("server_id") else { continue };
        let run = server.run.as_deref();
        match known.get(&id) {
            None => drop(known.insert(id, (&endpoint.name, run))),
            // Two names for one server are another finding.
            Some((_, other)) if run.is_some() && *other == run => {}
            Some((other, _)) => findings.push(Finding::at(
                code::SAME_SERVER_ID,
                &endpoint.name,
                format!(
                    "its server_id is {id}, as that of {other}: each ignores what the other wrote"
                ),
                "SET PERSIST server_id = … to a number of its own (MariaDB: SET GLOBAL, and in its \
                 configuration), and restart replication",
            )),
        }
    }
    findings
}
