//! What makes a good cluster risky, and the finding that must follow.

use std::time::Duration;

use sealane::{Condition, ReadOnly};

use super::cluster::{server, set, subscribe};
use crate::{
    ask::{Trouble, TroubleKind},
    check::facts::{Clock, Facts},
};

pub(super) type Plant = fn(&mut Facts);

pub(super) fn trouble(facts: &mut Facts, kind: TroubleKind) {
    facts.endpoints[2].server = Err(Trouble { kind, text: "as it said".into() });
}

pub(super) fn see(facts: &mut Facts, condition: Condition) {
    facts.endpoints[1].seen.as_mut().unwrap().condition = condition;
}

/// Plants in facts of any engine: the code, the endpoint, a part of the remedy.
pub(super) const GENERAL: &[(&str, Option<&str>, &str, Plant)] = &[
    ("unreachable", Some("db-3"), "start the server", |f| trouble(f, TroubleKind::Unreachable)),
    ("login-refused", Some("db-3"), "password", |f| trouble(f, TroubleKind::Refused)),
    ("tls-refused", Some("db-3"), "sslmode", |f| trouble(f, TroubleKind::Tls)),
    ("no-database", Some("db-3"), "end of the URL", |f| trouble(f, TroubleKind::NoDatabase)),
    ("connections-used-up", Some("db-3"), "max_connections", |f| trouble(f, TroubleKind::Full)),
    ("unavailable", Some("db-3"), "log", |f| trouble(f, TroubleKind::Unavailable)),
    ("no-primary", None, "primary's URL", |f| drop(f.endpoints.remove(0))),
    ("two-primaries", None, "replicas again", |f| server(f, 3).is_replica = false),
    ("first-url-is-replica", Some("db-2"), "first", |f| f.endpoints.swap(0, 1)),
    ("no-replicas", None, "DATABASE_REPLICA_URLS", |f| f.endpoints.truncate(1)),
    ("same-server", Some("db-3"), "once", |f| {
        let (run, id) =
            (server(f, 2).run.clone(), server(f, 2).settings.text("server_id").map(str::to_owned));
        server(f, 3).run.clone_from(&run);
        server(f, 3).run_again = run;
        if let Some(id) = id {
            set(f, 3, "server_id", &id);
        }
    }),
    ("other-database", Some("db-3"), "/shop", |f| server(f, 3).database = Some("till".into())),
    ("versions-differ", Some("db-3"), "same version", |f| server(f, 3).release.0 += 1),
    ("version-unsupported", Some("db-3"), "upgrade", |f| {
        for number in 1..=3 {
            server(f, number).release = (5, 7);
        }
        // One finding is enough.
        f.endpoints.iter_mut().take(2).for_each(|it| it.server.as_mut().unwrap().release = (0, 0));
        f.endpoints[2].subscription = Some("none".into());
        subscribe(f, "none", true);
        server(f, 3).receiving.running_subscriptions.push("none".into());
        set(f, 1, "wal_level", "logical");
    }),
    ("several-servers-behind-url", Some("db-2"), "balancer", |f| {
        server(f, 2).run_again = Some("run 9".into());
    }),
    ("session-settings-lost", Some("db-2"), "pool_mode", |f| {
        server(f, 2).keeps_settings = Some(false);
    }),
    ("plaintext-to-remote", Some("db-2"), "ssl", |f| server(f, 2).is_encrypted = Some(false)),
    ("read-only-guard-dropped", Some("db-2"), "pooler", |f| {
        f.endpoints[1].seen.as_mut().unwrap().read_only_guard = Some(ReadOnly::Server);
    }),
    ("group-of-primaries", Some("db-2"), "one primary", |f| {
        f.endpoints[1].seen.as_mut().unwrap().group = Some("Galera: Synced".into());
    }),
    ("clocks-differ", Some("db-3"), "NTP", |f| {
        server(f, 3).clock = Some(Clock { ahead_ms: -1_100, error_ms: 10 });
    }),
    ("pool-too-large", Some("db-1"), "pool.max_connections", |f| f.endpoints[0].pool = 1_000),
    ("does-not-start", None, "does not start", |f| f.start_error = Some("it is strict".into())),
    ("other-system", Some("db-2"), "URL", |f| {
        server(f, 2).system = None;
        see(f, Condition::Foreign);
    }),
    ("old-timeline", Some("db-2"), "pg_rewind", |f| see(f, Condition::OldTimeline)),
    ("copying", Some("db-2"), "wait", |f| see(f, Condition::Copying)),
    ("lagging", Some("db-2"), "long transactions", |f| see(f, Condition::Lagging)),
    ("replay-delayed", Some("db-2"), "recovery_min_apply_delay", |f| {
        server(f, 2).receiving.delay = Some(Duration::from_secs(5));
    }),
    ("not-receiving", Some("db-2"), "log", |f| server(f, 2).receiving.receives = Some(false)),
];

pub(super) const POSTGRES: &[(&str, Option<&str>, &str, Plant)] = &[
    ("not-applying", Some("db-2"), "pg_wal_replay_resume()", |f| {
        server(f, 2).receiving.applies = Some(false);
    }),
    ("other-system", Some("db-3"), "pg_basebackup", |f| server(f, 3).system = Some("8".into())),
    ("superuser", Some("db-1"), "NOSUPERUSER", |f| server(f, 1).is_superuser = Some(true)),
    ("statistics-hidden", Some("db-2"), "GRANT pg_monitor", |f| {
        server(f, 2).receiving.is_visible = Some(false);
    }),
    ("primary-read-only", Some("db-1"), "RESET default_transaction_read_only", |f| {
        set(f, 1, "default_transaction_read_only", "on");
    }),
    ("wal-level", Some("db-1"), "wal_level = replica", |f| set(f, 1, "wal_level", "minimal")),
    ("fsync-off", Some("db-1"), "fsync = on", |f| set(f, 1, "fsync", "off")),
    ("hot-standby-feedback-off", Some("db-2"), "hot_standby_feedback = on", |f| {
        set(f, 2, "hot_standby_feedback", "off");
    }),
    ("standby-delay-unbounded", Some("db-2"), "max_standby_streaming_delay = '30s'", |f| {
        set(f, 2, "max_standby_streaming_delay", "-1");
    }),
    ("standby-delay-long", Some("db-2"), "max_standby_streaming_delay", |f| {
        set(f, 2, "max_standby_streaming_delay", "600000");
    }),
    ("replica-without-slot", Some("db-2"), "primary_slot_name = 'db_2'", |f| {
        server(f, 2).receiving.slot = None;
    }),
    ("slot-inactive", Some("db-1"), "pg_drop_replication_slot('one')", |f| {
        server(f, 1).sending.slots[0].is_active = false;
    }),
    ("slot-lost", Some("db-1"), "pg_basebackup", |f| {
        server(f, 1).sending.slots[0].wal_status = Some("lost".into());
    }),
    ("slots-unbounded", Some("db-1"), "max_slot_wal_keep_size", |f| {
        set(f, 1, "max_slot_wal_keep_size", "-1");
    }),
    ("slot-timeout-short", Some("db-1"), "1h", |f| {
        set(f, 1, "idle_replication_slot_timeout", "60");
    }),
    ("synchronous-standby-missing", Some("db-1"), "cluster_name", |f| {
        set(f, 1, "synchronous_standby_names", "FIRST 1 (three)");
    }),
    ("subscriber-not-declared", Some("db-3"), "subscription = \"sub\"", |f| {
        subscribe(f, "sub", true);
        server(f, 3).is_replica = false;
        server(f, 3).system = Some("8".into());
    }),
];

pub(super) const MYSQL: &[(&str, Option<&str>, &str, Plant)] = &[
    ("not-applying", Some("db-2"), "START REPLICA", |f| {
        server(f, 2).receiving.applies = Some(false);
    }),
    (
        "not-bound-by-read-only",
        Some("db-1"),
        "REVOKE CONNECTION_ADMIN, SUPER ON *.* FROM app;",
        |f| {
            server(f, 1).unbound_by = vec!["CONNECTION_ADMIN".into(), "SUPER".into()];
        },
    ),
    ("replication-status-hidden", Some("db-2"), "GRANT REPLICATION CLIENT", |f| {
        server(f, 2).receiving.is_visible = Some(false);
    }),
    ("gtid-off", Some("db-1"), "gtid_mode", |f| set(f, 1, "gtid_mode", "OFF")),
    ("gtid-not-enforced", Some("db-1"), "enforce_gtid_consistency = ON", |f| {
        set(f, 1, "enforce_gtid_consistency", "WARN");
    }),
    ("binlog-off", Some("db-1"), "log_bin", |f| set(f, 1, "log_bin", "OFF")),
    ("replica-updates-not-logged", Some("db-2"), "log_replica_updates = ON", |f| {
        set(f, 2, "log_replica_updates", "OFF");
    }),
    ("replica-writable", Some("db-2"), "read_only = ON", |f| set(f, 2, "read_only", "OFF")),
    ("super-read-only-off", Some("db-2"), "super_read_only = ON", |f| {
        set(f, 2, "super_read_only", "OFF");
    }),
    ("commit-order-not-kept", Some("db-2"), "replica_preserve_commit_order = ON", |f| {
        set(f, 2, "replica_preserve_commit_order", "OFF");
    }),
    ("binlog-expires-early", Some("db-1"), "binlog_expire_logs_seconds = ", |f| {
        set(f, 1, "binlog_expire_logs_seconds", "3600");
    }),
    ("binlog-format-statement", Some("db-1"), "binlog_format = ROW", |f| {
        set(f, 1, "binlog_format", "STATEMENT");
    }),
    ("binlog-not-synced", Some("db-1"), "sync_binlog = 1", |f| set(f, 1, "sync_binlog", "0")),
    ("commits-not-flushed", Some("db-1"), "innodb_flush_log_at_trx_commit = 1", |f| {
        set(f, 1, "innodb_flush_log_at_trx_commit", "2");
    }),
    ("same-server-id", Some("db-3"), "server_id", |f| set(f, 3, "server_id", "2")),
    ("performance-schema-off", Some("db-1"), "performance_schema = ON", |f| {
        set(f, 1, "performance_schema", "OFF");
    }),
    ("mixed-engines", Some("db-3"), "either MySQL or MariaDB", |f| server(f, 3).is_mariadb = true),
    ("not-receiving", Some("db-2"), "CHANGE REPLICATION SOURCE", |f| {
        server(f, 2).receiving.follows = Some(false);
    }),
];
