//! Makes a scenario that fails smaller, as long as it fails in the same way.

use crate::{
    run::{Outcome, run},
    scenario::{Scenario, Step},
};

/// Runs that a shrinking may take.
const MOST_RUNS: usize = 400;

/// The smallest scenario found that breaks the promise of `kind`, and its outcome.
#[must_use]
pub fn shrink(scenario: &Scenario, kind: &str) -> (Scenario, Outcome) {
    let mut best = (scenario.clone(), run(scenario));
    let mut runs = 0;
    loop {
        let size = best.0.size();
        for smaller in smaller(&best.0) {
            if smaller.size() >= best.0.size() || runs >= MOST_RUNS {
                continue;
            }
            runs += 1;
            let outcome = run(&smaller);
            if outcome.violations.iter().any(|it| it.kind() == kind) {
                best = (smaller, outcome);
            }
        }
        if best.0.size() == size || runs >= MOST_RUNS {
            return best;
        }
    }
}

/// The scenario without one thing or another, the largest things first.
fn smaller(scenario: &Scenario) -> Vec<Scenario> {
    let mut all = Vec::new();
    if let Some(newcomer) = &scenario.newcomer {
        all.push(Scenario { newcomer: None, ..scenario.clone() });
        let mut idle = newcomer.clone();
        idle.user.steps.clear();
        all.push(Scenario { newcomer: Some(idle), ..scenario.clone() });
    }
    if scenario.misled.is_some() {
        all.push(Scenario { misled: None, ..scenario.clone() });
    }
    if scenario.lags_soon {
        all.push(Scenario { lags_soon: false, ..scenario.clone() });
    }
    if scenario.any_lag {
        all.push(Scenario { any_lag: false, ..scenario.clone() });
    }
    if scenario.other_path.is_some() {
        all.push(Scenario { other_path: None, ..scenario.clone() });
    }
    if scenario.only_intended {
        all.push(Scenario { only_intended: false, ..scenario.clone() });
    }
    for number in (0..scenario.users.len()).rev() {
        let mut less = scenario.clone();
        // Others name users by number, so none is taken away.
        less.users[number].steps.clear();
        all.push(less);
    }
    for number in 0..scenario.faults.len() {
        let mut less = scenario.clone();
        less.faults.remove(number);
        all.push(less);
    }
    for number in 0..scenario.users.len() {
        for part in [2, 4, 8, 16, 32] {
            all.extend(without_parts(scenario, number, part));
        }
        all.push(without_all_but_the_end(scenario, number));
    }
    all
}

/// Without each part in turn of one user's steps. What is left happens when it did before.
fn without_parts(scenario: &Scenario, number: usize, parts: usize) -> Vec<Scenario> {
    let count = scenario.users[number].steps.len();
    let size = count.div_ceil(parts).max(1);
    (0..count)
        .step_by(size)
        .map(|from| {
            let mut less = scenario.clone();
            let steps = &mut less.users[number].steps;
            let until = (from + size).min(steps.len());
            let waited: u64 = steps.drain(from..until).map(|(pause_ms, _)| pause_ms + 8).sum();
            if let Some((pause_ms, _)) = steps.get_mut(from) {
                *pause_ms += waited;
            }
            less
        })
        .collect()
}

fn without_all_but_the_end(scenario: &Scenario, number: usize) -> Scenario {
    let mut less = scenario.clone();
    let steps = &mut less.users[number].steps;
    steps.retain(|(_, step)| matches!(step, Step::Read | Step::Write | Step::Move(_)));
    less
}

/// A failure as a story: what was done and went wrong around the promise that was broken.
#[must_use]
pub fn story(scenario: &Scenario, outcome: &Outcome) -> String {
    let steps: usize = scenario.users.iter().map(|user| user.steps.len()).sum();
    let users = scenario.users.iter().enumerate();
    let sharing: Vec<usize> = users.filter(|(_, it)| it.shares).map(|(number, _)| number).collect();
    let mut story = format!(
        "seed {}: {:?}, {} servers, {} processes, {steps} steps, {} faults, \
         users {sharing:?} begin with the shared handle{}\n",
        scenario.seed,
        scenario.kind,
        scenario.servers,
        scenario.processes,
        scenario.faults.len(),
        if scenario.newcomer.is_some() { ", one process starts late" } else { "" }
    );
    let lines: Vec<&str> = outcome.trace.lines().collect();
    let broken = lines.iter().position(|line| line.contains("VIOLATION")).unwrap_or(lines.len());
    let from = broken.saturating_sub(60);
    let before = lines[..from].iter().filter(|line| line.contains("fault:"));
    let around = lines[from..].iter().take(broken - from + 4);
    for line in before.chain(around) {
        story.push_str(line);
        story.push('\n');
    }
    story
}
