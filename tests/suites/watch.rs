//! `sealane watch` on a terminal, while a replica of a real cluster dies and comes back.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use sealane_tests::{Cluster, Control, fleet, terminal::Terminal};

const SOON: Duration = Duration::from_secs(10);
/// How soon the picture shows that a server has died.
const PROMPT: Duration = Duration::from_secs(2);

fn watch(cluster: &Cluster) -> anyhow::Result<Terminal> {
    let replicas: Vec<_> = cluster.replicas().iter().map(|it| it.url.as_str()).collect();
    let replicas = replicas.join(",");
    let urls = [("DATABASE_URL", &*cluster.primary().url), ("DATABASE_REPLICA_URLS", &*replicas)];
    Terminal::open(env!("CARGO_BIN_EXE_command"), &["watch"], &urls)
}

/// The name of the endpoint: its host and port, because all have one host.
fn name(url: &str) -> anyhow::Result<&str> {
    let rest = url.rsplit('@').next().context("no host")?;
    rest.split('/').next().context("no host")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_picture_shows_a_dead_replica_within_two_seconds_and_its_return() -> anyhow::Result<()>
{
    let cluster = fleet::moor().await?;
    let victim = cluster.server("replica-1");
    let mut terminal = watch(&cluster)?;
    terminal.shows(SOON, name(&cluster.primary().url)?, "primary").await?;
    for replica in cluster.replicas() {
        terminal.shows(SOON, name(&replica.url)?, "serving").await?;
    }

    let control = Control::of(cluster.primary()).await?;
    let began = Instant::now();
    victim.kill().await?;
    // `docker kill` itself takes long on a busy machine; the server is dead at its end at the latest.
    let killed = began.elapsed();
    terminal.shows(SOON, name(&victim.url)?, "down").await?;
    let seen = began.elapsed().saturating_sub(killed);
    let control = control.end().await?;
    println!(
        "the picture showed it {seen:?} after the kill, which took {killed:?}; the primary took \
         {control:?} at most to answer"
    );
    ensure!(seen <= PROMPT + control, "the picture showed it after {seen:?}:\n{}", terminal.text());
    ensure!(terminal.text().contains("is down"), "no event tells it:\n{}", terminal.text());

    victim.start().await?;
    terminal.shows(SOON, name(&victim.url)?, "serving").await?;
    terminal.press("q").await?;
    ensure!(terminal.ends().await? == 0, "it did not end well");
    Ok(())
}
