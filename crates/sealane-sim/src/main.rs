//! Runs seeds until one fails or the time is up.
//!
//! `cargo run -p sealane-sim -- --seeds 0..1000 --seconds 60`

use std::{
    collections::BTreeMap,
    io::Write,
    ops::Range,
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::Parser;
use sealane_sim::{Kind, Outcome, Plant, Scenario, never_reached, run, shrink, story};

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
    /// Only what the first worlds had.
    #[arg(long)]
    plain: bool,
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
    /// How many seeds run at once. Each runs on one thread.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..))]
    jobs: u8,
}

fn range(text: &str) -> anyhow::Result<Range<u64>> {
    match text.split_once("..") {
        Some((from, to)) => Ok(from.parse()?..to.parse()?),
        None => text.parse().map(|one| one..one + 1).context("a seed, or FROM..TO"),
    }
}

/// What all threads share.
struct Search {
    arguments: Arguments,
    began: Instant,
    next: AtomicU64,
    tally: Mutex<Tally>,
}

#[derive(Default)]
struct Tally {
    seeds: u64,
    failed: u64,
    simulated: Duration,
    counts: BTreeMap<String, u64>,
}

#[allow(clippy::disallowed_methods, reason = "how long seeds take is of real time")]
fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let (jobs, next) = (arguments.jobs, AtomicU64::new(arguments.seeds.start));
    let search = Search { arguments, began: Instant::now(), next, tally: Mutex::default() };
    thread::scope(|scope| {
        let jobs: Vec<_> = (0..jobs).map(|_| scope.spawn(|| search.run())).collect();
        jobs.into_iter().try_for_each(|job| match job.join() {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })?;
    let tally = search.tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut out = std::io::stdout();
    for (what, times) in &tally.counts {
        writeln!(out, "{times:>9} {what}")?;
    }
    writeln!(out, "never reached: {}", never_reached(&tally.counts).join("; "))?;
    let seconds = search.began.elapsed().as_secs_f64();
    writeln!(out, "{} simulated seconds, {}", tally.simulated.as_secs(), tally.told(seconds))?;
    Ok(if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Search {
    /// Runs one seed after the other, until none is left, the time is up, or one has failed.
    fn run(&self) -> anyhow::Result<()> {
        let limit = Duration::from_secs(self.arguments.seconds);
        while self.began.elapsed() < limit {
            let seed = self.next.fetch_add(1, Ordering::Relaxed);
            if seed >= self.arguments.seeds.end {
                break;
            }
            let (text, is_over) = self.look_at(seed);
            std::io::stdout().write_all(text.as_bytes())?;
            if is_over {
                self.next.store(self.arguments.seeds.end, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Runs one seed. Returns what is to be said of it, and whether it is the last one.
    fn look_at(&self, seed: u64) -> (String, bool) {
        let arguments = &self.arguments;
        let drawn = if arguments.plain { Scenario::plain(seed) } else { Scenario::drawn(seed) };
        let mut scenario = Scenario { plant: arguments.plant, ..drawn };
        scenario.kind = arguments.kind.unwrap_or(scenario.kind);
        scenario.has_subscriber &= scenario.kind == Kind::Timelines;
        let outcome = run(&scenario);
        let mut text = String::new();
        if arguments.trace {
            text.push_str(&outcome.trace);
        }
        let is_another = arguments.twice && run(&scenario).hash != outcome.hash;
        if is_another {
            text.push_str(&format!("seed {seed}: the second run was another one\n"));
        }
        let violation = outcome.violations.first();
        let seeds = self.count(&outcome, is_another || violation.is_some(), &mut text);
        let Some(violation) = violation else { return (text, false) };
        text.push_str(&format!("seed {seed}: {violation}, after {seeds} seeds\n"));
        if arguments.all {
            return (text, false);
        }
        let (scenario, outcome) = match arguments.whole {
            true => (scenario, outcome),
            false => shrink(&scenario, &violation.kind()),
        };
        text.push_str(&format!("{}{:#?}\n", story(&scenario, &outcome), scenario.faults));
        (text, true)
    }

    /// Adds a seed, and tells now and then how far we are. Returns how many there are.
    fn count(&self, outcome: &Outcome, has_failed: bool, text: &mut String) -> u64 {
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.seeds += 1;
        tally.failed += u64::from(has_failed);
        tally.simulated += outcome.simulated;
        for (what, times) in &outcome.counts {
            *tally.counts.entry(what.clone()).or_default() += times;
        }
        if tally.seeds.is_multiple_of(500) {
            let told = tally.told(self.began.elapsed().as_secs_f64());
            text.push_str(&format!("{told}\n"));
        }
        tally.seeds
    }
}

impl Tally {
    fn told(&self, seconds: f64) -> String {
        format!("{} seeds in {seconds:.1} s, {} failed", self.seeds, self.failed)
    }
}
