//! `cargo xtask itest`: the suites under `tests/` against a real cluster.

use std::process::Command;

use clap::{Args, ValueEnum};

use crate::cluster::{Cluster, ENVIRONMENT};
use crate::image::Image;
use crate::progress::Progress;
use crate::{clean, docker, interrupt, process};

/// Arguments of `cargo xtask itest`.
#[derive(Args, Debug)]
pub(crate) struct Itest {
    /// The database engine of the cluster.
    #[arg(long, value_enum, default_value_t = Engine::Postgres)]
    engine: Engine,
    /// Run only the tests whose name contains this.
    #[arg(long)]
    filter: Option<String>,
    /// Leave the cluster running afterwards, and say how to reach it.
    #[arg(long)]
    keep: bool,
    /// Number of replicas.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(0..=8))]
    replicas: u8,
    /// PostgreSQL's major version.
    #[arg(long, default_value_t = 17)]
    pg_version: u16,
    /// Arguments for the test programs, such as `--nocapture`.
    #[arg(last = true)]
    test_args: Vec<String>,
}

/// What the servers run.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Engine {
    Postgres,
}

impl Default for Itest {
    fn default() -> Self {
        Self {
            engine: Engine::Postgres,
            filter: None,
            keep: false,
            replicas: 2,
            pg_version: 17,
            test_args: Vec::new(),
        }
    }
}

impl Itest {
    pub(crate) fn run(&self, progress: Progress) -> anyhow::Result<()> {
        docker::preflight()?;
        clean::orphans(progress)?;
        // First what may fail without a cluster.
        progress.say("building the suites");
        process::show(cargo().args([
            "test",
            "--package=sealane-tests",
            "--features=itest",
            "--no-run",
        ]))?;
        let cluster = match self.engine {
            Engine::Postgres => {
                let image = Image::ensure(self.pg_version, progress)?;
                Cluster::start(&image, self.replicas, self.keep, progress)?
            }
        };
        progress.say("cluster is up, running the suites");
        let outcome = process::show(
            cargo()
                .args(self.test_args())
                .env(ENVIRONMENT, cluster.to_json()?)
                // The suites' errors name what was awaited; a backtrace only buries it.
                .env("RUST_LIB_BACKTRACE", "0"),
        );
        match &outcome {
            Ok(()) => progress.say("suites passed"),
            Err(_) if interrupt::requested() => {}
            Err(_) => cluster.show_logs(),
        }
        if self.keep && !interrupt::requested() {
            explain(&cluster, progress)?;
        }
        outcome
    }

    fn test_args(&self) -> Vec<&str> {
        let mut args = vec!["test", "--package=sealane-tests", "--features=itest"];
        args.extend(self.filter.as_deref());
        // One after the other: the suites share the cluster, and break it on purpose.
        // And the figures that they print are part of the result.
        args.extend(["--", "--test-threads=1", "--show-output"]);
        args.extend(self.test_args.iter().map(String::as_str));
        args
    }
}

/// The cargo that runs this task.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
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
    fn the_filter_stands_before_and_further_arguments_behind_the_dashes() {
        let itest = Itest {
            filter: Some("heal".to_owned()),
            test_args: vec!["--nocapture".to_owned()],
            ..Itest::default()
        };
        let expected = "test --package=sealane-tests --features=itest heal -- --test-threads=1 --show-output --nocapture";
        assert_eq!(itest.test_args().join(" "), expected);
    }
}
