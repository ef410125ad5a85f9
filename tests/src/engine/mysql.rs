//! Replication of MySQL and MariaDB: one thread receives, another applies.

use std::time::Duration;

use anyhow::ensure;
use async_trait::async_trait;

use super::{Flavour, Replication};
use crate::Server;
use crate::connection;
use crate::server::STATEMENT_LIMIT;
use crate::wait::eventually;

/// Both, for they differ little; see [`Flavour`].
#[derive(Debug)]
pub(super) struct Mysql(pub(super) Flavour);

/// What a replica says of its threads; of the source it is told nothing when it has none.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Threads {
    /// The host that it follows.
    source: String,
    /// Connected; while it tries to connect, it is not.
    receives: bool,
    applies: bool,
    delayed: bool,
}

impl Mysql {
    async fn threads(&self, replica: &Server) -> anyhow::Result<Option<Threads>> {
        let status = replica.bounded("SHOW REPLICA STATUS", connection::replica_status).await?;
        Ok(status.map(|status| {
            let says = |name: &str, value| status.get(name).is_some_and(|said| said == value);
            // MariaDB accepts the new name of the statement, but keeps the old ones of the columns.
            let runs = |thread: &str| {
                let column = |word: &str| format!("{word}_{thread}_Running");
                says(&column("Replica"), "Yes") || says(&column("Slave"), "Yes")
            };
            let source = status.get("Source_Host").or_else(|| status.get("Master_Host"));
            Threads {
                source: source.cloned().unwrap_or_default(),
                receives: runs("IO"),
                applies: runs("SQL"),
                delayed: !says("SQL_Delay", "0"),
            }
        }))
    }
}

#[async_trait]
impl Replication for Mysql {
    fn data(&self) -> &'static str {
        "/var/lib/mysql/sealane"
    }

    fn clock(&self) -> &'static str {
        "CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED)"
    }

    /// Replicas are those that do not let applications write.
    async fn in_recovery(&self, server: &Server) -> anyhow::Result<bool> {
        server.query_scalar("SELECT @@global.read_only = 1").await
    }

    async fn is_streaming(&self, replica: &Server) -> anyhow::Result<bool> {
        Ok(self.threads(replica).await?.is_some_and(|threads| threads.receives))
    }

    async fn position(&self, primary: &Server) -> anyhow::Result<String> {
        self.0.written(primary).await
    }

    async fn has_replayed(&self, replica: &Server, position: &str) -> anyhow::Result<bool> {
        self.0.has_replayed(replica, position).await
    }

    async fn pause_replay(&self, replica: &Server) -> anyhow::Result<()> {
        replica.sql("STOP REPLICA SQL_THREAD").await
    }

    async fn resume_replay(&self, replica: &Server) -> anyhow::Result<()> {
        replica.sql("START REPLICA SQL_THREAD").await
    }

    async fn delay_replay(&self, replica: &Server, delay: Duration) -> anyhow::Result<()> {
        // Both servers know whole seconds only. MariaDB wants both threads to stand still.
        let seconds = delay.as_millis().div_ceil(1000);
        let change = self.0.change_delay(seconds);
        replica.sql(&format!("STOP REPLICA; {change}; START REPLICA")).await?;
        let what = format!("{} streams again", replica.name);
        eventually(STATEMENT_LIMIT, &what, async || self.is_streaming(replica).await).await
    }

    async fn stop_replication(&self, replica: &Server) -> anyhow::Result<()> {
        replica.sql("STOP REPLICA IO_THREAD").await
    }

    async fn resume_replication(&self, replica: &Server) -> anyhow::Result<()> {
        replica.sql("START REPLICA IO_THREAD").await
    }

    async fn switch_log(&self, primary: &Server) -> anyhow::Result<()> {
        primary.sql("FLUSH BINARY LOGS").await
    }

    /// The start script of the primary brings back what it then keeps aside.
    async fn lose_log(&self, replica: &Server, primary: &Server) -> anyhow::Result<()> {
        self.stop_replication(replica).await?;
        // Something that the replica lacks is in the log that goes.
        primary.sql("CREATE TABLE lost (id int); DROP TABLE lost").await?;
        self.switch_log(primary).await?;
        let data = self.data();
        let keep = format!("mkdir {data}.logs && ln {data}/binlog.[0-9]* {data}.logs");
        primary.shell(&keep).await?;
        let newest: String = primary.query_scalar(self.0.log_status()).await?;
        eventually(STATEMENT_LIMIT, "the primary removes its log", async || {
            // Those that somebody reads are spared.
            primary.sql(&format!("PURGE BINARY LOGS TO '{newest}'")).await?;
            Ok(oldest_log(primary).await? == newest)
        })
        .await?;
        self.resume_replication(replica).await
    }

    async fn follow_instead(&self, replica: &Server, primary: &Server) -> anyhow::Result<()> {
        let change = self.0.change_source(&primary.name);
        replica.sql(&format!("STOP REPLICA; {change}; START REPLICA")).await
    }

    async fn promote(&self, replica: &Server) -> anyhow::Result<()> {
        // The start script must not make it a replica again.
        replica.mark("promoted").await?;
        replica.sql("STOP REPLICA; RESET REPLICA ALL; SET GLOBAL read_only = OFF").await
    }

    async fn crash(&self, server: &Server) -> anyhow::Result<()> {
        // The start script begins anew, as a service manager would.
        server.shell("kill -9 $(cat /tmp/sealane.pid)").await
    }

    async fn restore_primary(&self, primary: &Server) -> anyhow::Result<()> {
        ensure!(self.threads(primary).await?.is_none(), "the primary came back as a replica");
        if !oldest_log(primary).await?.ends_with(".000001") {
            primary.kill().await?;
            primary.start().await?;
        }
        primary.sql("SET GLOBAL read_only = OFF").await
    }

    async fn restore_replica(&self, replica: &Server, primary: &Server) -> anyhow::Result<bool> {
        let Some(threads) = self.threads(replica).await? else { return Ok(false) };
        if threads.source != primary.name
            || !replica.in_recovery().await?
            || self.0.has_strayed(replica, primary).await?
        {
            return Ok(false);
        }
        if threads.delayed {
            self.delay_replay(replica, Duration::ZERO).await?;
        } else if !threads.receives || !threads.applies {
            // Refused if what the replica knows of its source is spoilt.
            return Ok(replica.sql("START REPLICA").await.is_ok());
        }
        Ok(true)
    }

    async fn follows(&self, replica: &Server, _: &Server) -> anyhow::Result<bool> {
        let threads = self.threads(replica).await?;
        Ok(threads.is_some_and(|threads| threads.receives && threads.applies))
    }
}

/// The first file of the binary log that is still there.
async fn oldest_log(primary: &Server) -> anyhow::Result<String> {
    primary.query_scalar("SHOW BINARY LOGS").await
}
