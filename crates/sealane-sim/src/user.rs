//! A user, who does one thing after the other and remembers what must not be missed.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt;
use sea_orm::{
    AccessMode, ConnectionTrait, DbBackend, DbErr, QueryResult, Statement, StreamTrait,
    TransactionTrait, Value,
};
use sealane::{Consistency, Error, RoutedConnection, RoutedTransaction};

use crate::{
    coverage::variant,
    error::is_refusal,
    history::{Snapshot, WriteId},
    oracle::{self, Knowledge},
    plant::Plant,
    scenario::{Ends, Step},
    violation::Violation,
    world::{State, World},
};

/// No statement takes longer, whatever goes wrong.
const LONGEST: Duration = Duration::from_secs(60);

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
    pub(crate) process: usize,
    pub(crate) db: RoutedConnection,
    knowledge: Knowledge,
    /// What was written in this process.
    here: Knowledge,
}

impl Person {
    pub(crate) fn new(shares: bool, process: usize, db: RoutedConnection) -> Self {
        let (knowledge, here) = (Knowledge::default(), Knowledge::default());
        Person { shares, told_timeline: 0, process, db, knowledge, here }
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

/// A statement that writes.
pub(crate) fn insert(id: WriteId, ending: &str) -> Statement {
    let id = Value::BigInt(i64::try_from(id).ok());
    let text = format!("INSERT INTO boat (id) VALUES ($1){ending}");
    Statement::from_sql_and_values(DbBackend::Postgres, text, [id])
}

impl Company {
    fn person(&self, user: usize) -> MutexGuard<'_, Person> {
        self.users[user].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, line: std::fmt::Arguments<'_>) {
        self.world.lock().trace.note(line);
    }

    /// Does one step, within the longest time that one may take.
    pub(crate) async fn step(&self, user: usize, step: Step) {
        self.note(format_args!("user {user}: {step:?}"));
        let began_ms = {
            let (mut person, state) = (self.person(user), self.world.lock());
            person.told_timeline = state.told_timeline[person.process];
            state.now_ms()
        };
        if tokio::time::timeout(LONGEST, self.take(user, step)).await.is_err() {
            let mut state = self.world.lock();
            let (session, what) = (user, format!("{step:?}"));
            let after_ms = state.now_ms() - began_ms;
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
            Step::ReadEventual => self.look(user, &db, Consistency::Eventual).await,
            Step::ReadStrong => self.read(user, &db.on_primary()).await,
            Step::ReadShared => self.read_shared(user, process).await,
            Step::Stream(rows) => self.stream(user, &db, rows).await,
            Step::Write => self.write(user, &db, "").await,
            Step::WriteReturning => self.write(user, &db, " RETURNING id").await,
            Step::ReadTransaction(reads) => self.read_transaction(user, &db, reads).await,
            Step::WriteTransaction(writes, ends) => self.transact(user, &db, writes, ends).await,
            Step::CancelledRead(ms) => {
                let reading = self.read(user, &db);
                let _ = tokio::time::timeout(Duration::from_millis(ms), reading).await;
            }
            Step::CancelledWrite(ms) => {
                let writing = self.write(user, &db, "");
                let _ = tokio::time::timeout(Duration::from_millis(ms), writing).await;
            }
            Step::Fork => {
                let mut person = self.person(user);
                (person.db, person.shares) = (db.fork(), false);
            }
            Step::Merge(other) => {
                self.merge(user, &db, process, other);
                self.read(user, &db).await;
            }
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
        let mut person = self.person(user);
        let state = &mut self.world.lock();
        match person.shares {
            true => person.knowledge.read_writes(state, user, snapshot),
            false => {
                let told = person.told_timeline;
                person.knowledge.read(state, told, user, snapshot);
            }
        }
    }

    async fn read(&self, user: usize, db: &RoutedConnection) {
        let is_planted = self.world.lock().plant == Plant::Eventual;
        let db = if is_planted { &db.with_consistency(Consistency::Eventual) } else { db };
        self.note_refusals(db);
        let result = db.query_one_raw(select()).await;
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

    async fn look(&self, user: usize, db: &RoutedConnection, consistency: Consistency) {
        let result = db.with_consistency(consistency).query_one_raw(select()).await;
        if let Some(snapshot) = self.shown(result) {
            self.person(user).see(&self.world.lock(), &snapshot);
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
            let mut here = self.person(user).here.clone();
            here.read_writes(&mut self.world.lock(), user, &snapshot);
        }
    }

    async fn stream(&self, user: usize, db: &RoutedConnection, rows: usize) {
        let mut stream = match db.stream_raw(select()).await {
            Ok(stream) => stream,
            Err(error) => return drop(self.shown(Err(error))),
        };
        for _ in 0..rows {
            let Some(row) = stream.next().await else { return };
            match self.shown(row.map(Some)) {
                Some(snapshot) => self.check_read(user, &snapshot),
                None => return,
            }
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

    async fn read_transaction(&self, user: usize, db: &RoutedConnection, reads: usize) {
        let begun = db.begin_with_config(None, Some(AccessMode::ReadOnly)).await;
        let transaction = match begun {
            Ok(transaction) => transaction,
            Err(error) => return drop(self.shown(Err(error))),
        };
        let mut at = None;
        for _ in 0..reads {
            let Some(snapshot) = self.shown(transaction.query_one_raw(select()).await) else {
                return;
            };
            self.check_read(user, &snapshot);
            if at.replace(snapshot.server).is_some_and(|it| it != snapshot.server) {
                let moved = Violation::TransactionMoved { session: user };
                oracle::note(&mut self.world.lock(), moved, None);
            }
        }
        // What it showed is noted; how it ends is of no interest.
        let _ = transaction.commit().await;
    }

    async fn transact(&self, user: usize, db: &RoutedConnection, writes: usize, ends: Ends) {
        let transaction = match db.begin().await {
            Ok(transaction) => transaction,
            Err(error) => return self.wrote(user, &[], Err(error)),
        };
        let ids: Vec<_> = (0..writes).map(|_| self.new_id()).collect();
        if let Err(error) = self.write_in(&transaction, &ids).await {
            drop(transaction);
            self.refuse(&ids, "never committed");
            return self.wrote(user, &[], Err(error));
        }
        match ends {
            Ends::Commit => {
                let result = transaction.commit().await;
                self.wrote(user, &ids, result);
            }
            Ends::Rollback => {
                let _ = transaction.rollback().await;
                self.refuse(&ids, "rolled back");
            }
            Ends::Dropped => {
                drop(transaction);
                self.refuse(&ids, "dropped");
            }
        }
    }

    async fn write_in(
        &self,
        transaction: &RoutedTransaction,
        ids: &[WriteId],
    ) -> Result<(), DbErr> {
        for id in ids {
            transaction.execute_raw(insert(*id, "")).await?;
            transaction.query_one_raw(select()).await?;
        }
        Ok(())
    }

    fn merge(&self, user: usize, db: &RoutedConnection, process: usize, other: usize) {
        if other == user {
            return;
        }
        let (its, its_process, knowledge) = {
            let other = self.person(other);
            (other.db.clone(), other.process, other.knowledge.clone())
        };
        if its_process != process {
            return;
        }
        if self.world.lock().plant != Plant::LostMerges {
            db.merge(&its);
        }
        self.person(user).knowledge.merge(&knowledge);
    }

    async fn go(&self, user: usize, db: &RoutedConnection, process: usize, to: usize) {
        if to == process {
            return;
        }
        let Some(token) = db.token().await else { return };
        let target = &self.processes[to];
        let (session, refused) = match self.world.lock().plant {
            Plant::LostTokens => (target.session(), false),
            _ => {
                let resumed = target.resume(&token);
                (resumed.session, resumed.refused.is_some())
            }
        };
        let mut state = self.world.lock();
        state.count(if refused { "tokens refused" } else { "tokens" });
        state.trace.note(format_args!("  goes on in process {to}, refused: {refused}"));
        drop(state);
        let mut person = self.person(user);
        if refused {
            // The user was told that the session begins anew.
            person.knowledge = Knowledge::default();
        }
        (person.process, person.db, person.here) = (to, session, Knowledge::default());
        person.shares = false;
    }
}

/// Whether the client may rely on it that nothing was written.
fn was_not_written(error: &DbErr) -> bool {
    match Error::of(error) {
        Some(Error::NoPrimary { .. } | Error::NoReplica | Error::TransactionLost { .. }) => true,
        Some(_) => false,
        None => is_refusal(error),
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
