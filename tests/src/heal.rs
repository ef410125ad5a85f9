//! The way back to a healthy cluster, from wherever a test left it.

use std::time::Duration;

use anyhow::Context;

use crate::docker::docker;
use crate::wait::eventually;
use crate::{Cluster, Engine, Server};

/// Limit for a replica that only needs to reconnect and catch up.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(10);
/// Limit for a replica that starts empty: MySQL and MariaDB replay everything ever written.
const REPLAY_LIMIT: Duration = Duration::from_secs(60);

impl Cluster {
    /// Undoes every fault: all servers run, are connected and have their original settings; all
    /// replicas stream from the primary and have replayed what it had written.
    ///
    /// The server that began as the primary is the primary again, with everything that it ever
    /// answered. A replica that was promoted meanwhile is rebuilt, and its writes are lost. So a
    /// test may kill the primary, promote a replica, and start the old primary again. The function
    /// is quick when nothing is broken.
    ///
    /// # Errors
    /// When a server does not come back in time.
    pub async fn heal(&self) -> anyhow::Result<()> {
        for server in self.servers() {
            server.revive().await.with_context(|| format!("cannot revive {}", server.name))?;
        }
        let primary = self.primary();
        let restored = primary.replication().restore_primary(primary).await;
        restored.context("cannot heal the primary, which no test may demote")?;
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
    /// Makes the server run and answer: not frozen as a whole or in part, in the network, with room
    /// on its disk, and with a right clock.
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
        if self.is_blackholed().await {
            self.unblackhole().await?;
        }
        if self.engine == Engine::Postgres {
            self.continue_queries().await?;
        }
        if self.uses_small_disk().await {
            self.free_disk().await?;
        }
        self.ready().await?;
        if !self.tells_the_time().await? {
            self.right_clock().await?;
        }
        Ok(())
    }

    /// Makes the server a replica of `primary` again, if necessary with a new copy of the data.
    async fn follow(&self, primary: &Server) -> anyhow::Result<()> {
        let can_follow = self.replication().restore_replica(self, primary).await?;
        if can_follow && self.catches_up(primary, CATCH_UP_LIMIT).await.is_ok() {
            return Ok(());
        }
        // The replica was promoted, or its data differs from the primary's.
        self.rebuild().await?;
        self.catches_up(primary, REPLAY_LIMIT).await
    }

    async fn catches_up(&self, primary: &Server, limit: Duration) -> anyhow::Result<()> {
        let goal = primary.position().await?;
        let what = format!("{} follows and has replayed {goal}", self.name);
        eventually(limit, &what, async || {
            let follows = self.replication().follows(self, primary).await?;
            Ok(follows && self.has_replayed(&goal).await?)
        })
        .await
    }
}
