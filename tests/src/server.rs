//! One server of the cluster.

use std::time::Duration;

use anyhow::Context;
use tokio::time::timeout;

use crate::connection::{self, Scalar};
use crate::docker::docker;
use crate::engine::{Engine, Replication};
use crate::wait::eventually;

/// Limit for one statement of a test, including the connection. A fault must not make the test
/// hang.
pub(crate) const STATEMENT_LIMIT: Duration = Duration::from_secs(10);
/// Limit for a start: crash recovery of a small database on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(30);

/// One server of the cluster.
#[derive(Clone, Debug)]
pub struct Server {
    /// The name, which is also its host name in the network and its `application_name` as a
    /// replica.
    pub name: String,
    /// The engine that the server runs.
    pub engine: Engine,
    /// The container of the server.
    pub container: String,
    /// The URL for applications. It stays the same through stops, kills and cuts.
    pub url: String,
    /// The URL for an administrator. On PostgreSQL the application is an administrator itself.
    pub admin_url: String,
    pub(crate) network: String,
}

/// Statements as an administrator, each on a separate connection.
impl Server {
    /// Runs statements without a result. Several statements in one text share an implicit
    /// transaction on PostgreSQL, but not on the other engines.
    ///
    /// # Errors
    /// When the server cannot be reached, refuses, or does not answer within 10 s.
    pub async fn sql(&self, sql: &str) -> anyhow::Result<()> {
        let driver = self.engine.driver();
        self.bounded(sql, async |url| connection::execute(driver, url, sql).await).await
    }

    /// The same with the rights of the application: MariaDB lets an administrator write to a
    /// replica.
    ///
    /// # Errors
    /// As [`Server::sql`].
    pub async fn sql_as_application(&self, sql: &str) -> anyhow::Result<()> {
        let application = Self { admin_url: self.url.clone(), ..self.clone() };
        application.sql(sql).await
    }

    /// Runs a query and returns the first column of its only row.
    ///
    /// # Errors
    /// As [`Server::sql`], and when the result is not exactly one such row.
    pub async fn query_scalar<T: Scalar>(&self, sql: &str) -> anyhow::Result<T> {
        let driver = self.engine.driver();
        self.bounded(sql, async |url| connection::scalar(driver, url, sql).await).await
    }

    /// Runs `work` as an administrator with a time limit; `what` names it in errors.
    pub(crate) async fn bounded<T>(
        &self,
        what: &str,
        work: impl AsyncFnOnce(&str) -> sqlx::Result<T>,
    ) -> anyhow::Result<T> {
        timeout(STATEMENT_LIMIT, work(&self.admin_url))
            .await
            .with_context(|| format!("{}: no answer after {STATEMENT_LIMIT:?}: {what}", self.name))?
            .with_context(|| format!("{}: {what}", self.name))
    }
}

/// What the server says about itself.
impl Server {
    /// Whether the server is currently a replica.
    ///
    /// # Errors
    /// As [`Server::sql`].
    pub async fn in_recovery(&self) -> anyhow::Result<bool> {
        self.replication().in_recovery(self).await
    }

    /// Whether the server currently receives from its primary.
    ///
    /// # Errors
    /// As [`Server::sql`].
    pub async fn is_streaming(&self) -> anyhow::Result<bool> {
        self.replication().is_streaming(self).await
    }

    /// The end of a primary's log: an LSN or GTIDs.
    ///
    /// # Errors
    /// As [`Server::sql`]; a PostgreSQL replica refuses.
    pub async fn position(&self) -> anyhow::Result<String> {
        self.replication().position(self).await
    }

    /// Whether a replica has replayed up to `position`.
    ///
    /// # Errors
    /// As [`Server::sql`].
    pub async fn has_replayed(&self, position: &str) -> anyhow::Result<bool> {
        self.replication().has_replayed(self, position).await
    }

    /// Waits until the server answers a query.
    ///
    /// # Errors
    /// When the server does not answer within 30 s.
    pub async fn ready(&self) -> anyhow::Result<()> {
        let what = format!("{} answers", self.name);
        eventually(START_LIMIT, &what, async || self.query_scalar::<bool>("SELECT true").await)
            .await
    }

    pub(crate) fn replication(&self) -> &'static dyn Replication {
        self.engine.replication()
    }
}

/// The server's container.
impl Server {
    /// The image that the container was made from.
    ///
    /// # Errors
    /// When Docker refuses.
    pub async fn image(&self) -> anyhow::Result<String> {
        self.inspect("{{.Config.Image}}").await
    }

    pub(crate) async fn shell(&self, script: &str) -> anyhow::Result<()> {
        docker(&["exec", &self.container, "sh", "-c", script]).await.map(drop)
    }

    /// What Docker knows about the container, formatted with a template.
    pub(crate) async fn inspect(&self, format: &str) -> anyhow::Result<String> {
        docker(&["inspect", "--format", format, &self.container]).await
    }

    /// Leaves a marker file for the start script.
    pub(crate) async fn mark(&self, ending: &str) -> anyhow::Result<()> {
        self.shell(&format!("touch {}.{ending}", self.replication().data())).await
    }
}
