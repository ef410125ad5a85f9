//! Reads that wait for a connection while their replica falls behind.

use std::time::Duration;

use anyhow::ensure;
use sea_orm::{AccessMode, ConnectOptions, TransactionTrait, entity::prelude::*};
use sealane::Consistency;
use sealane_tests::{
    BROKEN_PROMISE, eventually,
    fleet::{self, boat},
};
use tokio::time::sleep;

/// The read's bound on staleness; the replica is much fresher when the read is planned.
const BOUND: Duration = Duration::from_millis(400);
/// For so long it waits for its connection.
const HELD: Duration = Duration::from_millis(1_500);
/// More than that.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bound_holds_for_a_read_that_waited_for_its_connection() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let one_connection = |url: &str| {
        let mut options = ConnectOptions::new(url.to_owned());
        options.max_connections(1).acquire_timeout(PATIENCE);
        options
    };
    let url = &cluster.server("replica-1").url;
    let config =
        fleet::config_of(ConnectOptions::new(cluster.primary().url.clone()), [one_connection(url)]);
    // Only the bound may take the read off its replica, and nothing else.
    let db = sealane::connect(config.ejection(fleet::never_ejected())).await?;
    fleet::ready(&db).await?;
    let id = fleet::boat("Ida").insert(&db).await?.id;
    fleet::replayed(&cluster).await?;

    let eventual = db.with_consistency(Consistency::Eventual);
    let holder = eventual.begin_with_config(None, Some(AccessMode::ReadOnly)).await?;
    boat::Entity::find().count(&holder).await?;
    let reads = |db: &sealane::RoutedConnection| db.status().endpoints[1].in_flight;
    let before = reads(&db);
    let waiting = {
        let bounded = db.session().with_consistency(Consistency::BoundedStaleness(BOUND));
        tokio::spawn(async move { boat::Entity::find_by_id(id).one(&bounded).await })
    };
    eventually(PATIENCE, "the read waits on the replica", async || Ok(reads(&db) > before)).await?;
    cluster.pause_replay().await?;
    cluster.primary().sql("UPDATE boat SET voyages = 7").await?;
    sleep(HELD).await;
    holder.commit().await?;
    let boat = waiting.await??;
    cluster.resume_replay().await?;
    let voyages = boat.map(|boat| boat.voyages);
    ensure!(
        voyages == Some(7),
        "{BROKEN_PROMISE}: {voyages:?} voyages, at most {BOUND:?} old, {HELD:?} after there were 7"
    );
    Ok(())
}
