//! Clients: what each does next is drawn from its seed, and all of it is recorded.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use sea_orm::{
    AccessMode, DbErr, EntityTrait, ExprTrait, IsolationLevel, QueryFilter, TransactionTrait,
    entity::prelude::*,
};
use sealane::{Consistency, RoutedConnection, WhenBehind};

use crate::{
    history::{
        Action, Author, Cell, Clock, Failed, Fate, Key, Moment, Operation, Promise, SessionId,
        Sight, Transaction, Version,
    },
    sea::{Chart, buoy, sighting},
};

/// A client holds so many sessions at once, and does this and that in each of them.
const HELD: usize = 5;
/// The session of the handle that all clients of the first process share.
const SHARED: SessionId = 0;
/// From what no probe can prove for long to what nearly every replica is good for.
const BOUNDS_MS: [u64; 5] = [10, 50, 200, 1_000, 5_000];
/// A wait for replicas: longer than most pauses of replay.
const PATIENCE: Duration = Duration::from_millis(50);

/// What is spoilt on purpose, so that the checker must find it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Plant {
    Nothing,
    /// Sessions read whatever there is.
    Sessions,
    /// Reads with a bound read whatever there is.
    Bounds,
}

/// What all clients share.
#[derive(Debug)]
pub struct Shared {
    /// One for each process; the second stands for another one: a board, a clock and pools of
    /// its own.
    pub processes: [RoutedConnection; 2],
    pub chart: Chart,
    pub clock: Clock,
    pub plant: Plant,
    pub until: Instant,
    numbers: AtomicI64,
    sessions: AtomicUsize,
}

impl Shared {
    pub fn new(
        processes: [RoutedConnection; 2],
        chart: Chart,
        plant: Plant,
        until: Instant,
    ) -> Self {
        let (numbers, sessions) = (AtomicI64::new(1), AtomicUsize::new(SHARED + 1));
        Self { processes, chart, clock: Clock::new(), plant, until, numbers, sessions }
    }
}

/// A session, and the process that it lives in.
#[derive(Clone, Debug)]
struct Held {
    id: SessionId,
    process: usize,
    db: RoutedConnection,
}

#[derive(Debug)]
pub struct Client {
    shared: Arc<Shared>,
    number: usize,
    rng: fastrand::Rng,
    held: Vec<Held>,
    /// The last version that was sent to any of its own keys.
    version: Version,
    operations: Vec<Operation>,
}

/// How a read of a session is made. All promise the same.
#[derive(Clone, Copy, Debug)]
enum Way {
    Handle,
    /// On the shared handle, in a scope.
    Scope,
    Waiting,
}

impl Client {
    pub fn new(shared: Arc<Shared>, number: usize, seed: u64) -> Self {
        let rng = fastrand::Rng::with_seed(seed ^ (number as u64 + 1) << 32);
        Self { shared, number, rng, held: Vec::new(), version: 0, operations: Vec::new() }
    }

    /// Does one thing after the other until it is time.
    pub async fn run(mut self) -> Vec<Operation> {
        while Instant::now() < self.shared.until {
            if self.held.len() < HELD {
                let process = self.rng.usize(..2);
                let session = self.hold(process, self.shared.processes[process].session());
                self.held.push(session);
            }
            self.act().await;
        }
        self.operations
    }

    async fn act(&mut self) {
        let drawn = self.rng.usize(..self.held.len());
        let held = self.held[drawn].clone();
        let alone = self.rng.choice(self.shared.chart.all()).unwrap_or_default();
        match self.rng.u32(..1000) {
            0..400 => self.read(&held, vec![alone]).await,
            400..560 => {
                let keys = self.some_keys();
                self.read(&held, keys).await;
            }
            560..620 => self.read_twice_at_once(&held).await,
            620..690 => self.read_in_transaction(&held, Transaction::Snapshot).await,
            690..720 => self.read_in_transaction(&held, Transaction::Statements).await,
            720..790 => self.read_within_bound(&held).await,
            790..830 => {
                let db = held.db.with_consistency(Consistency::Eventual);
                let keys = self.some_keys();
                self.observe(held.id, Promise::Nothing, keys, &db, Way::Handle).await;
            }
            830..840 => {
                let promise = Promise::Within(Duration::ZERO);
                self.observe(held.id, promise, vec![alone], &held.db.on_primary(), Way::Handle)
                    .await;
            }
            840..900 => self.write_own(&held).await,
            900..945 => {
                let chart = self.shared.chart;
                let keys = match self.rng.bool() {
                    true => vec![chart.common(&mut self.rng)],
                    false => chart.pair(&mut self.rng),
                };
                let commits = self.rng.u32(..10) > 0;
                self.write_shared(&held, keys, commits).await;
            }
            945..955 => self.use_shared_handle().await,
            // From here on it is the session that changes.
            955..970 => drop(self.held.swap_remove(drawn)),
            970..980 => self.fork(drawn),
            980..990 => self.merge(drawn),
            _ => self.carry(drawn).await,
        }
    }

    async fn read(&mut self, held: &Held, keys: Vec<Key>) {
        let way = match self.rng.u32(..10) {
            0..7 => Way::Handle,
            7..9 => Way::Scope,
            _ => Way::Waiting,
        };
        self.observe(held.id, Promise::Session, keys, &held.db, way).await;
    }

    /// Two tasks of one session.
    async fn read_twice_at_once(&mut self, held: &Held) {
        let (one, other) = (self.some_keys(), self.some_keys());
        let begun = [self.shared.clock.now(), self.shared.clock.now()];
        let clock = &self.shared.clock;
        let (one, other) =
            tokio::join!(async { (look(&held.db, &one).await, clock.now()) }, async {
                (look(&held.db, &other).await, clock.now())
            },);
        for (begun, (result, ended)) in begun.into_iter().zip([one, other]) {
            let action = looked(result, Promise::Session);
            self.record_ended(held.id, begun, ended, action);
        }
    }

    async fn read_within_bound(&mut self, held: &Held) {
        let bound = self.rng.choice(BOUNDS_MS).map_or(Duration::ZERO, Duration::from_millis);
        let consistency = match self.shared.plant {
            Plant::Bounds => Consistency::Eventual,
            Plant::Nothing | Plant::Sessions => Consistency::BoundedStaleness(bound),
        };
        let way = if self.rng.bool() { Way::Handle } else { Way::Waiting };
        let (db, keys) = (held.db.with_consistency(consistency), self.some_keys());
        self.observe(held.id, Promise::Within(bound), keys, &db, way).await;
    }

    async fn observe(
        &mut self,
        session: SessionId,
        promise: Promise,
        keys: Vec<Key>,
        db: &RoutedConnection,
        way: Way,
    ) {
        let begun = self.shared.clock.now();
        let result = match way {
            Way::Handle => look(db, &keys).await,
            Way::Waiting => look(&db.when_behind(WhenBehind::Wait(PATIENCE)), &keys).await,
            Way::Scope => {
                let everybody = self.handle_beside(session);
                sealane::scope(db.clone(), look(&everybody, &keys)).await
            }
        };
        self.record(session, begun, looked(result, promise));
    }

    async fn read_in_transaction(&mut self, held: &Held, kind: Transaction) {
        let lists = [self.some_keys(), self.some_keys()];
        // The second list begins with what the first has, so that something is read twice.
        let second = [&lists[0][..], &lists[1][..]].concat();
        let begun = self.shared.clock.now();
        let result = look_in_transaction(&held.db, &[&lists[0], &second], kind).await;
        let action = match result {
            Ok(sights) => {
                Action::Read { promise: Promise::Session, sights, transaction: Some(kind) }
            }
            Err(error) => Action::Fail { what: Failed::Transaction, error: error.to_string() },
        };
        self.record(held.id, begun, action);
    }

    /// A key of its own, with the next version. A write that was given up on and that the
    /// server carries out later must not undo it.
    async fn write_own(&mut self, held: &Held) {
        self.version += 1;
        let (version, number, begun) = (self.version, self.number(), self.shared.clock.now());
        let key = self.shared.chart.own(self.number, &mut self.rng);
        let update = buoy::Entity::update_many()
            .col_expr(buoy::Column::Version, Expr::value(version))
            .col_expr(buoy::Column::Author, Expr::value(number))
            .filter(buoy::Column::Id.eq(id(key)))
            .filter(buoy::Column::Version.lt(version));
        let fate = match update.exec(&held.db).await {
            Ok(done) if done.rows_affected == 1 => Fate::Done,
            Ok(_) => Fate::Undone,
            Err(error) => Fate::Unknown(error.to_string()),
        };
        let action = Action::Write { keys: vec![key], version: Some(version), fate };
        self.record_numbered(number, held.id, begun, self.shared.clock.now(), action);
    }

    /// Keys that others write, too, in a transaction: who holds their locks knows the version.
    async fn write_shared(&mut self, held: &Held, keys: Vec<Key>, commits: bool) {
        let (number, begun) = (self.number(), self.shared.clock.now());
        let (version, fate) = count_up(&held.db, &keys, number, commits).await;
        let action = Action::Write { keys, version, fate };
        self.record_numbered(number, held.id, begun, self.shared.clock.now(), action);
    }

    /// The application's one handle reads its writes, too.
    async fn use_shared_handle(&mut self) {
        let db = self.planted(&self.shared.processes[0]);
        let held = Held { id: SHARED, process: 0, db };
        self.write_own(&held).await;
        let keys = self.some_keys();
        self.observe(SHARED, Promise::OwnWrites, keys, &held.db, Way::Handle).await;
    }

    fn fork(&mut self, drawn: usize) {
        let begun = self.shared.clock.now();
        let parent = self.held[drawn].clone();
        let child = self.hold(parent.process, parent.db.fork());
        self.record(parent.id, begun, Action::Descend { to: child.id, by_token: false });
        self.held.push(child);
    }

    /// With another session that it holds in the same process.
    fn merge(&mut self, drawn: usize) {
        let into = self.held[drawn].clone();
        let of_process = |held: &&Held| held.process == into.process && held.id != into.id;
        let others: Vec<Held> = self.held.iter().filter(of_process).cloned().collect();
        let Some(from) = self.rng.choice(others) else { return };
        let begun = self.shared.clock.now();
        into.db.merge(&from.db);
        self.record(into.id, begun, Action::Merge { from: from.id });
    }

    /// The session goes on in the other process.
    async fn carry(&mut self, drawn: usize) {
        let parent = self.held.swap_remove(drawn);
        let begun = self.shared.clock.now();
        // None if it has nothing to tell; then a new session serves as well.
        let token = parent.db.token().await;
        let process = 1 - parent.process;
        let resumed = self.shared.processes[process].resume_all(token.as_deref());
        if let Some(refusal) = resumed.refused {
            let error = refusal.to_string();
            self.record(parent.id, begun, Action::Fail { what: Failed::Token, error });
        }
        let child = self.hold(process, resumed.session);
        self.record(parent.id, begun, Action::Descend { to: child.id, by_token: true });
        self.held.push(child);
    }

    fn hold(&self, process: usize, db: RoutedConnection) -> Held {
        let id = self.shared.sessions.fetch_add(1, Ordering::Relaxed);
        Held { id, process, db: self.planted(&db) }
    }

    fn planted(&self, db: &RoutedConnection) -> RoutedConnection {
        match self.shared.plant {
            Plant::Sessions => db.with_consistency(Consistency::Eventual),
            Plant::Nothing | Plant::Bounds => db.clone(),
        }
    }

    /// The handle of everybody in the process of `session`.
    fn handle_beside(&self, session: SessionId) -> RoutedConnection {
        let held = self.held.iter().find(|held| held.id == session);
        self.shared.processes[held.map_or(0, |held| held.process)].clone()
    }

    fn some_keys(&mut self) -> Vec<Key> {
        let chart = &self.shared.chart;
        let mut keys = chart.pair(&mut self.rng);
        keys.push(chart.own(self.number, &mut self.rng));
        keys.push(chart.common(&mut self.rng));
        keys
    }

    fn number(&self) -> Author {
        self.shared.numbers.fetch_add(1, Ordering::Relaxed)
    }

    fn record(&mut self, session: SessionId, begun: Moment, action: Action) {
        let ended = self.shared.clock.now();
        self.record_ended(session, begun, ended, action);
    }

    fn record_ended(&mut self, session: SessionId, begun: Moment, ended: Moment, action: Action) {
        self.record_numbered(self.number(), session, begun, ended, action);
    }

    fn record_numbered(
        &mut self,
        number: Author,
        session: SessionId,
        begun: Moment,
        ended: Moment,
        action: Action,
    ) {
        let client = self.number;
        self.operations.push(Operation { number, client, session, begun, ended, action });
    }
}

fn id(key: Key) -> i32 {
    i32::try_from(key).unwrap_or(i32::MAX)
}

fn looked(result: Result<Sight, DbErr>, promise: Promise) -> Action {
    match result {
        Ok(sight) => Action::Read { promise, sights: vec![sight], transaction: None },
        Err(error) => Action::Fail { what: Failed::Read, error: error.to_string() },
    }
}

async fn look(db: &impl ConnectionTrait, keys: &[Key]) -> Result<Sight, DbErr> {
    let ids = keys.iter().map(|key| id(*key));
    let rows = sighting::Entity::find().filter(sighting::Column::Id.is_in(ids)).all(db).await?;
    let cells = keys.iter().map(|key| match rows.iter().find(|row| row.id == id(*key)) {
        Some(row) => Cell { key: *key, version: row.version, author: row.author },
        None => Cell { key: *key, version: -1, author: 0 },
    });
    let place = rows.first().map(|row| row.place.clone()).unwrap_or_default();
    Ok(Sight { place, cells: cells.collect() })
}

async fn look_in_transaction(
    db: &RoutedConnection,
    lists: &[&[Key]],
    kind: Transaction,
) -> Result<Vec<Sight>, DbErr> {
    let isolation = match kind {
        Transaction::Snapshot => IsolationLevel::RepeatableRead,
        Transaction::Statements => IsolationLevel::ReadCommitted,
    };
    let transaction = db.begin_with_config(Some(isolation), Some(AccessMode::ReadOnly)).await?;
    let mut sights = Vec::new();
    for keys in lists {
        sights.push(look(&transaction, keys).await?);
    }
    transaction.commit().await?;
    Ok(sights)
}

/// Gives `keys`, the least first, the next version each, and reads it back before the end.
async fn count_up(
    db: &RoutedConnection,
    keys: &[Key],
    author: Author,
    commits: bool,
) -> (Option<Version>, Fate) {
    let counted = async {
        let transaction = db.begin().await?;
        for key in keys {
            buoy::Entity::update_many()
                .col_expr(buoy::Column::Version, Expr::col(buoy::Column::Version).add(1))
                .col_expr(buoy::Column::Author, Expr::value(author))
                .filter(buoy::Column::Id.eq(id(*key)))
                .exec(&transaction)
                .await?;
        }
        let first = keys.first().map_or(-1, |key| id(*key));
        let row = buoy::Entity::find_by_id(first).one(&transaction).await?;
        Ok::<_, DbErr>((transaction, row.map(|row| row.version)))
    };
    let Ok((transaction, version)) = counted.await else {
        // Dropped, it is rolled back; its commit was never sent.
        return (None, Fate::Undone);
    };
    if !commits {
        // Also if that fails.
        let _ = transaction.rollback().await;
        return (version, Fate::Undone);
    }
    match transaction.commit().await {
        Ok(()) => (version, Fate::Done),
        Err(error) => (version, Fate::Unknown(error.to_string())),
    }
}
