//! A failover while clients go on: the primary is struck, a replica is promoted, and the old
//! primary comes back as it was.

use std::{
    collections::HashSet,
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::{Context, bail};
use sea_orm::{ConnectionTrait, Database, DbBackend, Statement};
use sealane_tests::{Cluster, Engine, Server};
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    client::{Plant, Shared},
    history::{Author, Failover, Moment},
};

/// So long after the new primary takes writes, every process knows of it.
const KNOWN: Duration = Duration::from_secs(10);

/// A server that does not answer for so long is noticed.
const SILENT: Duration = Duration::from_millis(3_500);

/// What happens to the primary.
#[derive(Clone, Copy, Debug)]
enum Blow {
    Kill,
    Freeze,
    Blackhole,
}

/// How a failover goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// What the primary had answered, but not sent to a replica, is lost.
    Asynchronous,
    /// Nothing that was answered may be lost.
    Synchronous,
    /// The replica that has less is promoted. Nobody tells the other one, which goes on to follow the
    /// old primary, or it is told to follow a server that lacks what it has.
    Behind,
    /// Nothing is promoted: the primary comes back without the end of its log. See `LostTail`.
    /// Only on MySQL and MariaDB.
    LostTail,
    /// The same is said, and is not true.
    Planted,
}

impl Way {
    /// All that may happen to servers of this engine.
    pub fn all(engine: Engine) -> &'static [Self] {
        let ways = &[Self::Synchronous, Self::Asynchronous, Self::Behind, Self::LostTail];
        if engine == Engine::Postgres { &ways[..3] } else { ways }
    }

    /// One after the other, by the seeds of a run.
    pub fn of(seed: u64, engine: Engine) -> Self {
        let ways = Self::all(engine);
        ways[(seed % ways.len() as u64) as usize]
    }
}

/// Fails over, and returns what was promoted and how it went. `survivors` is left empty: clients
/// go on.
pub async fn fail_over<'c>(
    cluster: &'c Cluster,
    shared: &Arc<Shared>,
    way: Way,
    seed: u64,
) -> anyhow::Result<(&'c Server, &'static str, Failover)> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let primary = cluster.primary();
    // Not drawn, so that a long run has every blow with every way.
    let blow = match seed / Way::all(cluster.engine()).len() as u64 % 3 {
        0 => Blow::Kill,
        1 => Blow::Freeze,
        _ => Blow::Blackhole,
    };
    if way == Way::Planted {
        for replica in cluster.replicas() {
            cut_off(cluster, replica).await?;
        }
        sleep(Duration::from_secs(1)).await;
    }
    if way == Way::Behind {
        cut_off(cluster, &cluster.replicas()[0]).await?;
        // Numbers deceive only while the others write less than was lost.
        let lag_ms = if shared.plant == Plant::Numbers { 4_000 } else { rng.u64(20..2_000) };
        sleep(Duration::from_millis(lag_ms)).await;
    }
    let began = shared.clock.now();
    let struck = Instant::now();
    let name = match blow {
        Blow::Kill => primary.kill().await.map(|()| "failovers from a killed primary")?,
        Blow::Freeze => primary.freeze().await.map(|()| "failovers from a frozen primary")?,
        Blow::Blackhole => primary.blackhole().await.map(|()| "failovers from a lost primary")?,
    };
    sleep(Duration::from_millis(rng.u64(200..2_500))).await;
    let successor = match way {
        Way::Behind => &cluster.replicas()[0],
        _ => cluster.choose_successor().await?,
    };
    let are_told = way != Way::Behind || (shared.plant == Plant::Nothing && rng.bool());
    let is_promoted = OnceLock::new();
    let promoted = async {
        successor.promote().await?;
        let _first = is_promoted.set(Instant::now());
        let others = cluster.replicas().iter().filter(|other| other.name != successor.name);
        for other in others.filter(|_| are_told) {
            other.follow_instead(successor).await?;
        }
        sleep(Duration::from_millis(rng.u64(..2_000))).await;
        if cluster.engine() != Engine::Postgres {
            // Two servers that take writes, and neither of them ever silent, are a conflict there.
            sleep_until(struck + SILENT).await;
        }
        match blow {
            Blow::Kill => primary.start().await,
            Blow::Freeze => primary.thaw().await,
            Blow::Blackhole => primary.unblackhole().await,
        }
    };
    let (_, first, second) = tokio::try_join!(
        promoted,
        known(shared, 0, &successor.name, &is_promoted),
        known(shared, 1, &successor.name, &is_promoted)
    )?;
    let synchronous = matches!(way, Way::Synchronous | Way::Planted);
    let known = [first, second];
    Ok((successor, name, Failover { synchronous, began, known, survivors: HashSet::new() }))
}

/// Stops a replica between two transactions. On MySQL and MariaDB one that has half of a transaction
/// waits for the rest before it stops applying, and so would its promotion.
pub async fn cut_off(cluster: &Cluster, replica: &Server) -> anyhow::Result<()> {
    if cluster.engine() != Engine::Postgres {
        replica.pause_replay().await?;
    }
    replica.stop_replication().await
}

/// The moment from which on a process calls that endpoint the primary.
async fn known(
    shared: &Shared,
    process: usize,
    name: &str,
    is_promoted: &OnceLock<Instant>,
) -> anyhow::Result<Moment> {
    let db = &shared.processes[process];
    while is_promoted.get().is_none_or(|promoted| promoted.elapsed() < KNOWN) {
        if db.status().primary.as_deref() == Some(name) {
            return Ok(shared.clock.now());
        }
        sleep(Duration::from_millis(1)).await;
    }
    bail!(
        "{KNOWN:?} after its promotion, process {process} does not call {name} the primary: {:?}",
        db.status()
    )
}

/// Who wrote what `server` has; see `Chart::leave_wakes`.
pub async fn survivors(server: &Server) -> anyhow::Result<HashSet<Author>> {
    let db = Database::connect(&server.url).await?;
    let backend: DbBackend = db.get_database_backend();
    let wakes = Statement::from_string(backend, "SELECT DISTINCT author FROM wake");
    let rows = db.query_all_raw(wakes).await?;
    let authors = rows.iter().map(|row| row.try_get("", "author"));
    let authors = authors.collect::<Result<_, _>>().context("an author")?;
    db.close().await?;
    Ok(authors)
}
