//! What the command understands.

use std::{num::ParseFloatError, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::check::Severity;

/// Checks the servers behind an application that uses sealane, shows their state, and explains
/// where statements run.
///
/// The servers are those of --config, or of DATABASE_URL and DATABASE_REPLICA_URLS.
#[derive(Debug, Parser)]
#[command(
    name = "sealane",
    version,
    after_help = EXIT_CODES,
    propagate_version = true,
    max_term_width = 100
)]
#[non_exhaustive]
pub struct Arguments {
    /// The TOML file of the application. Without it, DATABASE_URL and DATABASE_REPLICA_URLS count.
    #[arg(long, short, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print JSON instead of text.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "Exit codes:
  0  all is well
  1  something is wrong, or the command failed
  2  wrong arguments, or a configuration that is not valid";

/// What to do.
#[derive(Debug, Subcommand)]
#[non_exhaustive]
pub enum Command {
    /// Ask every server and tell what is wrong or risky, each with its remedy.
    #[command(after_help = EXIT_CODES)]
    Check(Check),
    /// Show the role, the condition and the lag of every server.
    #[command(after_help = EXIT_CODES)]
    Status,
    /// Tell where a statement would run, and why. It is not run.
    #[command(after_help = EXIT_CODES)]
    Explain(Explain),
    /// Wait until the servers can be used, for scripts and containers.
    #[command(after_help = EXIT_CODES)]
    Wait(Wait),
    /// Show the topology, the lags and the last events on the terminal, as they change.
    ///
    /// The picture needs a terminal, and ends with q, Esc or Ctrl-C. With --json, each moment is a
    /// line that holds the whole state.
    #[command(after_help = EXIT_CODES)]
    Watch(Watch),
    /// Show how far the replicas are behind.
    #[command(after_help = EXIT_CODES)]
    Lag(Lag),
    /// Show what servers send, and what replicas received and applied.
    #[command(after_help = EXIT_CODES)]
    Replication(Replication),
    /// Show on a file of its own, or on a cluster in Docker, what splitting reads from writes does.
    /// Nothing stays.
    #[command(after_help = EXIT_CODES)]
    Demo(Demo),
    /// Print completions for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// Arguments of `check`.
#[derive(Args, Debug)]
#[non_exhaustive]
pub struct Check {
    /// How many processes of the application use the configuration at the same time; their pools
    /// are compared with the servers' max_connections.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub processes: u32,
    /// The least severity with which the exit code is 1.
    #[arg(long, value_enum, default_value = "warning", value_name = "SEVERITY")]
    pub fail_on: Severity,
}

/// Arguments of `explain`.
#[derive(Args, Debug)]
#[non_exhaustive]
pub struct Explain {
    /// The statement. `-`, or nothing: standard input.
    #[arg(conflicts_with = "file")]
    pub sql: Option<String>,
    /// Read the statement from a file.
    #[arg(long, short, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Only judge the text: no configuration is read and no server is asked.
    #[arg(long)]
    pub offline: bool,
    /// With --offline: the language of the text.
    #[arg(long, value_enum, default_value = "postgres", requires = "offline")]
    pub dialect: Language,
}

/// The language of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[non_exhaustive]
pub enum Language {
    /// PostgreSQL.
    #[value(alias = "postgresql")]
    Postgres,
    /// MySQL and MariaDB.
    #[value(alias = "mariadb")]
    Mysql,
    /// SQLite.
    Sqlite,
}

/// Arguments of `wait`.
#[derive(Args, Debug)]
#[non_exhaustive]
pub struct Wait {
    /// How long to wait at most, such as 5s, 500ms or 2m.
    #[arg(long = "for", value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub limit: Duration,
    /// How many replicas must be usable. Without it: all.
    #[arg(long, value_name = "N")]
    pub replicas: Option<usize>,
}

/// Arguments of `watch`.
#[derive(Args, Debug)]
#[non_exhaustive]
pub struct Watch {
    /// The time between pictures, or between lines of JSON; at least 50ms. This asks no server.
    #[arg(long, value_name = "TIME", default_value = "250ms", value_parser = period)]
    pub every: Duration,
}

/// Arguments of `lag`.
#[derive(Args, Debug)]
#[non_exhaustive]
pub struct Lag {
    /// Go on, with a line for each moment.
    #[arg(long)]
    pub history: bool,
    /// With --history: how many moments.
    #[arg(long, default_value_t = 10, value_name = "N", requires = "history")]
    pub samples: u32,
    /// With --history: the time between moments.
    #[arg(long, default_value = "1s", value_name = "TIME", value_parser = duration, requires = "history")]
    pub every: Duration,
}

/// Arguments of `replication`.
#[derive(Args, Debug)]
#[non_exhaustive]
pub struct Replication {
    /// For how long to measure the rate of the log; 0s: not at all.
    #[arg(long, default_value = "1s", value_name = "TIME", value_parser = duration)]
    pub measure: Duration,
}

/// Arguments of `demo`.
#[derive(Args, Debug)]
#[non_exhaustive]
pub struct Demo {
    /// How long it runs.
    #[arg(long = "for", value_name = "TIME", default_value = "6s", value_parser = duration)]
    pub limit: Duration,
    /// How many connections read.
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub readers: u32,
    /// Start a PostgreSQL primary with three replicas in Docker instead, and on a terminal watch
    /// them while keys kill replicas and start them again. The containers are removed at the end.
    #[arg(long)]
    pub docker: bool,
    /// With --docker: the image of the servers. It is pulled if it is not there.
    #[arg(long, value_name = "IMAGE", default_value = "postgres:17", requires = "docker")]
    pub image: String,
}

/// `5s`, `500ms`, `2m`, `1h`; a number alone is in seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = |_: ParseFloatError| format!("`{text}` is no time; write 5s, 500ms, 2m or 1h");
    let end = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: f64 = number.trim().parse().map_err(wrong)?;
    let seconds = match unit.trim() {
        "ms" => number / 1_000.0,
        "" | "s" => number,
        "m" | "min" => number * 60.0,
        "h" => number * 3_600.0,
        _ => return Err(format!("`{unit}` is no unit; write ms, s, m or h")),
    };
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|it| *it <= MOST)
        .ok_or_else(|| format!("`{text}` is not between 0 and 24h"))
}

/// A [`duration`] that leaves time for other things.
fn period(text: &str) -> Result<Duration, String> {
    let period = duration(text)?;
    match period >= LEAST_PERIOD {
        true => Ok(period),
        false => Err(format!("`{text}` is shorter than 50ms")),
    }
}

/// Eyes see no more, and programs would only burn the processor.
const LEAST_PERIOD: Duration = Duration::from_millis(50);

/// Nobody waits longer.
const MOST: Duration = Duration::from_secs(24 * 3_600);

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use rstest::rstest;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[rstest]
    #[case("5s", 5_000)]
    #[case("500ms", 500)]
    #[case("1.5", 1_500)]
    #[case("2m", 120_000)]
    #[case("1h", 3_600_000)]
    fn a_time_has_a_unit(#[case] text: &str, #[case] millis: u64) {
        assert_eq!(duration(text), Ok(Duration::from_millis(millis)));
    }

    #[rstest]
    #[case("soon")]
    #[case("5 days")]
    #[case("-1s")]
    #[case("1e9h")]
    #[case("NaN")]
    fn what_is_no_time_is_refused(#[case] text: &str) {
        assert!(duration(text).is_err());
    }

    #[test]
    fn a_period_is_never_so_short_that_nothing_else_has_time() {
        assert_eq!(period("50ms"), Ok(LEAST_PERIOD));
        for short in ["0s", "49ms"] {
            assert!(period(short).is_err(), "{short}");
        }
    }

    #[test]
    fn exit_codes_are_in_every_help_that_needs_them() {
        let mut command = Arguments::command();
        for name in ["check", "status", "explain", "wait", "watch", "lag", "replication", "demo"] {
            let help = command.find_subcommand_mut(name).unwrap().render_long_help().to_string();
            assert!(help.contains("Exit codes:"), "{name}");
        }
    }
}
