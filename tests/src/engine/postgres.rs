//! PostgreSQL's streaming replication.

use std::time::Duration;

use anyhow::ensure;
use async_trait::async_trait;

use super::Replication;
use crate::Server;
use crate::server::STATEMENT_LIMIT;
use crate::wait::eventually;

#[derive(Debug)]
pub(super) struct Postgres;

#[async_trait]
impl Replication for Postgres {
    fn data(&self) -> &'static str {
        "/var/lib/postgresql/sealane"
    }

    fn clock(&self) -> &'static str {
        "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
    }

    async fn in_recovery(&self, server: &Server) -> anyhow::Result<bool> {
        server.query_scalar("SELECT pg_is_in_recovery()").await
    }

    async fn is_streaming(&self, replica: &Server) -> anyhow::Result<bool> {
        let sql = "SELECT EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming')";
        replica.query_scalar(sql).await
    }

    async fn position(&self, primary: &Server) -> anyhow::Result<String> {
        primary.query_scalar("SELECT pg_current_wal_lsn()::text").await
    }

    async fn has_replayed(&self, replica: &Server, position: &str) -> anyhow::Result<bool> {
        let sql =
            format!("SELECT coalesce(pg_last_wal_replay_lsn() >= '{position}'::pg_lsn, false)");
        replica.query_scalar(&sql).await
    }

    async fn pause_replay(&self, replica: &Server) -> anyhow::Result<()> {
        replica.sql("SELECT pg_wal_replay_pause()").await?;
        let what = format!("{} pauses replay", replica.name);
        // The call above only requests the pause, so wait for it.
        eventually(STATEMENT_LIMIT, &what, async || {
            replica.query_scalar("SELECT pg_get_wal_replay_pause_state() = 'paused'").await
        })
        .await
    }

    async fn resume_replay(&self, replica: &Server) -> anyhow::Result<()> {
        replica.sql("SELECT pg_wal_replay_resume()").await
    }

    async fn delay_replay(&self, replica: &Server, delay: Duration) -> anyhow::Result<()> {
        let delay = delay.as_millis();
        set(replica, &format!("SET recovery_min_apply_delay = '{delay}ms'")).await
    }

    async fn stop_replication(&self, replica: &Server) -> anyhow::Result<()> {
        set(replica, "SET primary_conninfo = ''").await?;
        let what = format!("{} stops streaming", replica.name);
        eventually(STATEMENT_LIMIT, &what, async || {
            replica.query_scalar("SELECT NOT EXISTS (SELECT FROM pg_stat_wal_receiver)").await
        })
        .await
    }

    async fn resume_replication(&self, replica: &Server) -> anyhow::Result<()> {
        // The start script has put the right value into postgresql.conf.
        set(replica, "RESET primary_conninfo").await
    }

    async fn switch_log(&self, primary: &Server) -> anyhow::Result<()> {
        // The server does not switch away from a file without a record, so one is written first.
        let switch = "SELECT pg_logical_emit_message(false, '', ''), pg_switch_wal()";
        primary.sql(switch).await
    }

    async fn lose_log(&self, replica: &Server, primary: &Server) -> anyhow::Result<()> {
        let needed: String =
            primary.query_scalar("SELECT pg_walfile_name(pg_current_wal_lsn())").await?;
        replica.stop().await?;
        let slot = replica.name.replace('-', "_");
        let drop_slot = format!("SELECT pg_drop_replication_slot('{slot}')");
        eventually(STATEMENT_LIMIT, "the slot is no longer used", async || {
            primary.sql(&drop_slot).await.map(|()| true)
        })
        .await?;
        set(primary, "SET wal_keep_size = 0").await?;
        let gone =
            format!("SELECT NOT EXISTS (SELECT FROM pg_ls_waldir() WHERE name = '{needed}')");
        eventually(STATEMENT_LIMIT, "the primary removes its log", async || {
            self.switch_log(primary).await?;
            primary.sql("CHECKPOINT").await?;
            primary.query_scalar(&gone).await
        })
        .await?;
        // A slot reserves no log before its first use, so this is too late to help the replica.
        primary.sql(&format!("SELECT pg_create_physical_replication_slot('{slot}')")).await?;
        replica.start().await
    }

    async fn follow_instead(&self, replica: &Server, primary: &Server) -> anyhow::Result<()> {
        // The new primary has no slot for this replica.
        set(replica, "SET primary_slot_name = ''").await?;
        let conninfo = format!("host={} user=sealane password=sealane", primary.name);
        set(replica, &format!("SET primary_conninfo = '{conninfo}'")).await
    }

    async fn replicate_synchronously(
        &self,
        primary: &Server,
        replicas: &[Server],
    ) -> anyhow::Result<()> {
        let names: Vec<_> =
            replicas.iter().map(|replica| format!("\"{}\"", replica.name)).collect();
        let any = format!("SET synchronous_standby_names = 'ANY 1 ({})'", names.join(", "));
        set(primary, &any).await?;
        eventually(STATEMENT_LIMIT, "replicas take part in commits", async || {
            let taking_part =
                "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'quorum'";
            Ok(primary.query_scalar::<i64>(taking_part).await? == names.len() as i64)
        })
        .await
    }

    async fn received(&self, replica: &Server) -> anyhow::Result<i64> {
        let sql = "SELECT (greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) - '0/0')::bigint";
        replica.query_scalar(sql).await
    }

    async fn promote(&self, replica: &Server) -> anyhow::Result<()> {
        let sql = "SELECT pg_promote()";
        ensure!(replica.query_scalar::<bool>(sql).await?, "{} is not promoted", replica.name);
        Ok(())
    }

    async fn crash(&self, server: &Server) -> anyhow::Result<()> {
        // Any process works: when one of them dies, the postmaster ends all others and starts
        // again.
        let writer = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'background writer'";
        let pid: i32 = server.query_scalar(writer).await?;
        server.shell(&format!("kill -9 {pid}")).await
    }

    async fn restore_primary(&self, primary: &Server) -> anyhow::Result<()> {
        ensure!(!primary.in_recovery().await?, "the primary came back as a replica");
        set(primary, "RESET ALL").await?;
        drop_logical_slots(primary).await
    }

    async fn restore_replica(&self, replica: &Server, primary: &Server) -> anyhow::Result<bool> {
        if !replica.in_recovery().await? || follows_another(replica, primary).await? {
            return Ok(false);
        }
        set(replica, "RESET ALL").await?;
        replica.resume_replay().await?;
        Ok(true)
    }

    /// The primary is asked, because a replica on another server's timeline still believes that it
    /// streams.
    async fn follows(&self, replica: &Server, primary: &Server) -> anyhow::Result<bool> {
        let listed = format!(
            "SELECT EXISTS (SELECT FROM pg_stat_replication WHERE application_name = '{}' AND state = 'streaming')",
            replica.name
        );
        primary.query_scalar(&listed).await
    }
}

/// Whether [`Replication::follow_instead`] is still in effect. Then the replica may have what the
/// primary lacks.
async fn follows_another(replica: &Server, primary: &Server) -> anyhow::Result<bool> {
    let conninfo: String =
        replica.query_scalar("SELECT current_setting('primary_conninfo')").await?;
    Ok(!conninfo.is_empty() && !conninfo.contains(&format!("host={} ", primary.name)))
}

/// Drops the slots of former subscribers that are replicas again. Such slots would keep the log
/// forever.
async fn drop_logical_slots(primary: &Server) -> anyhow::Result<()> {
    let slots = "FROM pg_replication_slots WHERE slot_type = 'logical'";
    let what = format!("{} has no logical slots", primary.name);
    eventually(STATEMENT_LIMIT, &what, async || {
        primary.sql(&format!("SELECT pg_terminate_backend(active_pid) {slots} AND active")).await?;
        let dropped = format!("SELECT pg_drop_replication_slot(slot_name) {slots} AND NOT active");
        primary.sql(&dropped).await?;
        primary.query_scalar(&format!("SELECT count(*) = 0 {slots}")).await
    })
    .await
}

/// `ALTER SYSTEM` is sent alone, because it cannot run in a transaction, not even in an implicit
/// one.
async fn set(server: &Server, change: &str) -> anyhow::Result<()> {
    server.sql(&format!("ALTER SYSTEM {change}")).await?;
    server.sql("SELECT pg_reload_conf()").await
}
