//! The way back to a healthy cluster, from wherever a test left it.

use std::time::Duration;

use anyhow::Context;

use crate::docker::docker;
use crate::wait::eventually;
use crate::{Cluster, Server};

/// For a replica that needs only to reconnect and catch up.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(10);

impl Cluster {
    /// Undoes every fault: all servers run, are connected and have the settings they began
    /// with; all replicas stream from the primary and have replayed what it had written.
    /// Quick when nothing is broken.
    ///
    /// # Errors
    /// When a server does not come back in bounded time.
    pub async fn heal(&self) -> anyhow::Result<()> {
        for server in self.servers() {
            server.revive().await.with_context(|| format!("cannot revive {}", server.name))?;
        }
        let primary = self.primary();
        anyhow::ensure!(
            !primary.in_recovery().await?,
            "the primary came back as a replica: no test may demote it"
        );
        primary.reset_settings().await?;
        for replica in self.replicas() {
            replica
                .follow(primary)
                .await
                .with_context(|| format!("cannot heal {}", replica.name))?;
        }
        Ok(())
    }
}

impl Server {
    /// Running, not frozen, in the network, and answering.
    async fn revive(&self) -> anyhow::Result<()> {
        if self.inspect("{{.State.Paused}}").await? == "true" {
            self.thaw().await?;
        }
        if self.inspect("{{.State.Running}}").await? == "false" {
            docker(&["start", &self.container]).await?;
        }
        if self.inspect("{{len .NetworkSettings.Networks}}").await? == "0" {
            self.join().await?;
        }
        self.ready().await
    }

    /// A replica of `primary` again, if need be by copying it anew.
    async fn follow(&self, primary: &Server) -> anyhow::Result<()> {
        if self.in_recovery().await? {
            self.reset_settings().await?;
            self.resume_replay().await?;
            if self.catches_up(primary).await.is_ok() {
                return Ok(());
            }
        }
        // Promoted, or on another's timeline.
        self.rebuild().await?;
        self.catches_up(primary).await
    }

    async fn catches_up(&self, primary: &Server) -> anyhow::Result<()> {
        let goal = primary.position().await?;
        let listed = format!(
            "SELECT EXISTS (SELECT FROM pg_stat_replication WHERE application_name = '{}' AND state = 'streaming')",
            self.name
        );
        let what = format!("{} streams and has replayed {goal}", self.name);
        eventually(CATCH_UP_LIMIT, &what, async || {
            Ok(primary.query_scalar(&listed).await? && self.has_replayed(&goal).await?)
        })
        .await
    }

    /// Takes back every `ALTER SYSTEM`.
    async fn reset_settings(&self) -> anyhow::Result<()> {
        self.sql("ALTER SYSTEM RESET ALL").await?;
        self.sql("SELECT pg_reload_conf()").await
    }

    async fn inspect(&self, format: &str) -> anyhow::Result<String> {
        docker(&["inspect", "--format", format, &self.container]).await
    }
}
