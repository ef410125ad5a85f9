//! What clients asked for and what came back, on one clock.

use std::{
    collections::HashSet,
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use serde::Serialize;

/// A row.
pub type Key = usize;
/// What a row counts: every write makes it greater. Zero: never written; negative: no such row.
pub type Version = i64;
/// The operation that wrote a version; zero for nobody.
pub type Author = i64;
/// Its process is told by its number: sessions with even ones live in the first process.
pub type SessionId = usize;

/// The session of the handle that all clients of the first process share.
pub const SHARED: SessionId = 0;
/// What all sessions of a process wrote, for each of the two processes.
pub const PROCESS: [SessionId; 2] = [usize::MAX - 1, usize::MAX];
/// The first number for any other session.
pub const FIRST_SESSION: SessionId = 2;
/// Whatever a client begins ends within this time, well or not.
pub const LONGEST: Duration = Duration::from_secs(15);

/// The process that a session lives in, 0 or 1.
pub fn process_of(session: SessionId) -> usize {
    session % 2
}

/// Nanoseconds since the clock began. No two are equal.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct Moment(pub u64);

impl Moment {
    pub fn before(self, distance: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(distance.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// One clock for all clients.
#[derive(Debug)]
pub struct Clock {
    origin: Instant,
    last: AtomicU64,
}

impl Clock {
    pub fn new() -> Self {
        Self { origin: Instant::now(), last: AtomicU64::new(0) }
    }

    /// The time; later than all that were told before, so that the order of what one
    /// client did is never in doubt.
    pub fn now(&self) -> Moment {
        let elapsed = u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let last = self.last.fetch_max(elapsed, Ordering::AcqRel);
        if elapsed > last {
            return Moment(elapsed);
        }
        Moment(self.last.fetch_add(1, Ordering::AcqRel) + 1)
    }
}

/// One row as somebody read it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Cell {
    pub key: Key,
    pub version: Version,
    pub author: Author,
}

/// What one statement read, and the address of the server that it says it was read on.
#[derive(Clone, Debug, Serialize)]
pub struct Sight {
    pub place: String,
    pub cells: Vec<Cell>,
}

/// What a read may rely on.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub enum Promise {
    /// All that its session wrote, and nothing older than the session has read.
    Session,
    /// All that its session wrote, and what the sessions that it merged had read: many share
    /// it, and their reads have no order.
    OwnWrites,
    /// All that its session wrote. It is read on the primary, which may show a commit later
    /// than a replica did.
    InTransaction,
    /// All that was answered so long before.
    Within(Duration),
    /// Nothing but that it was written.
    Nothing,
}

/// What became of a write.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub enum Fate {
    /// It was answered.
    Done,
    /// It was rolled back, or its commit never sent.
    Undone,
    /// An error came instead of the answer: it may have happened, or happen later.
    Unknown(String),
}

#[derive(Clone, Debug, Serialize)]
pub enum Action {
    /// Gave all of `keys` one version, if it is known.
    Write { keys: Vec<Key>, version: Option<Version>, fate: Fate },
    /// One statement, or those of a read-only transaction.
    Read { promise: Promise, sights: Vec<Sight>, transaction: Option<Transaction> },
    /// Another session begins where this one is: a fork, or a token resumed elsewhere.
    Descend { to: SessionId, by_token: bool },
    /// This session takes over what another one has.
    Merge { from: SessionId },
    /// A read or a transaction that ended with an error.
    Fail { what: Failed, error: String },
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub enum Transaction {
    /// All its statements see one state.
    Snapshot,
    /// Each statement sees a state of its own, none older than the one before.
    Statements,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub enum Failed {
    /// A lone statement: sealane could have taken it elsewhere.
    Read,
    /// In a transaction, which stays where it began.
    Transaction,
    /// A token that was refused, or not given.
    Token,
    /// Something that had no end.
    Endless,
}

#[derive(Clone, Debug, Serialize)]
pub struct Operation {
    pub number: Author,
    pub client: usize,
    pub session: SessionId,
    pub begun: Moment,
    pub ended: Moment,
    pub action: Action,
}

/// A promotion while clients went on.
#[derive(Clone, Debug)]
pub struct Failover {
    /// The old primary waited for a replica before it answered, and the replica that has most
    /// was promoted: nothing that was answered may be lost.
    pub synchronous: bool,
    /// The old primary was struck.
    pub began: Moment,
    /// From when on each process called the promoted server the primary.
    pub known: [Moment; 2],
    /// Who wrote what the new primary has in the end.
    pub survivors: HashSet<Author>,
}

/// Everything that happened.
#[derive(Debug)]
pub struct History {
    pub failover: Option<Failover>,
    pub keys: usize,
    /// Rows that are only ever written two at once: the first with the second, and so on.
    pub pairs: Range<Key>,
    /// The addresses of servers that were no replicas in the end.
    pub primaries: Vec<String>,
    pub operations: Vec<Operation>,
}

impl History {
    /// The key that is always written together with `key`.
    pub fn partner(&self, key: Key) -> Option<Key> {
        let start = self.pairs.start;
        self.pairs.contains(&key).then(|| start + ((key - start) ^ 1))
    }

    /// Whether a promotion lost what `author` wrote; so it is, too, if it was never done.
    pub fn is_lost(&self, author: Author) -> bool {
        let survives = |failover: &Failover| failover.survivors.contains(&author);
        author != 0 && self.failover.as_ref().is_some_and(|failover| !survives(failover))
    }

    /// Whether `operation` began when its process could not know who was the primary.
    pub fn is_in_doubt(&self, operation: &Operation) -> bool {
        self.failover.as_ref().is_some_and(|failover| {
            let known = failover.known[process_of(operation.session)];
            (failover.began..known).contains(&operation.begun)
        })
    }
}
