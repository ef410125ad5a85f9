//! A failover while clients go on: the primary is struck, a replica is promoted, and the old
//! primary comes back as it was.

use std::{collections::HashSet, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use sea_orm::{ConnectionTrait, Database, DbBackend, Statement};
use sealane_tests::{Cluster, Engine, Server};
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    client::Shared,
    history::{Author, Failover, Moment},
};

/// Within this time every process knows of a promotion.
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
    /// The same is said, and is not true.
    Planted,
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
    let blow = match seed / 2 % 3 {
        0 => Blow::Kill,
        1 => Blow::Freeze,
        _ => Blow::Blackhole,
    };
    if way == Way::Planted {
        for replica in cluster.replicas() {
            replica.stop_replication().await?;
        }
        sleep(Duration::from_secs(1)).await;
    }
    let began = shared.clock.now();
    let struck = Instant::now();
    let name = match blow {
        Blow::Kill => primary.kill().await.map(|()| "failovers from a killed primary")?,
        Blow::Freeze => primary.freeze().await.map(|()| "failovers from a frozen primary")?,
        Blow::Blackhole => primary.blackhole().await.map(|()| "failovers from a lost primary")?,
    };
    sleep(Duration::from_millis(rng.u64(200..2_500))).await;
    let successor = match cluster.engine() {
        Engine::Postgres => cluster.choose_successor().await?,
        _ => cluster.server("replica-1"),
    };
    let promoted = async {
        successor.promote().await?;
        for other in cluster.replicas().iter().filter(|other| other.name != successor.name) {
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
        known(shared, 0, &successor.name),
        known(shared, 1, &successor.name)
    )?;
    let synchronous = way != Way::Asynchronous;
    let known = [first, second];
    Ok((successor, name, Failover { synchronous, began, known, survivors: HashSet::new() }))
}

/// The moment from which on a process calls that endpoint the primary.
async fn known(shared: &Shared, process: usize, name: &str) -> anyhow::Result<Moment> {
    // A wait, a promotion and the return of the old primary come before, at most.
    let (db, end) = (&shared.processes[process], Instant::now() + KNOWN);
    while Instant::now() < end {
        if db.status().primary.as_deref() == Some(name) {
            return Ok(shared.clock.now());
        }
        sleep(Duration::from_millis(1)).await;
    }
    bail!("process {process} calls {:?} the primary, and not {name}", db.status().primary)
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
