//! A primary that crashes and loses the end of its log, as `sync_binlog = 0` allows, while its replicas
//! have some or all of that. It uses the lost numbers again.

use std::{collections::HashSet, time::Duration};

use anyhow::ensure;
use sea_orm::ConnectionTrait;
use sealane_tests::{Cluster, eventually, fleet::raw};
use tokio::time::sleep;

use crate::{
    client::Shared,
    failover::cut_off,
    history::{Failover, Moment},
    numbers::number_of,
};

/// The longest time until each process uses the primary again.
const BACK: Duration = Duration::from_secs(10);

/// Inflicts it, and returns how it went. `survivors` is left empty: clients go on.
pub async fn lose_tail(
    cluster: &Cluster,
    shared: &Shared,
    seed: u64,
) -> anyhow::Result<(&'static str, Failover)> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let (primary, first) = (cluster.primary(), &cluster.replicas()[0]);
    primary.keep_data().await?;
    // More is lost than one process writes before the other one sees that the primary is back. If the
    // primary has passed the lost numbers by then, nothing shows that they were lost.
    sleep(Duration::from_millis(rng.u64(1_500..3_000))).await;
    let lags = rng.bool();
    if lags {
        cut_off(cluster, first).await?;
        sleep(Duration::from_millis(rng.u64(20..1_000))).await;
    }
    let began = shared.clock.now();
    let had = number_of(primary.engine, &primary.position().await?);
    primary.crash_back().await?;
    let has = number_of(primary.engine, &primary.position().await?);
    ensure!(has < had, "nothing was lost: the primary has {has} of {had}");
    let (one, other) = tokio::try_join!(used_again(shared, 0), used_again(shared, 1))?;
    let known = [one, other];
    if lags {
        // It has transactions that the primary lacks, which may refuse it, or not notice.
        first.sql("START REPLICA").await?;
    }
    Ok((
        "crashes that lost the end of the log",
        Failover { synchronous: false, began, known, survivors: HashSet::new() },
    ))
}

/// The moment from which on a process uses the primary again. It has seen by then that this is another
/// run of the server.
async fn used_again(shared: &Shared, process: usize) -> anyhow::Result<Moment> {
    let db = shared.processes[process].session().on_primary();
    let what = format!("process {process} uses the primary again");
    eventually(BACK, &what, async || {
        Ok(db.query_one_raw(raw(&db, "SELECT 1")).await.map(|row| row.is_some())?)
    })
    .await?;
    Ok(shared.clock.now())
}
