//! `sealane check`: what is wrong or risky, each with its remedy.
//!
//! Facts are gathered over own connections and through the library; they are judged apart from
//! that, by pure functions, so that each finding has a test without a server.

mod code;
mod facts;
mod finding;
mod gather;
mod judge;
mod report;
mod sqlite;

use sealane::{Config, ConnectError, Engine};

pub use finding::{Code, Finding, Severity};
pub use report::Report;

/// Asks every endpoint of `config` and judges the answers. `processes` is how many processes of the
/// application use this configuration at the same time.
///
/// A check reads only, with one exception: it sets and removes a setting of its own sessions, to
/// find poolers.
///
/// # Errors
/// The configuration is not valid.
///
/// # Cancel safety
/// Dropping the future leaves nothing behind.
pub async fn check(config: &Config, processes: u32) -> Result<Report, ConnectError> {
    let targets = config.targets()?;
    if let [target] = targets.as_slice()
        && target.engine == Engine::Sqlite
    {
        let found = sqlite::judge(target);
        return Ok(Report::new(found, vec![report::Line::of_file(target)]));
    }
    let facts = gather::gather(config, &targets, processes).await;
    Ok(Report::new(judge::judge(&facts), facts.endpoints.iter().map(report::Line::of).collect()))
}
