//! Random texts, for as long as `SEALANE_FUZZ_SECONDS` says (default: 10).
//!
//! They are made of the cases. Looked for are panics, texts that take long, and
//! answers that contradict themselves; and SQLite itself is asked whether a text
//! that we call a read is one. `SEALANE_FUZZ_SEED` makes other texts; a failure
//! prints its text and seed.

#[path = "support/mutation.rs"]
mod mutation;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use fastrand::Rng;
use rusqlite::Connection;
use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use sealane_sql::{Classification, Classifier, Dialect, Reason, classify};

const DIALECTS: [Dialect; 3] = [Dialect::PostgreSql, Dialect::MySql, Dialect::Sqlite];
/// The same texts in each run, so that a failure is one of the change at hand. For new
/// ones set another.
const DEFAULT_SEED: u64 = 20_261_121;
/// Smaller than any stack a runtime gives its threads.
const STACK_BYTES: usize = 1024 * 1024;
/// For one text of a few kilobytes, in a debug build on a busy machine.
const LONGEST: Duration = Duration::from_secs(2);

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
    // The order of a directory is not the same everywhere, and the seed shall be.
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

/// What was looked at.
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
        // Or else it has not looked at anything.
        if self.reads > self.texts / 100 && self.confirmed_by_sqlite > 0 {
            Ok(self)
        } else {
            Err(format!("too little was looked at: {self:?}"))
        }
    }

    fn look_at(&mut self, sql: &str, dialect: Dialect, sqlite: &Sqlite) -> Result<(), String> {
        let began = Instant::now();
        let found = catch_unwind(AssertUnwindSafe(|| checked(sql, dialect)))
            .map_err(|_| format!("{dialect:?}: {sql:?}"))?;
        if began.elapsed() > LONGEST {
            return Err(format!("{dialect:?} takes long: {sql:?}"));
        }
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

/// The classification, once it is seen not to contradict itself.
fn checked(sql: &str, dialect: Dialect) -> Classification {
    let found = classify(sql, dialect);
    assert_eq!(found.may_leave_primary(), found.findings.is_empty());
    let quick = Classifier::new(dialect).look_up(sql);
    // What no server would run, the quick way may take for a read.
    let fails = found.findings.iter().all(|finding| finding.reason == Reason::NotParsed);
    assert!(fails || quick.intent == found.intent, "{quick}, and with a tree {found}");
    assert!(fails || !quick.may_leave_primary() || *quick == found, "{quick:?}\n{found:?}");
    for place in found.findings.iter().filter_map(|finding| finding.place) {
        assert!(sql.get(place.range()).is_some(), "{place:?} is no place");
    }
    let _ = found.annotate(sql).to_string();
    let _ = (found.to_string(), found.cost.to_string());
    found
}

/// What SQLite says.
enum Verdict {
    Pure,
    /// No such column, or not its syntax: it would fail on a replica too.
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

    /// Prepares each statement and looks at what it would do.
    fn objection(&self, sql: &str) -> Verdict {
        let (tell, told) = std::sync::mpsc::channel();
        let watch = move |context: AuthContext<'_>| {
            if let Some(why) = objection_to(&context.action) {
                // The other end lives as long as this function.
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
                // What was asked on the way to an error will not be done.
                (Err(_), _) => return Verdict::NotPrepared,
                (Ok(None), _) => return verdict,
                (Ok(Some(_)), Some(why)) => return Verdict::Objection(why),
                (Ok(Some(statement)), None) if statement.readonly() => verdict = Verdict::Pure,
                (Ok(Some(_)), None) => return Verdict::Objection("not read-only".to_owned()),
            }
        }
    }
}

/// Everything but reading.
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
        // With a value it may set; those that read with one are few.
        AuthAction::Pragma { pragma_name, pragma_value } => {
            let reads = ["table_", "index_", "foreign_key_", "quick_check", "integrity_check"];
            let name = pragma_name.to_ascii_lowercase();
            let is_read = pragma_value.is_none() || reads.iter().any(|it| name.starts_with(it));
            (!is_read).then(|| format!("sets {pragma_name}"))
        }
        // Reading a virtual table, such as a pragma's, declares it in memory first.
        AuthAction::CreateVtable { .. } | AuthAction::DropVtable { .. } => None,
        other => Some(format!("{other:?}")),
    }
}

#[test]
fn sqlite_objects_to_what_is_no_read() {
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
