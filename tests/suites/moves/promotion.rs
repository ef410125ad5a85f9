//! A promotion, and when who knew of it.

use std::time::{Duration, Instant};

use anyhow::bail;
use sealane::RoutedConnection;
use sealane_tests::Cluster;
use tokio::time::sleep;

const LIMIT: Duration = Duration::from_secs(20);

/// The moments of a promotion; the last two in either order.
#[derive(Clone, Copy, Debug)]
pub struct Promotion {
    /// The server was about to be told.
    pub began: Instant,
    /// The server said that it was done.
    pub ended: Instant,
    /// The handle's status named the new primary.
    pub known: Instant,
}

/// Promotes replica-1, and waits until `db` knows.
pub async fn promote(cluster: &Cluster, db: &RoutedConnection) -> anyhow::Result<Promotion> {
    let (replica, began) = (cluster.server("replica-1"), Instant::now());
    let promoted = async {
        replica.promote().await?;
        anyhow::Ok(Instant::now())
    };
    let (ended, known) = tokio::try_join!(promoted, named(db, &replica.name))?;
    Ok(Promotion { began, ended, known })
}

/// The moment from which on `db` calls that endpoint the primary. More often asked than
/// `eventually` asks.
pub async fn named(db: &RoutedConnection, name: &str) -> anyhow::Result<Instant> {
    let began = Instant::now();
    while began.elapsed() < LIMIT {
        if db.status().primary.as_deref() == Some(name) {
            return Ok(Instant::now());
        }
        sleep(Duration::from_millis(1)).await;
    }
    bail!("after {LIMIT:?} the primary is {:?}, not {name}", db.status().primary)
}
