//! `sealane lag`: how far replicas are behind, now or over time.

use std::time::Duration;

use sealane::{Config, Distance, EndpointStatus, RoutedConnection};
use serde::Serialize;
use tokio::time::{Instant, sleep_until};

use crate::{
    CommandError,
    arguments::Lag,
    output::{Output, Table, UNKNOWN, millis},
    status,
};

/// How far one replica is behind.
#[derive(Debug, Clone, Serialize)]
struct Replica {
    name: String,
    condition: sealane::Condition,
    /// Since when, by the library's own clock. `None`: unknown.
    lag_ms: Option<u64>,
    /// The most that a read there may miss.
    staleness_ms: Option<u64>,
    /// By the servers' clocks.
    reported_lag_ms: Option<u64>,
    behind: Option<Distance>,
}

/// One moment.
#[derive(Debug, Serialize)]
struct Sample {
    after_ms: u64,
    replicas: Vec<Replica>,
}

pub(crate) async fn run(
    config: Config,
    wanted: &Lag,
    output: &mut Output<'_>,
) -> Result<bool, CommandError> {
    let db = status::open(config).await?;
    let result = match wanted.history {
        true => history(&db, wanted, output).await,
        false => now(&db, output),
    };
    status::close(db).await;
    result
}

fn now(db: &RoutedConnection, output: &mut Output<'_>) -> Result<bool, CommandError> {
    let replicas = replicas(db);
    output.show(&replicas, |out| {
        let mut table =
            Table::new(&["replica", "condition", "lag", "staleness", "reported", "behind"]);
        for it in &replicas {
            table.row(vec![
                it.name.clone(),
                it.condition.to_string(),
                millis(it.lag_ms),
                millis(it.staleness_ms),
                millis(it.reported_lag_ms),
                it.behind.map_or_else(|| UNKNOWN.to_owned(), |it| it.to_string()),
            ]);
        }
        table.write(out)
    })?;
    Ok(replicas.iter().all(|it| it.lag_ms.is_some()))
}

/// A line for each moment, as they come.
async fn history(
    db: &RoutedConnection,
    wanted: &Lag,
    output: &mut Output<'_>,
) -> Result<bool, CommandError> {
    let began = Instant::now();
    let mut is_known = true;
    for number in 0..wanted.samples {
        sleep_until(began + wanted.every * number).await;
        let replicas = replicas(db);
        is_known &= replicas.iter().all(|it| it.lag_ms.is_some());
        let sample = Sample { after_ms: since(began), replicas };
        output.line(&sample, |out| {
            let cell = |it: &Replica| format!("{} {}", it.name, millis(it.lag_ms));
            let cells: Vec<_> = sample.replicas.iter().map(cell).collect();
            writeln!(out, "{:>7.1} s  {}", seconds(sample.after_ms), cells.join("   "))
        })?;
    }
    Ok(is_known)
}

fn replicas(db: &RoutedConnection) -> Vec<Replica> {
    let status = db.status();
    let is_replica = |it: &EndpointStatus| status.primary.as_ref() != Some(&it.name);
    let replica = |it: EndpointStatus| Replica {
        name: it.name,
        condition: it.condition,
        lag_ms: it.lag_ms,
        staleness_ms: it.staleness_ms,
        reported_lag_ms: it.reported_lag_ms,
        behind: it.behind,
    };
    let all = status.endpoints.iter().filter(|it| is_replica(it)).cloned();
    all.map(replica).collect()
}

fn since(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn seconds(millis: u64) -> f64 {
    Duration::from_millis(millis).as_secs_f64()
}
