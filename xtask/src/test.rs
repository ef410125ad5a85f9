//! `cargo xtask test`: everything that can fail, the quick things first.

use clap::Args;

use crate::itest::Itest;
use crate::process;
use crate::process::cargo;
use crate::progress::Progress;

/// Arguments of `cargo xtask test`.
#[derive(Args, Debug)]
pub(crate) struct Test {
    /// Run the crates' own tests and the most important suites on PostgreSQL: about five minutes.
    #[arg(long)]
    quick: bool,
    /// Print the output of every suite, not only of those that fail.
    #[arg(long)]
    verbose: bool,
}

/// Each engine with its default version.
const ENGINES: &[&str] = &["postgres", "mariadb", "mysql"];

impl Test {
    pub(crate) fn run(&self, progress: Progress) -> anyhow::Result<()> {
        progress.step("unit, doc and SQLite tests of the crates and examples", || {
            process::show(cargo().args([
                "test",
                "--workspace",
                // The suites need the cluster that the next step starts.
                "--exclude=sealane-tests",
                "--all-features",
            ]))
        })?;
        let engines = if self.quick { &ENGINES[..1] } else { ENGINES };
        progress.step(&format!("integration suites on {}", engines.join(", ")), || {
            Itest::of(engines, self.quick, self.verbose)?.run(progress)
        })
    }
}
