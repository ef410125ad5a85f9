//! How long reads take while a replica dies, hangs or becomes slow, and that none fails.
//!
//! Every fault comes in the middle of steady reads of 16 readers on three replicas. The table shows
//! the reads of the time before it, of the time that it lasts, and of the latter without its first
//! second; a `+` marks hedged reads. `SEALANE_TAILS` names one fault to try alone.

#[path = "tails/entrance.rs"]
mod entrance;
#[path = "tails/fault.rs"]
mod fault;
#[path = "tails/figures.rs"]
mod figures;
#[path = "tails/limits.rs"]
mod limits;
#[path = "tails/load.rs"]
mod load;
#[path = "tails/outage.rs"]
mod outage;

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use fault::{Fault, STRUCK, Struck};
use figures::{Figures, longest};
use sea_orm::entity::prelude::*;
use sealane_tests::{
    Cluster, Control, Relay,
    crew::Crew,
    eventually,
    fleet::{self, boat},
};
use tokio::time::sleep;

const READERS: usize = 16;
const REPLICAS: usize = 3;
const QUIET: Duration = Duration::from_secs(2);
const EVENT: Duration = Duration::from_secs(3);
/// How often the replica's state is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(20);
/// All reads have an end this soon, whatever has become of the replica.
const END: Duration = Duration::from_secs(10);
/// So many reads of each period are needed to say anything.
const LEAST_READS: usize = 200;
/// The longest read that may be.
const LONGEST: Duration = Duration::from_millis(300);
/// On a machine that runs nine servers on two cores, anything may be delayed this long. It is less
/// than a read waited for a server that is stopped before reads were watched: 1.7 s.
const NOISE: Duration = Duration::from_millis(700);
/// No read that is sent to a replica which hangs or is slowed down is answered this soon without a
/// hedge.
const QUICK: Duration = Duration::from_millis(20);
/// More than an ejection lasts without a read that could be its trial.
const PATIENCE: Duration = Duration::from_secs(30);

/// One after the other, because all need the same cluster.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_read_fails_and_none_waits_for_a_replica_that_does_not_answer() -> anyhow::Result<()> {
    let (engine, wanted) = (Cluster::from_env().engine(), std::env::var("SEALANE_TAILS").ok());
    let is_wanted = |fault: &Fault| {
        fault.is_for(engine) && wanted.as_ref().is_none_or(|it| *it == format!("{fault:?}"))
    };
    let mut table = Vec::new();
    for fault in Fault::ALL.into_iter().filter(is_wanted) {
        for hedged in [false, true] {
            if hedged && !fault.is_about_hedges() {
                continue;
            }
            let figures = under(fault, hedged).await.with_context(|| format!("{fault:?}"))?;
            println!("{figures}");
            table.push(figures);
        }
    }
    ensure!(!table.is_empty(), "no fault was tried");
    let are_hedged = table.iter().any(|figures| figures.is_hedged);
    let hedges: u64 = table.iter().map(|figures| figures.hedges).sum();
    let is_whole = wanted.is_none();
    ensure!(hedges > 0 || !are_hedged || !is_whole, "no fault made a read need its hedge");
    for figures in table {
        let Figures { fault, quiet, during, failures, .. } = &figures;
        ensure!(quiet.len() >= LEAST_READS, "too few reads before: {figures}");
        ensure!(during.len() >= LEAST_READS, "too few reads during: {figures}");
        ensure!(failures.is_empty(), "{figures}: {failures:?}");
        ensure!(longest(during) <= LONGEST + NOISE + figures.control, "too long: {figures}");
        ensure!(figures.is_hedged || figures.hedges == 0, "hedged without being asked: {figures}");
        // Without a fault, reads may be slow only because this process has to wait for the machine.
        // And nothing has to be hedged if nobody had to wait.
        let busy = QUICK + figures.control;
        let nobody_waits = *fault == Fault::Nothing || longest(during) < busy;
        let hedges_something = figures.hedges > 0 || nobody_waits;
        ensure!(!figures.is_hedged || hedges_something, "nothing is hedged: {figures}");
        if *fault == Fault::Nothing {
            // One read in twenty is slower than 95 % of them.
            let most = during.len() as u64 * 8 / 100;
            ensure!(figures.hedges <= most, "quick reads are hedged: {figures}");
        }
        if fault.hangs() && !figures.is_hedged {
            ensure!(figures.overdue > 0, "no read was found to be overdue: {figures}");
            // New processes answer, so the replica may go on serving others.
            let may_serve = *fault == Fault::StopQueries;
            ensure!(figures.was_ejected || may_serve, "the replica was never ejected: {figures}");
        }
    }
    Ok(())
}

async fn under(fault: Fault, is_hedged: bool) -> anyhow::Result<Figures> {
    let cluster = fleet::moor().await?;
    let replica = cluster.server(STRUCK);
    fault.prepare(replica).await?;
    let relay = Relay::to(replica).await?;
    // Past Docker's proxies, which accept connections to servers that are gone.
    let first = match fault {
        Fault::Delay => relay.url().to_owned(),
        _ => replica.direct_url().await?,
    };
    let mut urls = vec![first];
    for other in cluster.replicas().iter().filter(|it| it.name != STRUCK) {
        urls.push(other.direct_url().await?);
    }
    ensure!(urls.len() == REPLICAS, "the cluster has {} replicas", urls.len());
    let config = fleet::config_of(cluster.primary().direct_url().await?, urls);
    let db = sealane::connect(config.hedged_reads(is_hedged)).await?;
    fleet::ready(&db).await?;
    fleet::boat("Ida").insert(&db.session()).await?;
    fleet::replayed(&cluster).await?;
    let crew = {
        let db = db.clone();
        Crew::start(READERS, move |_, _| {
            let db = db.session();
            async move { boat::Entity::find().one(&db).await.map(drop) }
        })
    };
    crew.more(LEAST_READS).await?;
    sleep(QUIET).await;
    let served = db.status().endpoints.iter().find(|it| it.name == STRUCK).map(|it| it.reads);
    ensure!(served.is_some_and(|reads| reads > 0), "the replica served nothing before");
    let control = Control::of(cluster.primary()).await?;
    let began = Instant::now();
    let before = db.status().reads;
    let struck = Struck::by(fault, &cluster, &relay).await?;
    let mut was_ejected = false;
    while began.elapsed() < EVENT {
        let is_ejected = |it: &sealane::EndpointStatus| it.name == STRUCK && it.ejected;
        was_ejected |= db.status().endpoints.iter().any(is_ejected);
        sleep(LOOK).await;
    }
    let (ended, after) = (Instant::now(), db.status().reads);
    let control = control.end().await?;
    struck.end(&cluster, &relay).await?;
    let done = crew.stop(END).await?;
    Ok(Figures {
        is_hedged,
        hedges: after.hedged - before.hedged,
        overdue: after.overdue - before.overdue,
        was_ejected,
        control,
        ..Figures::of(fault, &done, began, ended)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ejection_ends_although_nobody_reads() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let relay = Relay::to(cluster.server(STRUCK)).await?;
    let urls = [relay.url().to_owned()];
    let db = sealane::connect(fleet::config_of(cluster.primary().url.clone(), urls)).await?;
    fleet::ready(&db).await?;
    let is_ejected = || db.status().endpoints.iter().any(|it| it.ejected);
    eventually(PATIENCE, "the replica is ejected", async || {
        let struck = Struck::by(Fault::Delay, &cluster, &relay).await?;
        for _ in 0..READERS {
            boat::Entity::find().one(&db).await?;
            if is_ejected() {
                return Ok(true);
            }
        }
        // Probes that a busy machine made slow just before seem to be usual, and nothing is wrong.
        struck.end(&cluster, &relay).await?;
        sleep(QUIET).await;
        Ok(false)
    })
    .await?;
    relay.delay(Duration::ZERO);
    eventually(PATIENCE, "a service that asks for it is ready again", async || Ok(!is_ejected()))
        .await
}
