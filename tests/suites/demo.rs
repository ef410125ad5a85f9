//! `sealane demo --docker` without a terminal, on a cluster that it makes and removes itself.

use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Parser;
use sealane_cli::{Arguments, CommandError, run};
use sealane_tests::{BROKEN_PROMISE, Cluster, docker, terminal::Terminal};
use serde_json::Value;

const NAMED: &str = "name=sealane-demo-";

/// Runs `sealane demo --docker` and returns whether all is well, and its lines of JSON.
async fn demo(image: &str) -> Result<(bool, Vec<Value>), CommandError> {
    let words = ["sealane", "demo", "--docker", "--json", "--for=20s", "--image", image];
    let mut out = Vec::new();
    let is_well = run(Arguments::parse_from(words), &mut out).await?;
    let lines = String::from_utf8_lossy(&out);
    let lines = lines.lines().map(|line| serde_json::from_str(line).unwrap_or_default());
    Ok((is_well, lines.collect()))
}

async fn nothing_is_left() -> anyhow::Result<()> {
    let containers = docker(&["ps", "--all", "--quiet", "--filter", NAMED]).await?;
    let networks = docker(&["network", "ls", "--quiet", "--filter", NAMED]).await?;
    ensure!(containers.is_empty() && networks.is_empty(), "left: {containers} {networks}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tour_reads_on_more_replicas_and_survives_the_death_of_one() -> anyhow::Result<()> {
    let image = Cluster::from_env().primary().image().await?;
    let (is_well, lines) = demo(&image).await?;
    let tour = lines.last().context("no lines")?;
    println!("{tour}");
    let number = |value: &Value| value.as_f64().context("no number");
    for (replicas, reads) in tour["reads"].as_array().context("no reads")?.iter().enumerate() {
        ensure!(reads["replicas"] == replicas && number(&reads["reads_per_s"])? > 5.0, "{reads}");
        ensure!(reads["missed_writes"] == 0, "{BROKEN_PROMISE}: {reads}");
    }
    ensure!(lines.len() == 5 && tour["reads"].as_array().map(Vec::len) == Some(4), "{tour}");
    ensure!(tour["freshness"]["missed_writes"] == 0, "{BROKEN_PROMISE}: {tour}");
    ensure!(number(&tour["freshness"]["writes"])? >= 1.0, "{tour}");
    ensure!(number(&tour["freshness"]["p99_ms"])? < 2_000.0, "no replica got the writes: {tour}");
    ensure!(number(&tour["kill"]["reads"])? > 10.0, "{tour}");
    ensure!(is_well && tour["kill"]["failed_reads"] == 0, "{BROKEN_PROMISE}: {tour}");
    nothing_is_left().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_terminal_keys_kill_replicas_and_start_them_again() -> anyhow::Result<()> {
    let image = Cluster::from_env().primary().image().await?;
    let words = ["demo", "--docker", "--for=2s", "--image", image.as_str()];
    let mut terminal = Terminal::open(env!("CARGO_BIN_EXE_command"), &words, &[])?;
    let soon = Duration::from_secs(60);
    terminal.shows(soon, "q, Esc or Ctrl-C ends", "1, 2 and 3 kill a replica").await?;
    // The tour itself has killed the first.
    terminal.shows(soon, "replica-1 ", "down").await?;
    terminal.shows(soon, "replica-2 ", "serving").await?;
    terminal.press("12").await?;
    terminal.shows(soon, "replica-1 ", "serving").await?;
    terminal.shows(soon, "replica-2 ", "down").await?;
    terminal.press("2").await?;
    for name in ["primary ", "replica-1 ", "replica-2 ", "replica-3 "] {
        terminal.shows(soon, name, "serving").await?;
    }
    terminal.press("q").await?;
    ensure!(terminal.ends().await? == 0, "reads failed");
    nothing_is_left().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tour_that_is_ended_removes_its_cluster() -> anyhow::Result<()> {
    let image = Cluster::from_env().primary().image().await?;
    let listed = async || docker(&["ps", "--quiet", "--filter", NAMED]).await;
    let started = async {
        while listed().await?.lines().count() < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    };
    tokio::select! {
        toured = demo(&image) => anyhow::bail!("it ended by itself: {toured:?}"),
        started = started => started?,
    }
    nothing_is_left().await
}

#[tokio::test]
async fn an_image_that_cannot_be_had_is_an_error_in_words() -> anyhow::Result<()> {
    let error = demo("localhost:1/nowhere").await.err().context("it ran")?.to_string();
    ensure!(error.starts_with("docker pull: "), "{error}");
    nothing_is_left().await
}
