//! What a history breaks of the promises. Pure: a history in, violations out.
//!
//! The history is replayed in the order of its clock. What a session knows when a read begins is
//! the least that the read has to show; what is answered meanwhile may be in it or not. So the
//! verdict is right for operations that overlap, too, within one session and among several.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    time::Duration,
};

use crate::history::{
    Action, Author, Cell, Fate, History, Key, LONGEST, Moment, Operation, PROCESS, Promise,
    SessionId, Sight, Transaction, Version, process_of,
};

/// What can be wrong with a read.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Fault {
    /// It misses what its session wrote.
    OwnWriteMissed,
    /// It is older than what its session has read.
    BackInTime,
    /// It misses what was answered before its bound.
    TooStale,
    /// It shows two states where there must be one.
    TornSnapshot,
    /// It shows what nobody wrote, what was rolled back, or what is only written later.
    NeverWritten,
    /// A write that was answered is not there after a promotion, though a replica had it.
    Lost,
    /// A write was answered by the old primary when its process knew the new one.
    AnsweredByOld,
    /// It shows what the promotion had lost, when its process knew the new primary.
    ReadFromOld,
    /// It took longer than anything may.
    Endless,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Violation {
    pub fault: Fault,
    pub operation: Author,
    pub key: Key,
    pub read: Version,
    /// The least version, or the other one, that it should have read.
    pub owed: Version,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fault, operation, key, read, owed } = self;
        match fault {
            Fault::Endless => write!(f, "operation {operation} took {read} ms"),
            Fault::Lost | Fault::AnsweredByOld => {
                write!(f, "{fault:?}: operation {operation} wrote version {read} of {key}")
            }
            _ => write!(
                f,
                "{fault:?}: operation {operation} read version {read} of {key}, not {owed}"
            ),
        }
    }
}

/// All that is wrong with `history`, in the order of its clock.
pub fn violations(history: &History) -> Vec<Violation> {
    let operations = &history.operations;
    let mut events: Vec<(Moment, usize)> = Vec::with_capacity(operations.len() * 2);
    for (index, operation) in operations.iter().enumerate() {
        events.extend([(operation.begun, index), (operation.ended, index)]);
    }
    events.sort_unstable();
    let mut replay = Replay::new(history);
    for (moment, index) in events {
        let operation = &operations[index];
        if moment == operation.begun {
            replay.begin(operation);
        } else {
            replay.end(operation);
        }
    }
    replay.found
}

/// By key, the least version that a session may read.
#[derive(Clone, Debug, Default)]
struct Past {
    written: Vec<Version>,
    seen: Vec<Version>,
}

impl Past {
    fn new(keys: usize) -> Self {
        Self { written: vec![0; keys], seen: vec![0; keys] }
    }

    fn of(&self, key: Key, on_primary: bool) -> Known {
        Known { written: self.written[key], seen: self.seen[key], on_primary }
    }

    fn absorb(&mut self, other: &Self) {
        let raise = |ours: &mut [Version], theirs: &[Version]| {
            ours.iter_mut().zip(theirs).for_each(|(ours, theirs)| *ours = (*ours).max(*theirs));
        };
        raise(&mut self.written, &other.written);
        raise(&mut self.seen, &other.seen);
    }
}

/// What a session knows of one key when it reads that, and where it reads.
#[derive(Clone, Copy, Debug)]
struct Known {
    written: Version,
    seen: Version,
    on_primary: bool,
}

/// A write, as seen by whoever reads what it wrote.
#[derive(Debug)]
struct Source<'h> {
    begun: Moment,
    keys: &'h [Key],
    version: Option<Version>,
    fate: &'h Fate,
}

#[derive(Debug)]
struct Replay<'h> {
    history: &'h History,
    sources: HashMap<Author, Source<'h>>,
    /// By key: when a write was answered, and the greatest version answered by then.
    answered: Vec<Vec<(Moment, Version)>>,
    pasts: HashMap<SessionId, Past>,
    /// What the session, or the one that it merges, knew when the operation began.
    running: HashMap<Author, Past>,
    found: Vec<Violation>,
}

impl<'h> Replay<'h> {
    fn new(history: &'h History) -> Self {
        let mut replay = Self {
            history,
            sources: HashMap::new(),
            answered: vec![Vec::new(); history.keys],
            pasts: HashMap::new(),
            running: HashMap::new(),
            found: Vec::new(),
        };
        for operation in &history.operations {
            let Action::Write { keys, version, fate } = &operation.action else { continue };
            let source = Source { begun: operation.begun, keys, version: *version, fate };
            replay.sources.insert(operation.number, source);
            if let (Fate::Done, Some(version), false) =
                (fate, version, history.is_lost(operation.number))
            {
                keys.iter().for_each(|key| replay.answered[*key].push((operation.ended, *version)));
            }
        }
        for answered in &mut replay.answered {
            answered.sort_unstable();
            let mut greatest = 0;
            for (_, version) in answered {
                greatest = greatest.max(*version);
                *version = greatest;
            }
        }
        replay
    }

    fn begin(&mut self, operation: &Operation) {
        let session = match operation.action {
            Action::Write { .. } | Action::Fail { .. } => return,
            Action::Read { .. } | Action::Descend { .. } => operation.session,
            Action::Merge { from } => from,
        };
        let past = self.past(session).clone();
        self.running.insert(operation.number, past);
    }

    fn end(&mut self, operation: &Operation) {
        let known = self.running.remove(&operation.number).unwrap_or_default();
        self.judge_time(operation);
        match &operation.action {
            Action::Write { keys, version, fate: Fate::Done }
                if self.history.is_lost(operation.number) =>
            {
                self.judge_loss(operation, keys, version.unwrap_or_default());
            }
            Action::Write { keys, version: Some(version), fate: Fate::Done } => {
                for session in [operation.session, PROCESS[process_of(operation.session)]] {
                    let written = &mut self.past(session).written;
                    keys.iter().for_each(|key| written[*key] = written[*key].max(*version));
                }
            }
            Action::Write { .. } | Action::Fail { .. } => {}
            Action::Descend { to, .. } => self.past(*to).absorb(&known),
            Action::Merge { .. } => self.past(operation.session).absorb(&known),
            Action::Read { promise, sights, transaction } => {
                for sight in sights {
                    let on_primary = self.history.primaries.contains(&sight.place);
                    for cell in &sight.cells {
                        let known = known.of(cell.key, on_primary);
                        self.judge_source(operation, cell);
                        self.judge_server(operation, *promise, cell);
                        self.judge_promise(operation, *promise, known, cell);
                    }
                }
                self.judge_states(operation, sights, *transaction);
                if *promise != Promise::OwnWrites {
                    let history = self.history;
                    let past = self.past(operation.session);
                    let cells = sights.iter().flat_map(|sight| &sight.cells);
                    // What a promotion loses nobody can be shown again.
                    for cell in cells.filter(|cell| !history.is_lost(cell.author)) {
                        past.seen[cell.key] = past.seen[cell.key].max(cell.version);
                    }
                }
            }
        }
    }

    fn past(&mut self, session: SessionId) -> &mut Past {
        self.pasts.entry(session).or_insert_with(|| Past::new(self.history.keys))
    }

    fn accuse(&mut self, fault: Fault, operation: &Operation, cell: &Cell, owed: Version) {
        let (operation, key, read) = (operation.number, cell.key, cell.version);
        self.found.push(Violation { fault, operation, key, read, owed });
    }

    fn judge_time(&mut self, operation: &Operation) {
        let took = Duration::from_nanos(operation.ended.0.saturating_sub(operation.begun.0));
        if took >= LONGEST {
            let took_ms = i64::try_from(took.as_millis()).unwrap_or(i64::MAX);
            let cell = Cell { key: 0, version: took_ms, author: operation.number };
            self.accuse(Fault::Endless, operation, &cell, 0);
        }
    }

    /// A write that was answered, and that the new primary does not have.
    fn judge_loss(&mut self, operation: &Operation, keys: &[Key], version: Version) {
        let Some(failover) = &self.history.failover else { return };
        let fault = if operation.ended > failover.known[process_of(operation.session)] {
            Fault::AnsweredByOld
        } else if failover.synchronous {
            Fault::Lost
        } else {
            // Nothing can be done about it.
            return;
        };
        let key = keys.first().copied().unwrap_or_default();
        self.accuse(fault, operation, &Cell { key, version, author: operation.number }, 0);
    }

    /// A read of what is lost, by a process that knows better.
    fn judge_server(&mut self, operation: &Operation, promise: Promise, cell: &Cell) {
        let Some(failover) = &self.history.failover else { return };
        let knows = operation.begun > failover.known[process_of(operation.session)];
        if knows && promise != Promise::Nothing && self.history.is_lost(cell.author) {
            self.accuse(Fault::ReadFromOld, operation, cell, 0);
        }
    }

    fn judge_source(&mut self, operation: &Operation, cell: &Cell) {
        let is_first = (cell.version, cell.author) == (0, 0);
        let is_written = self.sources.get(&cell.author).is_some_and(|source| {
            source.keys.contains(&cell.key)
                && source.begun < operation.ended
                && *source.fate != Fate::Undone
                && source.version.is_none_or(|version| version == cell.version)
        });
        if !is_first && !is_written {
            self.accuse(Fault::NeverWritten, operation, cell, 0);
        }
    }

    fn judge_promise(
        &mut self,
        operation: &Operation,
        promise: Promise,
        known: Known,
        cell: &Cell,
    ) {
        let Known { written, seen, on_primary } = known;
        match promise {
            Promise::Session | Promise::OwnWrites | Promise::InTransaction
                if cell.version < written =>
            {
                self.accuse(Fault::OwnWriteMissed, operation, cell, written);
            }
            // Replicas may show a write before the primary does, which waits for them or for its
            // own disk: until it is answered the primary may lack it (`WhenAhead`).
            Promise::Session | Promise::OwnWrites
                if on_primary && cell.version >= self.answered_by(cell.key, operation.begun) => {}
            Promise::Session | Promise::OwnWrites if cell.version < seen => {
                self.accuse(Fault::BackInTime, operation, cell, seen);
            }
            // Until its process knows the new primary nobody can say what that one answered.
            Promise::Within(_) if self.history.is_in_doubt(operation) => {}
            Promise::Within(bound) => {
                let owed = self.answered_by(cell.key, operation.begun.before(bound));
                if cell.version < owed {
                    self.accuse(Fault::TooStale, operation, cell, owed);
                }
            }
            Promise::Session | Promise::OwnWrites | Promise::InTransaction | Promise::Nothing => {}
        }
    }

    /// The greatest version of `key` that had been answered before `moment`.
    fn answered_by(&self, key: Key, moment: Moment) -> Version {
        let answered = &self.answered[key];
        let before = answered.partition_point(|(ended, _)| *ended < moment);
        before.checked_sub(1).map_or(0, |last| answered[last].1)
    }

    /// What is read at once is of one state: so are pairs, and all of a snapshot.
    fn judge_states(
        &mut self,
        operation: &Operation,
        sights: &[Sight],
        transaction: Option<Transaction>,
    ) {
        let mut state: BTreeMap<Key, &Cell> = BTreeMap::new();
        for sight in sights {
            let one_state = transaction != Some(Transaction::Statements);
            for cell in &sight.cells {
                match state.get(&cell.key) {
                    Some(other) if one_state && *other != cell => {
                        self.accuse(Fault::TornSnapshot, operation, cell, other.version);
                    }
                    Some(earlier) if cell.version < earlier.version => {
                        self.accuse(Fault::BackInTime, operation, cell, earlier.version);
                    }
                    _ => {}
                }
                state.insert(cell.key, cell);
            }
            let read_at_once: Vec<&Cell> = match one_state {
                true => state.values().copied().collect(),
                false => sight.cells.iter().collect(),
            };
            self.judge_pairs(operation, &read_at_once);
        }
    }

    fn judge_pairs(&mut self, operation: &Operation, read_at_once: &[&Cell]) {
        for cell in read_at_once {
            let Some(partner) = self.history.partner(cell.key).filter(|key| *key > cell.key) else {
                continue;
            };
            let partner = read_at_once.iter().find(|other| other.key == partner);
            if let Some(other) = partner
                && (other.version, other.author) != (cell.version, cell.author)
            {
                self.accuse(Fault::TornSnapshot, operation, cell, other.version);
            }
        }
    }
}

#[cfg(test)]
#[path = "verdict/tests.rs"]
mod tests;
