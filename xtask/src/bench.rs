//! `cargo xtask bench`: measures times and instructions of the hot path, or the cost of an idle
//! monitor, or the throughput of an SQLite file.
//!
//! Times are for people; on a shared machine they say little about a change. Valgrind counts
//! instructions, and the counts are nearly the same in every run. So they are recorded, and a count
//! that differs from its record fails the task.

mod idle;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;

use crate::process::cargo;
use crate::process::{self, Patience};
use crate::progress::Progress;

/// Arguments of `cargo xtask bench`.
#[derive(Args, Debug)]
pub(crate) struct Bench {
    /// Count instructions only, without times.
    #[arg(long)]
    counts_only: bool,
    /// Record the counts of this run.
    #[arg(long, conflicts_with = "monitor")]
    update: bool,
    /// Instead, measure the cost of an idle monitor of a primary and five replicas: queries counted
    /// by the servers, and our processor time. Needs Docker.
    #[arg(long, conflicts_with = "counts_only")]
    monitor: bool,
    /// Instead, measure one SQLite file under a mixed load: through SeaORM's own pools and through
    /// sealane.
    #[arg(long, conflicts_with_all = ["counts_only", "update", "monitor"])]
    sqlite: bool,
    /// How long to measure, in seconds. Default: 120 for the idle monitor, which loads the catalog
    /// once a minute, and 10 for each way to use the SQLite file.
    #[arg(long)]
    seconds: Option<u32>,
}

/// Instructions per operation, by its name.
type Counts = BTreeMap<String, u64>;

/// How much small changes of a compiler or a library may change a count.
const TOLERANCE_RATIO: f64 = 0.05;
/// What must not cost a statement more than [`WATCHING_RATIO`] beside what [`UNWATCHED`] costs.
const WATCHED: [&str; 3] = [
    "run a routed SELECT beside a recorder of metrics",
    "run a routed SELECT beside a page, asked once in 1000",
    "run a routed SELECT beside traces that skip it",
];
const UNWATCHED: &str = "run a routed SELECT";
const WATCHING_RATIO: f64 = 0.05;
/// How often an operation runs in the shorter and in the longer of two counted runs. The difference
/// cancels out everything else that both runs do.
const TIMES: [u32; 2] = [200, 1_200];
const COUNT_LIMIT: Duration = Duration::from_secs(300);

impl Bench {
    /// Counts instructions and compares them with their record.
    pub(crate) fn counts() -> Self {
        Bench { counts_only: true, update: false, monitor: false, sqlite: false, seconds: None }
    }

    pub(crate) fn run(&self, progress: Progress) -> anyhow::Result<()> {
        if self.monitor {
            return idle::measure(self.seconds.unwrap_or(120), progress);
        }
        if self.sqlite {
            return sqlite_file(self.seconds.unwrap_or(10), progress);
        }
        ensure!(
            Command::new("valgrind").arg("--version").output().is_ok(),
            "valgrind is missing, which counts the instructions: `apt install valgrind`"
        );
        if !self.counts_only {
            progress.step("times of the hot path", || {
                process::show(cargo().args(["bench", "--package=sealane-bench"]))
            })?;
        }
        progress.step("instructions of the hot path", || self.instructions(progress))
    }

    fn instructions(&self, progress: Progress) -> anyhow::Result<()> {
        let program = build("instructions", &["routed"])?;
        let names = process::capture(&mut Command::new(&program), Patience::up_to(COUNT_LIMIT))?;
        let mut counts = Counts::new();
        for name in names.lines() {
            let count = per_operation(&program, name)?;
            progress.say(&format!("{count:>8}  {name}"));
            counts.insert(name.to_owned(), count);
        }
        let dear = too_dear(&counts);
        ensure!(dear.is_empty(), "watching costs statements too much:\n{}", dear.join("\n"));
        let record = root().join("benches/instructions.toml");
        if self.update {
            return fs::write(&record, render(&counts))
                .with_context(|| format!("cannot write {}", record.display()));
        }
        let text = fs::read_to_string(&record)
            .with_context(|| format!("cannot read {}", record.display()))?;
        let differences = differences(&parse(&text)?, &counts);
        ensure!(
            differences.is_empty(),
            "counts differ from their record; if this is intended, run \
             `cargo xtask bench --update`:\n{}",
            differences.join("\n")
        );
        Ok(())
    }
}

fn sqlite_file(seconds: u32, progress: Progress) -> anyhow::Result<()> {
    progress.say("building the program");
    let program = build("sqlite_file", &["sqlite"])?;
    progress.step("one SQLite file in four ways, with and without long streams", || {
        process::show(Command::new(&program).arg(seconds.to_string()))
    })
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Builds one of the programs beside the benchmarks, with the same optimisations.
fn build(program: &str, features: &[&str]) -> anyhow::Result<PathBuf> {
    let mut command = cargo();
    command
        .args(["build", "--package=sealane-bench", "--profile=bench", "--bin", program])
        .args(features.iter().map(|feature| format!("--features={feature}")))
        .arg("--message-format=json-render-diagnostics");
    let messages = process::capture(&mut command, Patience::up_to(Duration::from_secs(1800)))?;
    // Only one message names a program: ours.
    let path = messages
        .lines()
        .filter_map(|line| line.split_once(r#""executable":""#))
        .filter_map(|(_, rest)| rest.split_once('"'))
        .map(|(path, _)| PathBuf::from(path))
        .next_back();
    path.context("cargo did not say where it put the program")
}

fn per_operation(program: &Path, name: &str) -> anyhow::Result<u64> {
    let [fewer, more] = TIMES;
    let (less, total) = (count(program, name, fewer)?, count(program, name, more)?);
    Ok(total.saturating_sub(less) / u64::from(more - fewer))
}

fn count(program: &Path, name: &str, times: u32) -> anyhow::Result<u64> {
    let directory = tempfile::tempdir().context("cannot make a temporary directory")?;
    let out = directory.path().join("counts");
    let mut command = Command::new("valgrind");
    command
        .args(["--quiet", "--tool=callgrind"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(program)
        .args([name, &times.to_string()]);
    process::capture(&mut command, Patience::up_to(COUNT_LIMIT))?;
    let text = fs::read_to_string(&out).context("valgrind has written no counts")?;
    let total = text.lines().find_map(|line| line.strip_prefix("summary: "));
    total.and_then(|total| total.trim().parse().ok()).context("valgrind has counted nothing")
}

fn render(counts: &Counts) -> String {
    let mut text =
        "# Instructions per operation, counted by `cargo xtask bench`; checked to 5 %.\n\
                    # On another processor architecture or compiler they differ.\n\n"
            .to_owned();
    for (name, count) in counts {
        text.push_str(&format!("\"{name}\" = {count}\n"));
    }
    text
}

fn parse(text: &str) -> anyhow::Result<Counts> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, count) = line.split_once(" = ").context("a line without ` = `")?;
            Ok((name.trim_matches('"').to_owned(), count.parse()?))
        })
        .collect()
}

/// The watchers that cost a statement too much, or were not counted.
fn too_dear(counts: &Counts) -> Vec<String> {
    let Some(bare) = counts.get(UNWATCHED) else {
        return vec![format!("{UNWATCHED}: not counted")];
    };
    let judge = |name: &&str| match counts.get(*name) {
        None => Some(format!("{name}: not counted")),
        Some(count) => {
            let ratio = *count as f64 / (*bare).max(1) as f64 - 1.0;
            let percent = ratio * 100.0;
            (ratio > WATCHING_RATIO).then(|| format!("{name}: {percent:+.1} %"))
        }
    };
    WATCHED.iter().filter_map(judge).collect()
}

fn differences(recorded: &Counts, counted: &Counts) -> Vec<String> {
    let mut differences = Vec::new();
    for (name, count) in counted {
        match recorded.get(name) {
            None => differences.push(format!("{name}: {count}, not recorded")),
            Some(record) => {
                let ratio = *count as f64 / (*record).max(1) as f64;
                if (ratio - 1.0).abs() > TOLERANCE_RATIO {
                    let percent = (ratio - 1.0) * 100.0;
                    differences.push(format!("{name}: {count}, was {record} ({percent:+.1} %)"));
                }
            }
        }
    }
    let gone = recorded.keys().filter(|name| !counted.contains_key(*name));
    differences.extend(gone.map(|name| format!("{name}: recorded, but no longer there")));
    differences
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(of: &[(&str, u64)]) -> Counts {
        of.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    #[test]
    fn recorded_counts_are_read_back() {
        let known = counts(&[("look up a SELECT", 321), ("plan", 45)]);
        assert_eq!(parse(&render(&known)).unwrap(), known);
    }

    #[test]
    fn a_watcher_that_costs_a_statement_too_much_is_reported() {
        let [recorder, page, skipping] = WATCHED;
        let mut counted = counts(&[(UNWATCHED, 1_000), (recorder, 1_051), (page, 1_049)]);
        let missing = format!("{skipping}: not counted");
        assert_eq!(too_dear(&counted), [format!("{recorder}: +5.1 %"), missing]);
        counted.extend([(recorder.to_owned(), 990), (skipping.to_owned(), 1_000)]);
        assert!(too_dear(&counted).is_empty());
        counted.remove(UNWATCHED);
        assert_eq!(too_dear(&counted), [format!("{UNWATCHED}: not counted")]);
    }

    #[test]
    fn a_count_that_differs_from_its_record_is_reported() {
        let recorded = counts(&[("a", 1_000), ("b", 1_000), ("c", 1_000), ("gone", 1)]);
        let counted = counts(&[("a", 1_049), ("b", 1_051), ("c", 949), ("new", 1)]);
        let found = differences(&recorded, &counted);
        assert_eq!(
            found,
            [
                "b: 1051, was 1000 (+5.1 %)",
                "c: 949, was 1000 (-5.1 %)",
                "new: 1, not recorded",
                "gone: recorded, but no longer there"
            ]
        );
    }
}
