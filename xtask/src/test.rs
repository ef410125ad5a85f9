//! `cargo xtask test`: everything that can fail, the quick things first.

use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use clap::Args;

use crate::docker;
use crate::itest::Itest;
use crate::process::{self, Patience, cargo};
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

/// With the build, which it waits for.
const BESIDE_LIMIT: Duration = Duration::from_secs(40 * 60);

/// Each engine with its default version.
const ENGINES: &[&str] = &["postgres", "mariadb", "mysql"];

/// A test that mostly waits for a minute, so it runs beside the others. Cargo builds nothing twice: the
/// second one waits for the first.
fn beside_units() -> anyhow::Result<String> {
    let mut command = cargo();
    command.args(["test", "--workspace", "--all-features", "--test", "sqlite_checker"]);
    process::capture(&mut command, Patience::up_to(BESIDE_LIMIT))
}

fn joined<T>(thread: ScopedJoinHandle<'_, anyhow::Result<T>>) -> anyhow::Result<T> {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

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
            let beside = scope.spawn(beside_units);
            let units =
                progress.step("unit, doc and SQLite tests of the crates and examples", || {
                    // The suites are not among them: they need the cluster that the next step starts.
                    process::show(cargo().args(["test", "--workspace", "--all-features"]))?;
                    print!("{}", joined(beside)?);
                    Ok(())
                });
            units.and(joined(images))
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
