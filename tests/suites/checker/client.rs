//! Clients: what each does next is drawn from its seed, and all of it is recorded.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use sea_orm::{DbErr, EntityTrait, QueryFilter, UpdateMany, entity::prelude::*};
use sealane::{Consistency, FallbackPolicy, RoutedConnection};

use tokio::time::{sleep, timeout};

use crate::{
    history::{
        Action, Author, Clock, FIRST_SESSION, Failed, Fate, Key, LONGEST, Moment, Operation,
        Promise, SessionId, Sight, Transaction, Version, process_of,
    },
    numbers::Numbers,
    sea::{Chart, buoy, id, look},
};

/// A client holds so many sessions at once, and does this and that in each of them.
const HELD: usize = 5;
/// From what no probe can prove for long to what nearly every replica is good for.
const BOUNDS_MS: [u64; 5] = [10, 50, 200, 1_000, 5_000];
/// One action in so many is followed by a pause of up to [`PAUSE`], as people make them. Clients that never
/// paused kept two cores busy on their own, and whatever ran beside them was slow.
const AT_ONCE: u32 = 8;
const PAUSE: Duration = Duration::from_millis(800);
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
    /// So do reads of tasks that left their session's scope.
    Strays,
    /// Reads go where the numbers of positions lead them.
    Numbers,
}

/// What all clients share.
#[derive(Debug)]
pub struct Shared {
    /// One for each process; the second stands for another one: a store, a clock and pools of
    /// its own.
    pub processes: [RoutedConnection; 2],
    pub chart: Chart,
    pub clock: Clock,
    pub plant: Plant,
    pub until: Instant,
    /// Whether the primary is replaced meanwhile.
    pub fails_over: bool,
    pub numbers: Option<Numbers>,
    authors: AtomicI64,
    sessions: AtomicUsize,
}

impl Shared {
    pub fn new(
        processes: [RoutedConnection; 2],
        chart: Chart,
        plant: Plant,
        until: Instant,
        fails_over: bool,
    ) -> Self {
        let (authors, sessions) = (AtomicI64::new(1), AtomicUsize::new(FIRST_SESSION / 2));
        let (clock, numbers) = (Clock::new(), None);
        Self { processes, chart, clock, plant, until, fails_over, numbers, authors, sessions }
    }
}

/// A session.
#[derive(Clone, Debug)]
pub struct Held {
    pub id: SessionId,
    pub db: RoutedConnection,
}

#[derive(Debug)]
pub struct Client {
    pub shared: Arc<Shared>,
    number: usize,
    pub rng: fastrand::Rng,
    held: Vec<Held>,
    /// The last version that was sent to any of its own keys.
    version: Version,
    /// A write that has begun, as it will be noted if it has no end.
    pending: Option<Operation>,
    operations: Vec<Operation>,
}

/// How a read of a session is made. All promise the same.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    Handle,
    /// On the shared handle, in a scope.
    Scope,
    Waiting,
}

impl Client {
    pub fn new(shared: Arc<Shared>, number: usize, seed: u64) -> Self {
        let rng = fastrand::Rng::with_seed(seed ^ (number as u64 + 1) << 32);
        let (held, operations) = (Vec::new(), Vec::new());
        Self { shared, number, rng, held, version: 0, pending: None, operations }
    }

    /// Does one thing after the other until it is time.
    pub async fn run(mut self) -> Vec<Operation> {
        while Instant::now() < self.shared.until {
            if self.held.len() < HELD {
                let process = self.rng.usize(..2);
                let session = self.hold(process, self.shared.processes[process].session());
                self.held.push(session);
            }
            let begun = self.shared.clock.now();
            if timeout(LONGEST, self.act()).await.is_err() {
                self.give_up(begun);
            }
            if self.rng.u32(..AT_ONCE) == 0 {
                let pause = PAUSE.mul_f64(self.rng.f64());
                sleep(pause.min(self.shared.until.saturating_duration_since(Instant::now()))).await;
            }
        }
        self.operations
    }

    /// What it did has no end, or none in time.
    fn give_up(&mut self, begun: Moment) {
        if let Some(mut write) = self.pending.take() {
            write.ended = self.shared.clock.now();
            self.operations.push(write);
        }
        let session = self.held.first().map_or(FIRST_SESSION, |held| held.id);
        let error = format!("no end after {LONGEST:?}");
        self.record(session, begun, Action::Fail { what: Failed::Endless, error });
    }

    async fn act(&mut self) {
        let drawn = self.rng.usize(..self.held.len());
        let held = self.held[drawn].clone();
        if self.shared.plant == Plant::Numbers {
            return self.write_and_read_by_numbers(&held).await;
        }
        let alone = self.rng.choice(self.shared.chart.all()).unwrap_or_default();
        match self.rng.u32(..1100) {
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
            990..1000 => self.carry(drawn).await,
            1000.. if self.shared.plant == Plant::Strays => self.stray(&held).await,
            1000..1030 => self.write_beside(&held).await,
            1030..1050 => self.read_beside(&held).await,
            1050..1070 => self.stray(&held).await,
            // What SeaORM's own connection is told by a primary that was replaced, nobody sees.
            1070..1080 if !self.shared.fails_over => self.write_through_executor(&held).await,
            1080.. => self.merge_into_shared(&held).await,
            _ => self.read(&held, vec![alone]).await,
        }
    }

    /// Writes, and reads on the replicas that have got as far, by their numbers.
    async fn write_and_read_by_numbers(&mut self, held: &Held) {
        self.write_own(held).await;
        let shared = Arc::clone(&self.shared);
        let Some(numbers) = &shared.numbers else { return };
        // Whoever is away has no number.
        let level = numbers.level_with(&held.db).await.unwrap_or_default();
        for replica in level {
            let keys = self.some_keys();
            let begun = shared.clock.now();
            let result = look(replica, &keys).await;
            self.record(held.id, begun, looked(result, Promise::Session));
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
            Plant::Nothing | Plant::Sessions | Plant::Strays | Plant::Numbers => {
                Consistency::BoundedStaleness(bound)
            }
        };
        let way = if self.rng.bool() { Way::Handle } else { Way::Waiting };
        let (db, keys) = (held.db.with_consistency(consistency), self.some_keys());
        self.observe(held.id, Promise::Within(bound), keys, &db, way).await;
    }

    pub async fn observe(
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
            Way::Waiting => look(&db.fallback(FallbackPolicy::Wait(PATIENCE)), &keys).await,
            Way::Scope => {
                let everybody = self.handle_beside(session);
                sealane::scope(db.clone(), look(&everybody, &keys)).await
            }
        };
        self.record(session, begun, looked(result, promise));
    }

    /// A key of its own, with the next version.
    pub async fn write_own(&mut self, held: &Held) {
        self.write_own_through(held.id, &held.db).await;
    }

    pub async fn write_own_through(&mut self, session: SessionId, db: &impl ConnectionTrait) {
        let (key, version) = self.next_version();
        let (number, begun) = self.begin_write(session, vec![key], Some(version));
        let fate = match next(key, version, number).exec(db).await {
            Ok(done) if done.rows_affected == 1 => Fate::Done,
            Ok(_) => Fate::Undone,
            Err(error) => Fate::Unknown(error.to_string()),
        };
        let action = Action::Write { keys: vec![key], version: Some(version), fate };
        self.record_numbered(number, session, begun, action);
    }

    /// A key of its own, and a version that it never had.
    pub fn next_version(&mut self) -> (Key, Version) {
        self.version += 1;
        (self.shared.chart.own(self.number, &mut self.rng), self.version)
    }

    fn fork(&mut self, drawn: usize) {
        let begun = self.shared.clock.now();
        let parent = self.held[drawn].clone();
        let child = self.hold(process_of(parent.id), parent.db.fork());
        self.record(parent.id, begun, Action::Descend { to: child.id, by_token: false });
        self.held.push(child);
    }

    /// With another session that it holds in the same process.
    fn merge(&mut self, drawn: usize) {
        let into = self.held[drawn].clone();
        let of_process =
            |held: &&Held| process_of(held.id) == process_of(into.id) && held.id != into.id;
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
        let process = 1 - process_of(parent.id);
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
        let id = 2 * self.shared.sessions.fetch_add(1, Ordering::Relaxed) + process;
        Held { id, db: self.planted(&db) }
    }

    pub fn planted(&self, db: &RoutedConnection) -> RoutedConnection {
        match self.shared.plant {
            Plant::Sessions => db.with_consistency(Consistency::Eventual),
            Plant::Nothing | Plant::Bounds | Plant::Strays | Plant::Numbers => db.clone(),
        }
    }

    /// The handle of everybody in the process of `session`.
    pub fn handle_beside(&self, session: SessionId) -> RoutedConnection {
        self.shared.processes[process_of(session)].clone()
    }

    pub fn some_keys(&mut self) -> Vec<Key> {
        let chart = &self.shared.chart;
        let mut keys = chart.pair(&mut self.rng);
        keys.push(chart.own(self.number, &mut self.rng));
        keys.push(chart.common(&mut self.rng));
        keys
    }

    pub fn number(&self) -> Author {
        self.shared.authors.fetch_add(1, Ordering::Relaxed)
    }

    /// Who writes, and since when. Until it is recorded it counts as begun.
    pub fn begin_write(
        &mut self,
        session: SessionId,
        keys: Vec<Key>,
        version: Option<Version>,
    ) -> (Author, Moment) {
        let (number, begun) = (self.number(), self.shared.clock.now());
        let fate = Fate::Unknown("no end".to_owned());
        let action = Action::Write { keys, version, fate };
        let client = self.number;
        self.pending = Some(Operation { number, client, session, begun, ended: begun, action });
        (number, begun)
    }

    pub fn record(&mut self, session: SessionId, begun: Moment, action: Action) {
        self.record_numbered(self.number(), session, begun, action);
    }

    /// What has ended just now, by a number that was drawn before.
    pub fn record_numbered(
        &mut self,
        number: Author,
        session: SessionId,
        begun: Moment,
        action: Action,
    ) {
        self.pending.take_if(|pending| pending.number == number);
        let (client, ended) = (self.number, self.shared.clock.now());
        self.operations.push(Operation { number, client, session, begun, ended, action });
    }

    fn record_ended(&mut self, session: SessionId, begun: Moment, ended: Moment, action: Action) {
        let (number, client) = (self.number(), self.number);
        self.operations.push(Operation { number, client, session, begun, ended, action });
    }
}

/// Gives `key` a version. One that was given up on and that the server writes later must not
/// undo it.
pub fn next(key: Key, version: Version, author: Author) -> UpdateMany<buoy::Entity> {
    buoy::Entity::update_many()
        .col_expr(buoy::Column::Version, Expr::value(version))
        .col_expr(buoy::Column::Author, Expr::value(author))
        .filter(buoy::Column::Id.eq(id(key)))
        .filter(buoy::Column::Version.lt(version))
}

pub fn looked(result: Result<Sight, DbErr>, promise: Promise) -> Action {
    match result {
        Ok(sight) => Action::Read { promise, sights: vec![sight], transaction: None },
        Err(error) => Action::Fail { what: Failed::Read, error: error.to_string() },
    }
}
