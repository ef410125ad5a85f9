//! Every finding follows from facts that are planted here, and none from good ones.

use std::{collections::BTreeMap, time::Duration};

use rstest::rstest;
use sealane::{Condition, Distance, Engine, ReadOnly};

use super::*;
use crate::{
    ask::{Trouble, TroubleKind},
    check::facts::{Clock, EndpointFacts, Receiving, Seen, Sending, ServerFacts, Settings, Slot},
};

fn settings(pairs: &[(&str, &str)]) -> Settings {
    let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Settings(pairs.collect::<BTreeMap<_, _>>())
}

fn endpoint(number: usize, server: ServerFacts) -> EndpointFacts {
    let seen = Seen {
        condition: Condition::Serving,
        lag: Some(Duration::from_millis(3)),
        unproved_for: None,
        behind: None,
        reported_lag: None,
        read_only_guard: None,
        group: None,
    };
    EndpointFacts {
        name: format!("db-{number}"),
        address: format!("db-{number}:1"),
        pool: 10,
        subscription: None,
        server: Ok(Box::new(server)),
        seen: Some(seen),
    }
}

fn general(number: usize) -> ServerFacts {
    ServerFacts {
        is_replica: number > 1,
        run: Some(format!("run {number}")),
        run_again: Some(format!("run {number}")),
        database: Some("shop".into()),
        user: Some("app".into()),
        is_superuser: Some(false),
        clock: Some(Clock { ahead_ms: 3, error_ms: 1 }),
        is_encrypted: Some(true),
        keeps_settings: Some(true),
        ..ServerFacts::default()
    }
}

/// A primary and two replicas of PostgreSQL, as they should be.
fn good_postgres() -> Facts {
    let server = |number: usize| ServerFacts {
        version: "PostgreSQL 17.5".into(),
        release: (17, 5),
        system: Some("7".into()),
        settings: settings(&[
            ("wal_level", "replica"),
            ("hot_standby_feedback", "on"),
            ("max_standby_streaming_delay", "30000"),
            ("wal_keep_size", "0"),
            ("max_slot_wal_keep_size", "10240"),
            ("default_transaction_read_only", "off"),
            ("synchronous_standby_names", "ANY 1 (one, \"two\")"),
            ("max_connections", "100"),
            ("superuser_reserved_connections", "3"),
            ("fsync", "on"),
        ]),
        sending: Sending {
            replicas: Some(vec!["one".into()]),
            slots: vec![Slot {
                name: "one".into(),
                is_active: true,
                holds_log: Some(true),
                wal_status: Some("reserved".into()),
                retained_bytes: Some(100),
                ..Slot::default()
            }],
        },
        receiving: Receiving {
            is_visible: Some(true),
            receives: (number > 1).then_some(true),
            applies: (number > 1).then_some(true),
            slot: (number > 1).then(|| "one".into()),
            subscriptions: Some(BTreeMap::new()),
            ..Receiving::default()
        },
        ..general(number)
    };
    facts(Engine::Postgres, server)
}

/// The same of MySQL.
fn good_mysql() -> Facts {
    let server = |number: usize| ServerFacts {
        version: "MySQL 9.4.0".into(),
        release: (9, 4),
        settings: settings(&[
            ("server_id", &number.to_string()),
            ("gtid_mode", "ON"),
            ("enforce_gtid_consistency", "ON"),
            ("log_bin", "ON"),
            ("log_replica_updates", "ON"),
            ("read_only", if number > 1 { "ON" } else { "OFF" }),
            ("super_read_only", if number > 1 { "ON" } else { "OFF" }),
            ("replica_preserve_commit_order", "ON"),
            ("replica_parallel_workers", "4"),
            ("binlog_expire_logs_seconds", "2592000"),
            ("binlog_format", "ROW"),
            ("sync_binlog", "1"),
            ("innodb_flush_log_at_trx_commit", "1"),
            ("performance_schema", "ON"),
            ("max_connections", "151"),
        ]),
        receiving: Receiving {
            is_visible: Some(true),
            follows: Some(number > 1),
            receives: (number > 1).then_some(true),
            applies: (number > 1).then_some(true),
            ..Receiving::default()
        },
        ..general(number)
    };
    facts(Engine::MySql, server)
}

fn facts(engine: Engine, server: impl Fn(usize) -> ServerFacts) -> Facts {
    let endpoints = (1..=3).map(|number| endpoint(number, server(number))).collect();
    Facts { engine, endpoints, processes: 1, start_error: None }
}

/// What the facts of the endpoint with this number are.
fn server(facts: &mut Facts, number: usize) -> &mut ServerFacts {
    facts.endpoints[number - 1].server.as_mut().unwrap()
}

fn set(facts: &mut Facts, number: usize, name: &str, value: &str) {
    server(facts, number).settings.0.insert(name.to_owned(), value.to_owned());
}

/// The third server has a subscription.
fn subscribe(facts: &mut Facts, name: &str, is_enabled: bool) {
    let subscriptions = &mut server(facts, 3).receiving.subscriptions;
    subscriptions.get_or_insert_default().insert(name.to_owned(), is_enabled);
}

#[rstest]
#[case(good_postgres())]
#[case(good_mysql())]
fn a_good_cluster_is_met_with_silence(#[case] facts: Facts) {
    assert_eq!(judge(&facts), []);
}

#[test]
fn what_is_unknown_is_no_finding() {
    let nothing = |number| ServerFacts { is_replica: number > 1, ..ServerFacts::default() };
    for engine in [Engine::Postgres, Engine::MySql] {
        assert_eq!(judge(&facts(engine, nothing)), []);
    }
}

type Plant = fn(&mut Facts);

fn trouble(facts: &mut Facts, kind: TroubleKind) {
    facts.endpoints[2].server = Err(Trouble { kind, text: "as it said".into() });
}

fn see(facts: &mut Facts, condition: Condition) {
    facts.endpoints[1].seen.as_mut().unwrap().condition = condition;
}

/// Plants in facts of any engine: the code, the endpoint, a part of the remedy.
const GENERAL: &[(&str, Option<&str>, &str, Plant)] = &[
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

const POSTGRES: &[(&str, Option<&str>, &str, Plant)] = &[
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

const MYSQL: &[(&str, Option<&str>, &str, Plant)] = &[
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

/// Checks that a plant is found, with its remedy and at its place, and nothing else.
fn expect(good: &Facts, (code, at, remedy, plant): &(&str, Option<&str>, &str, Plant)) {
    let mut facts = good.clone();
    plant(&mut facts);
    let findings = judge(&facts);
    assert_eq!(findings.len(), 1, "{code}: {findings:#?}");
    assert_eq!((findings[0].code.name, findings[0].endpoint.as_deref()), (*code, *at));
    assert!(findings[0].remedy.contains(remedy), "{code}: {}", findings[0].remedy);
}

#[test]
fn every_planted_fact_is_the_only_finding() {
    for plant in GENERAL.iter().chain(POSTGRES) {
        expect(&good_postgres(), plant);
    }
    let of_postgres = ["other-system", "version-unsupported"];
    for plant in GENERAL.iter().filter(|it| !of_postgres.contains(&it.0)).chain(MYSQL) {
        expect(&good_mysql(), plant);
    }
}

fn codes(facts: &Facts) -> Vec<&'static str> {
    judge(facts).iter().map(|finding| finding.code.name).collect()
}

#[test]
fn a_primary_that_was_left_read_only_is_told_as_such() {
    let mut facts = good_mysql();
    server(&mut facts, 1).is_replica = true;
    set(&mut facts, 1, "read_only", "ON");
    let codes = codes(&facts);
    assert!(codes.contains(&"primary-read-only") && codes.contains(&"no-primary"), "{codes:?}");
}

#[rstest]
#[case::hours_behind(
    None,
    Some(4),
    Some(7_200),
    Some("did not get within 4.0s to where the primary was before; it lacks 9 bytes")
)]
#[case::silent(
    None,
    Some(4),
    None,
    Some("did not get within 4.0s to where the primary was before; it lacks 9 bytes")
)]
#[case::aurora(None, None, Some(0), None)]
#[case::aurora_far_behind(None, None, Some(31), Some("it says that it is 31.0s behind"))]
#[case::proved(Some(1), None, Some(7_200), None)]
#[case::unknown(None, None, None, None)]
fn a_replica_that_serves_and_is_far_behind_is_found(
    #[case] lag: Option<u64>,
    #[case] unproved_for: Option<u64>,
    #[case] reported: Option<u64>,
    #[case] found: Option<&str>,
) {
    let mut facts = good_postgres();
    let seen = facts.endpoints[1].seen.as_mut().unwrap();
    seen.lag = lag.map(Duration::from_secs);
    seen.unproved_for = unproved_for.map(Duration::from_secs);
    seen.behind = Some(Distance::Bytes(9));
    seen.reported_lag = reported.map(Duration::from_secs);
    let findings = judge(&facts);
    assert_eq!(findings.len(), usize::from(found.is_some()), "{findings:#?}");
    for (finding, found) in findings.iter().zip(found) {
        assert_eq!(finding.code.name, "lagging");
        assert!(finding.found.contains(found), "{}", finding.found);
    }
}

#[test]
fn a_short_delay_harms_only_without_feedback() {
    let mut facts = good_postgres();
    set(&mut facts, 2, "max_standby_streaming_delay", "100");
    assert_eq!(codes(&facts), [""; 0]);
    set(&mut facts, 2, "hot_standby_feedback", "off");
    assert!(codes(&facts).contains(&"standby-delay-short"));
}

#[rstest]
#[case::missing(None, "subscription-missing")]
#[case::disabled(Some(false), "subscription-stopped")]
fn a_declared_subscription_must_run(#[case] enabled: Option<bool>, #[case] code: &str) {
    let mut facts = good_postgres();
    set(&mut facts, 1, "wal_level", "logical");
    facts.endpoints[2].subscription = Some("sub".into());
    server(&mut facts, 3).is_replica = false;
    if let Some(enabled) = enabled {
        subscribe(&mut facts, "sub", enabled);
    }
    assert_eq!(codes(&facts), [code]);
    subscribe(&mut facts, "sub", true);
    server(&mut facts, 3).receiving.running_subscriptions.push("sub".into());
    assert_eq!(codes(&facts), [""; 0]);
    set(&mut facts, 1, "wal_level", "replica");
    assert_eq!(codes(&facts), ["wal-level"]);
}

#[test]
fn a_declared_subscriber_is_not_judged_as_a_primary() {
    let mut facts = good_postgres();
    set(&mut facts, 1, "wal_level", "logical");
    facts.endpoints[2].subscription = Some("sub".into());
    subscribe(&mut facts, "sub", true);
    let subscriber = server(&mut facts, 3);
    subscriber.is_replica = false;
    subscriber.receiving.running_subscriptions.push("sub".into());
    subscriber.sending.slots[0].is_active = false;
    for (name, value) in [
        ("fsync", "off"),
        ("default_transaction_read_only", "on"),
        ("synchronous_standby_names", "nobody"),
        ("max_slot_wal_keep_size", "-1"),
        ("wal_level", "minimal"),
    ] {
        set(&mut facts, 3, name, value);
    }
    assert_eq!(codes(&facts), [""; 0]);
}

#[rstest]
#[case(false, None, "(pg_basebackup); raise max_slot_wal_keep_size")]
#[case(true, None, "create the subscription anew")]
#[case(true, Some("wal_removed"), "; raise max_slot_wal_keep_size")]
#[case(false, Some("idle_timeout"), "(pg_basebackup); raise idle_replication_slot_timeout")]
#[case(true, Some("rows_removed"), "hot_standby_feedback = on")]
#[case(true, Some("wal_level_insufficient"), "wal_level = logical")]
fn a_lost_slot_is_replaced_as_its_kind_wants_it(
    #[case] is_logical: bool,
    #[case] invalidation: Option<&str>,
    #[case] remedy: &str,
) {
    let mut facts = good_postgres();
    let slot = &mut server(&mut facts, 1).sending.slots[0];
    slot.is_logical = is_logical;
    slot.wal_status = Some("lost".to_owned()).filter(|_| invalidation.is_none());
    slot.invalidation = invalidation.map(str::to_owned);
    let findings = judge(&facts);
    assert_eq!(findings.len(), 1, "{findings:#?}");
    assert_eq!(findings[0].code.name, "slot-lost");
    assert!(findings[0].remedy.contains(remedy), "{}", findings[0].remedy);
    assert_eq!(findings[0].remedy.contains("pg_basebackup"), !is_logical);
}

#[test]
fn the_subscriber_of_an_unused_logical_slot_is_what_to_bring_back() {
    let mut facts = good_postgres();
    let slot = &mut server(&mut facts, 1).sending.slots[0];
    (slot.is_active, slot.is_logical) = (false, true);
    assert!(judge(&facts)[0].remedy.starts_with("bring its subscriber back"));
}

#[test]
fn subscriptions_that_are_not_told_are_not_missing() {
    let mut facts = good_postgres();
    set(&mut facts, 1, "wal_level", "logical");
    facts.endpoints[2].subscription = Some("sub".into());
    server(&mut facts, 3).is_replica = false;
    server(&mut facts, 3).receiving.subscriptions = None;
    assert_eq!(codes(&facts), [""; 0]);
}

#[test]
fn an_unused_slot_that_holds_back_no_log_is_no_finding() {
    let mut facts = good_postgres();
    let slot = &mut server(&mut facts, 1).sending.slots[0];
    (slot.is_active, slot.holds_log) = (false, Some(false));
    assert_eq!(codes(&facts), [""; 0]);
}

#[test]
fn statistics_matter_only_where_there_is_replication_to_see() {
    let mut facts = good_postgres();
    server(&mut facts, 1).receiving.is_visible = Some(false);
    assert_eq!(codes(&facts), ["statistics-hidden"]);
    server(&mut facts, 1).is_aurora = true;
    assert_eq!(codes(&facts), [""; 0]);
    server(&mut facts, 1).is_aurora = false;
    facts.endpoints.truncate(1);
    assert_eq!(codes(&facts), ["no-replicas"]);
}

#[test]
fn the_only_writable_server_is_the_primary_whatever_it_follows() {
    let mut facts = good_mysql();
    let receiving = &mut server(&mut facts, 1).receiving;
    (receiving.follows, receiving.receives) = (Some(true), Some(false));
    receiving.delay = Some(Duration::from_secs(5));
    facts.settle_roles();
    assert_eq!(codes(&facts), [""; 0]);
}

#[test]
fn a_writable_server_that_follows_is_a_replica_if_another_one_is_the_primary() {
    let mut facts = good_mysql();
    server(&mut facts, 2).is_replica = false;
    set(&mut facts, 2, "read_only", "OFF");
    facts.settle_roles();
    assert_eq!(codes(&facts), ["replica-writable"]);
    // Each follows the other: it is not known which of them is the replica.
    server(&mut facts, 2).is_replica = false;
    server(&mut facts, 1).receiving.follows = Some(true);
    facts.settle_roles();
    assert_eq!(codes(&facts), ["two-primaries"]);
}

#[test]
fn a_replica_without_a_binary_log_is_a_risk_and_no_error() {
    let mut facts = good_mysql();
    set(&mut facts, 2, "log_bin", "OFF");
    set(&mut facts, 2, "log_replica_updates", "OFF");
    assert_eq!(codes(&facts), ["replica-updates-not-logged"]);
}

#[test]
fn nobody_who_is_connected_is_named_even_if_all_are() {
    let mut facts = good_postgres();
    set(&mut facts, 1, "synchronous_standby_names", "*");
    assert_eq!(codes(&facts), [""; 0]);
    server(&mut facts, 1).sending.replicas = Some(Vec::new());
    assert_eq!(codes(&facts), ["synchronous-standby-missing"]);
}

#[rstest]
#[case("ANY 2 (one, two)", &["one"], true)]
#[case("ANY 2 (one, two)", &["one", "TWO"], false)]
#[case("FIRST 1 (\"one\")", &["one"], false)]
#[case("one, two", &["two"], false)]
#[case("2 (*)", &["any"], true)]
fn commits_wait_for_as_many_as_are_asked_for(
    #[case] names: &str,
    #[case] connected: &[&str],
    #[case] wait_for_ever: bool,
) {
    let mut facts = good_postgres();
    set(&mut facts, 1, "synchronous_standby_names", names);
    let connected = connected.iter().map(|it| (*it).to_owned());
    server(&mut facts, 1).sending.replicas = Some(connected.collect());
    assert_eq!(!codes(&facts).is_empty(), wait_for_ever);
}

#[test]
fn aurora_has_no_log_to_receive_and_no_binary_log() {
    for mut facts in [good_postgres(), good_mysql()] {
        for number in 1..=3 {
            let server = server(&mut facts, number);
            server.is_aurora = true;
            server.receiving.receives = Some(false);
            server.receiving.follows = Some(false);
            set(&mut facts, number, "log_bin", "OFF");
            set(&mut facts, number, "server_id", "1");
        }
        assert_eq!(codes(&facts), [""; 0]);
    }
}

#[test]
fn the_network_is_no_clock() {
    let mut facts = good_postgres();
    server(&mut facts, 3).clock = Some(Clock { ahead_ms: 1_900, error_ms: 1_000 });
    assert_eq!(codes(&facts), [""; 0]);
}

#[test]
fn behind_a_lender_its_own_connections_are_not_judged() {
    let mut facts = good_postgres();
    facts.endpoints[1].pool = 1_000;
    server(&mut facts, 2).is_encrypted = Some(false);
    assert_eq!(codes(&facts), ["pool-too-large", "plaintext-to-remote"]);
    server(&mut facts, 2).keeps_settings = Some(false);
    assert_eq!(codes(&facts), ["session-settings-lost"]);
}

#[test]
fn a_lender_that_passes_the_guard_on_is_only_noted() {
    let mut facts = good_postgres();
    let guard = |facts: &mut Facts, number: usize, guard| {
        facts.endpoints[number - 1].seen.as_mut().unwrap().read_only_guard = Some(guard);
    };
    for number in 1..=3 {
        server(&mut facts, number).keeps_settings = Some(false);
    }
    // The primary has no guard: nothing keeps a session there from writing.
    guard(&mut facts, 2, ReadOnly::Session);
    guard(&mut facts, 3, ReadOnly::Session);
    let findings = judge(&facts);
    assert_eq!(codes(&facts), ["session-settings-lost"; 3]);
    assert!(findings.iter().all(|it| it.severity == Severity::Note), "{findings:#?}");
    assert!(findings[0].remedy.contains("temporary tables"), "{}", findings[0].remedy);
    guard(&mut facts, 3, ReadOnly::Server);
    let findings = judge(&facts);
    assert!(findings.iter().all(|it| it.severity == Severity::Warning), "{findings:#?}");
}

#[test]
fn processes_multiply_what_pools_need() {
    let mut facts = good_postgres();
    facts.processes = 8;
    assert_eq!(codes(&facts), [""; 0]);
    facts.processes = 9;
    assert_eq!(codes(&facts), ["pool-too-large"; 3]);
}

#[test]
fn errors_come_first() {
    let mut facts = good_postgres();
    set(&mut facts, 2, "hot_standby_feedback", "off");
    set(&mut facts, 1, "fsync", "off");
    assert_eq!(codes(&facts), ["fsync-off", "hot-standby-feedback-off"]);
}

#[test]
fn every_code_is_planted_here_and_explained_in_the_book() {
    let source = include_str!("../code.rs");
    let names: Vec<_> = source.split("(\"").skip(1).filter_map(|it| it.split('"').next()).collect();
    assert!(names.len() > 60, "{names:?}");
    let here = include_str!("tests.rs");
    let file = include_str!("../sqlite.rs");
    let book = include_str!("../../../../../docs/src/command.md");
    for name in names {
        let quoted = format!("\"{name}\"");
        let is_planted = here.contains(&quoted) || file.contains(&quoted) || name == "in-memory";
        assert!(is_planted, "{name} is not planted");
        assert!(book.contains(&format!("| `{name}` |")), "{name} is not in docs/src/command.md");
    }
}
