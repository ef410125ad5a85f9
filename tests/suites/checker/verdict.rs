//! What a history breaks of the promises. Pure: a history in, violations out.
//!
//! The history is replayed in the order of its clock. What a session knows when a read begins is
//! the least that the read has to show; what is answered meanwhile may be in it or not. So the
//! verdict is right for operations that overlap, too, within one session and among several.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use crate::history::{
    Action, Author, Cell, Fate, History, Key, Moment, Operation, Promise, SessionId, Sight,
    Transaction, Version,
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
        write!(f, "{fault:?}: operation {operation} read version {read} of {key}, not {owed}")
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

    fn absorb(&mut self, other: &Self) {
        let raise = |ours: &mut [Version], theirs: &[Version]| {
            ours.iter_mut().zip(theirs).for_each(|(ours, theirs)| *ours = (*ours).max(*theirs));
        };
        raise(&mut self.written, &other.written);
        raise(&mut self.seen, &other.seen);
    }
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
            if let (Fate::Done, Some(version)) = (fate, version) {
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
        match &operation.action {
            Action::Write { keys, version: Some(version), fate: Fate::Done } => {
                let past = self.past(operation.session);
                keys.iter().for_each(|key| past.written[*key] = past.written[*key].max(*version));
            }
            Action::Write { .. } | Action::Fail { .. } => {}
            Action::Descend { to, .. } => self.past(*to).absorb(&known),
            Action::Merge { .. } => self.past(operation.session).absorb(&known),
            Action::Read { promise, sights, transaction } => {
                for cell in sights.iter().flat_map(|sight| &sight.cells) {
                    self.judge_source(operation, cell);
                    self.judge_promise(operation, *promise, &known, cell);
                }
                self.judge_states(operation, sights, *transaction);
                if *promise != Promise::OwnWrites {
                    let past = self.past(operation.session);
                    for cell in sights.iter().flat_map(|sight| &sight.cells) {
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
        known: &Past,
        cell: &Cell,
    ) {
        let (written, seen) = (known.written[cell.key], known.seen[cell.key]);
        match promise {
            Promise::Session | Promise::OwnWrites if cell.version < written => {
                self.accuse(Fault::OwnWriteMissed, operation, cell, written);
            }
            Promise::Session if cell.version < seen => {
                self.accuse(Fault::BackInTime, operation, cell, seen);
            }
            Promise::Within(bound) => {
                let owed = self.answered_by(cell.key, operation.begun.before(bound));
                if cell.version < owed {
                    self.accuse(Fault::TooStale, operation, cell, owed);
                }
            }
            Promise::Session | Promise::OwnWrites | Promise::Nothing => {}
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
mod tests {
    use std::time::Duration;

    use super::*;

    /// A history by hand: keys 0 and 1 stand alone, 2 and 3 are a pair. Every operation takes
    /// ten nanoseconds, and begins when the one before has ended.
    struct Log(History);

    impl Log {
        fn new() -> Self {
            Self(History { keys: 4, pairs: 2..4, operations: Vec::new() })
        }

        fn add(mut self, session: SessionId, action: Action) -> Self {
            let number = i64::try_from(self.0.operations.len()).unwrap() + 1;
            let begun = Moment(number.cast_unsigned() * 20);
            let ended = Moment(begun.0 + 10);
            let operation = Operation { number, client: 0, session, begun, ended, action };
            self.0.operations.push(operation);
            self
        }

        fn ending_at(mut self, ended: u64) -> Self {
            self.0.operations.last_mut().unwrap().ended = Moment(ended);
            self
        }

        fn write(self, session: SessionId, keys: &[Key], version: Version, fate: Fate) -> Self {
            self.add(session, Action::Write { keys: keys.into(), version: Some(version), fate })
        }

        fn done(self, session: SessionId, keys: &[Key], version: Version) -> Self {
            self.write(session, keys, version, Fate::Done)
        }

        fn reads(
            self,
            session: SessionId,
            promise: Promise,
            cells: &[(Key, Version, Author)],
        ) -> Self {
            let sights = vec![sight(cells)];
            self.add(session, Action::Read { promise, sights, transaction: None })
        }

        fn read(self, session: SessionId, key: Key, version: Version, author: Author) -> Self {
            self.reads(session, Promise::Session, &[(key, version, author)])
        }

        fn transaction(self, kind: Transaction, sights: &[&[(Key, Version, Author)]]) -> Self {
            let sights = sights.iter().map(|cells| sight(cells)).collect();
            let promise = Promise::Session;
            self.add(9, Action::Read { promise, sights, transaction: Some(kind) })
        }

        fn faults(&self) -> Vec<(Fault, Author)> {
            violations(&self.0).iter().map(|found| (found.fault, found.operation)).collect()
        }
    }

    fn sight(cells: &[(Key, Version, Author)]) -> Sight {
        let cell = |&(key, version, author): &_| Cell { key, version, author };
        Sight { place: "here".to_owned(), cells: cells.iter().map(cell).collect() }
    }

    #[test]
    fn a_history_without_fault_passes() {
        let log = Log::new()
            .read(1, 0, 0, 0)
            .done(1, &[0], 1)
            .read(1, 0, 1, 2)
            .reads(2, Promise::Nothing, &[(0, 0, 0)])
            .read(3, 0, 0, 0)
            .done(2, &[2, 3], 1)
            .reads(1, Promise::Within(Duration::ZERO), &[(2, 1, 6), (3, 1, 6)])
            .transaction(Transaction::Snapshot, &[&[(2, 0, 0)], &[(2, 0, 0), (3, 0, 0)]])
            .transaction(Transaction::Statements, &[&[(2, 0, 0)], &[(2, 1, 6), (3, 1, 6)]]);
        assert_eq!(log.faults(), []);
    }

    #[test]
    fn a_session_that_misses_its_write_is_found() {
        let log = Log::new().done(1, &[0], 1).read(1, 0, 0, 0);
        assert_eq!(log.faults(), [(Fault::OwnWriteMissed, 2)]);
        let log = Log::new().done(0, &[0], 1).reads(0, Promise::OwnWrites, &[(0, 0, 0)]);
        assert_eq!(log.faults(), [(Fault::OwnWriteMissed, 2)]);
    }

    #[test]
    fn a_write_that_was_not_answered_before_the_read_began_is_not_owed() {
        let log = Log::new().done(1, &[0], 1).ending_at(50).read(1, 0, 0, 0);
        assert_eq!(log.faults(), []);
        let lost = Fate::Unknown("connection lost".to_owned());
        let log = Log::new().write(1, &[0], 1, lost).read(1, 0, 0, 0).read(1, 0, 1, 1);
        assert_eq!(log.faults(), []);
    }

    #[test]
    fn a_session_that_goes_back_in_time_is_found() {
        let log = Log::new().done(1, &[0], 1).read(2, 0, 1, 1).read(2, 0, 0, 0);
        assert_eq!(log.faults(), [(Fault::BackInTime, 3)]);
        // Whatever was asked of the read that saw it.
        let seen = [(0, 1, 1)];
        let log = Log::new().done(1, &[0], 1).reads(2, Promise::Nothing, &seen).read(2, 0, 0, 0);
        assert_eq!(log.faults(), [(Fault::BackInTime, 3)]);
    }

    #[test]
    fn reads_that_many_share_have_no_order() {
        let [new, old] = [[(0, 1, 1)], [(0, 0, 0)]];
        let log = Log::new().done(1, &[0], 1).reads(0, Promise::OwnWrites, &new).reads(
            0,
            Promise::OwnWrites,
            &old,
        );
        assert_eq!(log.faults(), []);
    }

    #[test]
    fn what_a_session_knows_goes_along_with_forks_merges_and_tokens() {
        let descend = |by_token| Action::Descend { to: 2, by_token };
        for by_token in [false, true] {
            let log = Log::new().done(1, &[0], 1).add(1, descend(by_token)).read(2, 0, 0, 0);
            assert_eq!(log.faults(), [(Fault::OwnWriteMissed, 3)]);
        }
        // But not what comes later, and not the other way.
        let log = Log::new()
            .add(1, descend(false))
            .done(1, &[0], 1)
            .read(2, 0, 0, 0)
            .done(2, &[1], 1)
            .read(1, 1, 0, 0);
        assert_eq!(log.faults(), []);
        let merge = Action::Merge { from: 1 };
        let log = Log::new()
            .done(3, &[0], 1)
            .read(1, 0, 1, 1)
            .read(2, 0, 0, 0)
            .add(2, merge)
            .read(2, 0, 0, 0);
        assert_eq!(log.faults(), [(Fault::BackInTime, 5)]);
    }

    #[test]
    fn a_read_beyond_its_bound_is_found() {
        // Answered at 30; the read begins at 40.
        let read = |bound| {
            let promise = Promise::Within(Duration::from_nanos(bound));
            Log::new().done(1, &[0], 1).reads(2, promise, &[(0, 0, 0)])
        };
        assert_eq!(read(9).faults(), [(Fault::TooStale, 2)]);
        assert_eq!(read(10).faults(), []);
    }

    #[test]
    fn a_bound_owes_the_greatest_version_and_not_the_last_answer() {
        let log = Log::new().done(1, &[0], 2).done(1, &[0], 1).reads(
            2,
            Promise::Within(Duration::ZERO),
            &[(0, 1, 2)],
        );
        assert_eq!(log.faults(), [(Fault::TooStale, 3)]);
    }

    #[test]
    fn a_torn_snapshot_is_found() {
        let torn = [(2, 1, 1), (3, 0, 0)];
        let log = Log::new().done(1, &[2, 3], 1).reads(2, Promise::Session, &torn);
        assert_eq!(log.faults(), [(Fault::TornSnapshot, 2)]);
        let [old, new]: [&[_]; 2] = [&[(0, 0, 0)], &[(0, 1, 1)]];
        let log = Log::new().done(1, &[0], 1).transaction(Transaction::Snapshot, &[old, new]);
        assert_eq!(log.faults(), [(Fault::TornSnapshot, 2)]);
        // A pair read one after the other.
        let [first, second]: [&[_]; 2] = [&[(2, 0, 0)], &[(3, 1, 1)]];
        let log =
            Log::new().done(1, &[2, 3], 1).transaction(Transaction::Snapshot, &[first, second]);
        assert_eq!(log.faults(), [(Fault::TornSnapshot, 2)]);
        let log =
            Log::new().done(1, &[2, 3], 1).transaction(Transaction::Statements, &[first, second]);
        assert_eq!(log.faults(), []);
    }

    #[test]
    fn a_transaction_that_goes_back_in_time_is_found() {
        let [old, new]: [&[_]; 2] = [&[(0, 0, 0)], &[(0, 1, 1)]];
        let log = Log::new().done(1, &[0], 1).transaction(Transaction::Statements, &[new, old]);
        assert_eq!(log.faults(), [(Fault::BackInTime, 2)]);
    }

    #[test]
    fn what_nobody_wrote_is_found() {
        let never = [(Fault::NeverWritten, 2)];
        let undone = Log::new().write(1, &[0], 1, Fate::Undone).read(2, 0, 1, 1);
        assert_eq!(undone.faults(), never);
        let of_another_key = Log::new().done(1, &[0], 1).read(2, 1, 1, 1);
        assert_eq!(of_another_key.faults(), never);
        let of_another_version = Log::new().done(1, &[0], 1).read(2, 0, 2, 1);
        assert_eq!(of_another_version.faults(), never);
        let by_nobody = Log::new().done(1, &[0], 1).read(2, 0, 1, 77);
        assert_eq!(by_nobody.faults(), never);
        let from_the_future = Log::new().read(2, 0, 1, 2).done(1, &[0], 1);
        assert_eq!(from_the_future.faults(), [(Fault::NeverWritten, 1)]);
        let no_such_row = Log::new().done(1, &[0], 1).read(2, 0, -1, 0);
        assert!(no_such_row.faults().contains(&never[0]));
    }
}
