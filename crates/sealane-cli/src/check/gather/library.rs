//! What the library's own probes find: conditions, lags, guards.

use std::time::Duration;

use sealane::{Condition, Config, Engine, RoutedConnection, Status, Target};
use tokio::time::{Instant, sleep, timeout};

use crate::check::facts::Seen;

/// Two idle probes and some: after them a lag is known if there is one to know.
const PROBES: Duration = Duration::from_secs(4);
/// The longest start.
const START: Duration = Duration::from_secs(20);
/// How often the state is looked at meanwhile. This asks no server.
const LOOK: Duration = Duration::from_millis(50);

/// Starts the library with `config` and looks for a moment. Returns what it has seen of each
/// target, and why it did not start.
pub(super) async fn observe(
    config: &Config,
    targets: &[Target],
) -> (Vec<Option<Seen>>, Option<String>) {
    let nothing = vec![None; targets.len()];
    let is_file = targets.first().is_none_or(|target| target.engine == Engine::Sqlite);
    if is_file {
        return (nothing, None);
    }
    let db = match timeout(START, sealane::connect(config.clone())).await {
        Err(_) => return (nothing, Some(format!("no connection within {START:?}"))),
        Ok(Err(error)) => return (nothing, Some(error.to_string())),
        Ok(Ok(db)) => db,
    };
    if targets.len() < 2 {
        // A single server is not probed.
        let _ = db.close().await;
        return (nothing, None);
    }
    let status = settled(&db).await;
    // What goes wrong while the pools end is of no interest to anybody.
    let _ = db.close().await;
    let seen = status.endpoints.into_iter().map(|endpoint| {
        Some(Seen {
            condition: endpoint.condition,
            lag: endpoint.lag_ms.map(Duration::from_millis),
            read_only_guard: endpoint.read_only_guard,
            group: endpoint.group,
        })
    });
    (seen.collect(), None)
}

/// The state once the lag of every serving endpoint is known, or after a while.
async fn settled(db: &RoutedConnection) -> Status {
    let until = Instant::now() + PROBES;
    loop {
        let status = db.status();
        let is_known = status.endpoints.iter().all(|endpoint| match endpoint.condition {
            Condition::Serving => endpoint.lag_ms.is_some(),
            Condition::Unobserved | Condition::Probation => false,
            _ => true,
        });
        if is_known || Instant::now() > until {
            return status;
        }
        sleep(LOOK).await;
    }
}
