//! The command `sealane`: what the person on call asks, and the person who sets it up.
//!
//! - `sealane check` asks every server of a configuration and tells what is wrong or risky, each
//!   with the setting or statement that remedies it.
//! - `sealane status`, `lag` and `replication` show the servers as the library sees them.
//! - `sealane watch` shows them as a picture that moves.
//! - `sealane explain` tells where a statement would run, and why.
//! - `sealane wait` waits until the servers can be used.
//! - `sealane demo` shows on a file of its own what splitting reads from writes does.
//!
//! The command is a thin program over this library, so that tests run what users run. The [book's
//! chapter](https://github.com/sealane/sealane/blob/main/docs/src/command.md) lists all findings.
//!
//! No output contains a password: the library's errors and drivers' errors quote none, and this
//! crate prints no URL.

mod arguments;
mod ask;
mod check;
mod demo;
mod error;
mod explain;
mod lag;
mod output;
mod replication;
mod status;
mod style;
mod wait;
mod watch;

use std::io::Write;

use clap::CommandFactory;
use sealane::Config;

pub use arguments::Arguments;
pub use check::{Code, Finding, Report, Severity, check};
pub use error::CommandError;

use arguments::Command;
use output::Output;

/// Runs the command and writes its result to `out`. Returns whether all is well.
///
/// # Errors
/// The command could not do its work. [`CommandError::exit_code`] says what a script gets.
///
/// # Cancel safety
/// Dropping the future leaves nothing behind.
pub async fn run(arguments: Arguments, out: &mut dyn Write) -> Result<bool, CommandError> {
    let Arguments { config, json, command } = arguments;
    let mut output = Output::new(out, json);
    let configured = || match &config {
        Some(path) => Config::from_toml_file(path).map_err(CommandError::Configuration),
        None => Config::from_env().map_err(CommandError::Configuration),
    };
    match command {
        Command::Check(wanted) => {
            let report = check(&configured()?, wanted.processes).await;
            let report = report.map_err(CommandError::Configuration)?;
            output.show(&report, |out| report.write(out))?;
            Ok(!report.is_at_least(wanted.fail_on))
        }
        Command::Status => status::run(configured()?, &mut output).await,
        Command::Explain(wanted) if wanted.offline => explain::offline(&wanted, &mut output),
        Command::Explain(wanted) => explain::run(configured()?, &wanted, &mut output).await,
        Command::Wait(wanted) => wait::run(configured()?, &wanted, &mut output).await,
        Command::Watch(wanted) => watch::run(configured()?, &wanted, &mut output).await,
        Command::Lag(wanted) => lag::run(configured()?, &wanted, &mut output).await,
        Command::Replication(wanted) => {
            replication::run(&configured()?, &wanted, &mut output).await
        }
        Command::Demo(wanted) => demo::run(&wanted, &mut output).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "sealane", &mut script);
            output.raw(&script)?;
            Ok(true)
        }
    }
}
