//! `cargo xtask mutants`: plants faults in the product and looks who finds them.
//!
//! A simulator, an oracle and tests that find nothing are worth nothing if they would also find
//! nothing in a product that is wrong. So `crates/sealane-sim/mutants` lists faults, many of which
//! the product once had. Each is first looked for in the simulator's worlds, then by the tests of
//! its crate. A fault that nobody finds fails this task: it shows a hole in the oracle, a world that
//! is missing, or code that does nothing.
//!
//! # How they are planted
//! All of them at once, in a copy of the workspace: `weave` turns `OLD` into
//! `if crate::is_mutant(7) { NEW } else { OLD }`, and a variable of the environment chooses one. So
//! the product itself has no switches, and one build serves all mutants. (Rejected: one build for
//! each. Building takes longer than looking, and there are many.)
//!
//! It is not run in CI, because it takes too long. A test asserts that each fault still fits the
//! source.

mod hunt;
mod list;
mod record;
mod weave;
mod workshop;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;

use crate::process;
use crate::progress::Progress;
use hunt::{Finding, Hunt};
use list::Mutant;
use record::Record;
use workshop::Workshop;

/// Arguments of `cargo xtask mutants`.
#[derive(Args, Debug)]
pub(crate) struct Mutants {
    /// Only mutants with this in their names. May be given more than once.
    #[arg(long)]
    only: Vec<String>,
    /// Only mutants of files that have changed since this revision.
    #[arg(long, value_name = "REVISION")]
    since: Option<String>,
    /// How many worlds to look at, at most.
    #[arg(long, default_value_t = 400)]
    seeds: u64,
    /// How many mutants to look for at once.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    jobs: u8,
    /// Only build, which shows whether all mutants compile.
    #[arg(long)]
    build_only: bool,
}

impl Mutants {
    pub(crate) fn run(&self, progress: Progress) -> anyhow::Result<()> {
        let all = list::all()?;
        let chosen = self.chosen(&all)?;
        ensure!(!chosen.is_empty(), "there is no such mutant");
        let workshop = progress.step("build all mutants at once", || Workshop::build(&all))?;
        if self.build_only {
            return Ok(());
        }
        let hunt = Hunt { workshop: &workshop, seeds: self.seeds };
        progress.step("without a mutant nothing is found", || hunt.without())?;
        let mut record = Record::read()?;
        record.keep(&all);
        let record = Mutex::new(record);
        let findings = self.hunt(&hunt, &chosen, &record, progress)?;
        let record = record.into_inner().unwrap_or_else(PoisonError::into_inner);
        println!("{}", record.table(&all));
        judge(&findings)
    }

    fn chosen<'a>(&self, all: &'a [Mutant]) -> anyhow::Result<Vec<&'a Mutant>> {
        let is_named = |mutant: &Mutant| {
            self.only.is_empty() || self.only.iter().any(|part| mutant.name.contains(part.as_str()))
        };
        let changed = self.since.as_deref().map(changed_since).transpose()?;
        let is_changed =
            |mutant: &Mutant| changed.as_ref().is_none_or(|files| files.contains(&mutant.path()));
        Ok(all.iter().filter(|mutant| is_named(mutant) && is_changed(mutant)).collect())
    }

    fn hunt<'a>(
        &self,
        hunt: &Hunt<'_>,
        chosen: &[&'a Mutant],
        record: &Mutex<Record>,
        progress: Progress,
    ) -> anyhow::Result<Vec<(&'a Mutant, Finding)>> {
        let (next, began) = (AtomicUsize::new(0), Instant::now());
        let findings = Mutex::new(Vec::new());
        let work = || -> anyhow::Result<()> {
            while let Some(mutant) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
                let finding = hunt.find(mutant).with_context(|| mutant.name.clone())?;
                // A run that is interrupted keeps what it has found.
                let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
                record.note(mutant, &finding, self.seeds);
                record.write()?;
                drop(record);
                let mut findings = findings.lock().unwrap_or_else(PoisonError::into_inner);
                findings.push((*mutant, finding.clone()));
                let done = findings.len();
                let left = left(began.elapsed(), done, chosen.len());
                let total = chosen.len();
                progress.say(&format!("{done}/{total} {}: {finding}; {left} left", mutant.name));
            }
            Ok(())
        };
        thread::scope(|scope| {
            let jobs: Vec<_> = (0..self.jobs).map(|_| scope.spawn(work)).collect();
            jobs.into_iter().try_for_each(|job| match job.join() {
                Ok(outcome) => outcome,
                Err(panic) => std::panic::resume_unwind(panic),
            })
        })?;
        Ok(findings.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

/// About how long the rest takes.
fn left(took: Duration, done: usize, total: usize) -> String {
    let each = took.as_secs_f64() / done.max(1) as f64;
    let seconds = each * total.saturating_sub(done) as f64;
    format!("about {:.0} min", seconds / 60.0)
}

/// The files that differ from those of `revision`, relative to the workspace.
fn changed_since(revision: &str) -> anyhow::Result<BTreeSet<String>> {
    let mut git = std::process::Command::new("git");
    git.args(["diff", "--name-only", revision]).current_dir(list::root());
    let names = process::capture(&mut git, process::Patience::up_to(Duration::from_secs(30)))?;
    Ok(names.lines().map(str::to_owned).collect())
}

/// Fails if a mutant survives that is expected to be found, or the other way round.
fn judge(findings: &[(&Mutant, Finding)]) -> anyhow::Result<()> {
    let is_surprise =
        |(mutant, finding): &&(&Mutant, Finding)| mutant.survives.is_some() == finding.is_found();
    let surprises: Vec<String> = findings
        .iter()
        .filter(is_surprise)
        .map(|(mutant, finding)| format!("{}: {finding}. {}", mutant.name, mutant.says))
        .collect();
    ensure!(
        surprises.is_empty(),
        "not as the list says (a mutant that survives for a good reason says so in `survives`):\n{}",
        surprises.join("\n")
    );
    Ok(())
}
