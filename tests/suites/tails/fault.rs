//! What happens to a replica in the middle of steady reads.

use std::time::Duration;

use anyhow::{Context, ensure};
use sealane_tests::{Cluster, Engine, Occupation, Relay, Server, eventually};
use tokio::{task::JoinHandle, time::sleep};

/// The replica to which it happens.
pub const STRUCK: &str = "replica-1";
/// Half of a slow network's round trip.
const DELAY: Duration = Duration::from_millis(100);
/// Longer than any event lasts.
const LOCKED_S: u32 = 8;
/// Of a hundred packets.
const LOST: u32 = 20;
/// More than the small disk has room for.
const FILES: u32 = 8;
/// Between two steps of a fault that consists of many.
const STEP: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Nothing,
    Kill,
    /// The whole server is stopped.
    Stop,
    /// Its query processes are stopped; it answers probes.
    StopQueries,
    /// A lock holds up all reads of one table; the server answers probes.
    Lock,
    /// All packets are dropped.
    Cut,
    /// Every packet takes 100 ms longer, each way.
    Delay,
    /// It gets a tenth of a processor.
    Quota,
    PauseReplay,
    /// One packet in five is dropped.
    Loss,
    /// All its connections are in use, and the application's were ended.
    Connections,
    /// The disk with what it receives is full.
    Disk,
    /// It ends reads that hold up its replay, and locks are replayed all the time.
    Conflicts,
}

impl Fault {
    pub const ALL: [Fault; 13] = [
        Fault::Nothing,
        Fault::Kill,
        Fault::Stop,
        Fault::StopQueries,
        Fault::Lock,
        Fault::Cut,
        Fault::Delay,
        Fault::Quota,
        Fault::PauseReplay,
        Fault::Loss,
        Fault::Connections,
        Fault::Disk,
        Fault::Conflicts,
    ];

    /// Whether the replica neither serves nor breaks connections.
    pub fn hangs(self) -> bool {
        matches!(self, Fault::Stop | Fault::StopQueries | Fault::Lock | Fault::Cut)
    }

    /// Whether hedged reads are tried under it, too.
    pub fn is_about_hedges(self) -> bool {
        matches!(
            self,
            Fault::Nothing | Fault::Stop | Fault::StopQueries | Fault::Lock | Fault::Delay
        )
    }

    /// Whether the engine can suffer it: processes can be stopped, threads cannot; neither a standby
    /// of PostgreSQL nor a read-only server of MySQL takes a lock that holds up reads; reads in the
    /// way of replay are ended on PostgreSQL only.
    pub fn is_for(self, engine: Engine) -> bool {
        match self {
            Fault::StopQueries | Fault::Conflicts => engine == Engine::Postgres,
            Fault::Lock => engine == Engine::Mariadb,
            _ => true,
        }
    }
}

/// A fault in effect.
pub struct Struck {
    fault: Fault,
    /// What has to go on meanwhile.
    work: Option<JoinHandle<anyhow::Result<()>>>,
    occupation: Option<Occupation>,
}

impl Fault {
    /// What has to be done before anybody is connected.
    pub async fn prepare(self, replica: &Server) -> anyhow::Result<()> {
        match self {
            Fault::Disk => replica.use_small_disk().await,
            Fault::Conflicts => set_standby_delay(replica, "= 0").await,
            _ => Ok(()),
        }
    }
}

impl Struck {
    /// Inflicts `fault` on a replica, to which `relay` leads.
    pub async fn by(fault: Fault, cluster: &Cluster, relay: &Relay) -> anyhow::Result<Self> {
        let (replica, primary) = (cluster.server(STRUCK), cluster.primary());
        let mut struck = Struck { fault, work: None, occupation: None };
        match fault {
            Fault::Nothing => {}
            Fault::Kill => replica.kill().await?,
            Fault::Stop => replica.freeze().await?,
            Fault::StopQueries => replica.stop_queries().await?,
            Fault::Lock => {
                let sql =
                    format!("LOCK TABLES boat WRITE; SELECT SLEEP({LOCKED_S}); UNLOCK TABLES");
                let replica = replica.clone();
                struck.work = Some(tokio::spawn(async move { replica.sql(&sql).await }));
            }
            Fault::Cut => replica.blackhole().await?,
            Fault::Delay => relay.delay(DELAY),
            Fault::Quota => replica.limit_processor(10).await?,
            Fault::PauseReplay => replica.pause_replay().await?,
            Fault::Loss => replica.lose_packets(LOST).await?,
            Fault::Connections => struck.occupation = Some(replica.use_up_connections().await?),
            Fault::Disk => {
                replica.fill_disk().await?;
                struck.work = Some(tokio::spawn(write_on(primary.clone())));
            }
            Fault::Conflicts => {
                struck.work = Some(tokio::spawn(lock_on(primary.clone())));
                // A server's processes report such things once a second at most.
                eventually(PATIENCE, "a read was in the way of replay", async || {
                    let ended: i64 = replica
                        .query_scalar(
                            "SELECT sum(confl_lock)::bigint FROM pg_stat_database_conflicts",
                        )
                        .await?;
                    Ok(ended > 0)
                })
                .await?;
            }
        }
        Ok(struck)
    }

    /// Undoes it.
    ///
    /// # Errors
    /// When this is not possible, or when there was nothing to undo.
    pub async fn end(mut self, cluster: &Cluster, relay: &Relay) -> anyhow::Result<()> {
        let replica = cluster.server(STRUCK);
        match self.fault {
            Fault::Nothing => {}
            Fault::Kill => replica.start().await?,
            Fault::Stop => replica.thaw().await?,
            Fault::StopQueries => replica.continue_queries().await?,
            Fault::Lock => {
                let lock = self.work.context("there is no lock")?;
                lock.await.context("the lock could not be taken")??;
            }
            Fault::Cut => replica.unblackhole().await?,
            Fault::Delay => relay.delay(Duration::ZERO),
            Fault::Quota => replica.free_processor().await?,
            Fault::PauseReplay => replica.resume_replay().await?,
            Fault::Loss => replica.lose_no_packets().await?,
            Fault::Connections => {
                let occupation = self.occupation.take().context("no connection was used up")?;
                replica.free_connections(occupation).await?;
            }
            Fault::Disk => {
                self.stop_work().await?;
                let there = cluster.primary().position().await?;
                ensure!(!replica.has_replayed(&there).await?, "there was room on the disk");
                replica.free_disk().await?;
            }
            Fault::Conflicts => {
                self.stop_work().await?;
                set_standby_delay(replica, "TO DEFAULT").await?;
            }
        }
        Ok(())
    }

    /// Ends what went on meanwhile.
    async fn stop_work(&mut self) -> anyhow::Result<()> {
        let work = self.work.take().context("nothing went on")?;
        work.abort();
        match work.await {
            Err(error) if error.is_cancelled() => Ok(()),
            ended => ended?,
        }
    }
}

/// Writes again and again, so that the log needs room.
async fn write_on(primary: Server) -> anyhow::Result<()> {
    for written in 0.. {
        primary.sql("INSERT INTO boat (harbour_id, name, voyages) VALUES (1, 'Ida', 0)").await?;
        // PostgreSQL notices a full disk when it needs another file.
        if primary.engine == Engine::Postgres && written < FILES {
            primary.switch_log().await?;
        }
        sleep(STEP).await;
    }
    Ok(())
}

/// Takes a lock again and again that is replayed on the replicas.
async fn lock_on(primary: Server) -> anyhow::Result<()> {
    loop {
        primary.sql("BEGIN; LOCK TABLE boat IN ACCESS EXCLUSIVE MODE; COMMIT").await?;
        sleep(STEP).await;
    }
}

/// How long the replica's replay waits for reads.
async fn set_standby_delay(replica: &Server, to: &str) -> anyhow::Result<()> {
    replica.sql(&format!("ALTER SYSTEM SET max_standby_streaming_delay {to}")).await?;
    replica.sql("SELECT pg_reload_conf()").await
}
