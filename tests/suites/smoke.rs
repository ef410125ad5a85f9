//! The cluster itself, whatever its engine: it replicates, its faults do what they say, and it
//! heals.
//!
//! What the other suites build upon; if one of these fails, look here first.

use std::time::{Duration, Instant};

use anyhow::ensure;
use sealane_tests::{Cluster, Server, eventually};

const SOON: Duration = Duration::from_secs(10);

/// Writes something to the primary and returns its position afterwards.
async fn write(cluster: &Cluster) -> anyhow::Result<String> {
    let primary = cluster.primary();
    primary.sql("CREATE TABLE IF NOT EXISTS smoke (id int PRIMARY KEY)").await?;
    primary.sql("DELETE FROM smoke; INSERT INTO smoke VALUES (1)").await?;
    primary.position().await
}

async fn replays(replica: &Server, position: &str) -> anyhow::Result<()> {
    let what = format!("{} replays {position}", replica.name);
    eventually(SOON, &what, async || replica.has_replayed(position).await).await
}

/// Waits until a new client gets an answer quickly.
async fn comes_to_answer(server: &Server) -> anyhow::Result<()> {
    eventually(SOON, &format!("{} answers", server.name), async || Ok(answers(server).await)).await
}

/// Whether a new client gets an answer quickly.
async fn answers(server: &Server) -> bool {
    let query = server.query_scalar::<bool>("SELECT true");
    matches!(tokio::time::timeout(Duration::from_secs(1), query).await, Ok(Ok(true)))
}

#[tokio::test]
async fn replicas_are_in_recovery_and_stream_and_the_primary_is_not() -> anyhow::Result<()> {
    let cluster = Cluster::healthy().await?;
    ensure!(!cluster.primary().in_recovery().await?);
    for replica in cluster.replicas() {
        ensure!(replica.in_recovery().await?, "{}", replica.name);
        ensure!(replica.is_streaming().await?, "{}", replica.name);
    }
    Ok(())
}

#[tokio::test]
async fn a_write_reaches_every_replica() -> anyhow::Result<()> {
    let cluster = Cluster::healthy().await?;
    let position = write(&cluster).await?;
    for replica in cluster.replicas() {
        replays(replica, &position).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_replica_refuses_a_write() -> anyhow::Result<()> {
    let cluster = Cluster::healthy().await?;
    let replica = cluster.server("replica-1");
    let refusal = replica.sql_as_application("CREATE TABLE nowhere (id int)").await;
    let message = refusal.err().map(|error| format!("{error:#}")).unwrap_or_default();
    ensure!(message.contains("read-only"), "{message}");
    Ok(())
}

#[tokio::test]
async fn paused_replay_hides_writes_until_resumed() -> anyhow::Result<()> {
    let cluster = Cluster::healthy().await?;
    let replica = cluster.server("replica-1");
    replica.pause_replay().await?;
    let position = write(&cluster).await?;
    replays(cluster.server("replica-2"), &position).await?;
    ensure!(!replica.has_replayed(&position).await?);
    ensure!(replica.is_streaming().await?);
    replica.resume_replay().await?;
    replays(replica, &position).await
}

#[tokio::test]
async fn delayed_replay_shows_writes_later_and_nothing_else_changes() -> anyhow::Result<()> {
    let cluster = Cluster::healthy().await?;
    let replica = cluster.server("replica-1");
    replica.delay_replay(Duration::from_secs(4)).await?;
    let began = Instant::now();
    let position = write(&cluster).await?;
    replays(cluster.server("replica-2"), &position).await?;
    ensure!(!replica.has_replayed(&position).await? && replica.is_streaming().await?);
    replays(replica, &position).await?;
    // MariaDB counts from the second in which the write was.
    ensure!(began.elapsed() > Duration::from_secs(2), "after {:?}", began.elapsed());
    replica.delay_replay(Duration::ZERO).await?;
    replays(replica, &write(&cluster).await?).await
}

#[tokio::test]
async fn stopped_replication_leaves_a_replica_that_answers() -> anyhow::Result<()> {
    let cluster = Cluster::healthy().await?;
    let replica = cluster.server("replica-1");
    replica.stop_replication().await?;
    let position = write(&cluster).await?;
    replays(cluster.server("replica-2"), &position).await?;
    comes_to_answer(replica).await?;
    ensure!(!replica.has_replayed(&position).await?);
    replica.resume_replication().await?;
    replays(replica, &position).await
}

#[tokio::test]
async fn a_killed_replica_rejoins() -> anyhow::Result<()> {
    let cluster = Cluster::healthy().await?;
    let replica = cluster.server("replica-1");
    replica.kill().await?;
    ensure!(!answers(replica).await);
    let position = write(&cluster).await?;
    replica.start().await?;
    replays(replica, &position).await?;
    eventually(SOON, "it streams", async || replica.is_streaming().await).await
}

#[tokio::test]
async fn a_crashed_server_begins_anew_by_itself() -> anyhow::Result<()> {
    let cluster = Cluster::healthy().await?;
    let replica = cluster.server("replica-1");
    replica.crash().await?;
    cluster.primary().crash().await?;
    let what = "the primary can be written to";
    eventually(SOON, what, async || Ok(write(&cluster).await.is_ok())).await?;
    let position = write(&cluster).await?;
    replays(replica, &position).await?;
    replays(cluster.server("replica-2"), &position).await
}

#[tokio::test]
async fn a_stopped_primary_comes_back_and_is_followed() -> anyhow::Result<()> {
    let cluster = Cluster::healthy().await?;
    cluster.primary().stop().await?;
    comes_to_answer(cluster.server("replica-1")).await?;
    cluster.primary().start().await?;
    let position = write(&cluster).await?;
    for replica in cluster.replicas() {
        replays(replica, &position).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_frozen_server_accepts_connections_and_says_nothing() -> anyhow::Result<()> {
    let cluster = Cluster::healthy().await?;
    let replica = cluster.server("replica-2");
    replica.freeze().await?;
    let address = replica.url.split('@').nth(1).and_then(|rest| rest.split('/').next());
    let accepted = tokio::net::TcpStream::connect(address.unwrap_or_default()).await;
    let silent = !answers(replica).await;
    replica.thaw().await?;
    ensure!(accepted.is_ok() && silent, "accepted: {accepted:?}, silent: {silent}");
    replica.ready().await
}

#[tokio::test]
async fn a_cut_server_is_out_of_reach_until_it_joins() -> anyhow::Result<()> {
    let cluster = Cluster::healthy().await?;
    let replica = cluster.server("replica-1");
    replica.cut().await?;
    ensure!(!answers(replica).await);
    let position = write(&cluster).await?;
    replica.join().await?;
    replays(replica, &position).await
}

#[tokio::test]
async fn a_cut_primary_is_followed_again_once_it_joins() -> anyhow::Result<()> {
    let cluster = Cluster::healthy().await?;
    cluster.primary().cut().await?;
    ensure!(!answers(cluster.primary()).await);
    cluster.primary().join().await?;
    let position = write(&cluster).await?;
    for replica in cluster.replicas() {
        replays(replica, &position).await?;
    }
    Ok(())
}

#[tokio::test]
async fn healing_undoes_faults_on_all_servers_at_once() -> anyhow::Result<()> {
    let cluster = Cluster::healthy().await?;
    cluster.server("replica-1").stop_replication().await?;
    cluster.server("replica-1").pause_replay().await?;
    cluster.server("replica-1").freeze().await?;
    cluster.server("replica-2").delay_replay(Duration::from_secs(3600)).await?;
    cluster.server("replica-2").kill().await?;
    cluster.primary().cut().await?;
    let began = Instant::now();
    cluster.heal().await?;
    println!("healed in {:?}", began.elapsed());
    let position = write(&cluster).await?;
    for replica in cluster.replicas() {
        replays(replica, &position).await?;
        ensure!(replica.is_streaming().await?, "{}", replica.name);
    }
    Ok(())
}

#[tokio::test]
async fn a_promoted_replica_stays_promoted_when_it_starts_again() -> anyhow::Result<()> {
    let cluster = Cluster::healthy().await?;
    let replica = cluster.server("replica-2");
    replica.promote().await?;
    replica.kill().await?;
    replica.start().await?;
    ensure!(!replica.in_recovery().await? && !replica.is_streaming().await?);
    replica.sql_as_application("CREATE TABLE diverged (id int)").await
}

#[tokio::test]
async fn healing_makes_a_promoted_replica_a_replica_again() -> anyhow::Result<()> {
    let cluster = Cluster::healthy().await?;
    let replica = cluster.server("replica-2");
    replica.promote().await?;
    replica.sql_as_application("CREATE TABLE diverged (id int)").await?;
    cluster.heal().await?;
    ensure!(replica.in_recovery().await? && replica.is_streaming().await?);
    ensure!(replica.sql("SELECT * FROM diverged").await.is_err());
    replays(replica, &write(&cluster).await?).await
}

#[tokio::test]
async fn a_black_hole_swallows_what_is_sent_to_a_server() -> anyhow::Result<()> {
    let cluster = Cluster::healthy().await?;
    let replica = cluster.server("replica-1");
    let direct = replica.direct_url().await?;
    let address = direct.split('@').nth(1).and_then(|rest| rest.split('/').next());
    let address = address.unwrap_or_default();
    ensure!(tokio::net::TcpStream::connect(address).await.is_ok(), "{address} refuses");
    replica.blackhole().await?;
    let connects = tokio::net::TcpStream::connect(address);
    let connected = tokio::time::timeout(Duration::from_secs(1), connects).await;
    // Through Docker's proxy, which accepts.
    ensure!(connected.is_err() && !answers(replica).await, "{connected:?}");
    let position = write(&cluster).await?;
    replica.unblackhole().await?;
    replays(replica, &position).await
}

#[tokio::test]
async fn an_old_primary_that_returns_after_a_promotion_is_the_primary_when_all_is_healed()
-> anyhow::Result<()> {
    let cluster = Cluster::healthy().await?;
    write(&cluster).await?;
    let (primary, promoted) = (cluster.primary(), cluster.server("replica-1"));
    primary.kill().await?;
    promoted.promote().await?;
    cluster.server("replica-2").follow_instead(promoted).await?;
    promoted.sql_as_application("DELETE FROM smoke").await?;
    primary.start().await?;
    ensure!(!primary.in_recovery().await?, "it came back as a replica");
    primary.sql_as_application("INSERT INTO smoke VALUES (2)").await?;
    let began = Instant::now();
    cluster.heal().await?;
    println!("healed in {:?}", began.elapsed());
    for server in cluster.servers() {
        let rows: i64 = server.query_scalar("SELECT count(*) FROM smoke").await?;
        ensure!(rows == 2, "{rows} rows on {}", server.name);
    }
    Ok(())
}
