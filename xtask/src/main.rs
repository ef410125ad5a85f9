//! Tasks of this repository, run as `cargo xtask <task>`.
//!
//! This is a program and not a set of shell scripts because the clusters must be removed
//! afterwards, also after Ctrl-C, a panic or a failing suite; `Drop` does this. It uses Docker
//! through the command line: this takes the least code, and every step can be repeated by hand.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool talks to its user"
)]

mod bench;
mod check;
mod clean;
mod cluster;
mod demo;
mod docker;
mod engine;
mod functions;
mod image;
mod interrupt;
mod itest;
mod mutants;
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
    /// Show reads per second and the death of replicas on a cluster in Docker, in one command.
    Demo(demo::Demo),
    /// Check everything that a change must keep besides its tests.
    Check(check::Check),
    /// Plant faults in the product, and look who finds them.
    Mutants(mutants::Mutants),
    /// Generate the lists of PostgreSQL's pure functions from live servers.
    Functions(functions::Functions),
    /// Remove what runs of `itest` left behind or kept, except what running ones use.
    Clean(clean::Clean),
}

fn main() -> ExitCode {
    let task = Cli::parse().task;
    let progress = Progress::start();
    let outcome = interrupt::listen().and_then(|()| match task {
        Task::Itest(itest) => itest.run(progress),
        Task::Test(test) => test.run(progress),
        Task::Bench(bench) => bench.run(progress),
        Task::Demo(demo) => demo.run(progress),
        Task::Check(check) => check.run(progress),
        Task::Mutants(mutants) => mutants.run(progress),
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
