//! `cargo xtask itest`: the suites under `tests/` against real clusters.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;

use crate::cluster::{Cluster, ENVIRONMENT};
use crate::image::Image;
use crate::program::Programs;
use crate::progress::Progress;
use crate::release::{Choice, Release};
use crate::suite::Suite;
use crate::summary::{Report, Summary, Verdict};
use crate::{clean, docker, interrupt, process};

/// How often the name of a long-running suite is printed again.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// A suite whose output has this has seen a wrong answer, which no second run takes back. It is
/// what `sealane_tests::BROKEN_PROMISE` says.
const BROKEN_PROMISE: &str = "BROKEN PROMISE";

/// Arguments of `cargo xtask itest`.
#[derive(Args, Debug)]
pub(crate) struct Itest {
    /// What the servers run: postgres, mysql or mariadb, optionally with a colon and a version
    /// (postgres:15, mariadb:10.11), or all. Several: a,b,c.
    #[arg(
        long,
        value_name = "ENGINE[:VERSION]",
        value_delimiter = ',',
        default_value = "postgres"
    )]
    engine: Vec<Choice>,
    /// Run only the suite with this name, or the tests whose names contain it.
    #[arg(long)]
    filter: Option<String>,
    /// Keep the clusters running afterwards and say how to reach them.
    #[arg(long)]
    keep: bool,
    /// Run only the few suites that test most in the shortest time.
    #[arg(long)]
    quick: bool,
    /// Run a suite that failed once more, alone, after the others. Broken promises are final, and
    /// more than five such suites fail the run.
    #[arg(long)]
    again: bool,
    /// Print the output of every suite, not only of those that fail.
    #[arg(long)]
    verbose: bool,
    /// How many engines run at once. The suites mostly wait for their servers.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
    jobs: u8,
    /// Number of replicas. A suite that needs more gets a cluster of its own.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(0..=8))]
    replicas: u8,
    /// Arguments for the test programs, such as `--nocapture`.
    #[arg(last = true)]
    test_args: Vec<String>,
}

impl Default for Itest {
    fn default() -> Self {
        Self {
            engine: vec![Choice::default()],
            filter: None,
            keep: false,
            quick: false,
            again: false,
            verbose: false,
            jobs: 3,
            replicas: 2,
            test_args: Vec::new(),
        }
    }
}

/// What all engines of one run share.
struct Run {
    suites: Vec<Suite>,
    programs: Programs,
    progress: Progress,
    /// Held while an image is built and a cluster starts: both search for free names or ports.
    starting: Mutex<()>,
    /// Every suite holds it for reading; a suite that runs alone holds it for writing.
    machine: RwLock<()>,
    /// Held while one suite's output is printed.
    printing: Mutex<()>,
}

impl Itest {
    /// All suites, or only the quick ones, on these engines, and again those that fail.
    ///
    /// # Errors
    /// An engine does not exist.
    pub(crate) fn of(engines: &[&str], quick: bool, verbose: bool) -> anyhow::Result<Self> {
        let chosen = engines.iter().map(|engine| engine.parse::<Choice>());
        let engine = chosen.collect::<Result<_, _>>().map_err(anyhow::Error::msg)?;
        Ok(Self { engine, quick, verbose, again: true, ..Self::default() })
    }

    pub(crate) fn run(&self, progress: Progress) -> anyhow::Result<()> {
        docker::preflight()?;
        clean::orphans(progress)?;
        let mut suites = Suite::all()?;
        suites.retain(|suite| suite.is_quick || !self.quick);
        // Things that can fail without a cluster come first.
        progress.say("building the suites");
        let programs = Programs::build()?;
        process::show(programs.library.command().arg("--quiet"))?;
        let run = Run {
            suites,
            programs,
            progress,
            starting: Mutex::default(),
            machine: RwLock::default(),
            printing: Mutex::default(),
        };
        let releases: Vec<_> = self.engine.iter().flat_map(Choice::releases).collect();
        progress.say(&format!(
            "{} engines, {} at a time; the suites' output is under {}",
            releases.len(),
            releases.len().min(self.jobs.into()),
            run.logs()?.display()
        ));
        let summary = self.run_on_all(&releases, &run);
        eprintln!("\n{summary}");
        interrupt::check()?;
        ensure!(summary.passed(), "not all suites passed, see the summary");
        Ok(())
    }

    fn run_on_all(&self, releases: &[&'static Release], run: &Run) -> Summary {
        let left: Mutex<VecDeque<_>> = Mutex::new(releases.iter().copied().enumerate().collect());
        let reports = Mutex::new(BTreeMap::new());
        let next = || lock(&left).pop_front();
        thread::scope(|scope| {
            for _ in 0..releases.len().min(self.jobs.into()) {
                scope.spawn(|| {
                    while let Some((index, release)) = next() {
                        let report = self.report_on(release, run);
                        lock(&reports).insert(index, report);
                    }
                });
            }
        });
        let reports = reports.into_inner().unwrap_or_else(PoisonError::into_inner);
        reports.into_values().collect()
    }

    fn report_on(&self, release: &'static Release, run: &Run) -> Report {
        let mut report = Report::new(release, &run.suites);
        if interrupt::requested() {
            report.trouble(&anyhow::anyhow!("interrupted"));
        } else if let Err(error) = self.run_on(release, run, &mut report) {
            run.progress.say(&format!("{release}: {error:#}"));
            report.trouble(&error);
        }
        report
    }

    /// Runs every suite for the release on a separate cluster. A failing suite does not stop the
    /// next one, because each test heals the cluster first.
    fn run_on(
        &self,
        release: &'static Release,
        run: &Run,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let cluster = self.start(release, self.replicas, run)?;
        let mut chosen = report.left();
        // Suites that run alone come last, so that as few other suites as possible wait for them.
        chosen.sort_by_key(|suite| suite.is_alone);
        for (number, suite) in (1..).zip(&chosen) {
            let program = run.programs.of(&suite.name)?;
            if program.count(self.filter_of(&suite.name))? == 0 {
                report.set(&suite.name, Verdict::NoSuchTest);
                continue;
            }
            let own = self.own_cluster(suite, release, run)?;
            let cluster = own.as_ref().unwrap_or(&cluster);
            let verdict = self.take_turn(suite, suite.is_alone, cluster, run, report)?;
            report.set(&suite.name, verdict);
            let name = format!("{release}: {} {verdict}", suite.name);
            run.progress.say(&format!("{name}, {number} of {}", chosen.len()));
        }
        for suite in report.failed().into_iter().filter(|_| self.again) {
            run.progress.say(&format!("{release}: {} runs again, alone", suite.name));
            let own = self.own_cluster(&suite, release, run)?;
            let cluster = own.as_ref().unwrap_or(&cluster);
            let verdict = self.take_turn(&suite, true, cluster, run, report)?;
            report.set(&suite.name, verdict.at_the_second_try());
            run.progress.say(&format!("{release}: {} {verdict}", suite.name));
        }
        if !report.is_fine() {
            let _printing = lock(&run.printing);
            cluster.show_logs();
        }
        if self.keep {
            let _printing = lock(&run.printing);
            explain(&cluster, run.progress)?;
        }
        Ok(())
    }

    /// The cluster for a suite that needs more replicas than the others.
    fn own_cluster(
        &self,
        suite: &Suite,
        release: &'static Release,
        run: &Run,
    ) -> anyhow::Result<Option<Cluster>> {
        let needs = (suite.replicas > self.replicas).then_some(suite.replicas);
        needs.map(|replicas| self.start(release, replicas, run)).transpose()
    }

    fn start(&self, release: &'static Release, replicas: u8, run: &Run) -> anyhow::Result<Cluster> {
        let _starting = lock(&run.starting);
        interrupt::check()?;
        let image = Image::ensure(release, run.progress)?;
        let cluster = Cluster::start(&image, replicas, self.keep, run.progress)?;
        run.progress.say(&format!("{release}: the cluster is up"));
        Ok(cluster)
    }

    fn take_turn(
        &self,
        suite: &Suite,
        is_alone: bool,
        cluster: &Cluster,
        run: &Run,
        report: &mut Report,
    ) -> anyhow::Result<Verdict> {
        let _alone = is_alone.then(|| run.machine.write());
        let _beside = (!is_alone).then(|| run.machine.read());
        interrupt::check()?;
        let verdict = self.run_suite(suite, cluster, run, report)?;
        interrupt::check()?;
        Ok(verdict)
    }

    fn run_suite(
        &self,
        suite: &Suite,
        cluster: &Cluster,
        run: &Run,
        report: &mut Report,
    ) -> anyhow::Result<Verdict> {
        let mut command = run.programs.of(&suite.name)?.command();
        command
            .args(self.suite_args(self.filter_of(&suite.name)))
            .env(ENVIRONMENT, cluster.to_json()?)
            // The suites' errors name what was awaited; a backtrace would only hide this.
            .env("RUST_LIB_BACKTRACE", "0");
        let release = cluster.release();
        let path = run.logs()?.join(&release).join(format!("{}.log", suite.name));
        std::fs::create_dir_all(path.parent().context("a file is in a directory")?)?;
        let (began, mut told) = (Instant::now(), Duration::ZERO);
        let outcome = process::log(&mut command, &File::create(&path)?, || {
            if began.elapsed() > told + TOLD_EVERY {
                told = began.elapsed();
                let name = &suite.name;
                run.progress.say(&format!("{release}: {name} runs for {} s", told.as_secs()));
            }
        });
        let took = began.elapsed();
        if outcome.is_ok() && !self.verbose {
            return Ok(Verdict::Passed(took));
        }
        let output = std::fs::read_to_string(&path)?;
        if outcome.is_err() {
            report.note_errors(&suite.name, &output);
        }
        let _printing = lock(&run.printing);
        eprintln!("\n=== {} on {release}\n{}", suite.name, output.trim_end());
        Ok(match outcome {
            Ok(()) => Verdict::Passed(took),
            Err(_) if output.contains(BROKEN_PROMISE) => Verdict::BrokePromise(took),
            Err(_) => Verdict::Failed(took),
        })
    }

    /// The text that test names must contain; `None` if the filter names the suite itself.
    fn filter_of(&self, suite: &str) -> Option<&str> {
        self.filter.as_deref().filter(|filter| *filter != suite)
    }

    fn suite_args<'a>(&'a self, filter: Option<&'a str>) -> Vec<&'a str> {
        let mut args = Vec::from_iter(filter);
        // Tests run one after the other, because they share the cluster and break it on purpose.
        // Their printed figures are part of the result.
        args.extend(["--test-threads=1", "--show-output"]);
        args.extend(self.test_args.iter().map(String::as_str));
        args
    }
}

impl Run {
    /// The folder with the output of the suites.
    fn logs(&self) -> anyhow::Result<PathBuf> {
        Ok(self.programs.library.target()?.join("itest"))
    }
}

/// A panic leaves nothing behind these locks half-done, so poisoning is ignored.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn explain(cluster: &Cluster, progress: Progress) -> anyhow::Result<()> {
    progress.say("cluster kept; remove it with `cargo xtask clean`");
    for server in cluster.servers() {
        eprintln!("  {:<10} {}  (container {})", server.name, server.url, server.container);
    }
    eprintln!("  {ENVIRONMENT}='{}'", cluster.to_json()?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suites_get_the_filter_and_further_arguments() {
        let itest = Itest {
            filter: Some("heal".to_owned()),
            test_args: vec!["--nocapture".to_owned()],
            ..Itest::default()
        };
        let expected = "heal --test-threads=1 --show-output --nocapture";
        assert_eq!(itest.suite_args(itest.filter_of("smoke")).join(" "), expected);
    }
}
