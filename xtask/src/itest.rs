//! `cargo xtask itest`: the suites under `tests/` against real clusters.

use std::time::Instant;

use anyhow::ensure;
use clap::Args;

use crate::cluster::{Cluster, ENVIRONMENT};
use crate::image::Image;
use crate::program::Programs;
use crate::progress::Progress;
use crate::release::{Choice, Release};
use crate::suite::Suite;
use crate::summary::{Report, Summary, Verdict};
use crate::{clean, docker, interrupt, process};

/// Arguments of `cargo xtask itest`.
#[derive(Args, Debug)]
pub(crate) struct Itest {
    /// What the servers run: postgres, mysql or mariadb, with a version behind a colon if it
    /// is not to be the default (postgres:15, mariadb:10.11), or all. Several: a,b,c.
    #[arg(
        long,
        value_name = "ENGINE[:VERSION]",
        value_delimiter = ',',
        default_value = "postgres"
    )]
    engine: Vec<Choice>,
    /// Run only the tests whose name contains this.
    #[arg(long)]
    filter: Option<String>,
    /// Leave the clusters running afterwards, and say how to reach them.
    #[arg(long)]
    keep: bool,
    /// Number of replicas.
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
            replicas: 2,
            test_args: Vec::new(),
        }
    }
}

impl Itest {
    pub(crate) fn run(&self, progress: Progress) -> anyhow::Result<()> {
        docker::preflight()?;
        clean::orphans(progress)?;
        let suites = Suite::all()?;
        // First what may fail without a cluster.
        progress.say("building the suites");
        let programs = Programs::build()?;
        process::show(programs.library.command().arg("--quiet"))?;
        let mut summary = Summary::default();
        for release in self.engine.iter().flat_map(Choice::releases) {
            let mut report = Report::new(release, &suites);
            if interrupt::requested() {
                report.trouble(&anyhow::anyhow!("interrupted"));
            } else if let Err(error) = self.run_on(release, &programs, &mut report, progress) {
                progress.say(&format!("{release}: {error:#}"));
                report.trouble(&error);
            }
            summary.add(report);
        }
        eprintln!("\n{summary}");
        interrupt::check()?;
        ensure!(summary.passed(), "not all suites passed, see the summary");
        Ok(())
    }

    /// Every suite that is for the release, on a cluster of its own. One that fails does not
    /// keep the next from running: each test heals the cluster first.
    fn run_on(
        &self,
        release: &'static Release,
        programs: &Programs,
        report: &mut Report,
        progress: Progress,
    ) -> anyhow::Result<()> {
        eprintln!("\n=== {release}");
        let image = Image::ensure(release, progress)?;
        let cluster = Cluster::start(&image, self.replicas, self.keep, progress)?;
        progress.say("cluster is up, running the suites");
        for suite in report.left() {
            let program = programs.of(&suite)?;
            if program.count(self.filter.as_deref())? == 0 {
                report.set(&suite, Verdict::NoSuchTest);
                continue;
            }
            let began = Instant::now();
            let mut command = program.command();
            command
                .args(self.suite_args())
                .env(ENVIRONMENT, cluster.to_json()?)
                // The suites' errors name what was awaited; a backtrace only buries it.
                .env("RUST_LIB_BACKTRACE", "0");
            let name = format!("{suite} on {release}");
            let outcome = progress.step(&name, || process::show(&mut command));
            interrupt::check()?;
            let took = began.elapsed();
            report.set(
                &suite,
                match outcome {
                    Ok(()) => Verdict::Passed(took),
                    Err(_) => Verdict::Failed(took),
                },
            );
        }
        if !report.is_fine() {
            cluster.show_logs();
        }
        if self.keep {
            explain(&cluster, progress)?;
        }
        Ok(())
    }

    fn suite_args(&self) -> Vec<&str> {
        let mut args = Vec::from_iter(self.filter.as_deref());
        // One after the other: the suites share the cluster, and break it on purpose.
        // And the figures that they print are part of the result.
        args.extend(["--test-threads=1", "--show-output"]);
        args.extend(self.test_args.iter().map(String::as_str));
        args
    }
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
        assert_eq!(itest.suite_args().join(" "), expected);
    }
}
