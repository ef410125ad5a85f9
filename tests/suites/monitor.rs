//! What sealane shows and tells of a replica that is in trouble, in order and once; that reads
//! with a bound avoid it and others go on; that its bound on staleness is right all the while;
//! and that it is told when the trouble is over.
//!
//! In every test the primary is written to all the time, and every replica's bound is held
//! against the truth by a [`Ruler`](sealane_tests::ruler::Ruler).

// Futures of routed statements, in futures of the lookout, in futures of tests.
#![recursion_limit = "256"]
#![allow(clippy::print_stdout, reason = "figures are part of the result")]

#[path = "monitor/clock.rs"]
mod clock;
#[path = "monitor/lookout.rs"]
mod lookout;
#[path = "monitor/staleness.rs"]
mod staleness;

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use lookout::Lookout;
use sealane::Condition::{Down, Lagging, NotReplicating, Paused, Serving};
use sealane_tests::Engine;

const LAGGING: &str = "lagging";
const LAGS_NO_LONGER: &str = "no longer lagging";
/// Of a replica that was started anew. PostgreSQL's receiver may be believed after its data.
const RESTARTED: &[&str] = &[
    "down",
    "up",
    "restarted",
    "?stopped",
    "?lagging",
    "?running",
    "?no longer lagging",
    "?running",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_replica() -> anyhow::Result<()> {
    let lookout = Lookout::take().await?;
    let replica = lookout.replica();
    replica.pause_replay().await?;
    lookout.shows("replica-1", Paused).await?;
    lookout.avoids("replica-1").await?;
    lookout.tells("replica-1", LAGGING).await?;
    let status = lookout.status("replica-1")?;
    ensure!(status.condition == Paused, "{}", status.condition);
    let behind = status.behind.context("how far it is behind is unknown")?.to_string();
    ensure!(!behind.starts_with("0 "), "{behind}");
    replica.resume_replay().await?;
    lookout.shows("replica-1", Serving).await?;
    lookout.has_told("replica-1", &["paused", LAGGING, "running", LAGS_NO_LONGER]).await?;
    lookout.done().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slowed_replica() -> anyhow::Result<()> {
    let lookout = Lookout::take().await?;
    let replica = lookout.replica();
    replica.delay_replay(Duration::from_secs(3)).await?;
    lookout.shows("replica-1", Lagging).await?;
    lookout.avoids("replica-1").await?;
    replica.delay_replay(Duration::ZERO).await?;
    lookout.shows("replica-1", Serving).await?;
    // MySQL and MariaDB let go for a moment to be told of a delay.
    let told = ["?stopped", "?running", LAGGING, "?stopped", "?running", LAGS_NO_LONGER];
    lookout.has_told("replica-1", &told).await?;
    lookout.done().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_replica() -> anyhow::Result<()> {
    let lookout = Lookout::take().await?;
    let replica = lookout.replica();
    replica.freeze().await?;
    lookout.shows("replica-1", Down).await?;
    lookout.avoids("replica-1").await?;
    ensure!(lookout.status("replica-1")?.staleness_ms.is_none(), "nothing is proved of it");
    replica.thaw().await?;
    lookout.shows("replica-1", Serving).await?;
    // It says nothing for as long as it may lag before it is taken to be down.
    let told = ["?lagging", "down", "up", "?lagging", "?no longer lagging"];
    lookout.has_told("replica-1", &told).await?;
    lookout.done().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_replica() -> anyhow::Result<()> {
    let lookout = Lookout::take().await?;
    let replica = lookout.replica();
    replica.kill().await?;
    lookout.shows("replica-1", Down).await?;
    lookout.avoids("replica-1").await?;
    ensure!(lookout.status("replica-1")?.staleness_ms.is_none(), "nothing is proved of it");
    replica.start().await?;
    lookout.shows("replica-1", Serving).await?;
    lookout.has_told("replica-1", RESTARTED).await?;
    lookout.done().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_cut_off_the_network() -> anyhow::Result<()> {
    let lookout = Lookout::take().await?;
    let replica = lookout.replica();
    replica.cut().await?;
    lookout.shows("replica-1", Down).await?;
    lookout.avoids("replica-1").await?;
    ensure!(lookout.status("replica-1")?.staleness_ms.is_none(), "nothing is proved of it");
    lookout.stays("replica-1", Down, Duration::from_secs(2)).await?;
    replica.join().await?;
    lookout.shows("replica-1", Serving).await?;
    // Its connection to the primary is dead for some seconds before it notices.
    let told = [
        "?lagging",
        "down",
        "up",
        "?stopped",
        "?lagging",
        "?stopped",
        "?running",
        "?no longer lagging",
    ];
    lookout.has_told("replica-1", &told).await?;
    lookout.done().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_whose_log_the_primary_has_removed() -> anyhow::Result<()> {
    let lookout = Lookout::take().await?;
    let replica = lookout.replica();
    replica.lose_log(lookout.cluster.primary()).await?;
    lookout.tells("replica-1", LAGGING).await?;
    lookout.shows("replica-1", NotReplicating).await?;
    lookout.avoids("replica-1").await?;
    lookout.stays("replica-1", NotReplicating, Duration::from_secs(3)).await?;
    // PostgreSQL's was stopped meanwhile. Those of MySQL and MariaDB are told to receive, and are
    // refused once they are connected; they do not try again.
    let told = [
        "?down",
        "?up",
        "?restarted",
        "?lagging",
        "stopped",
        "?lagging",
        "?running",
        "?stopped",
        "?lagging",
    ];
    lookout.has_told("replica-1", &told).await?;
    lookout.has_told("replica-2", &[]).await?;
    lookout.cluster.heal().await?;
    lookout.shows("replica-1", Serving).await?;
    // PostgreSQL's is copied anew. Its receiver is believed after its data are. A primary of
    // MySQL and MariaDB is started anew meanwhile, so that nobody hears from it for a while.
    let healed = [
        "?down",
        "?up",
        "?restarted",
        "?running",
        LAGS_NO_LONGER,
        "?stopped",
        "?running",
        "?lagging",
        "?stopped",
        "?running",
        "?no longer lagging",
    ];
    lookout.has_told("replica-1", &[&told[..], &healed].concat()).await?;
    lookout.bounds_held()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_whose_disk_is_full() -> anyhow::Result<()> {
    let lookout = Lookout::take().await?;
    let replica = lookout.replica();
    replica.use_small_disk().await?;
    lookout.shows("replica-1", Serving).await?;
    lookout.caught_up("replica-1").await?;
    replica.fill_disk().await?;
    runs_full(&lookout).await?;
    lookout.avoids("replica-1").await?;
    lookout.stays_away("replica-1", Duration::from_secs(3)).await?;
    let filled = ["?stopped", "?lagging", "?down"];
    lookout.has_told("replica-1", &[RESTARTED, &filled].concat()).await?;
    replica.free_disk().await?;
    lookout.shows("replica-1", Serving).await?;
    // Down it may have been already.
    let freed = [&["?down"], &RESTARTED[1..]].concat();
    lookout.has_told("replica-1", &[RESTARTED, &filled, &freed].concat()).await?;
    lookout.done().await
}

/// Waits until the disk finds no room and the replica shows it. PostgreSQL's receiver ends again
/// and again; it gets new files of the log until one does not fit. Those of MySQL and MariaDB
/// wait for room without a word: then the replica is seen to lag, and, when the receiver holds a
/// lock without which the server does not tell how it is, not to answer probes.
async fn runs_full(lookout: &Lookout) -> anyhow::Result<()> {
    let engine = lookout.cluster.engine();
    // A file of PostgreSQL's has 16 MB.
    for _ in 0..16 {
        if engine == Engine::Postgres {
            lookout.cluster.primary().switch_log().await?;
        }
        for _ in 0..6 {
            tokio::time::sleep(lookout::INTERVAL).await;
            match (lookout.status("replica-1")?.condition, engine) {
                (NotReplicating, Engine::Postgres) => return Ok(()),
                (_, Engine::Postgres) => {}
                (Lagging | Down, _) => return Ok(()),
                (_, _) => {}
            }
        }
    }
    bail!("it does not run full: {:?}", lookout.status("replica-1")?)
}
