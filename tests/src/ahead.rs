//! Sessions that read on one server and then on another: how often they go back in time.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::ensure;
use sea_orm::{ConnectOptions, ConnectionTrait, Database, DbErr, QueryResult, TransactionTrait};
use sealane::{FallbackPolicy, Replica, RoutedConnection, WhenAhead};
use tokio::task::{JoinHandle, JoinSet};

use crate::fleet::{self, raw, reads_on_replica};
use crate::wait::eventually;
use crate::{BROKEN_PROMISE, Cluster, Engine};

/// Writers, each with a row of its own: commits that are written out together become visible one
/// after the other.
pub const WRITERS: usize = 8;
const SESSIONS: usize = 4;
/// Pairs in one mode, of which the first read was served by a replica.
const PAIRS: usize = 800;
/// How often sessions change from one replica to another.
const CROSSINGS: usize = 400;
/// A pair takes milliseconds; all of them never this long, however busy the machine is.
const LIMIT: Duration = Duration::from_secs(180);
/// Longer than any transaction of the writers lasts, however busy the machine is.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// What the writers' rows show, and where.
const LOOK: &str =
    "SELECT boat.id, voyages, in_recovery, address FROM boat, whereabouts ORDER BY boat.id";

/// The rows' counts, one for each writer, and where they were read.
#[derive(Debug, Clone)]
pub struct Sight {
    /// The counts.
    pub voyages: Vec<i64>,
    /// Whether a replica showed them.
    pub on_replica: bool,
    address: String,
}

impl Sight {
    /// Looks once.
    ///
    /// # Errors
    /// As the connection.
    pub async fn of(db: &impl ConnectionTrait) -> Result<Self, DbErr> {
        let rows = db.query_all_raw(raw(db, LOOK)).await?;
        let voyages = |row: &QueryResult| row.try_get("", "voyages");
        let Some(first) = rows.first() else {
            return Err(DbErr::RecordNotFound("boat".to_owned()));
        };
        let (on_replica, address) =
            (first.try_get("", "in_recovery")?, first.try_get("", "address")?);
        let voyages = rows.iter().map(voyages).collect::<Result<_, _>>()?;
        Ok(Sight { voyages, on_replica, address })
    }

    /// Whether any count is lower than it was there.
    #[must_use]
    pub fn is_older_than(&self, other: &Sight) -> bool {
        self.voyages.iter().zip(&other.voyages).any(|(ours, theirs)| ours < theirs)
    }
}

/// What follows the read on a replica.
#[derive(Clone, Copy, Debug)]
pub enum Then {
    /// A read on the primary.
    StrongRead,
    /// A read in a transaction.
    Transaction,
}

/// What became of pairs of reads, the first of them on a replica, the second on the primary.
#[derive(Debug, Default)]
pub struct Pairs {
    /// How many.
    pub count: usize,
    /// How many of them went back in time.
    pub back: usize,
    /// What the second took, sorted: a transaction's `begin`, or the read itself.
    pub waits: Vec<Duration>,
}

impl Pairs {
    /// So many pairs one after the other, each of a session of its own.
    ///
    /// # Errors
    /// When a read fails, or replicas serve too few.
    pub async fn sail(db: RoutedConnection, count: usize, then: Then) -> anyhow::Result<Self> {
        let (begun, mut pairs) = (Instant::now(), Pairs::default());
        while pairs.count < count {
            ensure!(begun.elapsed() < LIMIT, "{} pairs after {LIMIT:?}", pairs.count);
            let session = db.session();
            let first = Sight::of(&session).await?;
            if !first.on_replica {
                continue;
            }
            let asked = Instant::now();
            let second = match then {
                Then::StrongRead => {
                    let sight = Sight::of(&session.on_primary()).await?;
                    pairs.waits.push(asked.elapsed());
                    sight
                }
                Then::Transaction => {
                    let transaction = session.begin().await?;
                    pairs.waits.push(asked.elapsed());
                    let sight = Sight::of(&transaction).await?;
                    transaction.commit().await?;
                    sight
                }
            };
            ensure!(!second.on_replica, "the primary was asked for");
            pairs.count += 1;
            pairs.back += usize::from(second.is_older_than(&first));
        }
        pairs.waits.sort_unstable();
        Ok(pairs)
    }

    /// `PAIRS` over several sessions at a time, half of them with a transaction behind the read.
    async fn all(db: &RoutedConnection) -> anyhow::Result<Self> {
        let mut sailing = JoinSet::new();
        for n in 0..SESSIONS {
            let then = if n % 2 == 0 { Then::StrongRead } else { Then::Transaction };
            sailing.spawn(Pairs::sail(db.clone(), PAIRS / SESSIONS, then));
        }
        let mut all = Pairs::default();
        while let Some(pairs) = sailing.join_next().await {
            let pairs = pairs??;
            all.count += pairs.count;
            all.back += pairs.back;
            all.waits.extend(pairs.waits);
        }
        all.waits.sort_unstable();
        Ok(all)
    }
}

impl fmt::Display for Pairs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |percent: usize| self.waits.get(self.waits.len() * percent / 100);
        write!(
            f,
            "{} of {} pairs went back; the primary answered after {:?} (median), {:?} (95 %)",
            self.back,
            self.count,
            at(50).copied().unwrap_or_default(),
            at(95).copied().unwrap_or_default()
        )
    }
}

/// Pairs that wait for nothing, and pairs that wait.
#[derive(Debug)]
pub struct Compared {
    /// Without waiting.
    pub at_once: Pairs,
    /// With it.
    pub waiting: Pairs,
}

impl Compared {
    /// Beside writers that each begin with `first`.
    ///
    /// # Errors
    /// When a read or a writer fails.
    pub async fn on(cluster: &Cluster, first: Option<&'static str>) -> anyhow::Result<Self> {
        let writers = Writers::start(cluster, first).await?;
        let db = connect(cluster).await?;
        let at_once = Pairs::all(&db).await?;
        let waiting = Pairs::all(&db.when_ahead(WhenAhead::Wait(PATIENCE))).await?;
        ensure!(writers.are_running(), "a writer has ended");
        Ok(Compared { at_once, waiting })
    }

    /// That those who wait never go back. How many of those who do not wait go back depends on what
    /// else the machine does: none, on a busy one. That pairs can go back at all is shown by the
    /// tests in which the primary waits for a replica that is away.
    ///
    /// # Errors
    /// When it is not so.
    pub fn judge(&self) -> anyhow::Result<()> {
        ensure!(self.waiting.back == 0, "{BROKEN_PROMISE}: {} pairs went back", self.waiting.back);
        ensure!(self.waiting.count >= PAIRS, "{} pairs", self.waiting.count);
        Ok(())
    }
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at once: {}\nwaiting: {}", self.at_once, self.waiting)
    }
}

/// What became of reads on replicas whose session had read on another server before.
#[derive(Debug, Default)]
pub struct Crossings {
    /// From one replica to another.
    pub between_replicas: usize,
    /// How many of these went back in time.
    pub back_between_replicas: usize,
    /// From the primary to a replica.
    pub from_primary: usize,
    /// How many of these went back in time.
    pub back_from_primary: usize,
}

impl Crossings {
    /// Beside writers. Sessions read on one replica and then on the other, as soon as that may serve
    /// them, or on the primary and then on a replica.
    ///
    /// # Errors
    /// When a read or a writer fails, or when too little happens.
    pub async fn on(cluster: &Cluster) -> anyhow::Result<Self> {
        let writers = Writers::start(cluster, None).await?;
        let db = connect_in_groups(cluster).await?;
        let names: Vec<String> = cluster.replicas().iter().map(|it| it.name.clone()).collect();
        let mut sailing = JoinSet::new();
        for n in 0..SESSIONS {
            let (db, names) = (db.fallback(FallbackPolicy::Wait(PATIENCE)), names.clone());
            sailing.spawn(Crossings::sail(db, names, n % 2 == 1));
        }
        let mut all = Crossings::default();
        while let Some(crossings) = sailing.join_next().await {
            let crossings = crossings??;
            all.between_replicas += crossings.between_replicas;
            all.back_between_replicas += crossings.back_between_replicas;
            all.from_primary += crossings.from_primary;
            all.back_from_primary += crossings.back_from_primary;
        }
        ensure!(writers.are_running(), "a writer has ended");
        Ok(all)
    }

    async fn sail(
        db: RoutedConnection,
        names: Vec<String>,
        visits_primary: bool,
    ) -> anyhow::Result<Self> {
        let (begun, mut crossings) = (Instant::now(), Crossings::default());
        let session = db.session();
        let mut last = Sight::of(&session.on_primary()).await?;
        for name in names.iter().cycle().take(CROSSINGS / SESSIONS) {
            ensure!(begun.elapsed() < LIMIT, "{crossings} after {LIMIT:?}");
            if visits_primary {
                last = Sight::of(&session.on_primary()).await?;
            }
            let now = Sight::of(&session.group(&**name)).await?;
            crossings.count(&last, &now);
            last = now;
        }
        Ok(crossings)
    }

    /// That there were some of each kind, and that none went back.
    ///
    /// # Errors
    /// When it is not so.
    pub fn judge(&self) -> anyhow::Result<()> {
        ensure!(self.between_replicas >= 100 && self.from_primary >= 100, "too little: {self}");
        ensure!(self.back_between_replicas + self.back_from_primary == 0, "{self}");
        Ok(())
    }

    fn count(&mut self, last: &Sight, now: &Sight) {
        if !now.on_replica || now.address == last.address {
            return;
        }
        let is_back = usize::from(now.is_older_than(last));
        if last.on_replica {
            self.between_replicas += 1;
            self.back_between_replicas += is_back;
        } else {
            self.from_primary += 1;
            self.back_from_primary += is_back;
        }
    }
}

impl fmt::Display for Crossings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} went back between replicas, {} of {} from the primary to a replica",
            self.back_between_replicas,
            self.between_replicas,
            self.back_from_primary,
            self.from_primary
        )
    }
}

/// Commits without a pause until it is dropped.
#[derive(Debug)]
pub struct Writers(Vec<JoinHandle<()>>);

impl Writers {
    /// Each begins with `first` on its connection.
    ///
    /// # Errors
    /// When they cannot connect.
    pub async fn start(cluster: &Cluster, first: Option<&'static str>) -> anyhow::Result<Self> {
        Writers::spawn(cluster, WRITERS, first, Duration::ZERO).await
    }

    /// So many, each with ten milliseconds between its commits.
    ///
    /// # Errors
    /// When they cannot connect.
    pub async fn with_pauses(cluster: &Cluster, count: usize) -> anyhow::Result<Self> {
        Writers::spawn(cluster, count, None, Duration::from_millis(10)).await
    }

    async fn spawn(
        cluster: &Cluster,
        count: usize,
        first: Option<&'static str>,
        pause: Duration,
    ) -> anyhow::Result<Self> {
        let mut options = ConnectOptions::new(&*cluster.primary().url);
        options.max_connections(1).min_connections(1);
        let mut tasks = Vec::new();
        for n in 1..=count {
            let db = Database::connect(options.clone()).await?;
            if let Some(first) = first {
                db.execute_unprepared(first).await?;
            }
            let sql = format!("UPDATE boat SET voyages = voyages + 1 WHERE id = {n}");
            tasks.push(tokio::spawn(async move {
                // An error ends it; then nothing is ahead, and the test says so.
                while db.execute_unprepared(&sql).await.is_ok() {
                    tokio::time::sleep(pause).await;
                }
            }));
        }
        Ok(Writers(tasks))
    }

    /// Whether none has failed.
    #[must_use]
    pub fn are_running(&self) -> bool {
        self.0.iter().all(|task| !task.is_finished())
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

/// `session` has seen on a replica what the primary does not show. It waits for as long as it has
/// patience, and not after `end` has let the primary go on. Returns what sessions with little of it
/// saw.
///
/// # Errors
/// When this is not so.
pub async fn waits_no_longer_than_it_must(
    db: &RoutedConnection,
    session: &RoutedConnection,
    end: impl AsyncFnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Pairs> {
    const SHORT: Duration = Duration::from_millis(250);
    let limited = db.when_ahead(WhenAhead::Wait(SHORT));
    let limited = Pairs::sail(limited, 10, Then::Transaction).await?;
    ensure!(limited.waits[0] >= SHORT, "it was proved to show what it does not");
    ensure!(limited.waits[5] < SHORT * 4, "{:?}", limited.waits);

    let seen = Sight::of(session).await?;
    ensure!(seen.on_replica, "there is nothing to wait for");
    let mut second = std::pin::pin!(session.begin());
    let early = tokio::time::timeout(SHORT, second.as_mut()).await;
    ensure!(early.is_err(), "it did not wait");
    end().await?;
    let transaction = second.await?;
    ensure!(!Sight::of(&transaction).await?.is_older_than(&seen), "it went back");
    Ok(limited)
}

/// A fresh fleet with a boat for each writer.
///
/// # Errors
/// As [`fleet::moor`].
pub async fn moor() -> anyhow::Result<Cluster> {
    let cluster = fleet::moor().await?;
    let boats: Vec<_> = (1..=WRITERS).map(|n| format!("(1, 'boat {n}')")).collect();
    let boats = format!("INSERT INTO boat (harbour_id, name) VALUES {}", boats.join(", "));
    cluster.primary().sql(&boats).await?;
    if cluster.engine() == Engine::Mariadb {
        // Without it a role is not told what `WhenAhead::Wait` needs.
        cluster.primary().sql("GRANT BINLOG MONITOR ON *.* TO sealane@'%'").await?;
    }
    fleet::replayed(&cluster).await?;
    Ok(cluster)
}

/// Connects with the default configuration.
///
/// # Errors
/// When a server is not ready.
pub async fn connect(cluster: &Cluster) -> anyhow::Result<RoutedConnection> {
    let db = sealane::connect(fleet::config(cluster)).await?;
    fleet::ready(&db).await?;
    Ok(db)
}

/// Connects with a group for each replica, which is called as the replica is.
///
/// # Errors
/// When a server is not ready.
pub async fn connect_in_groups(cluster: &Cluster) -> anyhow::Result<RoutedConnection> {
    let replicas = cluster.replicas().iter();
    let replicas = replicas.map(|it| Replica::from(&*it.url).group(&*it.name));
    let primary = Replica::from(&*cluster.primary().url);
    let db = sealane::connect(fleet::config_of(primary, replicas)).await?;
    for replica in cluster.replicas() {
        let is_ready = async || Ok(reads_on_replica(&db.group(&*replica.name)).await?);
        eventually(PATIENCE, "all replicas serve", is_ready).await?;
    }
    Ok(db)
}
