//! One server, and the faults that a test can inflict on it.

use std::time::Duration;

use anyhow::Context;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Connection, Decode, Postgres, Row, Type};
use tokio::time::timeout;

use crate::docker::docker;
use crate::wait::eventually;

/// For one statement of the test's own, connection included. A fault must not hang the test.
const STATEMENT_LIMIT: Duration = Duration::from_secs(10);
/// Crash recovery of a small database, on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(30);

/// One server of the cluster.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its name, which is also its host name in the network and its `application_name` as a replica.
    pub name: String,
    /// The container it runs in.
    pub container: String,
    /// Where clients reach it; stays the same through stops, kills and cuts.
    pub url: String,
    pub(crate) network: String,
}

/// Statements, each on a connection of its own, as a superuser.
impl Server {
    /// Runs statements without a result. Several in one text share an implicit transaction.
    ///
    /// # Errors
    /// When the server cannot be reached, refuses, or does not answer within 10 s.
    pub async fn sql(&self, sql: &str) -> anyhow::Result<()> {
        self.on_connection(sql, async |connection| {
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await?;
            Ok(())
        })
        .await
    }

    /// Runs a query and returns the first column of its only row.
    ///
    /// # Errors
    /// As [`Server::sql`], and when there is not exactly such a row.
    pub async fn query_scalar<T>(&self, sql: &str) -> anyhow::Result<T>
    where
        T: for<'row> Decode<'row, Postgres> + Type<Postgres>,
    {
        let row: PgRow = self
            .on_connection(sql, async |connection| {
                sqlx::query(AssertSqlSafe(sql)).fetch_one(connection).await
            })
            .await?;
        row.try_get(0).with_context(|| format!("{}: {sql}", self.name))
    }

    async fn on_connection<T>(
        &self,
        sql: &str,
        work: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>,
    ) -> anyhow::Result<T> {
        let attempt = async {
            let mut connection = PgConnection::connect(&self.url).await?;
            let outcome = work(&mut connection).await?;
            connection.close().await?;
            Ok::<T, sqlx::Error>(outcome)
        };
        timeout(STATEMENT_LIMIT, attempt)
            .await
            .with_context(|| format!("{}: no answer after {STATEMENT_LIMIT:?}: {sql}", self.name))?
            .with_context(|| format!("{}: {sql}", self.name))
    }
}

/// What the server says of itself.
impl Server {
    /// Whether it is a replica at this moment.
    ///
    /// # Errors
    /// As [`Server::sql`].
    pub async fn in_recovery(&self) -> anyhow::Result<bool> {
        self.query_scalar("SELECT pg_is_in_recovery()").await
    }

    /// Whether it receives from its primary at this moment.
    ///
    /// # Errors
    /// As [`Server::sql`].
    pub async fn is_streaming(&self) -> anyhow::Result<bool> {
        self.query_scalar(
            "SELECT EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming')",
        )
        .await
    }

    /// Where its log ends, if it is a primary.
    ///
    /// # Errors
    /// As [`Server::sql`]; a replica refuses.
    pub async fn position(&self) -> anyhow::Result<String> {
        self.query_scalar("SELECT pg_current_wal_lsn()::text").await
    }

    /// Whether it has replayed up to `position`, if it is a replica.
    ///
    /// # Errors
    /// As [`Server::sql`].
    pub async fn has_replayed(&self, position: &str) -> anyhow::Result<bool> {
        let sql =
            format!("SELECT coalesce(pg_last_wal_replay_lsn() >= '{position}'::pg_lsn, false)");
        self.query_scalar(&sql).await
    }

    /// Waits until it answers a query.
    ///
    /// # Errors
    /// When it does not within 30 s.
    pub async fn ready(&self) -> anyhow::Result<()> {
        let what = format!("{} answers", self.name);
        eventually(START_LIMIT, &what, async || self.query_scalar::<bool>("SELECT true").await)
            .await
    }
}

/// Faults, and their opposites. [`crate::Cluster::heal`] undoes them all.
impl Server {
    /// A replica goes on receiving, but no longer shows anything new.
    ///
    /// # Errors
    /// As [`Server::sql`]; a primary refuses.
    pub async fn pause_replay(&self) -> anyhow::Result<()> {
        self.sql("SELECT pg_wal_replay_pause()").await?;
        let what = format!("{} pauses replay", self.name);
        // The call above only requests the pause.
        eventually(STATEMENT_LIMIT, &what, async || {
            self.query_scalar("SELECT pg_get_wal_replay_pause_state() = 'paused'").await
        })
        .await
    }

    /// The opposite of [`Server::pause_replay`].
    ///
    /// # Errors
    /// As [`Server::sql`]; a primary refuses.
    pub async fn resume_replay(&self) -> anyhow::Result<()> {
        self.sql("SELECT pg_wal_replay_resume()").await
    }

    /// A replica goes on answering, but no longer hears from its primary. Returns once it
    /// has let go. For both faults at once call this before [`Server::pause_replay`]: while
    /// replay is paused, PostgreSQL does not act on a changed `primary_conninfo`.
    ///
    /// # Errors
    /// As [`Server::sql`], or when it does not let go within 10 s.
    pub async fn stop_replication(&self) -> anyhow::Result<()> {
        self.sql("ALTER SYSTEM SET primary_conninfo = ''").await?;
        self.sql("SELECT pg_reload_conf()").await?;
        let what = format!("{} stops streaming", self.name);
        eventually(STATEMENT_LIMIT, &what, async || {
            self.query_scalar("SELECT NOT EXISTS (SELECT FROM pg_stat_wal_receiver)").await
        })
        .await
    }

    /// The opposite of [`Server::stop_replication`]. Returns once it streams again.
    ///
    /// # Errors
    /// As [`Server::sql`], or when it does not stream within 10 s.
    pub async fn resume_replication(&self) -> anyhow::Result<()> {
        // The start script keeps the true value in postgresql.conf.
        self.sql("ALTER SYSTEM RESET primary_conninfo").await?;
        self.sql("SELECT pg_reload_conf()").await?;
        let what = format!("{} streams again", self.name);
        eventually(STATEMENT_LIMIT, &what, async || self.is_streaming().await).await
    }

    /// Ends it like a power cut: connections are reset, new ones refused.
    ///
    /// # Errors
    /// When Docker refuses.
    pub async fn kill(&self) -> anyhow::Result<()> {
        docker(&["kill", "--signal=KILL", &self.container]).await?;
        docker(&["wait", &self.container]).await.map(drop)
    }

    /// One of its processes crashes, and with it all the others: the server begins anew in
    /// the same container, with all connections lost.
    ///
    /// # Errors
    /// As [`Server::sql`], or when Docker refuses.
    pub async fn crash_backend(&self) -> anyhow::Result<()> {
        let writer = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'background writer'";
        let pid: i32 = self.query_scalar(writer).await?;
        let kill = format!("kill -9 {pid}");
        docker(&["exec", &self.container, "sh", "-c", &kill]).await.map(drop)
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

    /// Throws a replica's data away and copies them anew from the primary: the way back
    /// after a promotion. Waits until it answers.
    ///
    /// # Errors
    /// When Docker refuses, or it does not answer within 30 s.
    pub async fn rebuild(&self) -> anyhow::Result<()> {
        let mark = "/var/lib/postgresql/sealane.rebuild";
        docker(&["exec", &self.container, "touch", mark]).await?;
        self.kill().await?;
        self.start().await
    }
}
