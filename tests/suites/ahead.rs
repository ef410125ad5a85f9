//! Replica first, primary second: a replica can show a commit before the primary does. How often
//! a session goes back in time by that, and that it does not where it waits.

use std::{
    fmt,
    time::{Duration, Instant},
};

use anyhow::ensure;
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DbErr, IsolationLevel, QueryResult, TransactionTrait,
};
use sealane::{RoutedConnection, WhenAhead};
use sealane_tests::{
    Cluster, eventually,
    fleet::{self, raw},
};
use tokio::task::{JoinHandle, JoinSet};

/// Writers, each with a row of its own: commits that are written out together become visible one
/// after the other.
const WRITERS: usize = 8;
const SESSIONS: usize = 4;
/// Pairs in one mode, of which the first read was served by a replica.
const PAIRS: usize = 2_400;
/// A pair takes milliseconds; all of them never this long, however busy the machine is.
const LIMIT: Duration = Duration::from_secs(180);

/// What the writers' rows show, and whether a replica did.
const LOOK: &str = "SELECT boat.id, voyages, in_recovery FROM boat, whereabouts ORDER BY boat.id";

/// The rows' counts, one for each writer, and whether they were read on a replica.
struct Sight {
    voyages: Vec<i64>,
    on_replica: bool,
}

impl Sight {
    async fn of(db: &impl ConnectionTrait) -> Result<Self, DbErr> {
        let rows = db.query_all_raw(raw(db, LOOK)).await?;
        let voyages = |row: &QueryResult| row.try_get("", "voyages");
        let on_replica = match rows.first() {
            Some(row) => row.try_get("", "in_recovery")?,
            None => return Err(DbErr::RecordNotFound("boat".to_owned())),
        };
        Ok(Sight { voyages: rows.iter().map(voyages).collect::<Result<_, _>>()?, on_replica })
    }

    fn is_older_than(&self, other: &Sight) -> bool {
        self.voyages.iter().zip(&other.voyages).any(|(ours, theirs)| ours < theirs)
    }
}

/// What follows the read on a replica.
#[derive(Clone, Copy)]
enum Then {
    StrongRead,
    Transaction,
}

/// What became of pairs of reads, the first of them on a replica.
#[derive(Default)]
struct Pairs {
    count: usize,
    back: usize,
    /// What the second took, sorted: a transaction's `begin`, or the read itself.
    waits: Vec<Duration>,
}

impl Pairs {
    async fn sail(db: RoutedConnection, count: usize, then: Then) -> anyhow::Result<Self> {
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

/// Commits without a pause until it is dropped.
struct Writers(Vec<JoinHandle<()>>);

impl Writers {
    /// Each begins with `first` on its connection.
    async fn start(cluster: &Cluster, first: Option<&'static str>) -> anyhow::Result<Self> {
        Writers::spawn(cluster, WRITERS, first, Duration::ZERO).await
    }

    /// So many, each with ten milliseconds between its commits.
    async fn with_pauses(cluster: &Cluster, count: usize) -> anyhow::Result<Self> {
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
}

impl Writers {
    fn are_running(&self) -> bool {
        self.0.iter().all(|task| !task.is_finished())
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

/// A fresh fleet with a boat for each writer.
async fn moor() -> anyhow::Result<Cluster> {
    let cluster = fleet::moor().await?;
    let boats: Vec<_> = (1..=WRITERS).map(|n| format!("(1, 'boat {n}')")).collect();
    let boats = format!("INSERT INTO boat (harbour_id, name) VALUES {}", boats.join(", "));
    cluster.primary().sql(&boats).await?;
    fleet::replayed(&cluster).await?;
    Ok(cluster)
}

async fn connect(cluster: &Cluster) -> anyhow::Result<RoutedConnection> {
    let db = sealane::connect(fleet::config(cluster)).await?;
    fleet::ready(&db).await?;
    Ok(db)
}

/// How commits and replicas hang together.
#[derive(Clone, Copy)]
enum Mode {
    Asynchronous,
    AnyOne,
    FirstTwoApplied,
}

impl Mode {
    async fn set_up(self, cluster: &Cluster) -> anyhow::Result<Option<&'static str>> {
        let (standbys, first) = match self {
            Mode::Asynchronous => return Ok(None),
            Mode::AnyOne => {
                cluster.replicate_synchronously().await?;
                return Ok(None);
            }
            Mode::FirstTwoApplied => {
                ("FIRST 2 (\"replica-1\", \"replica-2\")", "SET synchronous_commit = remote_apply")
            }
        };
        wait_for_standbys(cluster, standbys).await?;
        Ok(Some(first))
    }
}

async fn wait_for_standbys(cluster: &Cluster, standbys: &str) -> anyhow::Result<()> {
    let set = format!("ALTER SYSTEM SET synchronous_standby_names = '{standbys}'");
    cluster.primary().sql(&set).await?;
    cluster.primary().sql("SELECT pg_reload_conf()").await
}

/// Longer than any transaction of the writers lasts, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(10);

/// Pairs that wait for nothing, and pairs that wait.
struct Compared {
    at_once: Pairs,
    waiting: Pairs,
}

impl Compared {
    async fn under(mode: Mode) -> anyhow::Result<Self> {
        let cluster = moor().await?;
        let first = mode.set_up(&cluster).await?;
        let writers = Writers::start(&cluster, first).await?;
        let db = connect(&cluster).await?;
        let at_once = Pairs::all(&db).await?;
        let waiting = Pairs::all(&db.when_ahead(WhenAhead::Wait(PATIENCE))).await?;
        ensure!(writers.are_running(), "a writer has ended");
        Ok(Compared { at_once, waiting })
    }

    fn judge(&self) -> anyhow::Result<()> {
        ensure!(self.at_once.back > 0, "no replica was ahead of the primary: nothing was tested");
        ensure!(self.waiting.back == 0, "{} pairs went back", self.waiting.back);
        ensure!(self.waiting.count >= PAIRS, "{} pairs", self.waiting.count);
        Ok(())
    }
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at once: {}\nwaiting: {}", self.at_once, self.waiting)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_wait_never_go_back_with_asynchronous_replicas() -> anyhow::Result<()> {
    let compared = Compared::under(Mode::Asynchronous).await?;
    println!("{compared}");
    compared.judge()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_wait_never_go_back_with_any_one_replica_synchronous() -> anyhow::Result<()> {
    let compared = Compared::under(Mode::AnyOne).await?;
    println!("{compared}");
    compared.judge()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_wait_never_go_back_with_two_replicas_that_apply() -> anyhow::Result<()> {
    let compared = Compared::under(Mode::FirstTwoApplied).await?;
    println!("{compared}");
    compared.judge()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_synchronous_replica_is_away_a_session_waits_for_its_limit_and_no_longer()
-> anyhow::Result<()> {
    const LIMIT: Duration = Duration::from_millis(250);
    let cluster = moor().await?;
    let db = connect(&cluster).await?;
    let replicas = cluster.replicas().iter().map(|replica| format!("\"{}\"", replica.name));
    let standbys: Vec<_> = replicas.chain(["away".to_owned()]).collect();
    let standbys = format!("FIRST {} ({})", standbys.len(), standbys.join(", "));
    wait_for_standbys(&cluster, &standbys).await?;
    let before = Sight::of(&db.on_primary()).await?;
    let writers = Writers::start(&cluster, None).await?;
    let session = db.session().when_ahead(WhenAhead::Wait(PATIENCE));
    eventually(PATIENCE, "replicas show the commits", async || {
        let sight = Sight::of(&session).await?;
        let count = sight.voyages.iter().zip(&before.voyages).filter(|(now, then)| now > then);
        Ok(sight.on_replica && count.count() == WRITERS)
    })
    .await?;

    let at_once = Pairs::sail(db.clone(), 100, Then::Transaction).await?;
    println!("a replica away, at once: {at_once}");
    ensure!(at_once.back == 100, "the primary shows what waits for a replica");
    let limited = db.when_ahead(WhenAhead::Wait(LIMIT));
    let limited = Pairs::sail(limited, 10, Then::Transaction).await?;
    println!("a replica away, waiting for {LIMIT:?}: {limited}");
    ensure!(limited.waits[0] >= LIMIT, "it was proved to show what it does not");
    ensure!(limited.waits[5] < LIMIT * 4, "{:?}", limited.waits);

    let seen = Sight::of(&session).await?;
    ensure!(seen.on_replica);
    let mut second = std::pin::pin!(session.begin());
    let early = tokio::time::timeout(LIMIT, second.as_mut()).await;
    ensure!(early.is_err(), "it did not wait");
    // As if the replica had come back.
    wait_for_standbys(&cluster, "").await?;
    let transaction = second.await?;
    ensure!(!Sight::of(&transaction).await?.is_older_than(&seen), "it went back");
    drop(writers);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_transaction_that_only_reads_holds_nobody_up_and_one_that_wrote_does()
-> anyhow::Result<()> {
    const LIMIT: Duration = Duration::from_millis(500);
    let cluster = moor().await?;
    let db = connect(&cluster).await?;
    let waiting = db.when_ahead(WhenAhead::Wait(LIMIT));
    let other = Database::connect(&*cluster.primary().url).await?;
    let snapshot = Some(IsolationLevel::RepeatableRead);
    for (sql, is_held_up) in [
        ("SELECT count(*) FROM boat", false),
        ("SELECT id FROM boat WHERE id = 1 FOR KEY SHARE", true),
        ("UPDATE boat SET voyages = 1 WHERE id = 1", true),
    ] {
        let open = other.begin_with_config(snapshot, None).await?;
        open.execute_unprepared(sql).await?;
        let pairs = Pairs::sail(waiting.clone(), 20, Then::Transaction).await?;
        println!("beside `{sql}`: {pairs}");
        let median = pairs.waits[pairs.waits.len() / 2];
        ensure!((median >= LIMIT) == is_held_up, "beside `{sql}`: {median:?}");
        open.rollback().await?;
    }
    Ok(())
}

/// The price where a probe has to be called for: on an idle primary, and beside a writer that
/// takes its time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waiting_costs_where_little_is_written() -> anyhow::Result<()> {
    const BEGINNINGS: usize = 200;
    let cluster = moor().await?;
    let db = connect(&cluster).await?;
    for writers in [0, 2] {
        let _writers = Writers::with_pauses(&cluster, writers).await?;
        for when in [WhenAhead::Primary, WhenAhead::Wait(PATIENCE)] {
            let pairs = Pairs::sail(db.when_ahead(when), BEGINNINGS, Then::Transaction).await?;
            println!("{writers} writers with pauses, {when}: {pairs}");
            ensure!(when == WhenAhead::Primary || pairs.back == 0, "{} went back", pairs.back);
            ensure!(pairs.count == BEGINNINGS, "{} pairs", pairs.count);
            ensure!(pairs.waits[BEGINNINGS / 2] < Duration::from_millis(200), "{:?}", pairs.waits);
        }
    }
    Ok(())
}
