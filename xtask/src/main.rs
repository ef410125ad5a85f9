//! Tasks of this repository, run as `cargo xtask <task>`.
//!
//! Why a program and not shell scripts: the clusters it starts must be gone afterwards,
//! also after Ctrl-C, a panic or a failing suite, and that is what `Drop` is for.
//! Docker is driven through its command line: the least code, and every step can be
//! repeated by hand.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool talks to its user"
)]

mod bench;
mod check;
mod clean;
mod cluster;
mod docker;
mod engine;
mod functions;
mod image;
mod interrupt;
mod itest;
mod port;
mod process;
mod program;
mod progress;
mod release;
mod suite;
mod summary;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::progress::Progress;

/// Tasks of this repository.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Start real clusters in containers, run the integration suites against them, remove them.
    Itest(itest::Itest),
    /// Run every test: the crates' own, then the integration suites.
    Test(test::Test),
    /// Measure the hot path, and check its instructions against their record.
    Bench(bench::Bench),
    /// Check formatting, lints and the layering of the crates.
    Check(check::Check),
    /// Make the list of PostgreSQL's pure functions anew, from live servers.
    Functions(functions::Functions),
    /// Remove what runs of `itest` left behind or kept; runs that still go on are spared.
    Clean(clean::Clean),
}

fn main() -> ExitCode {
    let task = Cli::parse().task;
    let progress = Progress::start();
    let outcome = interrupt::listen().and_then(|()| match task {
        Task::Itest(itest) => itest.run(progress),
        Task::Test(test) => test.run(progress),
        Task::Bench(bench) => bench.run(progress),
        Task::Check(check) => check.run(progress),
        Task::Functions(functions) => functions.run(progress),
        Task::Clean(clean) => clean.run(progress),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress.say(&format!("failed: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
