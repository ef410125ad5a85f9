use crate::observe::{ConnectionReport, EndpointReport, Report, StatementReport, StatementReports};

use super::*;
use crate::cluster::Counts;

fn endpoint(name: &str, reads: u64) -> EndpointReport {
    EndpointReport {
        name: name.to_owned(),
        is_primary: name == "primary",
        serves: true,
        group: None,
        weight: 1,
        reads,
        read_ratio: None,
        writes: 0,
        failures: 0,
        read_latency: None,
        write_latency: None,
        connections: ConnectionReport { open: 10, idle: 10, waiting: 0 },
    }
}

/// A primary and two replicas that share 1,000 reads as they should.
fn report() -> Report {
    let store = sealane_monitor::TopologyStore::new(sealane_core::Topology::new(Vec::new()));
    Report {
        counted_for_ms: 1_000,
        reads: 1_000,
        writes: 50,
        replica_read_ratio: Some(0.9),
        replica_share: 1.0,
        detours: Counts::of(&store).read(),
        endpoints: vec![endpoint("primary", 100), endpoint("a", 450), endpoint("b", 450)],
        statements: StatementReports::default(),
        advice: Vec::new(),
    }
}

fn unproved(times: u64) -> StatementReport {
    StatementReport {
        text: "SELECT mystery(?)".to_owned(),
        reads: 0,
        mean_us: 0,
        total_ms: 0,
        asked_for_primary: 0,
        pinned_to_primary: 0,
        fell_back_to_primary: 0,
        unproved: times,
        why: Some("calls mystery".to_owned()),
    }
}

#[test]
fn a_load_that_is_well_spread_needs_no_advice() {
    assert_eq!(Advice::on(&report()), []);
}

#[test]
fn a_group_may_have_less_to_do_than_others() {
    let mut report = report();
    let mut reports = endpoint("reports", 3);
    reports.group = Some("reports".to_owned());
    report.endpoints.push(reports);
    assert_eq!(Advice::on(&report), []);
}

#[test]
fn a_share_is_told_to_the_nearest_percent() {
    let mut report = report();
    report.replica_share = 0.29;
    let told = Advice::on(&report);
    assert!(told.contains(&Advice::RaiseReplicaShare { percent: 29 }), "{told:?}");
}

#[test]
fn pinned_reads_of_the_shared_handle_need_sessions() {
    let mut report = report();
    report.detours.pinned_to_primary = 99;
    report.detours.pinned_by_shared_handle = 99;
    assert_eq!(Advice::on(&report), [], "below the threshold");
    report.detours.pinned_to_primary = 410;
    report.detours.pinned_by_shared_handle = 156;
    let advice = Advice::on(&report);
    assert_eq!(advice, [Advice::UseSessions { pinned_percent: 41, shared_percent: 38 }]);
    let words = advice[0].to_string();
    assert!(words.contains("41 % of the reads") && words.contains("38 % of these"), "{words}");
    report.detours.pinned_by_shared_handle = 100;
    assert_eq!(Advice::on(&report), [Advice::ReadsFollowWrites { pinned_percent: 41 }]);
}

#[test]
fn reads_that_ask_for_the_primary_are_told_once_they_are_half() {
    let mut report = report();
    report.detours.asked_for_primary = 499;
    assert_eq!(Advice::on(&report), []);
    report.detours.asked_for_primary = 500;
    assert_eq!(Advice::on(&report), [Advice::MostAskForPrimary { percent: 50 }]);
    // They do not ask: the configuration keeps them there.
    report.replica_share = 0.25;
    assert_eq!(Advice::on(&report), [Advice::RaiseReplicaShare { percent: 25 }]);
}

#[test]
fn reads_that_fall_back_or_are_shed_are_told() {
    let mut report = report();
    report.detours.fell_back_to_primary = 49;
    assert_eq!(Advice::on(&report), []);
    report.detours.fell_back_to_primary = 50;
    report.detours.shed = 3;
    let expected = [Advice::ReplicasMissing { percent: 5 }, Advice::Shed { reads: 3 }];
    assert_eq!(Advice::on(&report), expected);
}

#[test]
fn a_healthy_replica_with_little_load_is_told_with_its_weight() {
    let mut report = report();
    report.endpoints[1].weight = 29;
    report.endpoints[1].reads = 970;
    report.endpoints[2].reads = 30;
    let little =
        Advice::LittleLoad { endpoint: "b".to_owned(), percent: 3, weight: 1, weights: 30 };
    assert!(little.to_string().starts_with("b serves 3 % of the reads on replicas although"));
    assert_eq!(Advice::on(&report), [little]);
    report.endpoints[2].serves = false;
    assert_eq!(Advice::on(&report), [], "everybody knows why");
    report.endpoints[2].serves = true;
    report.endpoints[2].reads = 330;
    assert_eq!(Advice::on(&report), [], "more than half of an equal share");
}

#[test]
fn statements_that_nothing_proves_are_told_with_the_reason() {
    let mut report = report();
    report.statements.on_primary = vec![unproved(20), unproved(92)];
    let advice = Advice::on(&report);
    let [Advice::ProveReads { percent: 10, text, why }] = advice.as_slice() else {
        panic!("{advice:?}");
    };
    assert_eq!((text.as_str(), why.as_str()), ("SELECT mystery(?)", "calls mystery"));
    report.statements.on_primary = vec![unproved(105)];
    assert_eq!(Advice::on(&report), [], "9 %");
}

#[test]
fn a_queue_as_long_as_its_pool_is_told() {
    let mut report = report();
    report.endpoints[0].connections = ConnectionReport { open: 10, idle: 0, waiting: 9 };
    assert_eq!(Advice::on(&report), []);
    report.endpoints[0].connections.waiting = 10;
    let endpoint = "primary".to_owned();
    assert_eq!(Advice::on(&report), [Advice::MoreConnections { endpoint, waiting: 10, open: 10 }]);
}

#[test]
fn a_few_reads_and_a_single_server_say_nothing() {
    let mut report = report();
    report.detours.pinned_to_primary = 99;
    report.reads = 99;
    assert_eq!(Advice::on(&report), []);
    report.reads = 100;
    assert_eq!(Advice::on(&report).len(), 1);
    report.endpoints.truncate(1);
    assert_eq!(Advice::on(&report), []);
}
