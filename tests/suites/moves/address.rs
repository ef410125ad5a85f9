//! An address that comes to lead to another server, while connections to the old one live.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::ensure;
use sea_orm::{DbErr, entity::prelude::*};
use sealane::RoutedConnection;
use sealane_tests::{
    BROKEN_PROMISE, Cluster, Engine, Relay,
    crew::Crew,
    eventually,
    fleet::{self, boat, is_up},
    watch::monitors,
};

const SOON: Duration = Duration::from_secs(20);
/// So many of the reads that replicas served must have been of the reader's own write.
const READS_ON_REPLICAS: usize = 500;
const SAILORS: usize = 8;

/// A boat, and where it was seen.
mod sighted {
    use sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "sighted")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i32,
        pub voyages: i64,
        pub on_replica: bool,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

#[derive(Debug, Default)]
struct Log {
    on_replicas: AtomicUsize,
    stale: AtomicUsize,
}

/// A healthy cluster, and a handle to which replica-1 is known by an address that can move. Replica-2 is
/// known by no other way.
async fn launch() -> anyhow::Result<(Cluster, RoutedConnection, Relay)> {
    let cluster = fleet::moor().await?;
    let on_replica = match cluster.engine() {
        Engine::Postgres => "pg_is_in_recovery()",
        _ => "in_recovery()",
    };
    let view = format!(
        "DROP VIEW IF EXISTS sighted; CREATE VIEW sighted AS SELECT id, voyages, {on_replica} AS on_replica FROM boat"
    );
    cluster.primary().sql(&view).await?;
    fleet::replayed(&cluster).await?;
    let relay = Relay::to(cluster.server("replica-1")).await?;
    let config = fleet::config_of(&*cluster.primary().url, [relay.url()]);
    let db = sealane::connect(config).await?;
    fleet::ready(&db).await?;
    Ok((cluster, db, relay))
}

/// The server that is known as replica-1.
fn identity(db: &RoutedConnection) -> Option<String> {
    let status = db.status();
    status.endpoints.into_iter().find(|it| it.name == "replica-1")?.identity
}

/// Counts one voyage of a boat of its own, and looks whether it was counted, until it looked
/// on a replica.
async fn sail(db: &RoutedConnection, log: &Log, voyages: i64, id: i32) -> Result<(), DbErr> {
    let session = db.session();
    boat::Entity::update_many()
        .col_expr(boat::Column::Voyages, Expr::value(voyages))
        .filter(boat::Column::Id.eq(id))
        .exec(&session)
        .await?;
    for _ in 0..20 {
        let seen = sighted::Entity::find_by_id(id).one(&session).await?;
        let is_stale = seen.as_ref().is_none_or(|seen| seen.voyages < voyages);
        log.stale.fetch_add(usize::from(is_stale), Ordering::Relaxed);
        if seen.is_some_and(|seen| seen.on_replica) {
            log.on_replicas.fetch_add(1, Ordering::Relaxed);
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_misses_a_write_of_his_own_after_a_replicas_address_moved() -> anyhow::Result<()> {
    let (cluster, db, relay) = launch().await?;
    let mut ids = Vec::new();
    for number in 0..SAILORS {
        ids.push(fleet::boat(&number.to_string()).insert(&db).await?.id);
    }
    let ids: Arc<[i32]> = ids.into();
    let log = Arc::new(Log::default());
    let crew = {
        let (db, log, ids) = (db.clone(), Arc::clone(&log), Arc::clone(&ids));
        let voyages = Arc::new(AtomicUsize::new(0));
        Crew::start(SAILORS, move |member, _| {
            let (db, log, id) = (db.clone(), Arc::clone(&log), ids[member]);
            let voyages = voyages.fetch_add(1, Ordering::Relaxed) as i64 + 1;
            async move { sail(&db, &log, voyages, id).await }
        })
    };
    crew.more(300).await?;
    ensure!(log.on_replicas.load(Ordering::Relaxed) > 50, "replicas serve nothing");
    ensure!(
        log.stale.load(Ordering::Relaxed) == 0,
        "{BROKEN_PROMISE}: stale before anything moved"
    );

    let (old, new) = (cluster.server("replica-1"), cluster.server("replica-2"));
    old.pause_replay().await?;
    let known = identity(&db);
    relay.lead_to(new);
    // It hangs for so long that the monitor looks anew, and finds the other one.
    old.freeze().await?;
    // MySQL and MariaDB do not show whose connections these are, and others may come first.
    let is_other = || cluster.engine() == Engine::Postgres || identity(&db) != known;
    let looks = async || Ok(monitors(new).await? > 0 && is_up(&db, "replica-1") && is_other());
    let looks = eventually(SOON, "the monitor looks at the new server", looks).await;
    old.thaw().await?;
    looks?;
    let before = log.on_replicas.load(Ordering::Relaxed);
    let enough = async || Ok(log.on_replicas.load(Ordering::Relaxed) - before >= READS_ON_REPLICAS);
    let enough = eventually(SOON, "replicas serve reads of own writes", enough).await;
    let done = crew.stop(SOON).await?;
    let (on_replicas, stale) =
        (log.on_replicas.load(Ordering::Relaxed) - before, log.stale.load(Ordering::Relaxed));
    let failed = done.iter().filter(|done| done.failure.is_some()).count();
    println!(
        "after the move {on_replicas} reads were served by replicas, {stale} were stale since it began; {failed} failed"
    );
    if enough.is_err() {
        // What keeps reads from the replica.
        println!("{:?}", db.session().explain("SELECT * FROM boat").choices);
        println!("{}", serde_json::to_string(&db.status())?);
    }
    enough?;
    ensure!(stale == 0, "{BROKEN_PROMISE}: {stale} stale reads of {on_replicas} on replicas");
    ensure!(failed == 0, "{failed} failed: {:?}", done.iter().find_map(|d| d.failure.as_ref()));
    Ok(())
}
