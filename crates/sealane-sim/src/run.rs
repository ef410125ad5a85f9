//! One run of a scenario: a thread, a clock that stands still while anybody is busy, a world.
//!
//! # Why it is always the same run
//! Everything runs on one thread, and tokio's paused clock moves only when all tasks wait. Tasks
//! are woken in the order in which they began to wait. What is drawn comes from the seed: of the
//! scenario, of the world's delays, and of the product's own choices (`Entropy`). The product's
//! `select!`s are biased, because tokio's own choice among ready branches can be seeded only with
//! an unstable option. Nothing waits for a socket, a file or another thread.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, atomic::AtomicU64},
    time::Duration,
};

use sea_orm::{ConnectionTrait, DbErr, QueryResult};
use sealane::{Choice, RoutedConnection};
use sealane_core::{Refusal, Role};
use tokio::{runtime::Handle, sync::Semaphore};

use crate::{
    coverage::Told,
    fault::{calm, inflict},
    oracle,
    process::process_of,
    replication::follow,
    scenario::{Fault, Kind, Newcomer, Scenario},
    user::{Company, Person, insert, select, short},
    violation::Violation,
    world::World,
};

/// What became of a scenario.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Every promise that was broken.
    pub violations: Vec<Violation>,
    /// The hash of the trace: two runs with the same hash are the same run.
    pub hash: u64,
    /// What happened, line by line.
    pub trace: String,
    /// What was reached, and how often.
    pub counts: BTreeMap<String, u64>,
    /// How much time has passed in the world.
    pub simulated: Duration,
}

/// Runs a scenario.
///
/// # Panics
/// If the runtime cannot be made.
#[must_use]
pub fn run(scenario: &Scenario) -> Outcome {
    let told = Told::default();
    let listening = told.listen();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O needs nothing that could be missing");
    let (world, simulated) = runtime.block_on(lives(scenario));
    drop(runtime);
    drop(listening);
    // By now nobody else holds it: all tasks are gone.
    let mut state = world.lock();
    for line in told.take() {
        state.count(&line);
    }
    let (violations, counts) =
        (std::mem::take(&mut state.violations), std::mem::take(&mut state.counts));
    let (trace, hash) = state.trace.take();
    Outcome { violations, hash, trace, counts, simulated }
}

async fn lives(scenario: &Scenario) -> (Arc<World>, Duration) {
    let Scenario { servers, processes, .. } = *scenario;
    let world = World::new(scenario);
    for server in 1..servers {
        tokio::spawn(follow(Arc::clone(&world), server));
    }
    // It may become a replica later.
    tokio::spawn(follow(Arc::clone(&world), 0));
    let idle = Handle::current().metrics().num_alive_tasks();
    let lent = Arc::new(Semaphore::new(0));
    let mut handles = Vec::new();
    for process in 0..processes {
        handles.push(process_of(scenario, &world, process, &lent).await);
    }
    handles.extend(busy(scenario, &world, &handles, &lent).await);
    tokio::time::sleep(RECOVERY).await;
    for (process, handle) in handles.iter_mut().enumerate() {
        if needs_restart(scenario, handle) {
            world.lock().count("processes that somebody had to restart");
            *handle = process_of(scenario, &world, process, &lent).await;
            tokio::time::sleep(RECOVERY).await;
        }
    }
    check_calm(scenario, &world, &handles).await;
    // Attempts that were outrun end by themselves.
    tokio::time::sleep(Duration::from_secs(2)).await;
    count_reads(&world, &handles);
    check_rest(&world, &handles, &lent);
    drop(handles);
    // Pings before connections go back, goodbyes; and a change of the schema whose end was not heard
    // counts for another minute.
    let lingers = if scenario.tables.is_some() { LINGERS } else { Duration::ZERO };
    tokio::time::sleep(Duration::from_secs(30) + lingers).await;
    let alive = Handle::current().metrics().num_alive_tasks();
    if alive > idle {
        let what = format!("{} tasks", alive - idle);
        oracle::note(&mut world.lock(), Violation::Leak { what }, None);
    }
    let open = world.lock().links.values().filter(|it| !it.is_broken).count();
    if open > 0 {
        let what = format!("{open} connections that nobody has closed");
        oracle::note(&mut world.lock(), Violation::Leak { what }, None);
    }
    let simulated = Duration::from_millis(world.lock().now_ms());
    (world, simulated)
}

/// Users and faults, until all of it is over. Returns the handle of the process that has come later.
async fn busy(
    scenario: &Scenario,
    world: &Arc<World>,
    handles: &[RoutedConnection],
    lent: &Arc<Semaphore>,
) -> Option<RoutedConnection> {
    let person = |user: &crate::scenario::User| {
        let handle = &handles[user.process];
        let db = if user.shares { handle.clone() } else { handle.session() };
        Mutex::new(Person::new(user.shares, user.process, db))
    };
    let company = Arc::new(Company {
        world: Arc::clone(world),
        processes: handles.to_vec(),
        users: scenario.users.iter().map(person).collect(),
        next_write: AtomicU64::new(1),
        refused: Mutex::default(),
    });
    let mut working = Vec::new();
    for (number, user) in scenario.users.iter().enumerate() {
        let (company, steps) = (Arc::clone(&company), user.steps.clone());
        working.push(tokio::spawn(async move { company.work(number, steps).await }));
    }
    let newcomer = scenario.newcomer.as_ref().map(|newcomer| {
        let coming = Coming {
            scenario: scenario.clone(),
            world: Arc::clone(world),
            others: handles.to_vec(),
            lent: Arc::clone(lent),
        };
        tokio::spawn(coming.come(newcomer.clone()))
    });
    let faults = scenario.faults.iter();
    let faults: Vec<_> = faults
        .map(|(at_ms, fault)| {
            tokio::spawn(inflict(Arc::clone(world), handles.to_vec(), *at_ms, *fault))
        })
        .collect();
    for fault in faults {
        joined(world, fault.await);
    }
    calm(world);
    for work in working {
        joined(world, work.await);
    }
    let mut refused = company.refused();
    let newcomer = match newcomer {
        Some(newcomer) => joined(world, newcomer.await),
        None => None,
    };
    refused.extend(newcomer.iter().flat_map(|company| company.refused()));
    oracle::check_writes(&mut world.lock(), &refused);
    newcomer.and_then(|company| company.processes.last().cloned())
}

/// A panic of a task is a defect, too.
fn joined<T>(world: &World, end: Result<T, tokio::task::JoinError>) -> Option<T> {
    end.inspect_err(|error| {
        let violation = Violation::Leak { what: format!("a task ended: {error}") };
        oracle::note(&mut world.lock(), violation, None);
    })
    .ok()
}

/// Numbers of a newcomer's writes begin here, beyond all others.
const NEWCOMERS_WRITES: u64 = 1 << 40;

/// A process that comes later.
struct Coming {
    scenario: Scenario,
    world: Arc<World>,
    /// The handles of the processes that were there before.
    others: Vec<RoutedConnection>,
    lent: Arc<Semaphore>,
}

impl Coming {
    /// Comes and works until its user is done.
    async fn come(self, newcomer: Newcomer) -> Arc<Company> {
        let (world, process) = (self.world, self.scenario.processes);
        tokio::time::sleep(Duration::from_millis(newcomer.at_ms)).await;
        world.lock().trace.note(format_args!("process {process} starts"));
        if let Some((server, for_ms)) = newcomer.cut {
            let cut = Fault::Cut { process, server, for_ms };
            tokio::spawn(inflict(Arc::clone(&world), Vec::new(), 0, cut));
            tokio::task::yield_now().await;
        }
        let db = process_of(&self.scenario, &world, process, &self.lent).await;
        let session = if newcomer.user.shares { db.clone() } else { db.session() };
        let person = Person::new(newcomer.user.shares, process, session);
        let company = Arc::new(Company {
            world,
            processes: self.others.into_iter().chain([db]).collect(),
            users: vec![Mutex::new(person)],
            next_write: AtomicU64::new(NEWCOMERS_WRITES),
            refused: Mutex::default(),
        });
        company.work(0, newcomer.user.steps).await;
        company
    }
}

/// How long a change of the schema counts whose end was not heard.
const LINGERS: Duration = Duration::from_secs(60);
/// How long the world takes to recover when nothing goes wrong any more.
const RECOVERY: Duration = Duration::from_secs(8);
/// How long a write may take then.
const CALM_WRITE: Duration = Duration::from_secs(20);

/// When all is well for a while, everything works, and reads run on replicas.
async fn check_calm(scenario: &Scenario, world: &Arc<World>, handles: &[RoutedConnection]) {
    for (process, db) in handles.iter().enumerate() {
        if scenario.misled.is_some_and(|(misled, _)| misled == process) {
            // Its last replica, or its new primary, may be the one that it must not use.
            continue;
        }
        let session = db.session();
        let mut on_replicas = 0;
        for _ in 0..6 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            match session.query_one_raw(select()).await.and_then(|row| place(row.as_ref())) {
                Ok(shown) => {
                    let state = world.lock();
                    on_replicas += usize::from(!state.snapshots[shown].by_primary);
                }
                Err(error) => {
                    let why = short(&error);
                    let violation = Violation::FailedInCalm { process, why };
                    oracle::note(&mut world.lock(), violation, None);
                }
            }
        }
        // A number that no user has.
        let write = session.execute_raw(insert(u64::MAX / 4 + process as u64, ""));
        let why = match tokio::time::timeout(CALM_WRITE, write).await {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(format!("a write: {}", short(&error))),
            Err(_) => Some("a write that has no end".to_owned()),
        };
        if let Some(why) = why {
            oracle::note(&mut world.lock(), Violation::FailedInCalm { process, why }, None);
        }
        if on_replicas == 0 {
            let choices = db.explain(&select().sql).choices;
            if is_known_limit(scenario, &choices) {
                world
                    .lock()
                    .count("replicas refused after a server restarted and moved or came back");
                continue;
            }
            let why = choices.iter().map(|it| format!("{} {:?}", it.endpoint, it.refusal));
            let why = why.collect::<Vec<_>>().join(", ");
            oracle::note(&mut world.lock(), Violation::StuckToPrimary { process, why }, None);
        }
    }
}

/// Whether a process believes no claim because a promotion was hidden from it. This is safe, and the
/// book says what to do.
fn needs_restart(scenario: &Scenario, db: &RoutedConnection) -> bool {
    let explained = db.explain(&select().sql);
    let is_refused_claim =
        |it: &Choice| it.role == Role::Primary && it.refusal == Some(Refusal::StalePrimary);
    scenario.has_unseen_changes()
        && explained.primary.is_none()
        && explained.choices.iter().any(is_refused_claim)
}

/// PostgreSQL's servers have no names. A primary that was restarted and moved to another address,
/// both unseen, cannot be told from a second server that was promoted to the same timeline. Neither
/// can one that was restarted while its endpoint was removed. Replicas are refused until they are
/// restarted.
fn is_known_limit(scenario: &Scenario, choices: &[Choice]) -> bool {
    let replicas = || choices.iter().filter(|choice| choice.role == Role::Replica);
    let is_excused =
        |it: &Choice| matches!(it.refusal, Some(Refusal::OldTimeline | Refusal::OtherGroup));
    scenario.kind == Kind::Timelines
        && scenario.has_unseen_changes()
        && replicas().all(is_excused)
        && replicas().any(|it| it.refusal == Some(Refusal::OldTimeline))
}

fn place(row: Option<&QueryResult>) -> Result<usize, DbErr> {
    let shown: i64 = row.ok_or_else(|| DbErr::Custom("no row".to_owned()))?.try_get("", "shown")?;
    usize::try_from(shown).map_err(|_| DbErr::Custom("no snapshot".to_owned()))
}

/// Counts what became of reads that did not simply run on a replica.
fn count_reads(world: &World, handles: &[RoutedConnection]) {
    for reads in handles.iter().map(|db| db.status().reads) {
        let counts = [
            ("reads: hedged", reads.hedged),
            ("reads: won by a hedge", reads.hedges_won),
            ("reads: fell back to the primary", reads.fell_back_to_primary),
            ("reads: shed", reads.shed),
            ("reads: overdue", reads.overdue),
            ("reads: retried", reads.retried),
        ];
        let mut state = world.lock();
        for (what, count) in counts {
            (0..count).for_each(|_| state.count(what));
        }
    }
}

/// When nothing runs, nothing is held.
fn check_rest(world: &World, handles: &[RoutedConnection], lent: &Semaphore) {
    let mut leaks = Vec::new();
    if lent.available_permits() > 0 {
        leaks.push(format!("{} connections", lent.available_permits()));
    }
    for (process, db) in handles.iter().enumerate() {
        for endpoint in db.status().endpoints.iter().filter(|it| it.in_flight > 0) {
            let (name, count) = (&endpoint.name, endpoint.in_flight);
            leaks.push(format!("{count} statements in flight on {name} in process {process}"));
        }
    }
    for what in leaks {
        oracle::note(&mut world.lock(), Violation::Leak { what }, None);
    }
}
