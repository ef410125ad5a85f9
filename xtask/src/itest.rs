//! `cargo xtask itest`: the suites under `tests/` against real clusters.

mod part;

use std::fs::File;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::Args;

use self::part::Part;
use crate::cluster::{Cluster, ENVIRONMENT};
use crate::image::Image;
use crate::program::Programs;
use crate::progress::Progress;
use crate::release::{Choice, Release};
use crate::suite::Suite;
use crate::summary::{Summary, Verdict, failed_tests, has_ended, has_passed};
use crate::{clean, docker, interrupt, process};

/// How often the name of a long-running suite is printed again.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// With four suites at a time, two cores are always busy: nothing is won, and times are spoiled.
const JOBS: u8 = 3;

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
    pub(crate) quick: bool,
    /// Run the tests that failed once more, alone, after the others. Broken promises are final, and
    /// more than five suites with such tests fail the run.
    #[arg(long)]
    again: bool,
    /// Run suites whose subject is the same on all engines only on those that `cargo xtask test` runs
    /// them on.
    #[arg(long)]
    pub(crate) usual: bool,
    /// Print the output of every suite, not only of those that fail.
    #[arg(long)]
    pub(crate) verbose: bool,
    /// How many clusters run suites at once. The suites mostly wait for their servers.
    #[arg(long, default_value_t = JOBS, value_parser = clap::value_parser!(u8).range(1..))]
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
            usual: false,
            verbose: false,
            jobs: JOBS,
            replicas: 2,
            test_args: Vec::new(),
        }
    }
}

/// What all engines of one run share.
struct Run {
    programs: Programs,
    progress: Progress,
    /// Held while an image is built and a cluster starts: both search for free names or ports.
    starting: Mutex<()>,
    /// Held while one suite's output is printed.
    printing: Mutex<()>,
}

impl Itest {
    /// All suites on these engines, and again the tests that fail.
    ///
    /// # Errors
    /// An engine does not exist.
    pub(crate) fn of(engines: &[&str]) -> anyhow::Result<Self> {
        let chosen = engines.iter().map(|engine| engine.parse::<Choice>());
        let engine = chosen.collect::<Result<_, _>>().map_err(anyhow::Error::msg)?;
        Ok(Self { engine, again: true, ..Self::default() })
    }

    /// Finds, fetches or builds the images of all chosen engines.
    ///
    /// # Errors
    /// One of them cannot be had.
    pub(crate) fn images(&self, progress: Progress) -> anyhow::Result<()> {
        self.releases().try_for_each(|release| Image::ensure(release, progress).map(drop))
    }

    fn releases(&self) -> impl Iterator<Item = &'static Release> {
        self.engine.iter().flat_map(Choice::releases)
    }

    pub(crate) fn run(&self, progress: Progress) -> anyhow::Result<()> {
        docker::preflight()?;
        clean::orphans(progress)?;
        let mut suites = Suite::all()?;
        suites.retain(|suite| suite.is_quick || !self.quick);
        if let Some(named) = suites.iter().find(|suite| self.filter.as_ref() == Some(&suite.name)) {
            suites = vec![named.clone()];
        }
        progress.say("building the suites");
        let programs = Programs::build(&suites)?;
        let run =
            Run { programs, progress, starting: Mutex::default(), printing: Mutex::default() };
        let has_test = |suite: &Suite| {
            let program = run.programs.of(&suite.name)?;
            Ok(program.count(self.filter_of(&suite.name))? > 0)
        };
        let parts =
            self.releases().map(|release| Part::new(release, &suites, self.usual, has_test));
        let parts: Vec<Part> = parts.collect::<anyhow::Result<_>>()?;
        progress.say(&format!(
            "{} engines, {} clusters at a time; the suites' output is under {}",
            parts.len(),
            self.jobs,
            run.logs()?.display()
        ));
        let summary = self.run_on_all(parts, &run);
        eprintln!("\n{summary}");
        interrupt::check()?;
        ensure!(summary.passed(), "not all suites passed, see the summary");
        Ok(())
    }

    /// First the suites that run beside others, on several clusters at a time; then, on one cluster
    /// after the other, those that run alone and those that failed.
    fn run_on_all(&self, parts: Vec<Part>, run: &Run) -> Summary {
        thread::scope(|scope| {
            for worker in 0..usize::from(self.jobs) {
                let parts = &parts;
                scope.spawn(move || self.work(worker, parts, run));
            }
        });
        let alone = |part: Part| {
            if let Err(error) = self.run_alone(&part, run) {
                self.note_trouble(&part, &error, run);
            }
            part.into_report()
        };
        parts.into_iter().map(alone).collect()
    }

    /// The workers begin with different engines. A worker whose engine has no suite left helps where
    /// most are left, with another cluster.
    fn work(&self, worker: usize, parts: &[Part], run: &Run) {
        let mut next = parts.get(worker % parts.len().max(1));
        while let Some(part) = next {
            if let Err(error) = self.run_beside(part, run) {
                self.note_trouble(part, &error, run);
            }
            next = parts
                .iter()
                .filter(|part| part.is_worth_a_cluster())
                .max_by_key(|part| part.left());
        }
    }

    fn note_trouble(&self, part: &Part, error: &anyhow::Error, run: &Run) {
        run.progress.say(&format!("{}: {error:#}", part.release));
        part.trouble(error);
    }

    /// Runs what waits for a cluster of this engine. A failing suite does not stop the next one,
    /// because each test heals the cluster first.
    fn run_beside(&self, part: &Part, run: &Run) -> anyhow::Result<()> {
        let Some(first) = part.next() else { return Ok(()) };
        let cluster = self.start(part.release, self.replicas, run)?;
        let mut next = Some(first);
        while let Some(suite) = next {
            self.run_and_tell(&suite, &cluster, part, run)?;
            next = part.next();
        }
        part.give_back(cluster).map_or(Ok(()), |surplus| self.put_down(surplus, run))
    }

    /// Runs the suites that nothing may run beside, and once more those that failed.
    fn run_alone(&self, part: &Part, run: &Run) -> anyhow::Result<()> {
        let failed = || match self.again {
            true => part.report(|report| report.failed()),
            false => Vec::new(),
        };
        let cluster = match part.take() {
            Some(cluster) => cluster,
            None if part.alone.is_empty() => return Ok(()),
            None => self.start(part.release, self.replicas, run)?,
        };
        for suite in &part.alone {
            self.run_and_tell(suite, &cluster, part, run)?;
        }
        for suite in failed() {
            let release = part.release;
            let tests = failed_tests(&std::fs::read_to_string(run.log(release, &suite, false)?)?);
            let told = if tests.is_empty() { "all".to_owned() } else { tests.join(", ") };
            run.progress.say(&format!("{release}: {} runs again, alone: {told}", suite.name));
            let verdict = self.run_suite(&suite, &tests, &cluster, part, run)?;
            part.report(|report| report.set(&suite.name, verdict.at_the_second_try()));
            run.progress.say(&format!("{release}: {} {verdict}", suite.name));
        }
        self.put_down(cluster, run)
    }

    /// Removes a cluster, or says how to reach it if it is kept.
    fn put_down(&self, cluster: Cluster, run: &Run) -> anyhow::Result<()> {
        if self.keep {
            let _printing = lock(&run.printing);
            explain(&cluster, run.progress)?;
        }
        drop(cluster);
        Ok(())
    }

    fn run_and_tell(
        &self,
        suite: &Suite,
        cluster: &Cluster,
        part: &Part,
        run: &Run,
    ) -> anyhow::Result<()> {
        let verdict = self.run_suite(suite, &[], cluster, part, run)?;
        part.report(|report| report.set(&suite.name, verdict));
        let left = part.report(|report| report.left()).len();
        let name = &suite.name;
        run.progress.say(&format!("{}: {name} {verdict}, {left} left", part.release));
        Ok(())
    }

    fn start(&self, release: &'static Release, replicas: u8, run: &Run) -> anyhow::Result<Cluster> {
        let _starting = lock(&run.starting);
        interrupt::check()?;
        let image = Image::ensure(release, run.progress)?;
        let cluster = Cluster::start(&image, replicas, self.keep, run.progress)?;
        run.progress.say(&format!("{release}: the cluster is up"));
        Ok(cluster)
    }

    /// Runs a suite, or only these `tests` of it; on a cluster of its own, if it needs more replicas
    /// than the others.
    fn run_suite(
        &self,
        suite: &Suite,
        tests: &[String],
        cluster: &Cluster,
        part: &Part,
        run: &Run,
    ) -> anyhow::Result<Verdict> {
        interrupt::check()?;
        let own = (suite.replicas > self.replicas).then_some(suite.replicas);
        let own = own.map(|replicas| self.start(part.release, replicas, run)).transpose()?;
        let verdict = self.run_on(own.as_ref().unwrap_or(cluster), suite, tests, part, run)?;
        own.map_or(Ok(()), |own| self.put_down(own, run))?;
        Ok(verdict)
    }

    fn run_on(
        &self,
        cluster: &Cluster,
        suite: &Suite,
        tests: &[String],
        part: &Part,
        run: &Run,
    ) -> anyhow::Result<Verdict> {
        let mut command = run.programs.of(&suite.name)?.command();
        command
            .args(self.suite_args(self.filter_of(&suite.name), tests))
            .env(ENVIRONMENT, cluster.to_json()?)
            // The suites' errors name what was awaited; a backtrace would only hide this.
            .env("RUST_LIB_BACKTRACE", "0");
        let release = cluster.release();
        let path = run.log(part.release, suite, !tests.is_empty())?;
        let (began, mut told) = (Instant::now(), Duration::ZERO);
        let outcome = process::log(&mut command, &File::create(&path)?, || {
            if began.elapsed() > told + TOLD_EVERY {
                told = began.elapsed();
                let name = &suite.name;
                run.progress.say(&format!("{release}: {name} runs for {} s", told.as_secs()));
            }
        });
        interrupt::check()?;
        let took = began.elapsed();
        let output = String::from_utf8_lossy(&std::fs::read(&path)?).into_owned();
        let outcome = outcome.and_then(|()| {
            ensure!(
                tests.is_empty() || has_passed(&output, tests.len()),
                "tests were not run again"
            );
            Ok(())
        });
        if outcome.is_ok() && !self.verbose {
            return Ok(Verdict::Passed(took));
        }
        if outcome.is_err() {
            part.report(|report| report.note_errors(&suite.name, &output));
        }
        let _printing = lock(&run.printing);
        eprintln!("\n=== {} on {release}\n{}", suite.name, output.trim_end());
        if outcome.is_err() {
            cluster.show_logs();
        }
        Ok(match outcome {
            Ok(()) => Verdict::Passed(took),
            Err(_) if output.contains(BROKEN_PROMISE) => Verdict::BrokePromise(took),
            // What it saw before is not told.
            Err(_) if !has_ended(&output) => Verdict::Crashed(took),
            Err(_) => Verdict::Failed(took),
        })
    }

    /// The text that test names must contain; `None` if the filter names the suite itself.
    fn filter_of(&self, suite: &str) -> Option<&str> {
        self.filter.as_deref().filter(|filter| *filter != suite)
    }

    fn suite_args<'a>(&'a self, filter: Option<&'a str>, tests: &'a [String]) -> Vec<&'a str> {
        let mut args: Vec<&str> = match tests {
            [] => Vec::from_iter(filter),
            tests => tests.iter().map(String::as_str).chain(["--exact"]).collect(),
        };
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
        Ok(self.programs.target()?.join("itest"))
    }

    /// The file with the output of `suite`, in a folder that exists. The failed tests' second try has a
    /// file of its own.
    fn log(&self, release: &Release, suite: &Suite, again: bool) -> anyhow::Result<PathBuf> {
        let folder = self.logs()?.join(release.to_string().replace(' ', "-"));
        std::fs::create_dir_all(&folder)?;
        let again = if again { ".again" } else { "" };
        Ok(folder.join(format!("{}{again}.log", suite.name)))
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
        assert_eq!(itest.suite_args(itest.filter_of("smoke"), &[]).join(" "), expected);
        let tests = ["a::b".to_owned(), "c".to_owned()];
        let expected = "a::b c --exact --test-threads=1 --show-output --nocapture";
        assert_eq!(itest.suite_args(itest.filter_of("smoke"), &tests).join(" "), expected);
    }
}
