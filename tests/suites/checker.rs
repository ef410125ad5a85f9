//! The checker: clients write and read over sessions of two processes while replicas lag, stand
//! still, hang and die; everything is recorded, and the record is held against the promises.
//!
//! It runs for forty seconds, or for as many seconds as `SEALANE_CHECKER_SECONDS` says, in rounds of
//! twenty; in every other one the primary loses connections, too. In another test the primary is
//! replaced in each round, or comes back without the end of its log (MySQL, MariaDB). What the clients
//! and the faults do is drawn from a seed, which is printed and can be set with
//! `SEALANE_CHECKER_SEED`; when things happen is up to the machine.

#[path = "checker/client.rs"]
mod client;
#[path = "checker/failover.rs"]
mod failover;
#[path = "checker/history.rs"]
mod history;
#[path = "checker/lost_tail.rs"]
mod lost_tail;
#[path = "checker/nemesis.rs"]
mod nemesis;
#[path = "checker/numbers.rs"]
mod numbers;
#[path = "checker/sea.rs"]
mod sea;
#[path = "checker/strays.rs"]
mod strays;
#[path = "checker/tally.rs"]
mod tally;
#[path = "checker/transaction.rs"]
mod transaction;
#[path = "checker/verdict.rs"]
mod verdict;

use std::{
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use client::{Client, Plant, Shared};
use failover::{Way, fail_over, survivors};
use futures_util::future::join_all;
use history::{Failover, History};
use lost_tail::lose_tail;
use nemesis::{Inflicted, Nemesis};
use numbers::Numbers;
use sea::Chart;
use sea_orm::ConnectOptions;
use sealane::RoutedConnection;
use sealane_tests::{BROKEN_PROMISE, Cluster, Engine, Relay, Server, fleet};
use tally::Tally;
use tokio::task::JoinSet;
use verdict::{Fault, Violation, violations};

const CLIENTS: usize = 24;
/// What is recorded is kept in memory and judged when a round is over.
const ROUND: Duration = Duration::from_secs(20);
/// A round in which the primary is replaced.
const FAILOVER: Duration = Duration::from_secs(20);
/// Good for tests only.
const TOKEN_KEY: [u8; 32] = [7; 32];
const SHOWN_VIOLATIONS: usize = 20;
/// A round with a planted fault. It must be found within so many of them.
const SHORT: Duration = Duration::from_secs(3);
const PLANTED: u64 = 4;

/// Who troubles the clients.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Trouble {
    /// All that can go wrong with replicas, of which one at a time loses connections; no lone read
    /// may fail.
    Replicas,
    /// They lose connections at once, and the primary does, too. A read that loses two of them in a
    /// row fails, and so it should: it may be what breaks them.
    Everything,
    /// One replica stands still all the time.
    OneStandsStill,
    /// The primary is replaced, half-way.
    Failover(Way),
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_promise_is_broken_while_replicas_lag_hang_and_die() -> anyhow::Result<()> {
    let seed = variable("SEALANE_CHECKER_SEED").unwrap_or_else(|| fastrand::u64(..1 << 32));
    let seconds = variable("SEALANE_CHECKER_SECONDS").unwrap_or(40);
    let mut tally = Tally::default();
    let mut left = Duration::from_secs(seconds);
    while !left.is_zero() {
        let duration = left.min(ROUND);
        let seed = seed + tally.seeds.len() as u64;
        let trouble = match seed % 2 {
            0 => Trouble::Replicas,
            _ => Trouble::Everything,
        };
        let failed_before = tally.failed_reads;
        let found = round(seed, duration, Plant::Nothing, trouble, &mut tally).await?;
        left -= duration;
        println!("{tally}");
        if !found.violations.is_empty() {
            println!("{found}");
            break;
        }
        let failed = tally.failed_reads - failed_before;
        ensure!(trouble != Trouble::Replicas || failed == 0, "{failed} reads failed");
    }
    judge(&tally)?;
    ensure!(tally.failed_tokens == 0, "{} tokens were refused", tally.failed_tokens);
    tally.was_a_test()
}

/// And nothing that was answered is lost, if the primary waits for a replica.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_promise_is_broken_while_the_primary_is_replaced() -> anyhow::Result<()> {
    let seed = variable("SEALANE_CHECKER_SEED").unwrap_or_else(|| fastrand::u64(..1 << 32));
    let engine = Cluster::from_env().engine();
    let least = Way::all(engine).len() as u64;
    let rounds =
        variable("SEALANE_CHECKER_SECONDS").map_or(least, |s| s.div_ceil(FAILOVER.as_secs()));
    let mut tally = Tally::default();
    for seed in seed..seed + rounds {
        let trouble = Trouble::Failover(Way::of(seed, engine));
        let found = round(seed, FAILOVER, Plant::Nothing, trouble, &mut tally).await?;
        println!("{tally}");
        if !found.violations.is_empty() {
            println!("{found}");
            break;
        }
    }
    judge(&tally)?;
    tally.was_a_failover()
}

/// That nothing was found. What had no end may have waited for a machine that is too busy to end a
/// fault in time; all else is final.
fn judge(tally: &Tally) -> anyhow::Result<()> {
    let is_final = tally.faults.keys().any(|fault| *fault != Fault::Endless);
    ensure!(!is_final, "{BROKEN_PROMISE}: see above");
    ensure!(tally.faults.is_empty(), "operations without an end, see above");
    Ok(())
}

/// That it would find this: the primary does not wait for the replica that is promoted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_that_a_failover_loses_are_caught() -> anyhow::Result<()> {
    let mut tally = Tally::default();
    let trouble = Trouble::Failover(Way::Planted);
    round(0, Duration::from_secs(6), Plant::Nothing, trouble, &mut tally).await?;
    println!("{tally}");
    ensure!(tally.faults.contains_key(&Fault::Lost), "nothing was found");
    Ok(())
}

/// And this: a replica that is ahead of the promoted one, or of a primary that lost the end of its
/// log, has the numbers of what it lacks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histories_that_are_told_apart_by_numbers_alone_are_caught() -> anyhow::Result<()> {
    let ways = Way::all(Cluster::from_env().engine());
    for way in ways.iter().filter(|way| matches!(way, Way::Behind | Way::LostTail)) {
        let trouble = Trouble::Failover(*way);
        caught(Plant::Numbers, FAILOVER, trouble, &[Fault::OwnWriteMissed])
            .await
            .with_context(|| format!("{way:?}"))?;
    }
    Ok(())
}

/// And this: a task that left its session reads whatever there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_that_miss_the_writes_of_their_process_are_caught() -> anyhow::Result<()> {
    caught(Plant::Strays, SHORT, Trouble::OneStandsStill, &[Fault::OwnWriteMissed]).await.map(drop)
}

/// That the test above would find it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_read_whatever_there_is_are_caught() -> anyhow::Result<()> {
    let faults = [Fault::OwnWriteMissed, Fault::BackInTime];
    caught(Plant::Sessions, SHORT, Trouble::OneStandsStill, &faults).await.map(drop)
}

/// That it would find this, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bounds_that_do_not_hold_are_caught() -> anyhow::Result<()> {
    let tally = caught(Plant::Bounds, SHORT, Trouble::OneStandsStill, &[Fault::TooStale]).await?;
    // Nothing else was spoilt.
    ensure!(tally.faults.len() == 1, "more was found");
    Ok(())
}

/// Finds what is planted, in a few rounds: whether anybody reads on the wrong server at the wrong time
/// is up to the machine.
#[allow(clippy::print_stdout, reason = "figures of a test")]
async fn caught(
    plant: Plant,
    duration: Duration,
    trouble: Trouble,
    faults: &[Fault],
) -> anyhow::Result<Tally> {
    let mut tally = Tally::default();
    let missed = |tally: &Tally| faults.iter().find(|it| !tally.faults.contains_key(it)).copied();
    for seed in 1..=PLANTED {
        round(seed, duration, plant, trouble, &mut tally).await?;
        if missed(&tally).is_none() {
            break;
        }
    }
    println!("{} rounds: {tally}", tally.seeds.len());
    let missed = missed(&tally);
    ensure!(missed.is_none(), "not found: {missed:?}");
    Ok(tally)
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// What a round has shown to be broken, and where to read on.
#[derive(Debug)]
struct Found {
    violations: Vec<Violation>,
    history: Option<PathBuf>,
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for violation in self.violations.iter().take(SHOWN_VIOLATIONS) {
            writeln!(f, "  {violation}")?;
        }
        match &self.history {
            Some(path) => write!(f, "  all that happened: {}", path.display()),
            None => Ok(()),
        }
    }
}

/// One round on a healthy cluster: clients and faults for so long, then the verdict.
async fn round(
    seed: u64,
    duration: Duration,
    plant: Plant,
    trouble: Trouble,
    tally: &mut Tally,
) -> anyhow::Result<Found> {
    let cluster = fleet::moor().await?;
    let chart = Chart::new(CLIENTS);
    chart.draw(&cluster).await?;
    if let Trouble::Failover(way) = trouble {
        chart.leave_wakes(&cluster).await?;
        if way == Way::Synchronous {
            cluster.replicate_synchronously().await?;
        }
        if cluster.engine() != Engine::Postgres {
            // As the blows are: with every way and blow.
            let sync = format!("SET GLOBAL sync_binlog = {}", seed / 12 % 2);
            cluster.primary().sql(&sync).await?;
        }
    }
    let relays = relays(&cluster).await?;
    let processes = [connect(&cluster, &relays).await?, connect(&cluster, &relays).await?];
    let began = Instant::now();
    let until = began + duration;
    let fails_over = matches!(trouble, Trouble::Failover(_));
    let mut shared = Shared::new(processes, chart, plant, until, fails_over);
    if plant == Plant::Numbers {
        shared.numbers = Some(Numbers::of(&cluster).await?);
    }
    let shared = Arc::new(shared);
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(Client::new(Arc::clone(&shared), number, seed).run());
    }
    let inflicted = match trouble {
        Trouble::Failover(way) => replace_primary(&cluster, &shared, way, seed).await,
        _ => inflict(&cluster, &relays, trouble, seed, until).await,
    };
    let mut operations = Vec::new();
    while let Some(recorded) = clients.join_next().await {
        operations.extend(recorded?);
    }
    tally.took += began.elapsed();
    tally.seeds.push(seed);
    let Afflicted { inflicted, mut failover, primaries } = inflicted?;
    tally.add_inflicted(inflicted);
    if let Some((failover, server)) = &mut failover {
        failover.survivors = survivors(server).await?;
    }
    if trouble == Trouble::Failover(Way::LostTail) {
        // Its replicas may have passed what they should never have had, and look well.
        cluster.begin_anew().await?;
    }
    let failover = failover.map(|(failover, _)| failover);
    let (keys, pairs) = (chart.all().end, chart.pairs());
    let history = History { failover, keys, pairs, primaries, operations };
    let violations = violations(&history);
    tally.add(&history, &violations);
    let mut found = Found { violations, history: None };
    if plant == Plant::Nothing && !found.violations.is_empty() {
        found.history = Some(written(&history, seed)?);
    }
    Ok(found)
}

/// An address that can move for each replica.
async fn relays(cluster: &Cluster) -> anyhow::Result<Vec<Relay>> {
    let mut relays = Vec::new();
    for replica in cluster.replicas() {
        relays.push(Relay::to(replica).await?);
    }
    Ok(relays)
}

/// One process.
async fn connect(cluster: &Cluster, relays: &[Relay]) -> anyhow::Result<RoutedConnection> {
    // A client that reads beside its open transaction needs two connections of the primary when no
    // replica will do. With fewer, all of them could hold one and wait for another for ever.
    let options = |url: &str| {
        let mut options = ConnectOptions::new(url);
        options.max_connections(u32::try_from(2 * CLIENTS).unwrap_or(u32::MAX));
        options
    };
    let replicas = relays.iter().map(|relay| options(relay.url()));
    let config = fleet::config_of(options(&cluster.primary().url), replicas);
    let db = sealane::connect(config.token_key(TOKEN_KEY)).await?;
    fleet::ready(&db).await?;
    Ok(db)
}

/// What was done to a cluster, and to its primary.
#[derive(Debug)]
struct Afflicted {
    inflicted: Inflicted,
    failover: Option<(Failover, Server)>,
    /// The addresses of servers that were no replicas in the end.
    primaries: Vec<String>,
}

/// Troubles the cluster until it is time.
async fn inflict(
    cluster: &Cluster,
    relays: &[Relay],
    trouble: Trouble,
    seed: u64,
    until: Instant,
) -> anyhow::Result<Afflicted> {
    let primaries = vec![fleet::address(cluster.primary()).await?];
    if trouble == Trouble::OneStandsStill {
        cluster.replicas()[0].pause_replay().await?;
        tokio::time::sleep_until(until.into()).await;
        return Ok(Afflicted { inflicted: Inflicted::new(), failover: None, primaries });
    }
    let replicas = cluster.replicas();
    let cuts = async {
        match trouble {
            Trouble::Everything => Nemesis::new(cluster.primary(), seed, until).cut_writes().await,
            _ => Inflicted::new(),
        }
    };
    let others = replicas.iter().cycle().skip(1);
    let turn = Arc::default();
    let troubles =
        (1..).zip(replicas).zip(relays).zip(others).map(|(((n, replica), relay), other)| {
            let nemesis = Nemesis::new(replica, seed + (n << 32), until);
            let nemesis = match trouble {
                Trouble::Replicas => nemesis.in_turn(&turn),
                _ => nemesis,
            };
            nemesis.trouble_replica(relay, other)
        });
    let (cut, troubled) = tokio::join!(cuts, join_all(troubles));
    let mut inflicted = Inflicted::new();
    for (name, count) in troubled.into_iter().chain([cut]).flatten() {
        *inflicted.entry(name).or_default() += count;
    }
    // A fault that could not be undone must not hold the clients for ever.
    cluster.heal().await?;
    Ok(Afflicted { inflicted, failover: None, primaries })
}

/// Replaces the primary when a third of the time is over. What was promoted goes on.
async fn replace_primary(
    cluster: &Cluster,
    shared: &Arc<Shared>,
    way: Way,
    seed: u64,
) -> anyhow::Result<Afflicted> {
    let old = fleet::address(cluster.primary()).await?;
    tokio::time::sleep(shared.until.saturating_duration_since(Instant::now()) / 3).await;
    let (server, name, failover) = if way == Way::LostTail {
        let (name, failover) = lose_tail(cluster, shared, seed).await?;
        (cluster.primary(), name, failover)
    } else {
        fail_over(cluster, shared, way, seed).await?
    };
    let primaries = vec![old, fleet::address(server).await?];
    let inflicted = Inflicted::from([(name, 1)]);
    Ok(Afflicted { inflicted, failover: Some((failover, server.clone())), primaries })
}

/// Writes the history down, one operation a line.
fn written(history: &History, seed: u64) -> anyhow::Result<PathBuf> {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("checker-{seed}.jsonl"));
    let file = std::fs::File::create(&path).with_context(|| path.display().to_string())?;
    let mut file = std::io::BufWriter::new(file);
    for operation in &history.operations {
        serde_json::to_writer(&mut file, operation)?;
        writeln!(file)?;
    }
    file.flush()?;
    Ok(path)
}
