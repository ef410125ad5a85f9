//! Checks the specification of the topology: observations in, topology and events out.
#![allow(clippy::panic, reason = "a fault in a specification file is told by a failing test")]

mod case;
mod expect;

use std::{collections::BTreeSet, path::Path};

use case::{Case, File};
use sealane_core::{Event, Observation, TopologyReducer};

/// The least number of cases, required by issue 4.
const LEAST_CASES: usize = 100;

/// All cases, each with the name of its file.
fn cases() -> Vec<(String, Case)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/spec");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the specification")
        .map(|entry| entry.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    let read = |path: &std::path::PathBuf| {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(path).expect("a readable file");
        let file: File = toml::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        file.case.into_iter().map(move |case| (name.clone(), case))
    };
    files.iter().flat_map(read).collect()
}

fn honest(reducer: &mut TopologyReducer, observation: &Observation) -> Vec<Event> {
    reducer.apply(observation)
}

#[test]
fn the_topology_is_as_specified() {
    let faults: Vec<String> = cases()
        .iter()
        .flat_map(|(file, case)| {
            let told = |fault| format!("{file}: {}\n    {fault}", case.says);
            case.check(honest).into_iter().map(told).collect::<Vec<_>>()
        })
        .collect();
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn each_case_has_a_unique_sentence_and_expects_something() {
    let cases = cases();
    let sentences: BTreeSet<&str> = cases.iter().map(|(_, case)| case.says.as_str()).collect();
    assert_eq!(sentences.len(), cases.len(), "two cases say the same");
    assert!(cases.len() >= LEAST_CASES, "{} cases", cases.len());
    for (file, case) in &cases {
        assert!(case.says.ends_with('.'), "{file}: not a sentence: {}", case.says);
        let nothing = format!("{:?}", expect::Expect::default());
        let expects = case.steps.iter().any(|step| step.events.is_some() || step.then.is_some());
        assert!(expects || format!("{:?}", case.then) != nothing, "{file}: {}", case.says);
    }
}

/// How many cases notice that the fold is wrong.
fn noticed(mut fault: impl FnMut(&mut TopologyReducer, &Observation) -> Vec<Event>) -> usize {
    cases().iter().filter(|(_, case)| !case.check(&mut fault).is_empty()).count()
}

#[test]
fn a_fold_that_is_wrong_is_noticed() {
    let all = cases().len();
    assert_eq!(noticed(honest), 0);
    // The fold learns nothing: only cases whose end equals their beginning agree.
    let deaf = noticed(|_, _| Vec::new());
    assert!(deaf * 5 >= all * 4, "{deaf} of {all} notice a deaf reducer");
    // The fold reports no events.
    let mute = noticed(|reducer, observation| {
        reducer.apply(observation);
        Vec::new()
    });
    assert!(mute >= 20, "{mute} of {all} notice missing events");
    // The stamp is read after the answer instead of before the question.
    let early = noticed(|reducer, observation| {
        let stamp = sealane_core::WriteStamp::from_number(observation.stamp.number() + 1);
        reducer.apply(&Observation { stamp, ..observation.clone() })
    });
    assert!(early >= 15, "{early} of {all} notice stamps that prove too much");
    // The time of the answer is used as the time of the question.
    let late = noticed(|reducer, observation| {
        let started = observation.finished;
        reducer.apply(&Observation { started, ..observation.clone() })
    });
    assert!(late >= 10, "{late} of {all} notice times that prove too much");
}

#[test]
fn every_kind_of_expectation_can_fail() {
    let kinds = [
        "primary = 1",
        "primary = 'none'",
        "health = { 1 = 'down' }",
        "role = { 1 = 'primary' }",
        "foreign = [1]",
        "position = { 1 = '99' }",
        "run = { 1 = 9 }",
        "covered = { 1 = 4 }",
        "staleness = { 1 = 0 }",
        "staleness = { 1 = 'unknown' }",
        "lag = { 1 = 99 }",
        "distance = { 1 = '0 bytes' }",
        "to_receive = { 1 = '0 bytes' }",
        "eventual = []",
        "within = { 100 = [] }",
        "wrote = { 3 = [] }",
        "wrote = { 4 = [1] }",
        "refused = { 1 = 'down' }",
        "condition = { 1 = 'down' }",
    ];
    for expectation in kinds {
        let text = format!(
            "[[case]]\nsays = 'A planted fault.'\nsteps = [\n\
             {{ of = 0, at = 0, primary = '100', stamp = 3 }},\n\
             {{ of = 0, at = 5, primary = '110', stamp = 4 }},\n\
             {{ of = 1, at = 10, replica = '105' }},\n]\nthen = {{ {expectation} }}"
        );
        let file: File = toml::from_str(&text).expect("a case");
        assert_eq!(file.case[0].check(honest).len(), 1, "{expectation}");
    }
}

#[test]
fn a_wrong_event_is_noticed() {
    for events in ["[]", "['up 1']", "['up 0', 'up 0']"] {
        let text = format!(
            "[[case]]\nsays = 'A planted fault.'\nsteps = [\n\
             {{ of = 0, at = 0, primary = '100', events = {events} }},\n]"
        );
        let file: File = toml::from_str(&text).expect("a case");
        assert_eq!(file.case[0].check(honest).len(), 1, "{events}");
    }
}

#[test]
fn a_word_that_the_runner_does_not_know_is_refused() {
    for word in ["then = { primry = 0 }", "thn = {}"] {
        let text = format!("[[case]]\nsays = 'x.'\nsteps = []\n{word}");
        assert!(toml::from_str::<File>(&text).is_err(), "{word}");
    }
}
