//! What goes wrong meanwhile: replicas lag, stand still, hang, vanish and die; addresses move,
//! connections are cut. The primary is never lost here; see `failover`.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use sealane_tests::{Engine, Relay, Server, watch};
use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    time::sleep,
};

/// Faults by name, and those that could not be inflicted.
pub type Inflicted = BTreeMap<&'static str, usize>;
/// The name of those that could not be inflicted.
pub const FAILED: &str = "that failed";

/// After a connection is lost, a read has this time to be answered elsewhere before another server
/// may lose its connections, too.
const ANSWERED_ELSEWHERE: Duration = Duration::from_secs(3);

/// Troubles one server in ways that are drawn from a seed.
#[derive(Debug)]
pub struct Nemesis {
    server: Server,
    rng: fastrand::Rng,
    until: Instant,
    inflicted: Inflicted,
    /// Held by the one whose server loses connections.
    turn: Arc<Mutex<()>>,
}

impl Nemesis {
    pub fn new(server: &Server, seed: u64, until: Instant) -> Self {
        let rng = fastrand::Rng::with_seed(seed);
        let (server, inflicted, turn) = (server.clone(), Inflicted::new(), Arc::default());
        Self { server, rng, until, inflicted, turn }
    }

    /// Connections are lost by one server at a time, of those that share `turn`. A read that loses
    /// two in a row fails, as it may be what breaks servers: where none may fail, two servers must
    /// not lose theirs at once.
    pub fn in_turn(self, turn: &Arc<Mutex<()>>) -> Self {
        Self { turn: Arc::clone(turn), ..self }
    }

    /// For a replica: everything. `relay` is its address, which may come to lead to `other`. It
    /// ends with all of it undone, unless that failed.
    pub async fn trouble_replica(mut self, relay: &Relay, other: &Server) -> Inflicted {
        while self.calm(50..1_000).await {
            let (name, outcome) = match self.rng.u32(..120) {
                0..45 => ("pauses of replay", self.pauses().await),
                45..60 => ("delays of replay", self.delay().await),
                60..80 => ("cut connections", self.cut_read().await),
                80..90 => ("freezes", self.freeze().await),
                90..96 => ("crashes", self.crash().await),
                96..102 => ("blackouts", self.blackout().await),
                102..112 => ("moves", self.wander(relay, other).await),
                112..117 if self.server.engine == Engine::Postgres => {
                    ("stopped processes", self.stop_queries().await)
                }
                _ => ("restarts", self.restart().await),
            };
            self.note(name, outcome.is_ok());
        }
        self.inflicted
    }

    /// For the primary: now and then it loses the connection of a write.
    pub async fn cut_writes(mut self) -> Inflicted {
        while self.calm(100..1_500).await {
            let outcome = cut_one(&self.server, true, &mut self.rng).await;
            self.note("cut writes", outcome.is_ok());
        }
        self.inflicted
    }

    fn note(&mut self, name: &'static str, succeeded: bool) {
        *self.inflicted.entry(if succeeded { name } else { FAILED }).or_default() += 1;
    }

    /// Whether there is time for more.
    async fn calm(&mut self, ms: std::ops::Range<u64>) -> bool {
        self.last(ms).await;
        Instant::now() < self.until
    }

    async fn last(&mut self, ms: std::ops::Range<u64>) {
        sleep(Duration::from_millis(self.rng.u64(ms))).await;
    }

    /// Lag that comes and goes.
    async fn pauses(&mut self) -> anyhow::Result<()> {
        for _ in 0..self.rng.u32(1..8) {
            self.server.pause_replay().await?;
            self.last(1..400).await;
            self.server.resume_replay().await?;
            self.last(1..100).await;
        }
        Ok(())
    }

    async fn delay(&mut self) -> anyhow::Result<()> {
        let delay = Duration::from_millis(self.rng.u64(20..800));
        self.server.delay_replay(delay).await?;
        self.last(500..3_000).await;
        self.server.delay_replay(Duration::ZERO).await
    }

    async fn freeze(&mut self) -> anyhow::Result<()> {
        self.server.freeze().await?;
        self.last(50..2_000).await;
        self.server.thaw().await
    }

    async fn blackout(&mut self) -> anyhow::Result<()> {
        self.server.blackhole().await?;
        self.last(200..5_000).await;
        self.server.unblackhole().await
    }

    async fn stop_queries(&mut self) -> anyhow::Result<()> {
        self.server.stop_queries().await?;
        self.last(50..1_500).await;
        self.server.continue_queries().await
    }

    /// The address leads elsewhere, and the monitors soon look there; other connections stay with a
    /// server that stands still.
    async fn wander(&mut self, relay: &Relay, other: &Server) -> anyhow::Result<()> {
        self.server.pause_replay().await?;
        relay.lead_to(other);
        if self.server.engine == Engine::Postgres {
            let monitors = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                WHERE application_name = 'sealane monitor'";
            self.server.sql(monitors).await?;
        } else {
            self.server.freeze().await?;
            self.last(2_000..3_000).await;
            self.server.thaw().await?;
        }
        self.last(500..3_000).await;
        let turn = self.taken_turn().await;
        relay.lead_to(&self.server);
        relay.cut();
        ended(turn);
        self.server.resume_replay().await
    }

    async fn cut_read(&mut self) -> anyhow::Result<()> {
        let turn = self.taken_turn().await;
        let outcome = cut_one(&self.server, false, &mut self.rng).await;
        ended(turn);
        outcome
    }

    async fn crash(&mut self) -> anyhow::Result<()> {
        let turn = self.taken_turn().await;
        let outcome = self.server.crash().await;
        ended(turn);
        outcome?;
        self.server.ready().await
    }

    async fn restart(&mut self) -> anyhow::Result<()> {
        let turn = self.taken_turn().await;
        let outcome = self.server.kill().await;
        ended(turn);
        outcome?;
        self.last(0..1_000).await;
        self.server.start().await
    }

    async fn taken_turn(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.turn).lock_owned().await
    }
}

/// Gives the turn back when the reads that lost a connection in it are answered.
fn ended(turn: OwnedMutexGuard<()>) {
    tokio::spawn(async move {
        sleep(ANSWERED_ELSEWHERE).await;
        drop(turn);
    });
}

/// Cuts one of the application's connections; on the primary one that is writing.
async fn cut_one(server: &Server, writing: bool, rng: &mut fastrand::Rng) -> anyhow::Result<()> {
    let (number, from) = match (server.engine, writing) {
        (Engine::Postgres, false) => (
            "pid::bigint",
            "pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
        ),
        (Engine::Postgres, true) => {
            ("pid::bigint", "pg_stat_activity WHERE backend_xid IS NOT NULL")
        }
        (_, false) => {
            ("CAST(id AS SIGNED)", "information_schema.processlist WHERE user = 'sealane'")
        }
        (_, true) => (
            "CAST(trx_mysql_thread_id AS SIGNED)",
            "information_schema.innodb_trx WHERE trx_rows_modified > 0",
        ),
    };
    let count: i64 = server.query_scalar(&format!("SELECT count(*) FROM {from}")).await?;
    let offset = rng.i64(0..count.max(1));
    // It may be gone by now.
    let one = format!("SELECT {number} FROM {from} LIMIT 1 OFFSET {offset}");
    watch::cut_connection(server, server.query_scalar(&one).await?).await
}
