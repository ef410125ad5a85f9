//! All replicas die under many readers.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use sea_orm::{ConnectOptions, DbErr};
use sealane::{Error, RoutedConnection};
use sealane_tests::{
    Cluster,
    crew::{Crew, Done},
    fleet,
};
use tokio::time::sleep;

use super::{
    END, NOISE, QUIET,
    figures::quantile,
    load::{launch, look, looks},
};

const READERS: usize = 64;
const WRITERS: usize = 4;
const LIMIT: usize = 4;
/// The connections of the primary where the limit adapts: it begins with half of them.
const CONNECTIONS: u32 = 32;
const EVENT: Duration = Duration::from_secs(3);
/// How often the primary is asked what it runs.
const LOOK: Duration = Duration::from_millis(20);
/// So many statements of each kind are needed to say anything.
const LEAST: usize = 50;

struct Outage {
    most_fallbacks: i64,
    lowest_limit: usize,
    reads: usize,
    shed: usize,
    /// Reads that lost two connections: one on each replica. They may have broken the servers, so
    /// they are not sent to the primary.
    lost_twice: usize,
    others: Vec<String>,
    writes: usize,
    quiet_p99: Duration,
    p99: Duration,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_all_replicas_does_not_become_one_of_the_primary() -> anyhow::Result<()> {
    for limit in [LIMIT, READERS] {
        let found = outage(limit).await?;
        let Outage { most_fallbacks, reads, shed, lost_twice, others, writes, .. } = found;
        let (quiet_p99, p99) = (found.quiet_p99, found.p99);
        println!(
            "limit {limit:>2}: at most {most_fallbacks:>2} fallback reads at a time; {reads} reads, \
             {shed} of them shed, {lost_twice} lost on both replicas; p99 of {writes} writes \
             {p99:.1?}, before it {quiet_p99:.1?}"
        );
        ensure!(others.is_empty(), "{others:?}");
        ensure!(lost_twice <= READERS, "reads were sent to dead replicas again and again");
        ensure!(most_fallbacks > 0, "nothing fell back to the primary");
        if limit == LIMIT {
            ensure!(most_fallbacks <= LIMIT as i64, "{most_fallbacks} fallback reads");
            ensure!(writes >= LEAST, "too few writes");
            ensure!(p99 <= 2 * quiet_p99 + NOISE, "writes took {p99:?}");
        } else {
            ensure!(most_fallbacks > LIMIT as i64, "the limit had nothing to do");
        }
    }
    Ok(())
}

/// The limit that adapts begins with more reads than two processors bear beside writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_that_adapts_leaves_the_primary_to_its_writes() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let mut primary = ConnectOptions::new(&cluster.primary().url);
    primary.max_connections(CONNECTIONS);
    let replicas = cluster.replicas().iter().map(|it| ConnectOptions::new(&it.url));
    let config = fleet::config_of(primary, replicas).require_replicas(2);
    let db = sealane::connect(config).await?;
    ensure!(db.status().fallback_limit == Some(CONNECTIONS as usize / 2), "{:?}", db.status());
    let found = outage_of(&cluster, &db).await?;
    let limit = db.status().fallback_limit.context("no limit")?;
    println!(
        "adapted to {limit}: at most {} fallback reads at a time; p99 of {} writes {:.1?}, before it \
         {:.1?}",
        found.most_fallbacks, found.writes, found.p99, found.quiet_p99
    );
    ensure!(found.others.is_empty(), "{:?}", found.others);
    ensure!(found.most_fallbacks > 0, "nothing fell back to the primary");
    // On a machine that something else keeps busy, writes are slow before the outage as well: then
    // nothing tells that fallback reads are too many, and the limit need not fall.
    let is_lower = found.lowest_limit < CONNECTIONS as usize / 2;
    let is_borne = found.p99 <= 2 * found.quiet_p99 + NOISE;
    ensure!(is_lower || is_borne, "writes took {:?}, and the limit is {limit}", found.p99);
    ensure!(found.lowest_limit >= CONNECTIONS as usize / 8, "too few: {}", found.lowest_limit);
    Ok(())
}

async fn outage(limit: usize) -> anyhow::Result<Outage> {
    let cluster = fleet::moor().await?;
    let config = fleet::config(&cluster).fallback_limit(limit).require_replicas(2);
    outage_of(&cluster, &sealane::connect(config).await?).await
}

async fn outage_of(cluster: &Cluster, db: &RoutedConnection) -> anyhow::Result<Outage> {
    fleet::ready(db).await?;
    launch(db, cluster).await?;
    let readers = {
        let db = db.clone();
        Crew::start(READERS, move |_, _| {
            let db = db.session();
            async move { look(&db, 3).await }
        })
    };
    let writers = Crew::writing(db, WRITERS);
    readers.more(LEAST).await?;
    writers.more(LEAST).await?;
    sleep(QUIET).await;
    let began = Instant::now();
    for replica in cluster.replicas() {
        replica.kill().await?;
    }
    let (mut most_fallbacks, all_dead) = (0, Instant::now());
    let mut lowest_limit = usize::MAX;
    while all_dead.elapsed() < EVENT {
        lowest_limit = db.status().fallback_limit.map_or(lowest_limit, |it| it.min(lowest_limit));
        most_fallbacks = most_fallbacks.max(looks(cluster.primary(), cluster.engine()).await?);
        sleep(LOOK).await;
    }
    let (reads, writes) = (readers.stop(END).await?, writers.stop(END).await?);
    restart(cluster).await?;
    let (mut shed, mut lost_twice, mut others) = (0, 0, Vec::new());
    for error in reads.iter().filter_map(|read| read.failure.as_ref()) {
        match Error::of(error) {
            Some(Error::Shed { .. }) => shed += 1,
            None if has_lost_its_connection(error) => lost_twice += 1,
            _ => others.push(error.to_string()),
        }
    }
    let writes = |suits: &dyn Fn(&Done) -> bool| {
        let mut took: Vec<_> = writes.iter().filter(|it| suits(it)).map(Done::took).collect();
        took.sort();
        (took.len(), quantile(&took, 0.99))
    };
    let ((quiet_writes, quiet_p99), (writes, p99)) =
        (writes(&|write| write.ended < began), writes(&|write| write.began >= began));
    ensure!(quiet_writes >= LEAST, "too few writes before");
    Ok(Outage {
        most_fallbacks,
        lowest_limit,
        shed,
        lost_twice,
        others,
        reads: reads.iter().filter(|read| read.began >= began).count(),
        writes,
        quiet_p99,
        p99,
    })
}

/// A server process of PostgreSQL may notice before its end that its postmaster is gone, and says so.
fn has_lost_its_connection(error: &DbErr) -> bool {
    let text = error.to_string();
    text.contains("error communicating with database")
        || text.contains("terminating connection due to unexpected postmaster exit")
}

async fn restart(cluster: &Cluster) -> anyhow::Result<()> {
    for replica in cluster.replicas() {
        replica.start().await?;
    }
    Ok(())
}
