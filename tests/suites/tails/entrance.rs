//! A replica whose connections live on and whose probes are answered, and that lets nobody else in.

use std::time::{Duration, Instant};

use anyhow::ensure;
use sea_orm::{ConnectOptions, entity::prelude::*};
use sealane::{EndpointStatus, Health, Replica, RoutedConnection};
use sealane_tests::{
    Cluster, Control, Relay,
    crew::{Crew, Done},
    eventually,
    fleet::{self, boat},
};

use super::{END, LEAST_READS, NOISE, PATIENCE, READERS, STRUCK};

/// No connection is used for longer, so new ones are needed all the time.
const LIFETIME: Duration = Duration::from_millis(300);
/// The pool is full of connections that do not come.
const POOL: u32 = 4;
/// Half of a round trip while the process starts.
const SLOW_START: Duration = Duration::from_millis(50);
/// So long a read waits for a connection to a replica.
const WAIT: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_lets_nobody_in_is_ejected_and_comes_back() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let relay = Relay::to(cluster.server(STRUCK)).await?;
    // What the first probe takes says nothing about later ones.
    relay.delay(SLOW_START);
    let db = sealane::connect(fleet::config_of(
        Replica::from(cluster.primary().url.clone()),
        replicas(&cluster, &relay),
    ))
    .await?;
    fleet::ready(&db).await?;
    relay.delay(Duration::ZERO);
    let crew = {
        let db = db.clone();
        Crew::start(READERS, move |_, _| {
            let db = db.session();
            async move { boat::Entity::find().all(&db).await.map(drop) }
        })
    };
    crew.more(LEAST_READS).await?;
    ensure!(struck(&db)?.reads > 0, "the replica served nothing before");
    let control = Control::of(cluster.primary()).await?;
    let held = Instant::now();
    relay.hold_new();
    eventually(PATIENCE, "the replica is ejected", async || Ok(struck(&db)?.ejected)).await?;
    ensure!(struck(&db)?.health == Health::Up, "its probes are not answered");
    crew.more(LEAST_READS).await?;
    let before = struck(&db)?.reads;
    relay.admit();
    let is_back = async || {
        let it = struck(&db)?;
        Ok(!it.ejected && it.reads > before)
    };
    eventually(PATIENCE, "the replica serves again", is_back).await?;
    let done = crew.stop(END).await?;
    let control = control.end().await?;
    let failed: Vec<_> = done.iter().filter_map(|it| it.failure.as_ref()).collect();
    ensure!(failed.is_empty(), "{} of {} failed: {}", failed.len(), done.len(), failed[0]);
    let since = done.iter().filter(|it| it.ended > held);
    let longest = since.map(Done::took).max().unwrap_or_default();
    println!(
        "{} reads, {} overdue, longest {longest:?}; the primary took {control:?} at most to answer",
        done.len(),
        db.status().reads.overdue
    );
    ensure!(longest <= WAIT + NOISE + control, "a read took {longest:?}");
    Ok(())
}

fn replicas(cluster: &Cluster, relay: &Relay) -> Vec<Replica> {
    let short = |url: &str| {
        let mut options = ConnectOptions::new(url);
        options.max_lifetime(LIFETIME).max_connections(POOL);
        Replica::from(options)
    };
    let url = |server: &sealane_tests::Server| match server.name == STRUCK {
        true => short(relay.url()),
        false => Replica::from(server.url.clone()),
    };
    cluster.replicas().iter().map(url).collect()
}

/// The status of the struck replica.
fn struck(db: &RoutedConnection) -> anyhow::Result<EndpointStatus> {
    let found = db.status().endpoints.into_iter().find(|it| it.name == STRUCK);
    found.ok_or_else(|| anyhow::anyhow!("no {STRUCK}"))
}
