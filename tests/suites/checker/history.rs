//! What clients asked for and what came back, on one clock.

use std::{
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
pub type SessionId = usize;

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
    /// All that its session wrote: many share it, and their reads have no order.
    OwnWrites,
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

/// Everything that happened.
#[derive(Debug)]
pub struct History {
    pub keys: usize,
    /// Rows that are only ever written two at once: the first with the second, and so on.
    pub pairs: Range<Key>,
    pub operations: Vec<Operation>,
}

impl History {
    /// The key that is always written together with `key`.
    pub fn partner(&self, key: Key) -> Option<Key> {
        let start = self.pairs.start;
        self.pairs.contains(&key).then(|| start + ((key - start) ^ 1))
    }
}
