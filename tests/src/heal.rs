//! The way back to a healthy cluster, from wherever a test left it.

use std::time::Duration;

use anyhow::Context;
use futures_util::future::try_join_all;

use crate::container::Container;
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
        self.revive().await?;
        for replica in self.replicas() {
            if !replica.follows_again(self.primary()).await? {
                replica.rebuild().await?;
                replica.catches_up(self.primary(), REPLAY_LIMIT).await?;
            }
        }
        Ok(())
    }

    /// As [`Cluster::heal`], for the beginning of a test: what an earlier test wrote is of no use to
    /// it. Where a rebuilt replica replays all that was ever written, every server begins anew
    /// instead, which takes seconds where that replay takes a minute.
    pub(crate) async fn renew(&self) -> anyhow::Result<()> {
        if self.engine() == Engine::Postgres {
            return self.heal().await;
        }
        self.revive().await?;
        for replica in self.replicas() {
            if !replica.follows_again(self.primary()).await? {
                return self.begin_anew().await;
            }
        }
        Ok(())
    }

    /// Every server runs and answers, and the primary is as it began.
    async fn revive(&self) -> anyhow::Result<()> {
        let revived = self.servers().iter().map(async |server| {
            server.revive().await.with_context(|| format!("cannot revive {}", server.name))
        });
        try_join_all(revived).await?;
        let primary = self.primary();
        let restored = primary.replication().restore_primary(primary).await;
        restored.context("cannot heal the primary, which no test may demote")
    }

    /// Every server's data are made anew; what was written is gone. Only on MySQL and MariaDB: there
    /// a replica may have other data than its primary and not show that.
    ///
    /// # Errors
    /// When Docker refuses, or a server does not come back in time.
    pub async fn begin_anew(&self) -> anyhow::Result<()> {
        try_join_all(self.servers().iter().map(|server| Box::pin(server.rebuild()))).await?;
        for replica in self.replicas() {
            replica.catches_up(self.primary(), REPLAY_LIMIT).await?;
        }
        Ok(())
    }
}

impl Server {
    /// Makes the server run and answer: not frozen as a whole or in part, in the network, with room
    /// on its disk, and with a right clock.
    async fn revive(&self) -> anyhow::Result<()> {
        let container = Container::of(self).await?;
        if container.is_paused {
            self.thaw().await?;
        }
        if !container.is_running {
            docker(&["start", &self.container]).await?;
        }
        if !container.has_network {
            self.join().await?;
        }
        self.restore_packets().await?;
        if self.engine == Engine::Postgres && container.has_stopped_process() != Some(false) {
            self.continue_queries().await?;
        }
        if container.is_slowed {
            self.free_processor().await?;
        }
        let is_disk_empty = match container.has_empty_disk() {
            Some(is_empty) => is_empty,
            None => !self.uses_small_disk().await,
        };
        if !is_disk_empty {
            self.free_disk().await?;
        }
        self.ready().await?;
        if !self.tells_the_time().await? {
            self.right_clock().await?;
        }
        Ok(())
    }

    /// Makes the server a replica of `primary` again. Returns false if it cannot be one: it was
    /// promoted, or its data differs from the primary's.
    async fn follows_again(&self, primary: &Server) -> anyhow::Result<bool> {
        let can_follow = self.replication().restore_replica(self, primary).await;
        let can_follow = can_follow.with_context(|| format!("cannot heal {}", self.name))?;
        Ok(can_follow && self.catches_up(primary, CATCH_UP_LIMIT).await.is_ok())
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
