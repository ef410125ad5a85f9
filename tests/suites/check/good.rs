//! A cluster as an administrator would make it. The suites' own cluster is quicker and less safe.

use sealane_tests::{
    Cluster, Engine, Server,
    fleet::{self, PASSWORD_HASH},
};

/// The cluster, made good.
#[derive(Debug)]
pub(crate) struct Good<'c> {
    pub(crate) cluster: &'c Cluster,
}

impl<'c> Good<'c> {
    pub(crate) async fn make(cluster: &'c Cluster) -> anyhow::Result<Self> {
        let good = Self { cluster };
        let primary = cluster.primary();
        for sql in good.user() {
            primary.sql(&sql).await?;
        }
        fleet::replayed(cluster).await?;
        good.settings().await?;
        Ok(good)
    }

    /// The settings, which a restart may have undone.
    pub(crate) async fn settings(&self) -> anyhow::Result<()> {
        for server in self.cluster.servers() {
            self.settings_of(server).await?;
        }
        Ok(())
    }

    async fn settings_of(&self, server: &Server) -> anyhow::Result<()> {
        let is_replica = server.in_recovery().await?;
        let all: &[&str] = match (self.cluster.engine(), is_replica) {
            (Engine::Postgres, false) => {
                &["ALTER SYSTEM SET fsync = on", "ALTER SYSTEM SET max_slot_wal_keep_size = '1GB'"]
            }
            (Engine::Postgres, true) => &["ALTER SYSTEM SET hot_standby_feedback = on"],
            (Engine::Mysql, true) => &[SYNC, FLUSH, "SET GLOBAL super_read_only = ON"],
            _ => &[SYNC, FLUSH],
        };
        for sql in all {
            server.sql(sql).await?;
        }
        reload(server).await
    }

    pub(crate) async fn undo(&self) -> anyhow::Result<()> {
        for server in self.cluster.servers() {
            let all: &[&str] = match self.cluster.engine() {
                Engine::Postgres => &["ALTER SYSTEM RESET ALL"],
                _ => &[UNSYNC, UNFLUSH],
            };
            for sql in all {
                server.sql(sql).await?;
            }
            reload(server).await?;
        }
        Ok(())
    }

    /// The application's user, with what it needs and no more.
    fn user(&self) -> Vec<String> {
        let create = "CREATE USER checker@'%' IDENTIFIED BY 'sealane'";
        let grant = match self.cluster.engine() {
            Engine::Postgres => {
                return vec![
                    "DROP ROLE IF EXISTS checker".to_owned(),
                    format!(
                        "CREATE ROLE checker LOGIN PASSWORD '{PASSWORD_HASH}' IN ROLE pg_monitor"
                    ),
                ];
            }
            Engine::Mariadb => "GRANT BINLOG MONITOR, SLAVE MONITOR ON *.* TO checker@'%'",
            _ => "GRANT REPLICATION CLIENT ON *.* TO checker@'%'",
        };
        let all = ["DROP USER IF EXISTS checker@'%'", create, ALL, grant];
        all.map(str::to_owned).to_vec()
    }

    /// The URL of a server for the application's user.
    pub(crate) fn url(&self, server: &Server) -> String {
        server.url.replacen("sealane:sealane@", "checker:sealane@", 1)
    }
}

const ALL: &str = "GRANT ALL ON sealane.* TO checker@'%'";
const SYNC: &str = "SET GLOBAL sync_binlog = 1";
const FLUSH: &str = "SET GLOBAL innodb_flush_log_at_trx_commit = 1";
const UNSYNC: &str = "SET GLOBAL sync_binlog = 0";
const UNFLUSH: &str = "SET GLOBAL innodb_flush_log_at_trx_commit = 2";

/// Lets PostgreSQL read its changed settings.
pub(crate) async fn reload(server: &Server) -> anyhow::Result<()> {
    match server.engine {
        Engine::Postgres => server.sql("SELECT pg_reload_conf()").await,
        _ => Ok(()),
    }
}
