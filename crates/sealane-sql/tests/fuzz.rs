//! Classifies random texts for `SEALANE_FUZZ_SECONDS` seconds (default: 10).
//!
//! The texts are made from the cases. The test searches for panics, for texts that take long, and
//! for answers that contradict themselves. It also asks SQLite itself whether a text that we call a
//! read is one. `SEALANE_FUZZ_SEED` selects other texts; a failure prints its text and seed.

#![allow(clippy::disallowed_methods, reason = "tests measure and bound time")]

#[path = "support/mutation.rs"]
mod mutation;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use fastrand::Rng;
use rusqlite::Connection;
use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use sealane_sql::{Classification, Classifier, Dialect, classify};

const DIALECTS: [Dialect; 3] = [Dialect::PostgreSql, Dialect::MySql, Dialect::Sqlite];
/// The default seed gives the same texts in each run, so that a failure comes from the current
/// change. Set another seed for new texts.
const DEFAULT_SEED: u64 = 20_261_121;
/// Smaller than the stack that any runtime gives its threads.
const STACK_BYTES: usize = 1024 * 1024;
/// Time limit for one text of a few kilobytes, in a debug build on a busy machine.
const LONGEST: Duration = Duration::from_secs(2);
/// A text that takes longer so often in a row is slow itself; a machine stalls once.
const TRIES: u32 = 3;

const SCHEMA: &str = "
    CREATE TABLE t (a, b, c, d, x, y, id INTEGER PRIMARY KEY, name TEXT);
    CREATE TABLE u (a, b, c, id INTEGER PRIMARY KEY, name TEXT);
    CREATE TABLE cake (id INTEGER PRIMARY KEY, name TEXT, price, x);
    CREATE TABLE fruit (id INTEGER PRIMARY KEY, name TEXT, cake_id);
    CREATE VIEW v AS SELECT id, name FROM cake;
";

#[derive(serde::Deserialize)]
struct File {
    case: Vec<Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    sql: String,
}

fn seeds() -> Vec<String> {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut pending = vec![directory];
    let mut seeds = Vec::new();
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(&directory).expect("a directory of cases") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                pending.push(path);
            } else {
                let text = std::fs::read_to_string(&path).expect("a readable file");
                let file: File = toml::from_str(&text).expect("a file of cases");
                seeds.extend(file.case.into_iter().map(|case| case.sql));
            }
        }
    }
    // The order of files in a directory differs between machines, but a seed must give the same
    // texts everywhere.
    seeds.sort();
    seeds
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn random_texts_are_answered_and_sqlite_agrees() {
    let seed = variable("SEALANE_FUZZ_SEED").unwrap_or(DEFAULT_SEED);
    let seconds = variable("SEALANE_FUZZ_SECONDS").unwrap_or(10);
    let hunt = move || Hunt::default().run(Rng::with_seed(seed), Duration::from_secs(seconds));
    let hunter = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(hunt);
    match hunter.expect("a thread").join().expect("an end") {
        Ok(hunt) => println!("{hunt:?}"),
        Err(found) => panic!("SEALANE_FUZZ_SEED={seed}: {found}"),
    }
}

/// What the test has checked.
#[derive(Debug, Default)]
struct Hunt {
    texts: u64,
    reads: u64,
    confirmed_by_sqlite: u64,
}

impl Hunt {
    fn run(mut self, mut rng: Rng, limit: Duration) -> Result<Self, String> {
        let (seeds, sqlite) = (seeds(), Sqlite::open());
        let started = Instant::now();
        while started.elapsed() < limit {
            let sql = mutation::mutated(&seeds, &mut rng);
            self.texts += 1;
            for dialect in DIALECTS {
                self.look_at(&sql, dialect, &sqlite)?;
            }
        }
        // Otherwise the test has checked nothing.
        if self.reads > self.texts / 100 && self.confirmed_by_sqlite > 0 {
            Ok(self)
        } else {
            Err(format!("too little was looked at: {self:?}"))
        }
    }

    fn look_at(&mut self, sql: &str, dialect: Dialect, sqlite: &Sqlite) -> Result<(), String> {
        let found = answered(sql, dialect)?;
        self.reads += u64::from(found.may_leave_primary());
        if dialect == Dialect::Sqlite && found.may_leave_primary() {
            match sqlite.objection(sql) {
                Verdict::Pure => self.confirmed_by_sqlite += 1,
                Verdict::NotPrepared => {}
                Verdict::Objection(why) => return Err(format!("SQLite: {why}: {sql:?}")),
            }
        }
        Ok(())
    }
}

/// The classification, unless it panics or takes long each time.
fn answered(sql: &str, dialect: Dialect) -> Result<Classification, String> {
    for _ in 0..TRIES {
        let began = Instant::now();
        let found = catch_unwind(AssertUnwindSafe(|| checked(sql, dialect)))
            .map_err(|_| format!("{dialect:?}: {sql:?}"))?;
        if began.elapsed() <= LONGEST {
            return Ok(found);
        }
    }
    Err(format!("{dialect:?} takes long: {sql:?}"))
}

/// The classification, after a check that it does not contradict itself.
fn checked(sql: &str, dialect: Dialect) -> Classification {
    let found = classify(sql, dialect);
    assert_eq!(found.may_leave_primary(), found.findings.is_empty());
    let quick = Classifier::new(dialect).look_up(sql);
    assert!(quick.intent == found.intent, "{quick}, and with a tree {found}");
    assert!(!quick.may_leave_primary() || *quick == found, "{quick:?}\n{found:?}");
    for place in found.findings.iter().filter_map(|finding| finding.place) {
        assert!(sql.get(place.range()).is_some(), "{place:?} is no place");
    }
    let _ = found.annotate(sql).to_string();
    let _ = (found.to_string(), found.cost.to_string());
    found
}

/// SQLite's verdict.
enum Verdict {
    Pure,
    /// An error, such as an unknown column or wrong syntax: the text would fail on a replica too.
    NotPrepared,
    Objection(String),
}

struct Sqlite(Connection);

impl Sqlite {
    fn open() -> Self {
        let connection = Connection::open_in_memory().expect("a database in memory");
        connection.execute_batch(SCHEMA).expect("the schema");
        Self(connection)
    }

    /// Prepares each statement and checks what it would do.
    fn objection(&self, sql: &str) -> Verdict {
        let (tell, told) = std::sync::mpsc::channel();
        let watch = move |context: AuthContext<'_>| {
            if let Some(why) = objection_to(&context.action) {
                // The receiver lives as long as this function.
                let _ = tell.send(why);
            }
            Authorization::Allow
        };
        self.0.authorizer(Some(watch)).expect("an authorizer");
        let mut batch = rusqlite::Batch::new(&self.0, sql);
        let mut verdict = Verdict::NotPrepared;
        loop {
            let next = batch.next();
            let why = told.try_iter().next();
            match (next, why) {
                // After an error, nothing of what the statement asked for will be done.
                (Err(_), _) => return Verdict::NotPrepared,
                (Ok(None), _) => return verdict,
                (Ok(Some(_)), Some(why)) => return Verdict::Objection(why),
                (Ok(Some(statement)), None) if statement.readonly() => verdict = Verdict::Pure,
                (Ok(Some(_)), None) => return Verdict::Objection("not read-only".to_owned()),
            }
        }
    }
}

/// Objects to every action except reading.
fn objection_to(action: &AuthAction<'_>) -> Option<String> {
    match action {
        AuthAction::Select | AuthAction::Read { .. } | AuthAction::Recursive => None,
        AuthAction::Function { function_name } => {
            let impure = [
                "last_insert_rowid",
                "changes",
                "total_changes",
                "load_extension",
                "fts3_tokenizer",
            ];
            impure.contains(function_name).then(|| format!("calls {function_name}"))
        }
        // A pragma with a value may set something; only a few pragmas read with a value.
        AuthAction::Pragma { pragma_name, pragma_value } => {
            let reads = ["table_", "index_", "foreign_key_", "quick_check", "integrity_check"];
            let name = pragma_name.to_ascii_lowercase();
            let is_read = pragma_value.is_none() || reads.iter().any(|it| name.starts_with(it));
            (!is_read).then(|| format!("sets {pragma_name}"))
        }
        // Reading a virtual table, such as a pragma's table, first declares it in memory.
        AuthAction::CreateVtable { .. } | AuthAction::DropVtable { .. } => None,
        other => Some(format!("{other:?}")),
    }
}

#[test]
fn sqlite_objects_to_statements_that_are_no_reads() {
    let sqlite = Sqlite::open();
    let objects = |sql: &str| matches!(sqlite.objection(sql), Verdict::Objection(_));
    for sql in [
        "INSERT INTO t (a) VALUES (1)",
        "SELECT 1; DELETE FROM t",
        "PRAGMA user_version = 1",
        "ATTACH ':memory:' AS x",
        "BEGIN",
        "SELECT last_insert_rowid()",
        "CREATE TEMP TABLE x (a)",
    ] {
        assert!(objects(sql), "{sql}");
    }
    for sql in ["SELECT a FROM t", "PRAGMA table_info(t)", "SELECT * FROM pragma_table_info('t')"] {
        assert!(matches!(sqlite.objection(sql), Verdict::Pure), "{sql}");
    }
    assert!(matches!(sqlite.objection("SELECT nothing FROM nowhere"), Verdict::NotPrepared));
}
