//! Good clusters, and how to change them.

use std::{collections::BTreeMap, time::Duration};

use sealane::{Condition, Engine};

use crate::check::facts::{
    Clock, EndpointFacts, Facts, Receiving, Seen, Sending, ServerFacts, Settings, Slot,
};

pub(super) fn settings(pairs: &[(&str, &str)]) -> Settings {
    let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Settings(pairs.collect::<BTreeMap<_, _>>())
}

pub(super) fn endpoint(number: usize, server: ServerFacts) -> EndpointFacts {
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

pub(super) fn general(number: usize) -> ServerFacts {
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
pub(super) fn good_postgres() -> Facts {
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
pub(super) fn good_mysql() -> Facts {
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

pub(super) fn facts(engine: Engine, server: impl Fn(usize) -> ServerFacts) -> Facts {
    let endpoints = (1..=3).map(|number| endpoint(number, server(number))).collect();
    Facts { engine, endpoints, processes: 1, start_error: None }
}

/// What the facts of the endpoint with this number are.
pub(super) fn server(facts: &mut Facts, number: usize) -> &mut ServerFacts {
    facts.endpoints[number - 1].server.as_mut().unwrap()
}

pub(super) fn set(facts: &mut Facts, number: usize, name: &str, value: &str) {
    server(facts, number).settings.0.insert(name.to_owned(), value.to_owned());
}

/// The third server has a subscription.
pub(super) fn subscribe(facts: &mut Facts, name: &str, is_enabled: bool) {
    let subscriptions = &mut server(facts, 3).receiving.subscriptions;
    subscriptions.get_or_insert_default().insert(name.to_owned(), is_enabled);
}
