//! Real failovers by Patroni, under users who write and read what they wrote.

#![allow(clippy::print_stdout, reason = "the figures are the result")]

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};
use sealane::{Condition, Config, Error, Replica, RoutedConnection};
use sealane_tests::{BROKEN_PROMISE, Cluster, crew::Crew, eventually, patroni::Patroni};

const USERS: usize = 4;
/// Patroni promotes somebody once the lead of 20 s has run out.
const LEADERLESS: Duration = Duration::from_secs(40);
const SOON: Duration = Duration::from_secs(60);

fn sql(text: impl Into<String>) -> Statement {
    Statement::from_string(DbBackend::Postgres, text)
}

/// What users do, and what they saw.
#[derive(Clone)]
struct Log {
    db: RoutedConnection,
    next: Arc<AtomicI64>,
    /// The numbers whose writes were acknowledged.
    written: Arc<Mutex<BTreeSet<i64>>>,
    /// Those whose writes failed, and count as not done.
    undone: Arc<Mutex<BTreeSet<i64>>>,
    /// Reads that missed what their session had written.
    missed: Arc<AtomicUsize>,
    /// Reads that failed.
    failed: Arc<AtomicUsize>,
}

impl Log {
    /// Writes a number and reads it, in a session of its own. A write may fail.
    async fn write_and_read(&self) -> Result<(), DbErr> {
        let (number, session) = (self.next.fetch_add(1, Ordering::Relaxed), self.db.session());
        let write = sql(format!("INSERT INTO log VALUES ({number})"));
        if let Err(error) = session.execute_raw(write).await {
            if !is_open(&error) {
                note(&self.undone, number);
            }
            return Err(error);
        }
        note(&self.written, number);
        let read = sql(format!("SELECT id FROM log WHERE id = {number}"));
        match session.query_one_raw(read).await {
            Ok(Some(_)) => {}
            Ok(None) => drop(self.missed.fetch_add(1, Ordering::Relaxed)),
            Err(_) => drop(self.failed.fetch_add(1, Ordering::Relaxed)),
        }
        Ok(())
    }
}

fn note(numbers: &Mutex<BTreeSet<i64>>, number: i64) {
    numbers.lock().unwrap_or_else(PoisonError::into_inner).insert(number);
}

fn taken(numbers: &Mutex<BTreeSet<i64>>) -> BTreeSet<i64> {
    std::mem::take(&mut *numbers.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Whether nobody knows what became of the write.
fn is_open(error: &DbErr) -> bool {
    matches!(Error::of(error), Some(Error::OutcomeUnknown { .. }))
}

/// Connects by the members' names, whoever leads.
async fn connect(patroni: &Patroni) -> anyhow::Result<RoutedConnection> {
    let mut members = patroni.members.iter().map(|it| Replica::new(&*it.url).name(&*it.name));
    let config = Config::new(members.next().context("no members")?);
    let config = members.fold(config, Config::replica).primary_wait(LEADERLESS + SOON);
    let db = sealane::connect(config).await?;
    all_serve(&db).await?;
    Ok(db)
}

async fn all_serve(db: &RoutedConnection) -> anyhow::Result<()> {
    let serves = |it: &sealane::EndpointStatus| it.condition == Condition::Serving;
    let check = async || Ok(db.status().endpoints.iter().all(serves));
    eventually(SOON, "all members serve", check).await
}

/// Waits until `db` writes to the member that leads now, which must not be `old`. Returns its name.
async fn follows(patroni: &Patroni, db: &RoutedConnection, old: &str) -> anyhow::Result<String> {
    let leads = async || anyhow::Ok(patroni.leader().await?.filter(|leads| leads != old));
    eventually(LEADERLESS + SOON, "another member leads, and is followed", async || {
        let (leads, primary) = (leads().await?, db.status().primary);
        Ok(leads.is_some() && leads == primary)
    })
    .await?;
    leads().await?.context("nobody leads any more")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_miss_nothing_through_a_switchover_and_the_death_of_a_leader() -> anyhow::Result<()> {
    let cluster = Cluster::healthy().await?;
    let patroni = Patroni::start(cluster.primary()).await?;
    let db = connect(&patroni).await?;
    db.execute_raw(sql("CREATE TABLE log (id bigint PRIMARY KEY)")).await?;
    let log = Log {
        db: db.clone(),
        next: Arc::default(),
        written: Arc::default(),
        undone: Arc::default(),
        missed: Arc::default(),
        failed: Arc::default(),
    };
    let users = {
        let log = log.clone();
        Crew::start(USERS, move |_, _| {
            let log = log.clone();
            async move { log.write_and_read().await }
        })
    };
    users.more(100).await?;

    let first = patroni.leader().await?.context("nobody leads")?;
    let began = Instant::now();
    patroni.switch_over(&first).await?;
    let second = follows(&patroni, &db, &first).await?;
    println!("a switchover from {first} to {second} took {:.1?}", began.elapsed());
    users.more(100).await?;
    all_serve(&db).await?;
    patroni.settles().await?;

    let began = Instant::now();
    patroni.kill(&second).await?;
    let third = follows(&patroni, &db, &second).await?;
    println!("after the death of {second}, {third} led after {:.1?}", began.elapsed());
    users.more(100).await?;
    patroni.revive(&second).await?;
    all_serve(&db).await?;
    users.more(100).await?;

    let done = users.stop(SOON).await?;
    let failures: Vec<_> = done.iter().filter_map(|done| done.failure.as_ref()).collect();
    let open = failures.iter().filter(|error| is_open(error)).count();
    let (written, undone) = (taken(&log.written), taken(&log.undone));
    println!(
        "{} writes, {} failed and were not done, of {open} the outcome is unknown",
        written.len(),
        undone.len()
    );
    // Each of both moves catches each user at one write at most.
    ensure!(failures.len() <= 2 * USERS, "{} writes failed: {failures:?}", failures.len());
    let [missed, failed] = [&log.missed, &log.failed].map(|it| it.load(Ordering::Relaxed));
    ensure!(missed == 0, "{BROKEN_PROMISE}: {missed} reads missed what was written");
    ensure!(failed == 0, "{failed} reads failed");
    let rows = db.on_primary().query_all_raw(sql("SELECT id FROM log")).await?;
    let there: BTreeSet<i64> =
        rows.iter().map(|row| row.try_get("", "id")).collect::<Result<_, _>>()?;
    let lost: Vec<_> = written.difference(&there).collect();
    ensure!(lost.is_empty(), "{BROKEN_PROMISE}: acknowledged and lost: {lost:?}");
    let done_all_the_same: Vec<_> = undone.intersection(&there).collect();
    ensure!(
        done_all_the_same.is_empty(),
        "{BROKEN_PROMISE}: failed and done: {done_all_the_same:?}"
    );
    ensure!(written.len() >= 400, "only {} writes", written.len());
    Ok(())
}
