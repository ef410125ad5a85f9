//! A user, who does one thing after the other and remembers what must not be missed.

mod odd;
mod session;
mod stream;
mod transaction;
mod view;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use sea_orm::{ConnectionTrait, DbBackend, DbErr, QueryResult, Statement, Value};
use sealane::{Consistency, Error, RoutedConnection};

use crate::{
    coverage::variant,
    history::{Snapshot, WriteId},
    oracle::{self, Knowledge},
    plant::Plant,
    scenario::{Ends, Step},
    violation::Violation,
    world::{State, World},
};

/// No step takes longer, whatever goes wrong.
const LONGEST: Duration = Duration::from_secs(20);
/// No step takes longer where a commit waits for a replica: that may be away for as long as a fault
/// lasts, and a server that answers probes is waited for.
const LONGEST_SYNCHRONOUS: Duration = Duration::from_secs(60);

/// What users share.
#[derive(Debug)]
pub(crate) struct Company {
    pub(crate) world: Arc<World>,
    /// The handle of each process.
    pub(crate) processes: Vec<RoutedConnection>,
    pub(crate) users: Vec<Mutex<Person>>,
    pub(crate) next_write: AtomicU64,
    /// Writes of which the client was told that they were not carried out.
    pub(crate) refused: Mutex<Vec<(WriteId, String)>>,
}

/// What is known of one user.
#[derive(Debug)]
pub(crate) struct Person {
    /// Whether `db` is the handle that everybody shares.
    shares: bool,
    /// The newest timeline that the process had heard of when the step began.
    told_timeline: u32,
    /// The server that the process took for the primary when the step began.
    primary: Option<usize>,
    pub(crate) process: usize,
    pub(crate) db: RoutedConnection,
    knowledge: Knowledge,
    /// What was written in this process.
    here: Knowledge,
}

impl Person {
    pub(crate) fn new(shares: bool, process: usize, db: RoutedConnection) -> Self {
        let (knowledge, here) = (Knowledge::default(), Knowledge::default());
        Person { shares, told_timeline: 0, primary: None, process, db, knowledge, here }
    }

    /// The handle that everybody shares remembers what was written, and not what it has shown.
    fn see(&mut self, state: &State, shown: &Snapshot) {
        if !self.shares {
            self.knowledge.see(state, shown);
        }
    }
}

/// A statement that reads.
pub(crate) fn select() -> Statement {
    Statement::from_string(DbBackend::Postgres, "SELECT shown FROM boat")
}

/// A statement that reads much.
fn costly() -> Statement {
    let text = "SELECT boat.shown FROM boat JOIN crew ON crew.boat = boat.id";
    Statement::from_string(DbBackend::Postgres, text)
}

/// A statement that reads a table that servers may filter.
fn of_pier() -> Statement {
    Statement::from_string(DbBackend::Postgres, "SELECT shown FROM pier")
}

/// A statement that writes.
pub(crate) fn insert(id: WriteId, ending: &str) -> Statement {
    let id = Value::BigInt(i64::try_from(id).ok());
    let text = format!("INSERT INTO boat (id) VALUES ($1){ending}");
    Statement::from_sql_and_values(DbBackend::Postgres, text, [id])
}

impl Company {
    /// Writes of which clients were told that they were not carried out.
    pub(crate) fn refused(&self) -> Vec<(WriteId, String)> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn person(&self, user: usize) -> MutexGuard<'_, Person> {
        self.users[user].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, line: std::fmt::Arguments<'_>) {
        self.world.lock().trace.note(line);
    }

    /// Does all steps, each after its pause.
    pub(crate) async fn work(&self, user: usize, steps: Vec<(u64, Step)>) {
        for (pause_ms, step) in steps {
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
            self.step(user, step).await;
        }
    }

    /// Does one step, within the longest time that one may take.
    async fn step(&self, user: usize, step: Step) {
        self.note(format_args!("user {user}: {step:?}"));
        let (began_ms, longest) = {
            let (mut person, state) = (self.person(user), self.world.lock());
            person.told_timeline = state.told_timeline[person.process];
            person.primary = state.primary_of[person.process];
            let longest = if state.is_synchronous { LONGEST_SYNCHRONOUS } else { LONGEST };
            (state.now_ms(), longest)
        };
        let taken = tokio::time::timeout(longest, self.take(user, step)).await;
        let mut state = self.world.lock();
        let after_ms = state.now_ms() - began_ms;
        for limit_s in [5, 10, 15].into_iter().filter(|limit_s| after_ms >= limit_s * 1_000) {
            state.count(&format!("steps of {limit_s:>2} s and more"));
        }
        if taken.is_err() {
            let (session, what) = (user, format!("{step:?}"));
            oracle::note(&mut state, Violation::Endless { session, what, after_ms }, None);
        }
    }

    async fn take(&self, user: usize, step: Step) {
        let (db, process) = {
            let person = self.person(user);
            (person.db.clone(), person.process)
        };
        match step {
            Step::Read => self.read(user, &db).await,
            Step::ReadBound(ms) => self.read_bound(user, &db, ms).await,
            Step::ReadEventual => self.look(user, &db).await,
            Step::ReadHeavy => self.read_by(user, &db, costly()).await,
            Step::ReadStrong => self.read(user, &db.on_primary()).await,
            Step::ReadFiltered => self.read_by(user, &db, of_pier()).await,
            Step::ReadView => self.read_view(user, &db, process).await,
            Step::ChangeView { locks } => self.change_view(&db, process, locks).await,
            Step::ReadOnReplicas => self.read_on_replicas(user, &db, process).await,
            Step::ReadDeclining(address) => self.read_declining(user, &db, address).await,
            Step::ReadLate => self.read_late(user, &db, process).await,
            Step::ReadNoting => self.read_by(user, &db, odd::noting()).await,
            Step::ReadWrong => self.read_wrong(&db).await,
            Step::ReadShared => self.read_shared(user, process).await,
            Step::Stream(rows) => self.stream(user, &db, rows, Duration::ZERO).await,
            Step::SlowStream(rows, ms) => {
                self.stream(user, &db, rows, Duration::from_millis(ms)).await;
            }
            Step::Write => self.write(user, &db, "").await,
            Step::WriteReturning => self.write(user, &db, " RETURNING id").await,
            Step::ReadTransaction(reads) => {
                self.read_transaction(user, &db, reads, select).await;
            }
            Step::ReadFilteredTransaction => {
                self.read_transaction(user, &db, 2, of_pier).await;
            }
            Step::WriteTransaction(writes, ends) => self.transact(user, &db, writes, ends).await,
            Step::CancelledRead(ms) => until(ms, self.read(user, &db)).await,
            Step::CancelledWrite(ms) => until(ms, self.write(user, &db, "")).await,
            Step::CancelledStream(ms) => {
                until(ms, self.stream(user, &db, 2, Duration::ZERO)).await;
            }
            Step::CancelledReadTransaction(ms) => {
                until(ms, self.read_transaction(user, &db, 3, select)).await;
            }
            Step::CancelledTransaction(ms) => {
                until(ms, self.transact(user, &db, 2, Ends::Commit)).await;
            }
            Step::LongTransaction(ms) => self.long_transaction(user, &db, ms).await,
            Step::Scope => self.scoped(user, &db, process).await,
            Step::Fork => self.fork(user, &db),
            Step::Merge(other) => {
                self.merge(user, &db, process, other);
                self.read(user, &db).await;
            }
            Step::MoveShared(to) => self.go_shared(user, process, to).await,
            Step::RefusedToken => self.begin_anew(user, &db).await,
            Step::ReadShown => self.read_shown(user, &db).await,
            Step::ReadKilling => self.read_killing(user, &db).await,
            Step::LateStream(ms) => self.late_stream(user, &db, ms).await,
            Step::WritingStream => self.writing_stream(user, &db).await,
            Step::SlowReadTransaction(reads, ms) => {
                let pause = Duration::from_millis(ms);
                self.slow_read_transaction(user, &db, (reads, pause), select).await;
            }
            Step::ReadSerializable => self.read_serializable(user, &db).await,
            Step::TalkingTransaction(ms) => self.talking_transaction(user, &db, ms).await,
            Step::Move(to) => {
                self.go(user, &db, process, to).await;
                let db = self.person(user).db.clone();
                self.read(user, &db).await;
            }
        }
    }

    /// What a row shows, and what it says of the reader.
    fn shown(&self, result: Result<Option<QueryResult>, DbErr>) -> Option<Snapshot> {
        let mut state = self.world.lock();
        let shown = match result.and_then(|row| row.map(|it| it.try_get("", "shown")).transpose()) {
            Ok(shown) => shown.and_then(|it: i64| usize::try_from(it).ok()),
            Err(error) => {
                state.count(&format!("failed read: {}", short(&error)));
                state.trace.note(format_args!("  failed: {}", short(&error)));
                None
            }
        };
        let snapshot = state.snapshots.get(shown?).cloned()?;
        state.trace.note(format_args!(
            "  shown by server {}: {}:{} without {:?}",
            snapshot.server, snapshot.branch, snapshot.len, snapshot.hidden
        ));
        state.count(if snapshot.by_primary { "reads on primaries" } else { "reads on replicas" });
        Some(snapshot)
    }

    fn check_read(&self, user: usize, snapshot: &Snapshot) {
        self.check_read_after(user, snapshot, true);
    }

    /// `may_hide`: the primary may show later what a replica has shown.
    fn check_read_after(&self, user: usize, snapshot: &Snapshot, may_hide: bool) {
        let mut person = self.person(user);
        let state = &mut self.world.lock();
        if state.is_mistaken(person.process, snapshot) {
            return;
        }
        match person.shares {
            true => person.knowledge.read_writes(state, user, snapshot),
            false => {
                let told = person.told_timeline;
                let is_primary = person.primary == Some(snapshot.server);
                let by_primary = snapshot.by_primary || is_primary;
                let snapshot = &Snapshot { by_primary, ..snapshot.clone() };
                person.knowledge.read(state, told, user, snapshot, may_hide);
            }
        }
    }

    async fn read(&self, user: usize, db: &RoutedConnection) {
        let is_planted = self.world.lock().plant == Plant::Eventual;
        let db = if is_planted { &db.with_consistency(Consistency::Eventual) } else { db };
        self.note_refusals(db);
        self.read_by(user, db, select()).await;
    }

    async fn read_by(&self, user: usize, db: &RoutedConnection, statement: Statement) {
        let result = db.query_one_raw(statement).await;
        if let Some(snapshot) = self.shown(result) {
            self.check_read(user, &snapshot);
        }
    }

    /// Why some endpoints would not serve a read now.
    fn note_refusals(&self, db: &RoutedConnection) {
        let choices = db.explain(&select().sql).choices;
        let mut state = self.world.lock();
        for refusal in choices.iter().filter_map(|choice| choice.refusal.as_ref()) {
            state.count(&format!("refusal: {}", variant(refusal)));
        }
    }

    async fn read_bound(&self, user: usize, db: &RoutedConnection, bound_ms: u64) {
        let (began_ms, plant) = {
            let state = self.world.lock();
            (state.now_ms(), state.plant)
        };
        let asked_ms = if plant == Plant::LooseBound { bound_ms * 10 } else { bound_ms };
        let bound = Consistency::BoundedStaleness(Duration::from_millis(asked_ms));
        let result = db.with_consistency(bound).query_one_raw(select()).await;
        if let Some(snapshot) = self.shown(result) {
            let state = &mut self.world.lock();
            oracle::check_bound(state, user, &snapshot, began_ms, bound_ms);
            self.person(user).see(state, &snapshot);
        }
    }

    /// Work that has left its session must not miss what the session wrote in its process.
    async fn read_shared(&self, user: usize, process: usize) {
        let result = self.processes[process].query_one_raw(select()).await;
        if let Some(snapshot) = self.shown(result) {
            self.check_here(user, &snapshot);
        }
    }

    /// Holds a read outside the user's session against what it wrote in its process.
    fn check_here(&self, user: usize, snapshot: &Snapshot) {
        let (process, here) = {
            let person = self.person(user);
            (person.process, person.here.clone())
        };
        self.check_writes(user, process, here, snapshot);
    }

    /// Holds a read in `process` against what was written.
    fn check_writes(&self, user: usize, process: usize, mut wrote: Knowledge, shown: &Snapshot) {
        let state = &mut self.world.lock();
        if !state.is_mistaken(process, shown) {
            wrote.read_writes(state, user, shown);
        }
    }

    fn new_id(&self) -> WriteId {
        self.next_write.fetch_add(1, Ordering::Relaxed)
    }

    async fn write(&self, user: usize, db: &RoutedConnection, ending: &str) {
        let id = self.new_id();
        let result = match ending {
            "" => db.execute_raw(insert(id, ending)).await.map(drop),
            _ => db.query_all_raw(insert(id, ending)).await.map(drop),
        };
        self.wrote(user, &[id], result);
    }

    /// What the client is told of its writes.
    fn wrote(&self, user: usize, ids: &[WriteId], result: Result<(), DbErr>) {
        let mut person = self.person(user);
        let mut state = self.world.lock();
        match result {
            Ok(()) => {
                state.trace.note(format_args!("  acknowledged: {ids:?}"));
                state.count("writes");
                for id in ids {
                    oracle::check_acknowledged(&mut state, person.process, *id);
                    state.acknowledged.push(*id);
                    person.knowledge.wrote(*id);
                    person.here.wrote(*id);
                }
            }
            Err(error) => {
                let told = short(&error);
                state.trace.note(format_args!("  not acknowledged: {ids:?}, {told}"));
                state.count(&format!("failed write: {told}"));
                if was_not_written(&error) {
                    drop(state);
                    self.refuse(ids, &told);
                }
            }
        }
    }

    fn refuse(&self, ids: &[WriteId], told: &str) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.extend(ids.iter().map(|id| (*id, told.to_owned())));
    }
}

/// Gives something up after so many milliseconds.
async fn until(ms: u64, work: impl Future<Output = ()>) {
    let _ = tokio::time::timeout(Duration::from_millis(ms), work).await;
}

/// Whether the client may rely on it that nothing was written.
fn was_not_written(error: &DbErr) -> bool {
    match Error::of(error) {
        Some(Error::NoPrimary { .. } | Error::NoReplica | Error::TransactionLost { .. }) => true,
        Some(_) => false,
        // Whoever loses the answer is told so: that is `OutcomeUnknown`.
        None => true,
    }
}

/// An error without what differs from case to case.
pub(crate) fn short(error: &DbErr) -> String {
    match Error::of(error) {
        Some(Error::NoPrimary { .. }) => "no primary".to_owned(),
        Some(Error::NoReplica) => "no replica".to_owned(),
        Some(Error::OutcomeUnknown { why, .. }) => format!("outcome unknown, {why}"),
        Some(Error::TransactionLost { why, .. }) => format!("transaction lost, {why}"),
        Some(Error::StreamLost { why, .. }) => format!("stream lost, {why}"),
        Some(other) => other.to_string(),
        None => error.to_string(),
    }
}
