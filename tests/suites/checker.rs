//! The checker: clients write and read over sessions of two processes while replicas lag, stand
//! still, hang and die; everything is recorded, and the record is held against the promises.
//!
//! It runs for a minute, or for as many seconds as `SEALANE_CHECKER_SECONDS` says, in rounds of
//! half a minute; in every other one the primary loses connections, too. What the clients and the faults do is drawn from a seed, which is printed and can be
//! set with `SEALANE_CHECKER_SEED`; when things happen is up to the machine.

#[path = "checker/client.rs"]
mod client;
#[path = "checker/history.rs"]
mod history;
#[path = "checker/nemesis.rs"]
mod nemesis;
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
#[path = "checker/wanted.rs"]
mod wanted;

use std::{
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use client::{Client, Plant, Shared};
use history::History;
use nemesis::{Inflicted, Nemesis};
use sea::Chart;
use sealane_tests::{Cluster, fleet};
use tally::Tally;
use tokio::task::JoinSet;
use verdict::{Fault, Violation, violations};

const CLIENTS: usize = 24;
/// What is recorded is kept in memory and judged when a round is over.
const ROUND: Duration = Duration::from_secs(30);
/// Good for tests only.
const TOKEN_KEY: [u8; 32] = [7; 32];
const SHOWN_VIOLATIONS: usize = 20;

/// Who troubles the clients.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Trouble {
    /// All that can go wrong with replicas; no lone read may fail.
    Replicas,
    /// Beside it, connections of the primary are cut. A read that loses a replica and then the
    /// primary, too, fails, and so it should: it may be what breaks them.
    Everything,
    /// One replica stands still all the time.
    OneStandsStill,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_promise_is_broken_while_replicas_lag_hang_and_die() -> anyhow::Result<()> {
    let variable = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seed = variable("SEALANE_CHECKER_SEED").unwrap_or_else(|| fastrand::u64(..1 << 32));
    let seconds = variable("SEALANE_CHECKER_SECONDS").unwrap_or(60);
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
        let failed = tally.failed_reads - failed_before;
        ensure!(trouble != Trouble::Replicas || failed == 0, "{failed} reads failed");
        if !found.violations.is_empty() {
            println!("{found}");
            break;
        }
    }
    ensure!(tally.faults.is_empty(), "promises are broken, see above");
    ensure!(tally.failed_tokens == 0, "{} tokens were refused", tally.failed_tokens);
    Ok(())
}

/// That the test above would find it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_read_whatever_there_is_are_caught() -> anyhow::Result<()> {
    let tally = planted(Plant::Sessions).await?;
    println!("{tally}");
    for fault in [Fault::OwnWriteMissed, Fault::BackInTime] {
        ensure!(tally.faults.contains_key(&fault), "{fault:?} was not found");
    }
    Ok(())
}

/// That it would find this, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bounds_that_do_not_hold_are_caught() -> anyhow::Result<()> {
    let tally = planted(Plant::Bounds).await?;
    println!("{tally}");
    ensure!(tally.faults.contains_key(&Fault::TooStale), "nothing was found");
    // Nothing else was spoilt.
    ensure!(tally.faults.len() == 1, "more was found");
    Ok(())
}

async fn planted(plant: Plant) -> anyhow::Result<Tally> {
    let mut tally = Tally::default();
    let duration = Duration::from_secs(3);
    round(1, duration, plant, Trouble::OneStandsStill, &mut tally).await?;
    Ok(tally)
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
    let primary = fleet::address(cluster.primary()).await?;
    let connect = || sealane::connect(fleet::config(&cluster).token_key(TOKEN_KEY));
    let processes = [connect().await?, connect().await?];
    for process in &processes {
        fleet::ready(process).await?;
    }

    let began = Instant::now();
    let until = began + duration;
    let shared = Arc::new(Shared::new(processes, chart, plant, until));
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(Client::new(Arc::clone(&shared), number, seed).run());
    }
    let inflicted = inflict(&cluster, trouble, seed, until).await;
    let mut operations = Vec::new();
    while let Some(recorded) = clients.join_next().await {
        operations.extend(recorded?);
    }
    tally.took += began.elapsed();
    tally.seeds.push(seed);
    tally.add_inflicted(inflicted?);

    let history =
        History { failover: None, keys: chart.all().end, pairs: chart.pairs(), operations };
    let violations = violations(&history);
    tally.add(&history, &primary, &violations);
    let mut found = Found { violations, history: None };
    if plant == Plant::Nothing && !found.violations.is_empty() {
        found.history = Some(written(&history, seed)?);
    }
    Ok(found)
}

/// Troubles the cluster until it is time.
async fn inflict(
    cluster: &Cluster,
    trouble: Trouble,
    seed: u64,
    until: Instant,
) -> anyhow::Result<Inflicted> {
    if trouble == Trouble::OneStandsStill {
        cluster.replicas()[0].pause_replay().await?;
        tokio::time::sleep_until(until.into()).await;
        return Ok(Inflicted::new());
    }
    let mut nemeses = JoinSet::new();
    if trouble == Trouble::Everything {
        nemeses.spawn(Nemesis::new(cluster.primary(), seed, until).cut_writes());
    }
    for (n, replica) in (1..).zip(cluster.replicas()) {
        nemeses.spawn(Nemesis::new(replica, seed + (n << 32), until).trouble_replica());
    }
    let mut inflicted = Inflicted::new();
    while let Some(done) = nemeses.join_next().await {
        for (name, count) in done? {
            *inflicted.entry(name).or_default() += count;
        }
    }
    // A fault that could not be undone must not hold the clients for ever.
    cluster.heal().await?;
    Ok(inflicted)
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
