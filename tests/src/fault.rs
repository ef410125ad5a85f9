//! The faults that a test can inflict on a server, and how to undo them.

mod connections;
mod network;
mod tail;

pub use connections::Occupation;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};

use crate::docker::docker;
use crate::server::STATEMENT_LIMIT;
use crate::wait::eventually;
use crate::{Cluster, Engine, Server};

/// Largest difference between our clock and a server's right clock; both run on one machine.
const CLOCK_TOLERANCE_S: i64 = 60;

/// Faults on all replicas at once.
impl Cluster {
    /// Calls [`Server::pause_replay`] on every replica.
    ///
    /// # Errors
    /// As [`Server::pause_replay`].
    pub async fn pause_replay(&self) -> anyhow::Result<()> {
        for replica in self.replicas() {
            replica.pause_replay().await?;
        }
        Ok(())
    }

    /// Calls [`Server::resume_replay`] on every replica.
    ///
    /// # Errors
    /// As [`Server::resume_replay`].
    pub async fn resume_replay(&self) -> anyhow::Result<()> {
        for replica in self.replicas() {
            replica.resume_replay().await?;
        }
        Ok(())
    }
}

/// The steps of a failover.
impl Cluster {
    /// From now on the primary answers a write only once any one of the replicas has it on disk; on
    /// MySQL and MariaDB it does not show the write before (AFTER_SYNC), however long that takes.
    /// [`crate::Cluster::heal`] undoes this.
    ///
    /// # Errors
    /// As [`Server::sql`], or when no replica takes part within 10 s.
    pub async fn replicate_synchronously(&self) -> anyhow::Result<()> {
        let primary = self.primary();
        primary.replication().replicate_synchronously(primary, self.replicas()).await
    }

    /// After [`Cluster::replicate_synchronously`], replicas go on receiving, and tell the primary
    /// nothing of it. Not on PostgreSQL.
    ///
    /// # Errors
    /// As [`Server::sql`].
    pub async fn acknowledge_nothing(&self) -> anyhow::Result<()> {
        for replica in self.replicas() {
            replica.replication().acknowledge_nothing(replica).await?;
        }
        Ok(())
    }

    /// Stops replication on all replicas and returns the one that has received most. With
    /// [`Cluster::replicate_synchronously`], this replica has every write that the primary has
    /// answered. A failover manager chooses in the same way.
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

/// How often Docker is asked to pause a container.
const PAUSES: usize = 5;

/// Faults of replication. [`crate::Cluster::heal`] undoes all of them. On MySQL and MariaDB a
/// restart of the server undoes them too, except a promotion.
impl Server {
    /// The replica goes on receiving but no longer shows anything new.
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

    /// The replica goes on receiving but shows every transaction `delay` after its commit. MySQL
    /// and MariaDB round up to whole seconds. Zero undoes this.
    ///
    /// # Errors
    /// As [`Server::sql`].
    pub async fn delay_replay(&self, delay: Duration) -> anyhow::Result<()> {
        self.replication().delay_replay(self, delay).await
    }

    /// The replica goes on answering but no longer hears from its primary. Returns once it has
    /// disconnected. For both faults at once, call this before [`Server::pause_replay`]: while
    /// replay is paused, PostgreSQL does not act on a changed `primary_conninfo`.
    ///
    /// # Errors
    /// As [`Server::sql`], or when the replica does not disconnect within 10 s.
    pub async fn stop_replication(&self) -> anyhow::Result<()> {
        self.replication().stop_replication(self).await
    }

    /// Undoes [`Server::stop_replication`]. Returns once the replica streams again.
    ///
    /// # Errors
    /// As [`Server::sql`], or when the replica does not stream within 10 s.
    pub async fn resume_replication(&self) -> anyhow::Result<()> {
        self.replication().resume_replication(self).await?;
        let what = format!("{} streams again", self.name);
        eventually(STATEMENT_LIMIT, &what, async || self.is_streaming().await).await
    }

    /// The primary deletes the log that this replica has not received yet, so that the replica can
    /// never catch up. The replica goes on answering. Only [`crate::Cluster::heal`] undoes this.
    ///
    /// # Errors
    /// As [`Server::sql`], when Docker refuses, or when the log is not deleted within 10 s.
    pub async fn lose_log(&self, primary: &Server) -> anyhow::Result<()> {
        self.replication().lose_log(self, primary).await
    }

    /// The replica becomes a primary, and stays one when it starts again. Only [`Server::rebuild`]
    /// undoes this.
    ///
    /// # Errors
    /// As [`Server::sql`]; a primary refuses.
    pub async fn promote(&self) -> anyhow::Result<()> {
        self.replication().promote(self).await
    }

    /// The replica follows another server than before, perhaps a promoted one.
    ///
    /// # Errors
    /// As [`Server::sql`].
    pub async fn follow_instead(&self, primary: &Self) -> anyhow::Result<()> {
        self.replication().follow_instead(self, primary).await
    }

    /// Deletes the replica's data and copies the primary's again. This undoes a promotion. Waits
    /// until the replica answers.
    ///
    /// # Errors
    /// When Docker refuses, or the server does not answer within 30 s.
    pub async fn rebuild(&self) -> anyhow::Result<()> {
        self.mark("rebuild").await?;
        self.kill().await?;
        self.start().await
    }
}

/// Faults of the server as a whole and of its network. [`crate::Cluster::heal`] undoes all of them.
impl Server {
    /// Ends the server like a power cut: connections are reset, new ones are refused.
    ///
    /// # Errors
    /// When Docker refuses.
    pub async fn kill(&self) -> anyhow::Result<()> {
        docker(&["kill", "--signal=KILL", &self.container]).await?;
        docker(&["wait", &self.container]).await.map(drop)
    }

    /// The server crashes and starts again in the same container; all connections are lost. Does
    /// not wait for the restart.
    ///
    /// # Errors
    /// As [`Server::sql`], or when Docker refuses.
    pub async fn crash(&self) -> anyhow::Result<()> {
        self.replication().crash(self).await
    }

    /// Shuts the server down cleanly, as an administrator would.
    ///
    /// # Errors
    /// When Docker refuses.
    pub async fn stop(&self) -> anyhow::Result<()> {
        docker(&["stop", &self.container]).await.map(drop)
    }

    /// Starts the server after [`Server::kill`] or [`Server::stop`], and waits until it answers.
    ///
    /// # Errors
    /// When Docker refuses, or the server does not answer within 30 s.
    pub async fn start(&self) -> anyhow::Result<()> {
        docker(&["start", &self.container]).await?;
        self.ready().await
    }

    /// Kills the server and starts it with these lines in its configuration, or without such lines if
    /// there are none. It keeps them until [`Server::rebuild`]. Only on MySQL and MariaDB.
    ///
    /// # Errors
    /// When Docker refuses, or the server does not answer within 30 s.
    pub async fn restart_with(&self, options: &[&str]) -> anyhow::Result<()> {
        let file = format!("{}.options", self.replication().data());
        let write: Vec<String> =
            options.iter().map(|line| format!("echo '{line}' >> {file}")).collect();
        self.shell(&format!("rm -f {file}; {}", write.join("; "))).await?;
        self.kill().await?;
        self.start().await
    }

    /// Restarts the server with a clock that is wrong by `seconds`.
    ///
    /// # Errors
    /// When Docker refuses, when the server does not answer within 30 s, or when its clock is still
    /// right: then its image has no `libfaketime`.
    pub async fn skew_clock(&self, seconds: i64) -> anyhow::Result<()> {
        self.write_clock(seconds).await?;
        self.kill().await?;
        self.start().await?;
        self.shows_clock(seconds).await
    }

    /// Changes the clock of a running server that was started with a wrong clock. Returns once the
    /// server shows the new time.
    ///
    /// # Errors
    /// As [`Server::skew_clock`].
    pub async fn step_clock(&self, seconds: i64) -> anyhow::Result<()> {
        self.write_clock(seconds).await?;
        self.shows_clock(seconds).await
    }

    async fn write_clock(&self, seconds: i64) -> anyhow::Result<()> {
        let data = self.replication().data();
        // The file is replaced in one step, because it may be read at any time.
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

    /// By how many seconds the server's clock is ahead of ours.
    async fn clock_error(&self) -> anyhow::Result<i64> {
        let there_us: i64 =
            self.query_scalar(&format!("SELECT {}", self.replication().clock())).await?;
        let here = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        Ok(there_us / 1_000_000 - i64::try_from(here)?)
    }

    /// Whether the server's clock is right.
    pub(crate) async fn tells_the_time(&self) -> anyhow::Result<bool> {
        Ok(self.clock_error().await?.abs() < CLOCK_TOLERANCE_S)
    }

    /// Restarts the server with a right clock.
    pub(crate) async fn right_clock(&self) -> anyhow::Result<()> {
        self.shell(&format!("rm -f {}.clock", self.replication().data())).await?;
        self.kill().await?;
        self.start().await
    }

    /// Restarts the replica with a small separate disk for the log that it receives.
    ///
    /// # Errors
    /// When Docker refuses, or the server does not answer within 30 s.
    pub async fn use_small_disk(&self) -> anyhow::Result<()> {
        self.mark("small").await?;
        self.kill().await?;
        self.start().await
    }

    /// Fills the disk of [`Server::use_small_disk`] up to the last byte. PostgreSQL notices this
    /// when it needs another file; see [`Server::switch_log`].
    ///
    /// # Errors
    /// When Docker refuses.
    pub async fn fill_disk(&self) -> anyhow::Result<()> {
        // The command fails when the disk is full, which is the purpose.
        self.shell("cat /dev/zero > /var/tmp/filler 2> /dev/null || true").await
    }

    /// Whether [`Server::use_small_disk`] is still in effect.
    pub(crate) async fn uses_small_disk(&self) -> bool {
        self.shell("[ -z \"$(ls -A /var/tmp)\" ]").await.is_err()
    }

    /// Undoes both: restarts the replica on a disk with room.
    ///
    /// # Errors
    /// As [`Server::use_small_disk`].
    pub async fn free_disk(&self) -> anyhow::Result<()> {
        self.kill().await?;
        self.start().await
    }

    /// The primary begins a new file of its log.
    ///
    /// # Errors
    /// As [`Server::sql`]; a replica refuses.
    pub async fn switch_log(&self) -> anyhow::Result<()> {
        self.replication().switch_log(self).await
    }

    /// The server hangs: it accepts connections, but answers neither on old nor on new ones. All
    /// its processes stop at once, as after SIGSTOP to each of them.
    ///
    /// # Errors
    /// When Docker refuses.
    pub async fn freeze(&self) -> anyhow::Result<()> {
        // A busy kernel refuses it at times ("unable to freeze").
        let mut refused = Ok(());
        for _ in 0..PAUSES {
            match docker(&["pause", &self.container]).await {
                Ok(_) => return Ok(()),
                Err(error) => refused = Err(error),
            }
        }
        refused
    }

    /// The processes that serve the application's current connections hang. New connections and the
    /// monitor's process do not. Only on PostgreSQL, because the other engines use threads.
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

    /// Undoes [`Server::stop_queries`].
    ///
    /// # Errors
    /// When Docker refuses.
    pub async fn continue_queries(&self) -> anyhow::Result<()> {
        // A starting server may have only its first process, which `-1` does not include, so an
        // error is ignored.
        self.shell("kill -CONT -1 || true").await
    }

    /// The server gets this many hundredths of one processor.
    ///
    /// # Errors
    /// When Docker refuses.
    pub async fn limit_processor(&self, percent: u32) -> anyhow::Result<()> {
        let quota = format!("--cpu-quota={}", percent * 1_000);
        docker(&["update", "--cpu-period=100000", &quota, &self.container]).await.map(drop)
    }

    /// Undoes [`Server::limit_processor`].
    ///
    /// # Errors
    /// When Docker refuses.
    pub async fn free_processor(&self) -> anyhow::Result<()> {
        docker(&["update", "--cpu-quota=-1", &self.container]).await.map(drop)
    }

    /// Undoes [`Server::freeze`].
    ///
    /// # Errors
    /// When Docker refuses.
    pub async fn thaw(&self) -> anyhow::Result<()> {
        docker(&["unpause", &self.container]).await.map(drop)
    }
}
