//! The database engines, and the operations that each engine writes differently.

mod flavour;
mod mysql;
mod postgres;

use std::time::Duration;

use anyhow::bail;
use async_trait::async_trait;
use serde::Deserialize;

use crate::Server;
use flavour::Flavour;

/// The engine of a cluster's servers.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Engine {
    /// PostgreSQL, with streaming replication.
    Postgres,
    /// MySQL, with GTIDs and automatic positions.
    Mysql,
    /// MariaDB, with its own GTIDs in one domain.
    Mariadb,
}

/// The driver that speaks an engine's protocol.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Driver {
    Postgres,
    Mysql,
}

impl Engine {
    pub(crate) fn driver(self) -> Driver {
        match self {
            Self::Postgres => Driver::Postgres,
            Self::Mysql | Self::Mariadb => Driver::Mysql,
        }
    }

    /// The port inside the container.
    pub(crate) fn port(self) -> u16 {
        match self {
            Self::Postgres => 5432,
            Self::Mysql | Self::Mariadb => 3306,
        }
    }

    pub(crate) fn replication(self) -> &'static dyn Replication {
        match self {
            Self::Postgres => &postgres::Postgres,
            Self::Mysql => &mysql::Mysql(Flavour::Mysql),
            Self::Mariadb => &mysql::Mysql(Flavour::Mariadb),
        }
    }
}

/// Roles, positions and the faults of replication. [`Server`] documents each of them, and adds the
/// faults that need no statement to the database.
#[async_trait]
pub(crate) trait Replication: Sync {
    /// The folder where the start script keeps the data. Files beside it, with this name and an
    /// extension, tell the script what to do at the next start.
    fn data(&self) -> &'static str;

    /// The time of day on the server, in microseconds since 1970, as an expression.
    fn clock(&self) -> &'static str;

    async fn in_recovery(&self, server: &Server) -> anyhow::Result<bool>;
    async fn is_streaming(&self, replica: &Server) -> anyhow::Result<bool>;
    async fn position(&self, primary: &Server) -> anyhow::Result<String>;
    async fn has_replayed(&self, replica: &Server, position: &str) -> anyhow::Result<bool>;

    async fn pause_replay(&self, replica: &Server) -> anyhow::Result<()>;
    async fn resume_replay(&self, replica: &Server) -> anyhow::Result<()>;
    async fn delay_replay(&self, replica: &Server, delay: Duration) -> anyhow::Result<()>;
    async fn stop_replication(&self, replica: &Server) -> anyhow::Result<()>;
    async fn resume_replication(&self, replica: &Server) -> anyhow::Result<()>;
    async fn switch_log(&self, primary: &Server) -> anyhow::Result<()>;
    async fn lose_log(&self, replica: &Server, primary: &Server) -> anyhow::Result<()>;
    async fn follow_instead(&self, replica: &Server, primary: &Server) -> anyhow::Result<()>;
    async fn replicate_synchronously(
        &self,
        primary: &Server,
        replicas: &[Server],
    ) -> anyhow::Result<()>;
    async fn acknowledge_nothing(&self, replica: &Server) -> anyhow::Result<()> {
        bail!("{} cannot be kept from telling what it has received", replica.name)
    }
    /// How far the replica's log goes, replayed or not, as a number.
    async fn received(&self, replica: &Server) -> anyhow::Result<i64>;
    async fn promote(&self, replica: &Server) -> anyhow::Result<()>;
    async fn crash(&self, server: &Server) -> anyhow::Result<()>;

    /// Undoes what a test may have changed on the primary.
    async fn restore_primary(&self, primary: &Server) -> anyhow::Result<()>;
    /// Undoes what a test may have changed on a replica. Returns whether the replica can still
    /// follow `primary`; if not, it must be rebuilt.
    async fn restore_replica(&self, replica: &Server, primary: &Server) -> anyhow::Result<bool>;
    /// Whether `replica` receives from `primary` at this moment.
    async fn follows(&self, replica: &Server, primary: &Server) -> anyhow::Result<bool>;
}
