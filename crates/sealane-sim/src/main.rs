//! Runs seeds until one fails or the time is up.
//!
//! `cargo run -p sealane-sim -- --seeds 0..1000 --seconds 60`

use std::{
    collections::BTreeMap,
    io::Write,
    ops::Range,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::Parser;
use sealane_sim::{Kind, Plant, Scenario, run, shrink, story};

/// Holds all of sealane against the truth, in many worlds.
#[derive(Debug, Parser)]
struct Arguments {
    /// The seeds, the last one not included.
    #[arg(long, default_value = "0..1000", value_parser = range)]
    seeds: Range<u64>,
    /// The most time to take.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// Only worlds of this kind, whatever the seed says.
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// A fault to plant.
    #[arg(long, value_enum, default_value_t)]
    plant: Plant,
    /// Whether a failure is told as it happened, without looking for a smaller one.
    #[arg(long)]
    whole: bool,
    /// Whether to print the trace of each seed.
    #[arg(long)]
    trace: bool,
    /// Whether to go on after a failure.
    #[arg(long)]
    all: bool,
    /// Whether each seed runs twice, to see that it is the same run.
    #[arg(long)]
    twice: bool,
}

fn range(text: &str) -> anyhow::Result<Range<u64>> {
    match text.split_once("..") {
        Some((from, to)) => Ok(from.parse()?..to.parse()?),
        None => text.parse().map(|one| one..one + 1).context("a seed, or FROM..TO"),
    }
}

#[allow(clippy::disallowed_methods, reason = "how long seeds take is of real time")]
fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let (began, limit) = (Instant::now(), Duration::from_secs(arguments.seconds));
    let mut out = std::io::stdout();
    let (mut count, mut failed, mut simulated) = (0_u64, 0_u64, Duration::ZERO);
    let mut counts = BTreeMap::<String, u64>::new();
    for seed in arguments.seeds.clone() {
        if began.elapsed() >= limit {
            break;
        }
        let mut scenario = Scenario { plant: arguments.plant, ..Scenario::drawn(seed) };
        scenario.kind = arguments.kind.unwrap_or(scenario.kind);
        let outcome = run(&scenario);
        count += 1;
        simulated += outcome.simulated;
        for (what, times) in &outcome.counts {
            *counts.entry(what.clone()).or_default() += times;
        }
        if arguments.trace {
            write!(out, "{}", outcome.trace)?;
        }
        if arguments.twice && run(&scenario).hash != outcome.hash {
            writeln!(out, "seed {seed}: the second run was another one")?;
            failed += 1;
        }
        if let Some(violation) = outcome.violations.first() {
            failed += 1;
            writeln!(out, "seed {seed}: {violation}, after {count} seeds")?;
            if !arguments.all {
                let (scenario, outcome) = match arguments.whole {
                    true => (scenario, outcome),
                    false => shrink(&scenario, &violation.kind()),
                };
                writeln!(out, "{}{:#?}", story(&scenario, &outcome), scenario.faults)?;
                break;
            }
        }
        if count.is_multiple_of(100) {
            let seconds = began.elapsed().as_secs_f64();
            writeln!(out, "{count} seeds in {seconds:.1} s, {failed} failed")?;
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    for (what, times) in counts {
        writeln!(out, "{times:>9} {what}")?;
    }
    let simulated = simulated.as_secs();
    writeln!(
        out,
        "{count} seeds, {simulated} simulated seconds in {seconds:.1} s, {failed} failed"
    )?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
