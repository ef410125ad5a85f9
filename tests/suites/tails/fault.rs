//! What happens to a replica in the middle of steady reads.

use std::time::Duration;

use anyhow::Context;
use sealane_tests::{Engine, Relay, Server};
use tokio::task::JoinHandle;

/// Half of a slow network's round trip.
const DELAY: Duration = Duration::from_millis(100);
/// Longer than any event lasts.
const LOCKED_S: u32 = 8;

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
}

impl Fault {
    pub const ALL: [Fault; 9] = [
        Fault::Nothing,
        Fault::Kill,
        Fault::Stop,
        Fault::StopQueries,
        Fault::Lock,
        Fault::Cut,
        Fault::Delay,
        Fault::Quota,
        Fault::PauseReplay,
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
    /// of PostgreSQL nor a read-only server of MySQL takes a lock that holds up reads.
    pub fn is_for(self, engine: Engine) -> bool {
        match self {
            Fault::StopQueries => engine == Engine::Postgres,
            Fault::Lock => engine == Engine::Mariadb,
            _ => true,
        }
    }
}

/// A fault in effect.
pub struct Struck {
    fault: Fault,
    lock: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Struck {
    /// Inflicts `fault` on `replica`, to which `relay` leads.
    pub async fn by(fault: Fault, replica: &Server, relay: &Relay) -> anyhow::Result<Self> {
        let mut lock = None;
        match fault {
            Fault::Nothing => {}
            Fault::Kill => replica.kill().await?,
            Fault::Stop => replica.freeze().await?,
            Fault::StopQueries => replica.stop_queries().await?,
            Fault::Lock => {
                let replica = replica.clone();
                let sql =
                    format!("LOCK TABLES boat WRITE; SELECT SLEEP({LOCKED_S}); UNLOCK TABLES");
                lock = Some(tokio::spawn(async move { replica.sql(&sql).await }));
            }
            Fault::Cut => replica.blackhole().await?,
            Fault::Delay => relay.delay(DELAY),
            Fault::Quota => replica.limit_processor(10).await?,
            Fault::PauseReplay => replica.pause_replay().await?,
        }
        Ok(Struck { fault, lock })
    }

    /// Undoes it.
    pub async fn end(self, replica: &Server, relay: &Relay) -> anyhow::Result<()> {
        match self.fault {
            Fault::Nothing => {}
            Fault::Kill => replica.start().await?,
            Fault::Stop => replica.thaw().await?,
            Fault::StopQueries => replica.continue_queries().await?,
            Fault::Lock => {
                let lock = self.lock.context("there is no lock")?;
                lock.await.context("the lock could not be taken")??;
            }
            Fault::Cut => replica.unblackhole().await?,
            Fault::Delay => relay.delay(Duration::ZERO),
            Fault::Quota => replica.free_processor().await?,
            Fault::PauseReplay => replica.resume_replay().await?,
        }
        Ok(())
    }
}
