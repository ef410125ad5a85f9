//! Endpoints that are added, drained and removed while an application reads and writes.
//!
//! A replica comes and goes 20 times, or as often as `SEALANE_ENDPOINT_ROUNDS` says, and at least
//! ten times.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, TransactionTrait};
use sealane::{
    Condition, ConnectError, EndpointError, EndpointStatus, Event, Replica, RoutedConnection,
};
use sealane_tests::{
    BROKEN_PROMISE, Cluster, Engine, Server,
    crew::{Crew, missing},
    eventually,
    fleet::{self, boat},
    watch::monitors,
};
use tokio::{task::JoinSet, time::timeout};

const SOON: Duration = Duration::from_secs(20);
const LIMIT: Duration = Duration::from_secs(40);
const ROUNDS: u64 = 20;
const LEAST_ROUNDS: u64 = 10;
/// Those that read and write all the while.
const USERS: u32 = 4;
/// Statements of one user's session, after its write.
const READS: u64 = 4;
/// What the process may have grown by after many rounds: the allocator keeps some of what was free.
const GROWTH_KB: u64 = 2 * 1024;

/// A primary and its first replica; the second one comes and goes.
async fn two(cluster: &Cluster) -> anyhow::Result<RoutedConnection> {
    let config = fleet::config_of(&*cluster.primary().url, [&*cluster.replicas()[0].url])
        .primary_wait(Duration::from_secs(30));
    let db = sealane::connect(config).await?;
    fleet::ready(&db).await?;
    Ok(db)
}

fn comer(cluster: &Cluster) -> Replica {
    Replica::new(&*cluster.replicas()[1].url).name("comer")
}

fn status(db: &RoutedConnection, name: &str) -> anyhow::Result<EndpointStatus> {
    let found = db.status().endpoints.into_iter().find(|endpoint| endpoint.name == name);
    found.with_context(|| format!("there is no {name}"))
}

/// Waits until that endpoint is the primary.
async fn named(db: &RoutedConnection, name: &str) -> anyhow::Result<()> {
    let is_primary = async || Ok(db.status().primary.as_deref() == Some(name));
    eventually(SOON, &format!("{name} is the primary"), is_primary).await
}

/// Waits until one more read was served by that endpoint.
async fn serves(db: &RoutedConnection, name: &str) -> anyhow::Result<()> {
    let before = status(db, name)?.reads;
    let more = async || Ok(status(db, name)?.reads > before);
    eventually(SOON, &format!("{name} serves"), more).await
}

/// Users, each of whom writes and reads in a session of its own, again and again.
struct Users {
    stop: Arc<AtomicBool>,
    reads: Arc<AtomicU64>,
    tasks: JoinSet<anyhow::Result<()>>,
}

impl Users {
    fn start(db: &RoutedConnection) -> Self {
        let (stop, reads) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let mut tasks = JoinSet::new();
        for user in 0..USERS {
            let (db, stop, reads) = (db.clone(), Arc::clone(&stop), Arc::clone(&reads));
            tasks.spawn(async move {
                for visit in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let name = format!("boat {user}-{visit}");
                    use_session(&db, &name).await.with_context(|| name.clone())?;
                    reads.fetch_add(2 * READS, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                Ok(())
            });
        }
        Users { stop, reads, tasks }
    }

    /// Ends them. Returns how many reads succeeded.
    ///
    /// # Errors
    /// The first failure of one of them.
    async fn end(mut self) -> anyhow::Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = timeout(LIMIT, self.tasks.join_next()).await? {
            ended??;
        }
        Ok(self.reads.load(Ordering::Relaxed))
    }
}

/// Writes a boat, and looks for it in the same session. A session that wrote nothing reads, too.
async fn use_session(db: &RoutedConnection, name: &str) -> anyhow::Result<()> {
    let session = db.session();
    boat::Entity::insert(fleet::boat(name)).exec_without_returning(&session).await?;
    for number in 0..READS {
        let mine = boat::Entity::find().filter(boat::Column::Name.eq(name)).one(&session).await?;
        ensure!(mine.is_some(), "{BROKEN_PROMISE}: read {number} misses its session's write");
        boat::Entity::find_by_id(1).one(&db.session()).await?;
    }
    Ok(())
}

/// The memory of this process that is in use, in kilobytes.
fn resident_kb() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()).context("no VmRSS")?;
    Ok(number.parse()?)
}

fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

/// The connections of the application to that server.
async fn connections(server: &Server) -> anyhow::Result<i64> {
    match server.engine {
        Engine::Postgres => {
            let count = "SELECT count(*) FROM pg_stat_activity \
                 WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
            server.query_scalar(count).await
        }
        _ => monitors(server).await,
    }
}

/// One replica comes, serves, is drained, and goes. Returns how many reads it has served.
async fn come_and_go(cluster: &Cluster, db: &RoutedConnection) -> anyhow::Result<u64> {
    timeout(LIMIT, db.add_replica(comer(cluster))).await??;
    serves(db, "comer").await?;
    timeout(LIMIT, db.drain("comer")).await??;
    let drained = status(db, "comer")?;
    ensure!(drained.condition == Condition::Draining && drained.draining, "{drained:?}");
    // A read of each user may have been planned before, and is counted: it finds out before it
    // sends anything.
    serves(db, "replica-1").await?;
    let idle = async || Ok(status(db, "comer")?.in_flight == 0);
    eventually(SOON, "nothing is under way there", idle).await?;
    let late = status(db, "comer")?.reads;
    ensure!(late <= drained.reads + u64::from(USERS), "{late} reads, {} before", drained.reads);
    for _ in 0..USERS {
        serves(db, "replica-1").await?;
    }
    let served = status(db, "comer")?;
    ensure!(served.reads == late, "it served while it was drained: {served:?}");
    timeout(LIMIT, db.remove("comer")).await??;
    ensure!(status(db, "comer").is_err());
    Ok(served.reads)
}

/// What many rounds have cost.
struct Outcome {
    served: u64,
    kb_before: u64,
    kb: u64,
    tasks: usize,
}

/// The first rounds fill pools and caches; what is counted after them is counted again at the end.
async fn many_rounds(
    cluster: &Cluster,
    db: &RoutedConnection,
    rounds: u64,
) -> anyhow::Result<Outcome> {
    let mut served = 0;
    for _ in 0..LEAST_ROUNDS {
        served += come_and_go(cluster, db).await?;
    }
    let (tasks_before, kb_before) = (tasks(), resident_kb()?);
    let servers = cluster.servers();
    let usual = [connections(&servers[0]).await?, connections(&servers[1]).await?];
    for round in LEAST_ROUNDS..rounds {
        served += come_and_go(cluster, db).await.with_context(|| format!("round {round}"))?;
    }
    let gone = async || Ok(connections(&cluster.replicas()[1]).await? == 0);
    eventually(SOON, "no connection to the replica that went is left", gone).await?;
    let same = async || Ok(tasks() <= tasks_before);
    let left = eventually(SOON, "no task is left", same).await;
    left.with_context(|| format!("{} tasks, {tasks_before} before", tasks()))?;
    for (server, usual) in servers.iter().zip(usual) {
        let (now, name) = (connections(server).await?, &server.name);
        // Pools grow and shrink with the load.
        ensure!(now <= usual + 2 * i64::from(USERS), "{now} connections to {name}, {usual} before");
    }
    Ok(Outcome { served, kb_before, kb: resident_kb()?, tasks: tasks_before })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_comes_and_goes_costs_no_read_and_leaves_nothing() -> anyhow::Result<()> {
    let rounds = std::env::var("SEALANE_ENDPOINT_ROUNDS").ok().and_then(|text| text.parse().ok());
    let rounds = rounds.unwrap_or(ROUNDS).max(LEAST_ROUNDS);
    let cluster = fleet::moor().await?;
    let db = two(&cluster).await?;
    let users = Users::start(&db);
    let outcome = many_rounds(&cluster, &db, rounds).await;
    // What went wrong for the users says more.
    let read = users.end().await?;
    let Outcome { served, kb_before, kb, tasks: tasks_before } = outcome?;
    println!(
        "{rounds} rounds: {read} reads, {served} of them by the replica that came and went; \
         {kb_before} kB before, {kb} kB after; {tasks_before} tasks"
    );
    ensure!(read > rounds * 10 && served >= rounds, "{read} reads, {served}");
    ensure!(kb <= kb_before + GROWTH_KB, "{kb_before} kB before, {kb} kB after");
    db.close().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switchover_that_drains_the_primary_fails_no_write_and_loses_none() -> anyhow::Result<()>
{
    let cluster = fleet::moor().await?;
    let db = two(&cluster).await?;
    let (primary, replica) = (cluster.primary(), cluster.server("replica-1"));
    let crew = Crew::writing(&db, USERS as usize);
    crew.more(100).await?;
    timeout(LIMIT, db.drain("primary")).await??;
    // The server's own count: the crew may note a moment later what has succeeded.
    let count = "SELECT count(*) FROM boat";
    let written: i64 = primary.query_scalar(count).await?;
    let told = status(&db, "primary")?;
    ensure!(told.condition == Condition::Draining && told.in_flight == 0, "{told:?}");
    // Nothing is written any more, so what the replica has to replay has an end.
    fleet::replayed_by(primary, replica).await?;
    let now: i64 = primary.query_scalar(count).await?;
    ensure!(now == written, "{} writes ran on the drained primary", now - written);
    if primary.engine != Engine::Postgres {
        primary.sql("SET GLOBAL read_only = ON").await?;
    }
    replica.promote().await?;
    named(&db, "replica-1").await?;
    crew.more(100).await?;
    let done = crew.stop(LIMIT).await?;
    let failed: Vec<_> = done.iter().filter(|done| done.failure.is_some()).collect();
    ensure!(failed.is_empty(), "{} failed: {:?}", failed.len(), failed.first());
    let names: Vec<&str> = done.iter().map(|done| done.name.as_str()).collect();
    ensure!(names.len() >= 200, "{} writes", names.len());
    let lost = missing(replica, &names).await?;
    ensure!(lost == 0, "{BROKEN_PROMISE}: {lost} of {} writes are lost", names.len());
    db.close().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_on_an_endpoint_ends_before_it_is_drained() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let db = two(&cluster).await?;
    let transaction = db.begin().await?;
    let draining = {
        let db = db.clone();
        tokio::spawn(async move { db.drain("primary").await })
    };
    let is_drained = async || Ok(status(&db, "primary")?.draining);
    eventually(SOON, "the draining has begun", is_drained).await?;
    // It goes on in the transaction that it waits for.
    boat::Entity::insert(fleet::boat("Late")).exec_without_returning(&transaction).await?;
    ensure!(!draining.is_finished(), "it did not wait for the transaction");
    transaction.commit().await?;
    timeout(LIMIT, draining).await???;
    // A write waits for the end of the maintenance.
    let writing = {
        let db = db.clone();
        tokio::spawn(async move {
            boat::Entity::insert(fleet::boat("Later")).exec_without_returning(&db).await
        })
    };
    let why = db.explain("SELECT 1").to_string();
    ensure!(why.contains("primary: no, it is being drained"), "{why}");
    ensure!(!writing.is_finished());
    db.undrain("primary")?;
    timeout(LIMIT, writing).await???;
    let there = async |name: &str| -> anyhow::Result<bool> {
        let named = boat::Entity::find().filter(boat::Column::Name.eq(name));
        Ok(named.one(&db).await?.is_some())
    };
    ensure!(there("Late").await? && there("Later").await?);
    db.close().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_the_endpoints_are_told_and_mistakes_are_errors() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let db = two(&cluster).await?;
    let mut events = db.events();
    // As one that is not there yet: it joins when it comes up.
    cluster.replicas()[1].kill().await?;
    db.add_replica(comer(&cluster)).await?;
    ensure!(status(&db, "comer")?.condition == Condition::Down);
    cluster.replicas()[1].start().await?;
    let serving = async || Ok(status(&db, "comer")?.condition == Condition::Serving);
    eventually(LIMIT, "it joins", serving).await?;
    db.drain("comer").await?;
    db.undrain("comer")?;
    ensure!(!status(&db, "comer")?.draining);
    db.remove("comer").await?;
    let mut told = Vec::new();
    while told.last().is_none_or(|last| last != "comer was removed") {
        let event: Event = timeout(SOON, events.next()).await?.context("events end")?;
        told.push(db.in_words(&event));
    }
    for wanted in ["comer was added", "comer is being drained", "comer is no longer being drained"]
    {
        ensure!(told.iter().any(|it| it == wanted), "{wanted}: {told:?}");
    }
    ensure!(db.drain("comer").await == Err(EndpointError::Unknown));
    ensure!(db.remove("comer").await == Err(EndpointError::Unknown));
    ensure!(db.undrain("postgres://app:secret@db/shop") == Err(EndpointError::Unknown));
    let twice = db.add_replica(comer(&cluster).name("replica-1")).await;
    ensure!(matches!(twice, Err(ConnectError::DuplicateName { .. })), "{twice:?}");
    let file = db.add_replica("sqlite::memory:").await;
    ensure!(matches!(file, Err(ConnectError::MixedEngines { .. })), "{file:?}");
    db.remove("replica-1").await?;
    ensure!(db.remove("primary").await == Err(EndpointError::Last));
    // All reads go to the primary, and a replica may come again under a name of its own.
    ensure!(!fleet::reads_on_replica(&db).await?);
    db.add_replica(Replica::new(&*cluster.replicas()[0].url).name("replica-1")).await?;
    serving_under(&db, "replica-1").await?;
    db.close().await?;
    Ok(())
}

async fn serving_under(db: &RoutedConnection, name: &str) -> anyhow::Result<()> {
    let serving = async || Ok(status(db, name)?.condition == Condition::Serving);
    eventually(SOON, &format!("{name} serves"), serving).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_reads_its_writes_when_its_replica_goes_and_comes_again() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let db = two(&cluster).await?;
    let session = db.session();
    for visit in 0..5 {
        let name = format!("boat {visit}");
        boat::Entity::insert(fleet::boat(&name)).exec_without_returning(&session).await?;
        let on_replica = async || Ok(fleet::reads_on_replica(&session).await?);
        eventually(SOON, "the session reads on the replica", on_replica).await?;
        db.remove("replica-1").await?;
        // What it saw there it sees on the primary.
        ensure!(!fleet::reads_on_replica(&session).await?);
        db.add_replica(Replica::new(&*cluster.replicas()[0].url).name("replica-1")).await?;
        for _ in 0..20 {
            let mine = boat::Entity::find().filter(boat::Column::Name.eq(name.as_str()));
            ensure!(
                mine.one(&session).await?.is_some(),
                "{BROKEN_PROMISE}: visit {visit} misses its write"
            );
        }
    }
    db.close().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_primary_leaves_none_until_another_claims() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let db = two(&cluster).await?;
    db.remove("primary").await?;
    ensure!(db.status().primary.is_none(), "{:?}", db.status().primary);
    ensure!(fleet::reads_on_replica(&db).await?, "reads go on");
    let writing = {
        let db = db.clone();
        tokio::spawn(async move {
            boat::Entity::insert(fleet::boat("Waiting")).exec_without_returning(&db).await
        })
    };
    let Err(_) = timeout(Duration::from_millis(300), named(&db, "replica-1")).await else {
        bail!("a replica was taken for the primary");
    };
    ensure!(!writing.is_finished());
    db.add_replica(Replica::new(&*cluster.primary().url).name("again")).await?;
    named(&db, "again").await?;
    timeout(LIMIT, writing).await???;
    serving_under(&db, "replica-1").await?;
    fleet::ready(&db).await?;
    db.close().await?;
    Ok(())
}
