//! Rows that record when they were written. The newest row that a replica shows tells how old its
//! data really is.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::connection::Line;
use crate::{Cluster, Server};

/// Pause between two rows, in addition to the time for writing.
const PAUSE: Duration = Duration::from_millis(2);

/// Writes a row every few milliseconds on the primary, one after the other, until dropped. While
/// the primary is away, it goes on trying.
#[derive(Debug)]
pub struct Markers {
    written: Arc<Written>,
    task: JoinHandle<()>,
}

/// A row that was committed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Marker {
    /// Rows are numbered in the order of their commits.
    pub(crate) number: i64,
    /// The row was committed before this moment of our clock.
    pub(crate) seen: Instant,
    /// The row was committed before this moment of the primary's clock, in microseconds.
    pub(crate) clock_us: i64,
}

/// All rows that are known to be committed.
#[derive(Debug, Default)]
pub(crate) struct Written(Mutex<Vec<Marker>>);

impl Markers {
    /// Creates the table again and starts to write.
    ///
    /// # Errors
    /// When the primary cannot create the table.
    pub async fn start(cluster: &Cluster) -> anyhow::Result<Self> {
        let primary = cluster.primary().clone();
        let table = "DROP TABLE IF EXISTS marker; \
            CREATE TABLE marker (number bigint PRIMARY KEY, clock_us bigint NOT NULL)";
        primary.sql(table).await?;
        let written = Arc::new(Written::default());
        let task = tokio::spawn(write(primary, Arc::clone(&written)));
        Ok(Self { written, task })
    }

    pub(crate) fn written(&self) -> Arc<Written> {
        Arc::clone(&self.written)
    }
}

impl Drop for Markers {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Written {
    /// The first row that was committed after the row `number`.
    pub(crate) fn after(&self, number: i64) -> Option<Marker> {
        let written = self.lock();
        let index = written.partition_point(|marker| marker.number <= number);
        written.get(index).copied()
    }

    fn push(&self, marker: Marker) {
        self.lock().push(marker);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Marker>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A row without an answer may or may not be committed: its number is not used again, and nothing
/// is concluded from it.
async fn write(primary: Server, written: Arc<Written>) {
    let mut line = Line::to(&primary);
    let clock = primary.replication().clock();
    let now = format!("SELECT {clock}");
    for number in 1.. {
        let row = format!("INSERT INTO marker (number, clock_us) VALUES ({number}, {clock})");
        if line.execute(&row).await.is_ok() {
            let seen = Instant::now();
            // The row's own time is before its commit. So the clock is read again after the commit.
            if let Ok(clock_us) = line.scalar(&now).await {
                written.push(Marker { number, seen, clock_us });
            }
        }
        sleep(PAUSE).await;
    }
}
