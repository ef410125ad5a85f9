//! Every finding follows from facts that are planted here, and none from good ones.

mod cluster;
mod plant;

use std::time::Duration;

use cluster::{facts, good_mysql, good_postgres, server, set, subscribe};
use plant::{GENERAL, MYSQL, POSTGRES, Plant};
use rstest::rstest;
use sealane::{Distance, Engine, ReadOnly};

use super::*;
use crate::check::facts::{Clock, ServerFacts};

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
    let sources =
        [include_str!("tests.rs"), include_str!("tests/plant.rs"), include_str!("../sqlite.rs")];
    let book = include_str!("../../../../../docs/src/command.md");
    for name in names {
        let quoted = format!("\"{name}\"");
        let is_planted = sources.iter().any(|it| it.contains(&quoted)) || name == "in-memory";
        assert!(is_planted, "{name} is not planted");
        assert!(book.contains(&format!("| `{name}` |")), "{name} is not in docs/src/command.md");
    }
}
