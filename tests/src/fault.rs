//! The faults that a test can inflict on a server, and their opposites.

mod network;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};

use crate::docker::docker;
use crate::server::STATEMENT_LIMIT;
use crate::wait::eventually;
use crate::{Cluster, Engine, Server};

/// Between our reading of a clock and a server's: they run on one machine.
const CLOCK_TOLERANCE_S: i64 = 60;

/// All replicas at once.
impl Cluster {
    /// As [`Server::pause_replay`].
    ///
    /// # Errors
    /// As that.
    pub async fn pause_replay(&self) -> anyhow::Result<()> {
        for replica in self.replicas() {
            replica.pause_replay().await?;
        }
        Ok(())
    }

    /// As [`Server::resume_replay`].
    ///
    /// # Errors
    /// As that.
    pub async fn resume_replay(&self) -> anyhow::Result<()> {
        for replica in self.replicas() {
            replica.resume_replay().await?;
        }
        Ok(())
    }
}

/// What a failover is made of.
impl Cluster {
    /// From now on a write is answered only once a replica, whichever, has it on its disk.
    /// [`crate::Cluster::heal`] undoes it. Only on PostgreSQL.
    ///
    /// # Errors
    /// As [`Server::sql`], or when no replica takes part within 10 s.
    pub async fn replicate_synchronously(&self) -> anyhow::Result<()> {
        let primary = self.primary();
        primary.replication().replicate_synchronously(primary, self.replicas()).await
    }

    /// The replica that has received most, once none hears from the primary any more: the one
    /// that has every write which [`Cluster::replicate_synchronously`] let the primary answer.
    /// So a manager of failovers chooses. Only on PostgreSQL.
    ///
    /// # Errors
    /// As [`Server::stop_replication`].
    pub async fn choose_successor(&self) -> anyhow::Result<&Server> {
        let mut best: Option<(i64, &Server)> = None;
        for replica in self.replicas() {
            replica.stop_replication().await?;
        }
        for replica in self.replicas() {
            let received = replica.replication().received(replica).await?;
            if best.is_none_or(|(most, _)| received > most) {
                best = Some((received, replica));
            }
        }
        Ok(best.context("a cluster without replicas")?.1)
    }
}

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

    /// The primary throws away what this replica has not received yet, so that it can never
    /// catch up. It goes on answering. [`crate::Cluster::heal`] undoes it, nothing else does.
    ///
    /// # Errors
    /// As [`Server::sql`], when Docker refuses, or when the log does not go within 10 s.
    pub async fn lose_log(&self, primary: &Server) -> anyhow::Result<()> {
        self.replication().lose_log(self, primary).await
    }

    /// A replica becomes a primary of its own, and stays one when it starts again. Only
    /// [`Server::rebuild`] leads back.
    ///
    /// # Errors
    /// As [`Server::sql`]; a primary refuses.
    pub async fn promote(&self) -> anyhow::Result<()> {
        self.replication().promote(self).await
    }

    /// A replica follows another server than before, which may have been promoted.
    ///
    /// # Errors
    /// As [`Server::sql`].
    pub async fn follow_instead(&self, primary: &Self) -> anyhow::Result<()> {
        self.replication().follow_instead(self, primary).await
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

    /// Starts it anew with a clock that goes wrong by so many seconds.
    ///
    /// # Errors
    /// When Docker refuses, it does not answer within 30 s, or its clock goes right all the
    /// same: then its image has no `libfaketime`.
    pub async fn skew_clock(&self, seconds: i64) -> anyhow::Result<()> {
        self.write_clock(seconds).await?;
        self.kill().await?;
        self.start().await?;
        self.shows_clock(seconds).await
    }

    /// Sets the clock of a server that was started with a wrong one, while it runs. Returns
    /// once it shows that.
    ///
    /// # Errors
    /// As [`Server::skew_clock`].
    pub async fn step_clock(&self, seconds: i64) -> anyhow::Result<()> {
        self.write_clock(seconds).await?;
        self.shows_clock(seconds).await
    }

    async fn write_clock(&self, seconds: i64) -> anyhow::Result<()> {
        let data = self.replication().data();
        // In one step: it is read at any time.
        let write = format!("echo {seconds:+} > {data}.new && mv {data}.new {data}.clock");
        self.shell(&write).await
    }

    async fn shows_clock(&self, seconds: i64) -> anyhow::Result<()> {
        let what = format!("the clock of {} goes wrong by {seconds} s", self.name);
        eventually(STATEMENT_LIMIT, &what, async || {
            Ok((self.clock_error().await? - seconds).abs() < CLOCK_TOLERANCE_S)
        })
        .await
    }

    /// By how many seconds its clock is ahead of ours.
    async fn clock_error(&self) -> anyhow::Result<i64> {
        let there_us: i64 =
            self.query_scalar(&format!("SELECT {}", self.replication().clock())).await?;
        let here = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        Ok(there_us / 1_000_000 - i64::try_from(here)?)
    }

    /// Whether its clock goes right.
    pub(crate) async fn tells_the_time(&self) -> anyhow::Result<bool> {
        Ok(self.clock_error().await?.abs() < CLOCK_TOLERANCE_S)
    }

    /// Starts it anew with a right clock.
    pub(crate) async fn right_clock(&self) -> anyhow::Result<()> {
        self.shell(&format!("rm -f {}.clock", self.replication().data())).await?;
        self.kill().await?;
        self.start().await
    }

    /// Starts a replica anew with what it receives on a small disk of its own.
    ///
    /// # Errors
    /// When Docker refuses, or it does not answer within 30 s.
    pub async fn use_small_disk(&self) -> anyhow::Result<()> {
        self.mark("small").await?;
        self.kill().await?;
        self.start().await
    }

    /// Fills the disk of [`Server::use_small_disk`] up to the last byte. PostgreSQL notices when it
    /// needs another file; see [`Server::switch_log`].
    ///
    /// # Errors
    /// When Docker refuses.
    pub async fn fill_disk(&self) -> anyhow::Result<()> {
        // Fails, as it is meant to.
        self.shell("cat /dev/zero > /var/tmp/filler 2> /dev/null || true").await
    }

    /// Whether [`Server::use_small_disk`] is not undone.
    pub(crate) async fn uses_small_disk(&self) -> bool {
        self.shell("[ -z \"$(ls -A /var/tmp)\" ]").await.is_err()
    }

    /// The opposite of both: starts it anew where there is room.
    ///
    /// # Errors
    /// As [`Server::use_small_disk`].
    pub async fn free_disk(&self) -> anyhow::Result<()> {
        self.kill().await?;
        self.start().await
    }

    /// A primary begins another file of its log.
    ///
    /// # Errors
    /// As [`Server::sql`]; a replica refuses.
    pub async fn switch_log(&self) -> anyhow::Result<()> {
        self.replication().switch_log(self).await
    }

    /// It hangs: connections are accepted, and nothing answers on old and new ones. All its
    /// processes stand still at once, as after SIGSTOP to each.
    ///
    /// # Errors
    /// When Docker refuses.
    pub async fn freeze(&self) -> anyhow::Result<()> {
        docker(&["pause", &self.container]).await.map(drop)
    }

    /// The processes hang that answer the application now; new ones, and so new connections,
    /// do not, nor does the monitor's. Only on PostgreSQL: the others have threads.
    ///
    /// # Errors
    /// As [`Server::sql`], when Docker refuses, or when there is no such process.
    pub async fn stop_queries(&self) -> anyhow::Result<()> {
        ensure!(self.engine == Engine::Postgres, "a thread cannot be stopped from outside");
        let backends = "SELECT coalesce(string_agg(pid::text, ' '), '') FROM pg_stat_activity \
            WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() \
            AND application_name <> 'sealane monitor'";
        let backends: String = self.query_scalar(backends).await?;
        ensure!(!backends.is_empty(), "the application has no connection to {}", self.name);
        self.shell(&format!("kill -STOP {backends}")).await
    }

    /// The opposite of [`Server::stop_queries`].
    ///
    /// # Errors
    /// When Docker refuses.
    pub async fn continue_queries(&self) -> anyhow::Result<()> {
        // A server that begins may have only the first process, which is not one of "all".
        self.shell("kill -CONT -1 || true").await
    }

    /// The opposite of [`Server::freeze`].
    ///
    /// # Errors
    /// When Docker refuses.
    pub async fn thaw(&self) -> anyhow::Result<()> {
        docker(&["unpause", &self.container]).await.map(drop)
    }
}
