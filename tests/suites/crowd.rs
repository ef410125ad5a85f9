//! What many processes cost the servers that they share: probes are counted by the servers, and
//! how long a write keeps its session on the primary by the processes.

#![allow(clippy::print_stdout, reason = "figures are part of the result")]

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use sealane_tests::{
    Cluster,
    fleet::{self, statements},
    watch::{self, probe_pattern},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::{sleep, timeout},
};

/// What one server may be asked by all processes together: the default.
const BUDGET_PER_S: f64 = 200.0;
/// A machine that is busy with other things does not keep time exactly, and its processes count each
/// other late: 224 of 200 were seen beside a compiler, 130 without it. Processes that did not share
/// a budget would send 10,000.
const TOLERANCE: f64 = 1.5;
/// Until the members have counted each other, and have used up what they were given for a start.
const SETTLED: Duration = Duration::from_secs(4);
const COUNTED: Duration = Duration::from_secs(8);
/// So many connect at a time.
const AT_ONCE: usize = 5;

/// A process of the crowd; it ends with this value, also when a test fails.
struct Member {
    tell: ChildStdin,
    says: Lines<BufReader<ChildStdout>>,
    _process: Child,
}

impl Member {
    fn start(times_ms: [u64; 2]) -> anyhow::Result<Self> {
        let mut process = Command::new(env!("CARGO_BIN_EXE_member"))
            .args(times_ms.map(|ms| ms.to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let tell = process.stdin.take().context("no input")?;
        let says = BufReader::new(process.stdout.take().context("no output")?).lines();
        Ok(Self { tell, says, _process: process })
    }

    async fn line(&mut self) -> anyhow::Result<String> {
        let line = timeout(Duration::from_secs(30), self.says.next_line()).await;
        line.context("a member says nothing")??.context("a member has ended")
    }

    async fn tell(&mut self) -> anyhow::Result<()> {
        Ok(self.tell.write_all(b"\n").await?)
    }

    /// How long each of its writes kept it on the primary, in milliseconds.
    async fn end(mut self) -> anyhow::Result<Vec<f64>> {
        self.tell().await?;
        let line = self.line().await?;
        let millis = |word: &str| Ok(word.parse::<f64>()? / 1_000.0);
        line.split_whitespace().map(millis).collect()
    }
}

/// What came of a crowd.
struct Outcome {
    members: usize,
    /// Of all writes, sorted.
    stickiness_ms: Vec<f64>,
    fewest_writes: usize,
    /// By server, the primary first.
    probes_per_s: Vec<f64>,
}

async fn run(cluster: &Cluster, members: usize, times_ms: [u64; 2]) -> anyhow::Result<Outcome> {
    let mut crowd = Vec::new();
    while crowd.len() < members {
        let mut newcomers = (crowd.len()..members.min(crowd.len() + AT_ONCE))
            .map(|_| Member::start(times_ms))
            .collect::<anyhow::Result<Vec<_>>>()?;
        for member in &mut newcomers {
            ensure!(member.line().await? == "ready");
        }
        crowd.append(&mut newcomers);
    }
    for member in &mut crowd {
        member.tell().await?;
    }
    sleep(SETTLED).await;
    watch::forget_statements(cluster).await?;
    let begun = Instant::now();
    sleep(COUNTED).await;
    let mut probes_per_s = Vec::new();
    for server in cluster.servers() {
        let probes = statements(server, probe_pattern(cluster.engine())).await?;
        #[allow(clippy::cast_precision_loss, reason = "a rate")]
        probes_per_s.push(probes as f64 / begun.elapsed().as_secs_f64());
    }
    let (mut stickiness_ms, mut fewest_writes) = (Vec::new(), usize::MAX);
    for member in crowd {
        let kept = member.end().await?;
        fewest_writes = fewest_writes.min(kept.len());
        stickiness_ms.extend(kept);
    }
    stickiness_ms.sort_by(f64::total_cmp);
    Ok(Outcome { members, stickiness_ms, fewest_writes, probes_per_s })
}

impl Outcome {
    fn stickiness_at(&self, percent: usize) -> anyhow::Result<f64> {
        let kept = &self.stickiness_ms;
        kept.get((kept.len() * percent / 100).min(kept.len().saturating_sub(1)))
            .copied()
            .context("no writes")
    }

    fn print(&self) -> anyhow::Result<()> {
        let [median, p95] = [self.stickiness_at(50)?, self.stickiness_at(95)?];
        let probes: Vec<String> = self.probes_per_s.iter().map(|it| format!("{it:.0}")).collect();
        println!(
            "{:>2} processes: on the primary for {median:.1} ms (median), {p95:.1} ms (p95) after \
             {} writes, at least {} each; probes/s by server: {}",
            self.members,
            self.stickiness_ms.len(),
            self.fewest_writes,
            probes.join(", ")
        );
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_processes_ask_no_more_than_the_budget_of_one_fleet() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let mut outcomes = Vec::new();
    for (members, times_ms, writes) in [(1, [2, 15], 50), (8, [10, 30], 20), (50, [100, 300], 3)] {
        let outcome = run(&cluster, members, times_ms).await?;
        outcome.print()?;
        outcomes.push((outcome, writes));
    }
    for (outcome, writes) in outcomes {
        let members = outcome.members;
        let most = outcome.probes_per_s.iter().copied().fold(0.0, f64::max);
        ensure!(most <= BUDGET_PER_S * TOLERANCE, "{members} processes: {most:.0} probes/s");
        // All have worked, and needed probes for it.
        ensure!(outcome.fewest_writes >= writes, "{} writes of one", outcome.fewest_writes);
        #[allow(clippy::cast_precision_loss, reason = "a rate")]
        let least = members as f64;
        for probes in &outcome.probes_per_s {
            ensure!(*probes >= least, "{members} processes: {probes:.1} probes/s of one server");
        }
    }
    Ok(())
}
