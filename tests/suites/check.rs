//! `sealane check` on real servers: it is silent on a good cluster, and names each of many planted
//! faults with its remedy.

#![allow(clippy::print_stdout, reason = "figures are part of the result")]

#[path = "check/balancer.rs"]
mod balancer;
#[path = "check/good.rs"]
mod good;
#[path = "check/mysql.rs"]
mod mysql;
#[path = "check/postgres.rs"]
mod postgres;
#[path = "check/tally.rs"]
mod tally;

use anyhow::ensure;
use sealane_cli::{Arguments, run};
use sealane_tests::{Cluster, Engine, fleet};

use clap::Parser;
use good::Good;
use tally::{Tally, make_late, make_prompt};

/// The least number of planted faults that must have been found on each engine. Whatever is planted
/// must be found; the floor keeps plants from going away unnoticed.
fn floor(engine: Engine) -> usize {
    match engine {
        Engine::Mysql => 29,
        Engine::Mariadb => 26,
        // Two less where PgBouncer is too old to tell.
        _ => 30,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_cluster_is_met_with_silence_and_each_planted_fault_with_its_remedy()
-> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let good = Good::make(&cluster).await?;
    let tried = Box::pin(plant(&good)).await;
    // Other suites must not find what was made good for this one.
    good.undo().await?;
    let tally = tried?;
    println!("{} planted faults were found:\n{tally}", tally.count());
    let floor = floor(cluster.engine());
    ensure!(tally.count() >= floor, "only {} of {floor} planted faults", tally.count());
    Ok(())
}

async fn plant<'g>(good: &'g Good<'g>) -> anyhow::Result<Tally<'g>> {
    let mut tally = Tally::new(good);
    tally.silent().await?;
    tally.urls().await?;
    match good.cluster.engine() {
        Engine::Postgres => postgres::plant(&mut tally).await?,
        _ => mysql::plant(&mut tally).await?,
    }
    tally.late().await?;
    tally.silent().await?;
    // The last ones break more than a statement repairs.
    tally.clock_and_promotion().await?;
    Ok(tally)
}

/// Runs the command with these arguments, which follow its name.
async fn command(arguments: &[&str]) -> anyhow::Result<(bool, String)> {
    let arguments = Arguments::try_parse_from(["sealane"].iter().chain(arguments))?;
    let mut out = Vec::new();
    let is_well = run(arguments, &mut out).await?;
    Ok((is_well, String::from_utf8(out)?))
}

fn file(cluster: &Cluster) -> anyhow::Result<tempfile::NamedTempFile> {
    let mut text = format!("[primary]\nname = \"primary\"\nurl = \"{}\"\n", cluster.primary().url);
    for replica in cluster.replicas() {
        let (name, url) = (&replica.name, &replica.url);
        text += &format!("[[replicas]]\nname = \"{name}\"\nurl = \"{url}\"\n");
    }
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), text)?;
    Ok(file)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_shows_the_cluster_and_says_by_its_exit_whether_all_is_well()
-> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let file = file(&cluster)?;
    let path = file.path().to_str().unwrap_or_default();
    let on = async |arguments: &[&str]| {
        let all: Vec<&str> = arguments.iter().copied().chain(["--config", path]).collect();
        let (is_well, text) = command(&all).await?;
        println!("$ sealane {}\n{text}", arguments.join(" "));
        anyhow::Ok((is_well, text))
    };
    for arguments in [
        &["status"][..],
        &["lag"],
        &["lag", "--history", "--samples", "3", "--every", "200ms"],
        &["explain", "SELECT name FROM boat"],
        &["replication"],
    ] {
        let (is_well, text) = on(arguments).await?;
        ensure!(is_well, "{arguments:?}");
        ensure!(text.contains("replica-1"), "{arguments:?}: {text}");
    }
    let (is_ready, text) = on(&["wait", "--for", "10s"]).await?;
    ensure!(is_ready && text.contains("2 of 2 replicas"), "{text}");
    for arguments in [&["status", "--json"][..], &["lag", "--json"], &["replication", "--json"]] {
        let (_, text) = on(arguments).await?;
        serde_json::from_str::<serde_json::Value>(&text)?;
    }
    let (_, text) = on(&["explain", "INSERT INTO boat (name) VALUES ('a')"]).await?;
    ensure!(text.contains("intent: Write"), "{text}");

    let late = cluster.server("replica-2");
    make_late(cluster.primary(), late).await?;
    let (is_well, text) = on(&["status"]).await?;
    ensure!(!is_well && text.contains("not all serve and keep up"), "{text}");
    let (is_ready, text) = on(&["wait", "--for", "5s"]).await?;
    ensure!(!is_ready && text.contains("1 of 2 replicas"), "{text}");
    make_prompt(cluster.primary(), late).await?;
    ensure!(on(&["wait", "--for", "10s"]).await?.0, "it has caught up");

    let replica = cluster.server("replica-1");
    replica.kill().await?;
    ensure!(!on(&["status"]).await?.0, "a replica is down");
    let (is_ready, text) = on(&["wait", "--for", "5s"]).await?;
    ensure!(!is_ready && text.contains("1 of 2 replicas"), "{text}");
    ensure!(on(&["wait", "--for", "5s", "--replicas", "1"]).await?.0, "one replica is up");
    replica.start().await
}
