//! Asks the servers for the facts, all of them at the same time.

mod library;
mod mysql;
mod postgres;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use sealane::{Config, Engine, Target};
use tokio::time::timeout;

use super::facts::{Clock, EndpointFacts, Facts, ServerFacts};
use crate::ask::{Line, PATIENCE, Trouble};

/// Everything that `judge` needs to know of `targets`, which are the endpoints of `config`.
pub(super) async fn gather(config: &Config, targets: &[Target], processes: u32) -> Facts {
    let engine = targets.first().map_or(Engine::Postgres, |target| target.engine);
    // One after the other: a balancer that takes its servers in turn would otherwise give the two
    // lines of one URL, by chance, the same server.
    let servers = join_all(targets.iter().map(ask)).await;
    let (seen, start_error) = library::observe(config, targets).await;
    let endpoints =
        targets.iter().zip(servers).zip(seen).map(|((target, server), seen)| EndpointFacts {
            name: target.name.clone(),
            address: target.address.clone(),
            pool: target.max_connections(),
            subscription: target.subscription.clone(),
            server,
            seen,
        });
    let mut facts = Facts { engine, endpoints: endpoints.collect(), processes, start_error };
    facts.settle_roles();
    facts
}

async fn ask(target: &Target) -> Result<Box<ServerFacts>, Trouble> {
    let asked = timeout(PATIENCE, async {
        let mut lines = [Line::open(target).await?, Line::open(target).await?];
        let facts = match target.engine {
            Engine::MySql => mysql::ask(&mut lines).await,
            _ => postgres::ask(&mut lines).await,
        };
        join_all(lines.map(Line::close)).await;
        facts
    });
    match asked.await {
        Err(_) => Err(Trouble::too_late()),
        Ok(Err(error)) => Err(Trouble::of(target.engine, &error)),
        Ok(Ok(facts)) => Ok(Box::new(facts)),
    }
}

/// Compares the server's clock with ours. `sql` returns the seconds since 1970 as `now`.
async fn clock(line: &mut Line, sql: &str) -> Option<Clock> {
    let (began, before) = (Instant::now(), now_ms()?);
    let there_s: f64 = line.first(sql).await?.number("now")?;
    let took = began.elapsed();
    // The server has looked at its clock somewhere between the question and the answer.
    let half_ms = millis(took / 2);
    #[allow(clippy::cast_possible_truncation, reason = "milliseconds since 1970 fit")]
    let there_ms = (there_s * 1_000.0) as i64;
    Some(Clock { ahead_ms: there_ms - before - half_ms, error_ms: half_ms + 1 })
}

fn now_ms() -> Option<i64> {
    SystemTime::now().duration_since(UNIX_EPOCH).ok().map(millis)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The first two numbers in a version.
fn release(version: &str) -> (u32, u32) {
    let mut numbers = version
        .split(|c: char| !c.is_ascii_digit())
        .filter(|part| !part.is_empty())
        .map_while(|part| part.parse().ok());
    (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_the_first_two_numbers() {
        assert_eq!(release("11.8.3-MariaDB-log"), (11, 8));
        assert_eq!(release("17.5 (Debian 17.5-1)"), (17, 5));
        assert_eq!(release("19beta1"), (19, 1));
        assert_eq!(release("?"), (0, 0));
    }
}
