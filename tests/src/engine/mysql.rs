//! Replication of MySQL and MariaDB: one thread receives, another applies.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use async_trait::async_trait;

use super::{Flavour, Replication};
use crate::Server;
use crate::connection;
use crate::server::STATEMENT_LIMIT;
use crate::wait::eventually;

/// A replica that has nothing more to apply, and has applied nothing for so long, is through.
const NOTHING_MORE: Duration = Duration::from_secs(1);

/// Both engines, because they differ little; see [`Flavour`].
#[derive(Debug)]
pub(super) struct Mysql(pub(super) Flavour);

/// What a replica says about its threads.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Threads {
    /// The host that the replica follows.
    source: String,
    /// Whether the receiving thread is connected; false while it tries to connect.
    receives: bool,
    applies: bool,
    delayed: bool,
    /// Whether nothing is left in the relay log that it has not begun to apply.
    has_read_all: bool,
    /// The places in the source's log up to which the replica has received and applied.
    received: Option<LogPlace>,
    applied: Option<LogPlace>,
}

/// The number of a binary log, and the place in it.
type LogPlace = (u32, u32);

impl Mysql {
    async fn threads(&self, replica: &Server) -> anyhow::Result<Option<Threads>> {
        let status = replica.bounded("SHOW REPLICA STATUS", connection::replica_status).await?;
        Ok(status.map(|status| {
            let says = |name: &str, value| status.get(name).is_some_and(|said| said == value);
            // MariaDB accepts the statement's new name but keeps the old names of the columns.
            let runs = |thread: &str| {
                let column = |word: &str| format!("{word}_{thread}_Running");
                says(&column("Replica"), "Yes") || says(&column("Slave"), "Yes")
            };
            let place = |columns: &[&str; 2]| {
                let said = |name: &str| {
                    status.get(name).or_else(|| status.get(&name.replace("Source", "Master")))
                };
                log_place(said(columns[0])?, said(columns[1])?)
            };
            let source = status.get("Source_Host").or_else(|| status.get("Master_Host"));
            Threads {
                source: source.cloned().unwrap_or_default(),
                receives: runs("IO"),
                applies: runs("SQL"),
                delayed: !says("SQL_Delay", "0"),
                has_read_all: ["Replica_SQL_Running_State", "Slave_SQL_Running_State"]
                    .iter()
                    .filter_map(|name| status.get(*name))
                    .any(|state| state.contains("has read all relay log")),
                received: place(&["Source_Log_File", "Read_Source_Log_Pos"]),
                applied: place(&["Relay_Source_Log_File", "Exec_Source_Log_Pos"]),
            }
        }))
    }
}

fn log_place(log: &str, place: &str) -> Option<LogPlace> {
    Some((log.rsplit('.').next()?.parse().ok()?, place.parse().ok()?))
}

#[async_trait]
impl Replication for Mysql {
    fn data(&self) -> &'static str {
        "/var/lib/mysql/sealane"
    }

    fn clock(&self) -> &'static str {
        "CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED)"
    }

    /// A replica is a server that does not let applications write.
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
        // Both engines accept whole seconds only. MariaDB requires both threads to be stopped.
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

    /// Keeps copies of the deleted logs; the primary's start script brings them back.
    async fn lose_log(&self, replica: &Server, primary: &Server) -> anyhow::Result<()> {
        self.stop_replication(replica).await?;
        // The deleted log must contain something that the replica lacks.
        primary.sql("CREATE TABLE lost (id int); DROP TABLE lost").await?;
        self.switch_log(primary).await?;
        let data = self.data();
        let keep = format!("mkdir {data}.logs && ln {data}/binlog.[0-9]* {data}.logs");
        primary.shell(&keep).await?;
        let newest: String = primary.query_scalar(self.0.log_status()).await?;
        eventually(STATEMENT_LIMIT, "the primary removes its log", async || {
            // The server does not delete a log that a client is reading.
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

    async fn replicate_synchronously(
        &self,
        primary: &Server,
        replicas: &[Server],
    ) -> anyhow::Result<()> {
        for replica in replicas {
            replica.sql(&self.0.acknowledge(true)).await?;
        }
        primary.sql(self.0.wait_for_replica()).await?;
        eventually(STATEMENT_LIMIT, "replicas take part in commits", async || {
            let taking_part = self.0.replicas_waited_for(primary).await?;
            Ok(usize::try_from(taking_part)? == replicas.len())
        })
        .await
    }

    async fn acknowledge_nothing(&self, replica: &Server) -> anyhow::Result<()> {
        replica.sql(&self.0.acknowledge(false)).await
    }

    async fn received(&self, replica: &Server) -> anyhow::Result<i64> {
        let threads = self.threads(replica).await?.context("it is no replica")?;
        let (log, place) = threads.received.context("it has received nothing")?;
        Ok(i64::from(log) << 32 | i64::from(place))
    }

    /// Promotes as a failover manager does: the replica first applies everything it has received.
    async fn promote(&self, replica: &Server) -> anyhow::Result<()> {
        replica.sql("STOP REPLICA IO_THREAD").await?;
        let stands = Mutex::new((None, Instant::now()));
        eventually(STATEMENT_LIMIT, "it applies what it has received", async || {
            let Some(threads) = self.threads(replica).await? else { return Ok(true) };
            let mut stands = stands.lock().unwrap_or_else(PoisonError::into_inner);
            let (applied, since) = *stands;
            if threads.applied != applied {
                *stands = (threads.applied, Instant::now());
            }
            // The receiver may have stopped within a transaction, whose rest never comes.
            let is_through = threads.has_read_all && since.elapsed() > NOTHING_MORE;
            Ok(!threads.applies
                || threads.delayed
                || threads.applied == threads.received
                || (threads.applied == applied && is_through))
        })
        .await?;
        // The start script must not make it a replica again.
        replica.mark("promoted").await?;
        replica.sql("STOP REPLICA; RESET REPLICA ALL; SET GLOBAL read_only = OFF").await
    }

    async fn crash(&self, server: &Server) -> anyhow::Result<()> {
        // The start script starts the server again, as a service manager would.
        server.shell("kill -9 $(cat /tmp/sealane.pid)").await
    }

    async fn restore_primary(&self, primary: &Server) -> anyhow::Result<()> {
        // First of all: whatever writes might wait.
        primary.sql(self.0.wait_for_nobody()).await?;
        ensure!(self.threads(primary).await?.is_none(), "the primary came back as a replica");
        if !oldest_log(primary).await?.ends_with(".000001") {
            primary.kill().await?;
            primary.start().await?;
        }
        primary.sql("SET GLOBAL read_only = OFF, sync_binlog = 0").await
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
            // The server refuses this if the replica's data about its source is damaged.
            return Ok(replica.sql("START REPLICA").await.is_ok());
        }
        Ok(true)
    }

    async fn follows(&self, replica: &Server, _: &Server) -> anyhow::Result<bool> {
        let threads = self.threads(replica).await?;
        Ok(threads.is_some_and(|threads| threads.receives && threads.applies))
    }
}

/// The oldest existing file of the binary log.
async fn oldest_log(primary: &Server) -> anyhow::Result<String> {
    primary.query_scalar("SHOW BINARY LOGS").await
}
