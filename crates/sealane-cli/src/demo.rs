//! `sealane demo`: one file, a load, and what splitting reads from writes does to it. Nothing has to
//! be installed, and nothing stays. With `--docker` it is a cluster; see `tour`.
//!
//! The same load runs twice: over one connection that serves everything, and over a writer with
//! readers beside it. A second measure shows the promise: each write is read back at once by the
//! session that made it.

mod cluster;
mod load;
mod tour;

use std::time::Duration;

use sea_orm::{ConnectOptions, ConnectionTrait, Database};
use sealane::{Config, RoutedConnection};
use serde::Serialize;

use crate::{
    CommandError,
    arguments::Demo,
    output::{Output, Table},
    style,
};
use load::{Counts, Load};

const SCHEMA: &str =
    "CREATE TABLE boat (id INTEGER PRIMARY KEY, name TEXT NOT NULL, voyages INTEGER)";
/// Enough rows for a read to be work, and few enough to be there at once.
const ROWS: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) \
     INSERT INTO boat SELECT i, 'boat ' || i, i % 97 FROM n";

/// What one way of connecting has achieved.
#[derive(Debug, Serialize)]
struct Achieved {
    connection: &'static str,
    reads_per_s: u64,
    writes_per_s: u64,
    slowest_read_ms: u64,
    /// Writes that the session did not see when it read right after them.
    missed_writes: u64,
}

pub(crate) async fn run(wanted: &Demo, output: &mut Output<'_>) -> Result<bool, CommandError> {
    match wanted.docker {
        true => tour::run(wanted, output).await,
        false => on_file(wanted, output).await,
    }
}

async fn on_file(wanted: &Demo, output: &mut Output<'_>) -> Result<bool, CommandError> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("harbour.db");
    let split = sealane::connect(Config::sqlite_with(&path, |options| {
        options.max_connections(wanted.readers);
    }));
    let split = split.await.map_err(CommandError::Connect)?;
    split.execute_unprepared(SCHEMA).await?;
    split.execute_unprepared(ROWS).await?;
    let mut options = ConnectOptions::new(format!("sqlite://{}", path.display()));
    options.max_connections(1);
    let single = RoutedConnection::from(Database::connect(options).await?);

    let during = wanted.limit / 2;
    let ways = [("one connection", single), ("writer and readers", split)];
    let mut achieved = Vec::new();
    for (name, db) in ways {
        let counts = tell(name, Load::begin(&db, wanted.readers), during, output).await?;
        achieved.push(Achieved::of(name, &counts, during));
        db.close().await?;
    }
    let [single, split] = &achieved[..] else { return Ok(false) };
    let is_well = split.missed_writes == 0;
    output.line(&achieved, |out| {
        let heading = ["connection", "reads/s", "writes/s", "slowest read", "writes missed"];
        let mut table = Table::new(&heading);
        achieved.iter().for_each(|it| table.row(it.cells()));
        writeln!(out)?;
        table.write(out)?;
        let style = if is_well { style::FINE } else { style::WRONG };
        writeln!(
            out,
            "{style}{:.1} times the reads, and {} of the session's own writes were missed{style:#}",
            ratio(split.reads_per_s, single.reads_per_s),
            split.missed_writes
        )
    })?;
    Ok(is_well)
}

/// Lets the load run, and says once a second what it does.
async fn tell(
    name: &'static str,
    load: Load,
    during: Duration,
    output: &mut Output<'_>,
) -> Result<Counts, CommandError> {
    let mut before = Counts::default();
    let mut left = during;
    while !left.is_zero() {
        let step = left.min(Duration::from_secs(1));
        tokio::time::sleep(step).await;
        left -= step;
        let now = load.counts();
        let moment = Achieved::of(name, &now.since(&before), step);
        output.line(&moment, |out| {
            let Achieved { reads_per_s, writes_per_s, .. } = moment;
            writeln!(out, "{name:>18}  {reads_per_s:>7} reads/s  {writes_per_s:>5} writes/s")
        })?;
        before = now;
    }
    Ok(load.end().await?)
}

impl Achieved {
    fn of(connection: &'static str, counts: &Counts, during: Duration) -> Self {
        let millis = u64::try_from(during.as_millis()).unwrap_or(u64::MAX).max(1);
        let per_s = |count: u64| count.saturating_mul(1_000) / millis;
        Achieved {
            connection,
            reads_per_s: per_s(counts.reads),
            writes_per_s: per_s(counts.writes),
            slowest_read_ms: counts.slowest_us.div_ceil(1_000),
            missed_writes: counts.missed,
        }
    }

    fn cells(&self) -> Vec<String> {
        vec![
            self.connection.to_owned(),
            self.reads_per_s.to_string(),
            self.writes_per_s.to_string(),
            format!("{} ms", self.slowest_read_ms),
            self.missed_writes.to_string(),
        ]
    }
}

#[allow(clippy::cast_precision_loss, reason = "a ratio for people")]
fn ratio(of: u64, to: u64) -> f64 {
    of as f64 / to.max(1) as f64
}
