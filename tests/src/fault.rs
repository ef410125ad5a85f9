//! The faults that a test can inflict on a server, and their opposites.

use std::time::Duration;

use crate::Server;
use crate::docker::docker;
use crate::server::STATEMENT_LIMIT;
use crate::wait::eventually;

/// Replication. [`crate::Cluster::heal`] undoes it all, and so does the server's restart on
/// MySQL and MariaDB, but for a promotion.
impl Server {
    /// A replica goes on receiving, but no longer shows anything new.
    ///
    /// # Errors
    /// As [`Server::sql`]; a primary refuses.
    pub async fn pause_replay(&self) -> anyhow::Result<()> {
        self.replication().pause_replay(self).await
    }

    /// The opposite of [`Server::pause_replay`].
    ///
    /// # Errors
    /// As [`Server::sql`]; a primary refuses.
    pub async fn resume_replay(&self) -> anyhow::Result<()> {
        self.replication().resume_replay(self).await
    }

    /// A replica goes on receiving, but shows every transaction so much later than it was
    /// committed. MySQL and MariaDB round up to whole seconds. Zero undoes it.
    ///
    /// # Errors
    /// As [`Server::sql`].
    pub async fn delay_replay(&self, delay: Duration) -> anyhow::Result<()> {
        self.replication().delay_replay(self, delay).await
    }

    /// A replica goes on answering, but no longer hears from its primary. Returns once it
    /// has let go. For both faults at once call this before [`Server::pause_replay`]: while
    /// replay is paused, PostgreSQL does not act on a changed `primary_conninfo`.
    ///
    /// # Errors
    /// As [`Server::sql`], or when it does not let go within 10 s.
    pub async fn stop_replication(&self) -> anyhow::Result<()> {
        self.replication().stop_replication(self).await
    }

    /// The opposite of [`Server::stop_replication`]. Returns once it streams again.
    ///
    /// # Errors
    /// As [`Server::sql`], or when it does not stream within 10 s.
    pub async fn resume_replication(&self) -> anyhow::Result<()> {
        self.replication().resume_replication(self).await?;
        let what = format!("{} streams again", self.name);
        eventually(STATEMENT_LIMIT, &what, async || self.is_streaming().await).await
    }

    /// A replica becomes a primary of its own, and stays one when it starts again. Only
    /// [`Server::rebuild`] leads back.
    ///
    /// # Errors
    /// As [`Server::sql`]; a primary refuses.
    pub async fn promote(&self) -> anyhow::Result<()> {
        self.replication().promote(self).await
    }

    /// Throws a replica's data away and makes them anew from the primary's: the way back
    /// after a promotion. Waits until it answers.
    ///
    /// # Errors
    /// When Docker refuses, or it does not answer within 30 s.
    pub async fn rebuild(&self) -> anyhow::Result<()> {
        self.mark("rebuild").await?;
        self.kill().await?;
        self.start().await
    }
}

/// The server as a whole, and its network. [`crate::Cluster::heal`] undoes it all.
impl Server {
    /// Ends it like a power cut: connections are reset, new ones refused.
    ///
    /// # Errors
    /// When Docker refuses.
    pub async fn kill(&self) -> anyhow::Result<()> {
        docker(&["kill", "--signal=KILL", &self.container]).await?;
        docker(&["wait", &self.container]).await.map(drop)
    }

    /// It crashes and begins anew in the same container, with all connections lost. Does not
    /// wait for it.
    ///
    /// # Errors
    /// As [`Server::sql`], or when Docker refuses.
    pub async fn crash(&self) -> anyhow::Result<()> {
        self.replication().crash(self).await
    }

    /// Shuts it down in an orderly way, as an administrator would.
    ///
    /// # Errors
    /// When Docker refuses.
    pub async fn stop(&self) -> anyhow::Result<()> {
        docker(&["stop", &self.container]).await.map(drop)
    }

    /// Starts it after [`Server::kill`] or [`Server::stop`], and waits until it answers.
    ///
    /// # Errors
    /// When Docker refuses, or it does not answer within 30 s.
    pub async fn start(&self) -> anyhow::Result<()> {
        docker(&["start", &self.container]).await?;
        self.ready().await
    }

    /// It hangs: connections are accepted, and nothing answers on old and new ones.
    ///
    /// # Errors
    /// When Docker refuses.
    pub async fn freeze(&self) -> anyhow::Result<()> {
        docker(&["pause", &self.container]).await.map(drop)
    }

    /// The opposite of [`Server::freeze`].
    ///
    /// # Errors
    /// When Docker refuses.
    pub async fn thaw(&self) -> anyhow::Result<()> {
        docker(&["unpause", &self.container]).await.map(drop)
    }

    /// Takes its network away, from clients and from the other servers.
    ///
    /// # Errors
    /// When Docker refuses.
    pub async fn cut(&self) -> anyhow::Result<()> {
        docker(&["network", "disconnect", &self.network, &self.container]).await.map(drop)
    }

    /// The opposite of [`Server::cut`]. Waits until it answers.
    ///
    /// # Errors
    /// When Docker refuses, or it does not answer within 30 s.
    pub async fn join(&self) -> anyhow::Result<()> {
        let alias = format!("--alias={}", self.name);
        docker(&["network", "connect", &alias, &self.network, &self.container]).await?;
        self.ready().await
    }
}
