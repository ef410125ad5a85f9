//! Clocks that go wrong by an hour: sealane trusts none of them.
//!
//! A server whose clock is imitated looks it up in a file whenever it asks for the time, MySQL very
//! often: it may fall behind, truly.

use std::time::Duration;

use anyhow::ensure;

use crate::{RESTARTED, lookout::Lookout};

const HOUR_S: i64 = 3_600;
const WHILE: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_whose_clock_is_wrong() -> anyhow::Result<()> {
    let lookout = Lookout::take().await?;
    let replica = lookout.replica();
    replica.skew_clock(HOUR_S).await?;
    lookout.is_in_use("replica-1").await?;
    lookout.stays_in_use("replica-1", WHILE).await?;
    lookout.has_told_besides_lag("replica-1", RESTARTED).await?;
    // Set while it runs, to before its start.
    replica.step_clock(-HOUR_S).await?;
    lookout.stays_in_use("replica-1", WHILE).await?;
    lookout.has_told_besides_lag("replica-1", RESTARTED).await?;
    lookout.done().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_whose_clock_is_wrong() -> anyhow::Result<()> {
    let lookout = Lookout::take().await?;
    let primary = lookout.cluster.primary();
    primary.skew_clock(HOUR_S).await?;
    // They wait for it.
    let waiting = &["?stopped", "?running"][..];
    let everybody = [
        ("primary", &["down", "up", "restarted"][..]),
        ("replica-1", waiting),
        ("replica-2", waiting),
    ];
    for (name, _) in everybody {
        lookout.is_in_use(name).await?;
    }
    for error_s in [HOUR_S, -HOUR_S] {
        // The second time it is set while the server runs, to before its start.
        primary.step_clock(error_s).await?;
        for (name, told) in everybody {
            lookout.stays_in_use(name, WHILE).await?;
            lookout.has_told_besides_lag(name, told).await?;
        }
    }
    ensure!(lookout.db.status().primary.as_deref() == Some("primary"));
    lookout.bounds_held()
}
