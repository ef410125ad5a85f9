//! Checks the specification of selection (which of the candidates is taken) and of rules (where a
//! read goes). spec/selection/README.md explains the words.
#![allow(clippy::panic, reason = "a fault in a specification file is told by a failing test")]

mod pick;
mod rule;

use std::{collections::BTreeSet, path::Path};

use sealane_core::{Balancer, LeastInFlight, Random, Sticky, TwoChoices};
use serde::de::DeserializeOwned;

/// The least number of cases, required by issue 15.
const LEAST_CASES: usize = 150;

/// All cases in the files of a folder, each with the name of its file.
fn cases<T: DeserializeOwned>(folder: &str, of: fn(T) -> Vec<Case>) -> Vec<(String, Case)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/spec").join(folder);
    let entries = std::fs::read_dir(folder).expect("the specification");
    let paths = entries.map(|entry| entry.expect("a file").path());
    let is_toml = |path: &std::path::PathBuf| path.extension().is_some_and(|it| it == "toml");
    let mut files: Vec<_> = paths.filter(is_toml).collect();
    files.sort();
    let read = |path: &std::path::PathBuf| {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(path).expect("a readable file");
        let file: T = toml::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        of(file).into_iter().map(move |case| (name.clone(), case))
    };
    files.iter().flat_map(read).collect()
}

/// A case of either kind.
enum Case {
    Pick(Box<pick::Case>),
    Rule(Box<rule::Case>),
}

impl Case {
    fn says(&self) -> &str {
        match self {
            Case::Pick(case) => &case.says,
            Case::Rule(case) => &case.says,
        }
    }

    /// What is not as specified.
    fn faults(&self) -> Vec<String> {
        match self {
            Case::Pick(case) => case.faults(),
            Case::Rule(case) => case.faults(),
        }
    }
}

fn picks(file: pick::File) -> Vec<Case> {
    file.case.into_iter().map(|case| Case::Pick(Box::new(case))).collect()
}

fn rules(file: rule::File) -> Vec<Case> {
    file.case.into_iter().map(|case| Case::Rule(Box::new(case))).collect()
}

fn all() -> Vec<(String, Case)> {
    let mut all = cases("selection", picks);
    all.extend(cases("rules", rules));
    all
}

#[test]
fn selection_and_rules_are_as_specified() {
    let faults: Vec<String> = all()
        .iter()
        .flat_map(|(file, case)| {
            let told = |fault| format!("{file}: {}\n    {fault}", case.says());
            case.faults().into_iter().map(told).collect::<Vec<_>>()
        })
        .collect();
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn each_case_has_a_unique_sentence_and_there_are_enough() {
    let all = all();
    let sentences: BTreeSet<&str> = all.iter().map(|(_, case)| case.says()).collect();
    assert_eq!(sentences.len(), all.len(), "two cases say the same");
    assert!(all.len() >= LEAST_CASES, "{} cases", all.len());
    for (file, case) in &all {
        assert!(case.says().ends_with('.'), "{file}: not a sentence: {}", case.says());
    }
}

#[test]
fn every_kind_of_wrong_expectation_about_a_pick_is_noticed() {
    for expectation in [
        "picks = [1]",
        "picks = [1, 2, 3]",
        "shares = { 1 = 0.5, 2 = 0.5 }",
        "shares = { 1 = 0.667, 2 = 0.283 }",
        "order = [2, 2, 2, 2, 2, 2]",
        "picks = []",
    ] {
        let text = format!(
            "[[case]]\nsays = 'A planted fault.'\nbalancer = 'random'\n\
             replicas = [{{ weight = 2 }}, {{}}]\n{expectation}"
        );
        let file: pick::File = toml::from_str(&text).expect("a case");
        assert_eq!(file.case[0].faults().len(), 1, "{expectation}");
    }
    let text = "[[case]]\nsays = 'x.'\nbalancer = 'random'\nreplicas = [{}, {}, {}]\n\
                keeps_without = 3";
    let file: pick::File = toml::from_str(text).expect("a case");
    assert_eq!(file.case[0].faults().len(), 1, "chance keeps no session");
}

/// How many cases of selection notice that this balancer decides instead of the specified one.
fn noticed(balancer: &dyn Balancer) -> usize {
    let is_noticed = |case: &Case| match case {
        Case::Pick(case) => !case.faults_of(balancer).is_empty(),
        Case::Rule(_) => false,
    };
    cases("selection", picks).iter().filter(|(_, case)| is_noticed(case)).count()
}

#[test]
fn a_balancer_that_decides_otherwise_is_noticed() {
    let all = cases("selection", picks).len();
    for balancer in [&Random as &dyn Balancer, &LeastInFlight, &Sticky, &TwoChoices] {
        let noticed = noticed(balancer);
        assert!(noticed * 4 >= all, "{noticed} of {all} notice {}", balancer.name());
    }
}

#[test]
fn every_kind_of_wrong_expectation_about_a_rule_is_noticed() {
    for expectation in [
        "rule = 'none'",
        "rule = 'b'",
        "among = [1, 2]",
        "consistency = 'strong'",
        "consistency = 'bounded 100'",
        "fallback = 'fail'",
        "fallback = 'wait 5'",
        "max_lag = 5",
        "sticky = true",
    ] {
        let text = format!(
            "[[case]]\nsays = 'A planted fault.'\nrules = [{{ name = 'a', to_group = 'analytics' }}]\n\
             then = {{ {expectation} }}"
        );
        let file: rule::File = toml::from_str(&text).expect("a case");
        assert_eq!(file.case[0].faults().len(), 1, "{expectation}");
    }
    for (rules, error) in [
        ("{ name = 'a', to_group = 'analytics' }", "no replica is in it"),
        ("{ name = 'a', to_group = 'typo' }", "no endpoint has this name"),
    ] {
        let text = format!("[[case]]\nsays = 'x.'\nrules = [{rules}]\nerror = '{error}'");
        let file: rule::File = toml::from_str(&text).expect("a case");
        assert_eq!(file.case[0].faults().len(), 1, "{error}");
    }
}

#[test]
fn a_case_that_expects_nothing_is_refused() {
    let text = "[[case]]\nsays = 'x.'\nbalancer = 'random'\nreplicas = [{}]";
    assert_eq!(toml::from_str::<pick::File>(text).expect("a case").case[0].faults().len(), 1);
    let text = "[[case]]\nsays = 'x.'\nrules = []";
    assert_eq!(toml::from_str::<rule::File>(text).expect("a case").case[0].faults().len(), 1);
}

#[test]
fn a_word_that_the_runner_does_not_know_is_refused() {
    for word in ["pikcs = [1]", "replicas = [{ wieght = 1 }]"] {
        let text = format!("[[case]]\nsays = 'x.'\nbalancer = 'random'\n{word}");
        assert!(toml::from_str::<pick::File>(&text).is_err(), "{word}");
    }
    for word in ["then = { amnog = [1] }", "read = { tabels = [] }"] {
        let text = format!("[[case]]\nsays = 'x.'\nrules = []\n{word}");
        assert!(toml::from_str::<rule::File>(&text).is_err(), "{word}");
    }
}
