//! What was told, as a history.

use std::{collections::HashMap, path::Path, time::Duration};

use crate::{
    history::{Action, Cell, Fate, History, Moment, Operation, Promise, Sight, Transaction},
    load::{END, KEYS},
};

/// What was told, as a history.
#[derive(Default)]
pub struct Record {
    begun: HashMap<i64, (usize, Moment, usize)>,
    operations: Vec<Operation>,
    failures: Vec<String>,
    latest: u64,
}

impl Record {
    pub fn of(told: &str) -> Self {
        let mut record = Record::default();
        told.lines().for_each(|line| record.note(line));
        record
    }

    pub fn note(&mut self, line: &str) {
        let Some(line) = line.strip_suffix(END) else { return };
        let mut words = line.trim_end().splitn(2, ' ');
        let (Some(kind), Some(rest)) = (words.next(), words.next()) else { return };
        let numbers: Vec<u64> = rest.split(' ').map_while(|word| word.parse().ok()).collect();
        let number = numbers.first().map_or(0, |it| i64::try_from(*it).unwrap());
        match (kind, &*numbers) {
            ("B", &[_, session, begun, key]) => {
                let (session, key) = (session.try_into().unwrap(), key.try_into().unwrap());
                self.begun.insert(number, (session, Moment(begun), key));
            }
            ("E", &[_, ended, version]) => {
                self.written(number, ended, Some(version.try_into().unwrap()), Fate::Done);
            }
            ("U", &[_, ended]) => self.written(number, ended, None, Fate::Undone),
            ("F", [_, ended, ..]) => {
                self.failures.push(line.to_owned());
                self.written(number, *ended, None, Fate::Unknown(line.to_owned()));
            }
            ("R", [_, session, begun, ended, ..]) => {
                let cells: Vec<&str> = rest.split(' ').skip(4).collect();
                let session = usize::try_from(*session).unwrap();
                self.read(number, session, Moment(*begun), Moment(*ended), &cells);
            }
            // What the harness of tests says.
            _ => {}
        }
    }

    fn written(&mut self, number: i64, ended: u64, version: Option<i64>, fate: Fate) {
        let Some((session, begun, key)) = self.begun.remove(&number) else { return };
        self.latest = self.latest.max(ended);
        let action = Action::Write { keys: vec![key, key + 1], version, fate };
        let ended = Moment(ended.max(begun.0 + 1));
        self.operations.push(Operation { number, client: 0, session, begun, ended, action });
    }

    fn read(&mut self, number: i64, session: usize, begun: Moment, ended: Moment, all: &[&str]) {
        self.latest = self.latest.max(ended.0);
        let sights = all.iter().map(|cells| Sight { place: String::new(), cells: parse(cells) });
        let sights: Vec<_> = sights.collect();
        let transaction = (sights.len() > 1).then_some(Transaction::Snapshot);
        let promise = promise(number);
        let action = Action::Read { promise, sights, transaction };
        self.operations.push(Operation { number, client: 0, session, begun, ended, action });
    }

    /// What a copy of the file alone shows when all is over.
    pub fn last_look(&mut self, path: &Path) {
        // Its number has it held against what everybody was answered.
        self.looks(i64::MAX, 0, cells_in_a_copy(path));
    }

    /// A read of `cells` after everything else.
    pub fn looks(&mut self, number: i64, session: usize, cells: Vec<Cell>) {
        let (begun, ended) = (Moment(self.latest + 1), Moment(self.latest + 2));
        let sights = vec![Sight { place: String::new(), cells }];
        let action = Action::Read { promise: promise(number), sights, transaction: None };
        self.operations.push(Operation { number, client: 0, session, begun, ended, action });
    }

    /// What was begun and not told to be over was killed: it may have happened.
    pub fn into_history(mut self) -> (History, Vec<String>) {
        for number in self.begun.keys().copied().collect::<Vec<_>>() {
            let begun = self.begun[&number].1;
            self.written(number, begun.0 + 1, None, Fate::Unknown("killed".to_owned()));
        }
        let Record { operations, failures, .. } = self;
        let (keys, pairs, primaries) = (KEYS, 0..KEYS, Vec::new());
        (History { failover: None, keys, pairs, primaries, operations }, failures)
    }
}

/// Half of all reads are held against their session, half against everybody.
fn promise(number: i64) -> Promise {
    match number % 4 < 2 {
        true => Promise::Session,
        false => Promise::Within(Duration::ZERO),
    }
}

fn parse(cells: &str) -> Vec<Cell> {
    let cell = |cell: &str| {
        let mut numbers = cell.split(':').map(|number| number.parse::<i64>().unwrap());
        let mut next = || numbers.next().unwrap();
        Cell { key: next().try_into().unwrap(), version: next(), author: next() }
    };
    cells.split(',').map(cell).collect()
}

fn cells_in_a_copy(path: &Path) -> Vec<Cell> {
    let copy = path.with_extension("copy");
    std::fs::copy(path, &copy).unwrap();
    let copied = rusqlite::Connection::open(&copy).unwrap();
    let check: String = copied.query_row("PRAGMA integrity_check", [], |it| it.get(0)).unwrap();
    assert_eq!(check, "ok");
    cells(&copied)
}

/// All cells as `file` shows them.
pub fn cells(file: &rusqlite::Connection) -> Vec<Cell> {
    let mut rows = file.prepare("SELECT key, version, author FROM cell").unwrap();
    let cell = |row: &rusqlite::Row<'_>| {
        let key: i64 = row.get(0)?;
        Ok(Cell { key: key.try_into().unwrap(), version: row.get(1)?, author: row.get(2)? })
    };
    rows.query_map([], cell).unwrap().map(Result::unwrap).collect()
}
