//! `cargo xtask test`: everything that can fail, the quick things first.

use std::thread;

use clap::Args;

use crate::docker;
use crate::itest::Itest;
use crate::process::{self, cargo};
use crate::progress::Progress;

/// Arguments of `cargo xtask test`.
#[derive(Args, Debug)]
pub(crate) struct Test {
    /// Run the crates' own tests and the most important suites on PostgreSQL: about five minutes.
    #[arg(long)]
    quick: bool,
    /// Run every suite on every engine, also those whose subject is the same on all of them, and the
    /// recipes for Loco and Seaography: about half an hour more.
    #[arg(long)]
    every: bool,
    /// Print the output of every suite, not only of those that fail.
    #[arg(long)]
    verbose: bool,
}

/// Each engine with its default version.
const ENGINES: &[&str] = &["postgres", "mariadb", "mysql"];

impl Test {
    pub(crate) fn run(&self, progress: Progress) -> anyhow::Result<()> {
        let engines = if self.quick { &ENGINES[..1] } else { ENGINES };
        let mut suites = Itest::of(engines)?;
        (suites.quick, suites.usual, suites.verbose) =
            (self.quick, !self.every && !self.quick, self.verbose);
        docker::preflight()?;
        // On an empty machine the images take minutes in which they mostly wait for the network.
        thread::scope(|scope| {
            let images = scope.spawn(|| suites.images(progress));
            let units =
                progress.step("unit, doc and SQLite tests of the crates and examples", || {
                    // The suites are not among them: they need the cluster that the next step starts.
                    process::show(cargo().args(["test", "--workspace", "--all-features"]))
                });
            units.and(images.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })?;
        if self.every {
            // They have two hundred packages of their own.
            progress.step("recipes for Loco and Seaography", || {
                let manifest = ["--manifest-path", "examples/frameworks/Cargo.toml"];
                process::show(cargo().arg("test").args(manifest))
            })?;
        }
        progress
            .step(&format!("integration suites on {}", engines.join(", ")), || suites.run(progress))
    }
}
