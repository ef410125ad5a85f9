//! `idle_monitor SECONDS`: a routed connection that nobody uses, and what it costs.
//!
//! The servers count the queries, all that reach them, whoever sends them: probes, what
//! has the log written out, and the loads of the catalog with their transactions. The processor's time
//! is that of this whole process, which does nothing else meanwhile. Above the limits it fails.
//!
//! Run by `cargo xtask bench --monitor`, which starts the cluster.
#![allow(clippy::print_stdout, reason = "a program for the terminal")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::time::{ClockId, clock_gettime};
use sealane_tests::{Cluster, Server, fleet};

/// Each endpoint is asked at most once a second.
const QUERIES_PER_SECOND_AND_ENDPOINT: f64 = 1.0;
/// Of one core, for a primary and five replicas.
const PROCESSOR_RATIO: f64 = 0.002;
/// As much of a statement as tells it from others.
const TITLE: usize = 48;

/// How often a server has run which statement, by its first words.
type Calls = BTreeMap<String, u64>;

/// What one server counted from one moment to another.
struct Counted {
    calls: Calls,
    time: Duration,
}

impl Counted {
    fn rate(&self) -> f64 {
        self.calls.values().sum::<u64>() as f64 / self.time.as_secs_f64()
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let seconds = std::env::args().nth(1).context("usage: idle_monitor SECONDS")?;
    let time = Duration::from_secs(seconds.parse().context("SECONDS is a whole number")?);
    let cluster = Cluster::healthy().await?;
    let db = sealane::connect(fleet::config(&cluster)).await?;
    fleet::all_up(&db).await?;
    fleet::ready(&db).await?;

    let before = count(&cluster).await?;
    let (began, used_before) = (Instant::now(), processor_time());
    tokio::time::sleep(time).await;
    let (took, used) = (began.elapsed(), processor_time().saturating_sub(used_before));
    let counted = since(&before, &count(&cluster).await?);
    drop(db);

    let rate: f64 = counted.iter().map(|(_, counted)| counted.rate()).sum();
    let ratio = used.as_secs_f64() / took.as_secs_f64();
    show_queries(&counted, rate);
    println!(
        "processor: {used:?} in {took:.1?}, {:.3} % of a core, {:.0} µs per query",
        ratio * 100.0,
        ratio / rate * 1e6
    );
    let most = QUERIES_PER_SECOND_AND_ENDPOINT * counted.len() as f64;
    ensure!(rate <= most, "{rate:.2} queries/s, {most} are allowed");
    ensure!(ratio <= PROCESSOR_RATIO, "{} % of a core is allowed", PROCESSOR_RATIO * 100.0);
    Ok(())
}

/// What this process, all its threads and those that have ended, has had of the processors.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let (seconds, nanoseconds) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_nsec));
    // A clock of this kind begins at zero.
    Duration::from_secs(seconds.unwrap_or(0)) + Duration::from_nanos(nanoseconds.unwrap_or(0))
}

async fn count(cluster: &Cluster) -> anyhow::Result<Vec<(Server, Calls, Instant)>> {
    let mut counts = Vec::new();
    for server in cluster.servers() {
        let calls = calls(server).await?;
        counts.push((server.clone(), calls, Instant::now()));
    }
    Ok(counts)
}

async fn calls(server: &Server) -> anyhow::Result<Calls> {
    // All but this one.
    let sql = format!(
        "SELECT coalesce(jsonb_object_agg(title, calls), '{{}}')::text FROM ( \
           SELECT left(regexp_replace(query, '\\s+', ' ', 'g'), {TITLE}) AS title, sum(calls) AS calls \
           FROM pg_stat_statements WHERE query NOT LIKE '%pg_stat_statements%' GROUP BY 1) AS counted"
    );
    let text: String = server.query_scalar(&sql).await?;
    serde_json::from_str(&text).with_context(|| format!("{}: not a count: {text}", server.name))
}

fn since(
    before: &[(Server, Calls, Instant)],
    after: &[(Server, Calls, Instant)],
) -> Vec<(Server, Counted)> {
    let pairs = before.iter().zip(after);
    pairs
        .map(|((server, earlier, began), (_, later, ended))| {
            let more = |(title, calls): (&String, &u64)| {
                let more = calls - earlier.get(title).copied().unwrap_or(0);
                (more > 0).then(|| (title.clone(), more))
            };
            let calls = later.iter().filter_map(more).collect();
            (server.clone(), Counted { calls, time: *ended - *began })
        })
        .collect()
}

fn show_queries(counted: &[(Server, Counted)], rate: f64) {
    for (server, counted) in counted {
        println!("{:<12} {:>6.3} queries/s", server.name, counted.rate());
        for (title, calls) in &counted.calls {
            println!("{calls:>19} × {title}");
        }
    }
    println!("{:<12} {rate:>6.3} queries/s", "all");
}
