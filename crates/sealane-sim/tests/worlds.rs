//! Some hundreds of worlds. Longer runs: `cargo run --release -p sealane-sim`.

use std::collections::BTreeMap;

use rstest::rstest;
use sealane_sim::{Outcome, Plant, Scenario, WANTED, run, story};

/// How many worlds each of the tests looks at that run side by side. More would take longer than
/// they tell.
const WORLDS: u64 = 100;
/// Within so many worlds a fault is found that was planted.
const FOUND_WITHIN: u64 = 10;

fn run_and_hold(scenario: &Scenario) -> Outcome {
    let outcome = run(scenario);
    assert!(outcome.violations.is_empty(), "{}", story(scenario, &outcome));
    outcome
}

#[rstest]
fn no_promise_is_broken_in_any_world(#[values(0, 1, 2)] part: u64) {
    let mut counts = BTreeMap::<String, u64>::new();
    for seed in part * WORLDS..(part + 1) * WORLDS {
        for (what, times) in run_and_hold(&Scenario::drawn(seed)).counts {
            *counts.entry(what).or_default() += times;
        }
    }
    let on_replicas = counts.get("reads on replicas").copied().unwrap_or(0);
    assert!(on_replicas > 100 * WORLDS, "only {on_replicas} reads on replicas tell nothing");
    let reached = |wanted: &&&str| counts.keys().any(|what| what.starts_with(**wanted));
    let missing: Vec<_> = WANTED.iter().filter(|wanted| !reached(wanted)).collect();
    assert!(missing.is_empty(), "never reached: {missing:?}");
}

#[test]
fn no_promise_is_broken_in_a_world_where_one_was() {
    let seeds = include_str!("corpus.txt").lines().filter(|line| !line.starts_with('#'));
    for line in seeds {
        let plain = line.strip_prefix("plain ");
        let (seed, _) = plain.unwrap_or(line).split_once(' ').unwrap();
        let seed = seed.parse().unwrap();
        run_and_hold(&match plain {
            Some(_) => Scenario::plain(seed),
            None => Scenario::wide(seed),
        });
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 1_000..1_020 {
        let scenario = Scenario::drawn(seed);
        assert_eq!(run(&scenario).hash, run(&scenario).hash, "seed {seed}");
    }
}

/// `from`: where it is found soon. Rare faults need many worlds, and a test has no time for them.
#[rstest]
#[case::a_stamp_that_is_read_late(Plant::OldSample, 0, &["MissedWrite", "WentBack"])]
#[case::a_replica_that_tells_what_it_received(Plant::ReceivedAsReplayed, 0, &["MissedWrite", "WentBack"])]
#[case::replicas_that_are_always_fresh(Plant::AlwaysFresh, 0, &["MissedWrite", "WentBack"])]
#[case::sessions_that_do_not_ask(Plant::Eventual, 0, &["MissedWrite", "WentBack"])]
#[case::bounds_that_are_not_kept(Plant::LooseBound, 0, &["TooStale"])]
#[case::a_write_that_was_refused_after_all(Plant::LostSaysReadOnly, 0, &["WrittenThough", "WrittenTwice"])]
#[case::connections_that_do_not_come_back(Plant::LeakedConnections, 0, &["Leak"])]
#[case::connections_that_are_not_closed(Plant::UnclosedConnections, 0, &["Leak"])]
#[case::answers_that_never_come(Plant::LostAnswers, 0, &["Endless"])]
#[case::replicas_that_stay_unused(Plant::NoPositions, 0, &["StuckToPrimary"])]
#[case::too_many_probes(Plant::ManyProbes, 0, &["TooManyProbes"])]
#[case::a_drain_that_does_not_wait(Plant::NotDrained, 0, &["UsedThoughDrained"])]
#[case::runs_that_are_not_told_apart(Plant::OneRun, 20, &["MissedWrite", "WentBack"])]
#[case::filters_that_are_not_told(Plant::UntoldFilters, 0, &["FilteredRead"])]
#[case::views_as_they_were(Plant::OldViews, 0, &["LockedOnReplica"])]
#[case::commits_that_wait_for_nobody(Plant::Asynchronous, 70, &["AcknowledgedLost"])]
fn what_is_planted_is_found(#[case] plant: Plant, #[case] from: u64, #[case] kinds: &[&str]) {
    let mut found = (from..from + FOUND_WITHIN)
        .flat_map(|seed| run(&Scenario { plant, ..Scenario::drawn(seed) }).violations);
    assert!(found.any(|it| kinds.contains(&it.kind().as_str())), "{plant:?} is not found");
}
