//! `cargo xtask test`: everything that can fail, the quick things first.

use clap::Args;

use crate::itest::Itest;
use crate::process;
use crate::process::cargo;
use crate::progress::Progress;

/// Arguments of `cargo xtask test`.
#[derive(Args, Debug)]
pub(crate) struct Test {}

impl Test {
    pub(crate) fn run(&self, progress: Progress) -> anyhow::Result<()> {
        progress.step("unit, doc and SQLite tests of the crates and examples", || {
            process::show(cargo().args([
                "test",
                "--workspace",
                // Its suites need the cluster that the next step starts.
                "--exclude=sealane-tests",
                "--all-features",
            ]))
        })?;
        progress.step("integration suites on PostgreSQL", || Itest::default().run(progress))
    }
}
