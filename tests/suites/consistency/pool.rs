//! Reads that wait for a connection while their replica falls behind.

use std::time::Duration;

use anyhow::ensure;
use rstest::rstest;
use sea_orm::{AccessMode, ConnectOptions, DbErr, TransactionTrait, entity::prelude::*};
use sealane::{Consistency, FallbackPolicy, RoutedConnection, RoutedTransaction};
use sealane_tests::{
    BROKEN_PROMISE, Cluster, eventually,
    fleet::{self, boat},
};
use tokio::{task::JoinHandle, time::sleep};

/// The read's bound on staleness; the replica is much fresher when the read is planned.
const BOUND: Duration = Duration::from_millis(400);
/// For so long it waits for its connection.
const HELD: Duration = Duration::from_millis(1_500);
/// More than that.
const PATIENCE: Duration = Duration::from_secs(20);

/// What limits the age of what is read.
#[derive(Debug, Clone, Copy)]
enum Limit {
    Staleness,
    /// `max_lag`, for a session without a past.
    Lag,
}

/// A read with a bound that waits for its replica's only connection.
struct Waiting {
    db: RoutedConnection,
    holder: RoutedTransaction,
    read: JoinHandle<Result<Option<boat::Model>, DbErr>>,
}

impl Waiting {
    async fn on(cluster: &Cluster, limit: Limit) -> anyhow::Result<Waiting> {
        let one_connection = |url: &str| {
            let mut options = ConnectOptions::new(url.to_owned());
            options.max_connections(1).acquire_timeout(PATIENCE);
            options
        };
        let replica = one_connection(&cluster.server("replica-1").url);
        let primary = ConnectOptions::new(cluster.primary().url.clone());
        // Only the bound may take the read off its replica, and nothing else.
        let config = fleet::config_of(primary, [replica]).ejection(fleet::never_ejected());
        let (consistency, config) = match limit {
            Limit::Staleness => (Consistency::BoundedStaleness(BOUND), config),
            Limit::Lag => (Consistency::ReadYourWrites, config.max_lag(BOUND)),
        };
        let db = sealane::connect(config).await?;
        fleet::ready(&db).await?;
        let id = fleet::boat("Ida").insert(&db).await?.id;
        fleet::replayed(cluster).await?;

        let eventual = db.with_consistency(Consistency::Eventual);
        let holder = eventual.begin_with_config(None, Some(AccessMode::ReadOnly)).await?;
        boat::Entity::find().count(&holder).await?;
        let in_flight = || db.status().endpoints[1].in_flight;
        let before = in_flight();
        let bounded =
            db.session().with_consistency(consistency).fallback(FallbackPolicy::Wait(PATIENCE));
        let read = tokio::spawn(async move { boat::Entity::find_by_id(id).one(&bounded).await });
        eventually(PATIENCE, "the read waits on the replica", async || Ok(in_flight() > before))
            .await?;
        Ok(Waiting { db, holder, read })
    }

    /// Gives the connection back after a while. Returns the voyages that were read.
    async fn ends(self) -> anyhow::Result<Option<i64>> {
        sleep(HELD).await;
        self.holder.commit().await?;
        Ok(self.read.await??.map(|boat| boat.voyages))
    }
}

#[rstest]
#[case::staleness(Limit::Staleness)]
#[case::lag(Limit::Lag)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bound_holds_for_a_read_that_waited_for_its_connection(
    #[case] limit: Limit,
) -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let waiting = Waiting::on(&cluster, limit).await?;
    cluster.pause_replay().await?;
    cluster.primary().sql("UPDATE boat SET voyages = 7").await?;
    let resumed = async {
        // The read waits for its replica until then.
        sleep(2 * HELD).await;
        cluster.resume_replay().await
    };
    let (voyages, ()) = tokio::try_join!(waiting.ends(), resumed)?;
    ensure!(
        voyages == Some(7),
        "{BROKEN_PROMISE}: {voyages:?} voyages, at most {BOUND:?} old, {HELD:?} after there were 7"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn such_a_read_is_proved_anew_and_stays_on_its_replica() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let waiting = Waiting::on(&cluster, Limit::Staleness).await?;
    let db = waiting.db.clone();
    // The insert was read back on the primary.
    let on_primary =
        || db.status().reads.fell_back_to_primary + db.status().reads.pinned_to_primary;
    let before = on_primary();
    ensure!(waiting.ends().await?.is_some(), "the boat is gone");
    ensure!(on_primary() == before, "{:?}", db.status().reads);
    Ok(())
}
