//! One SQLite file under a recorded load of two processes, of which one is killed again and again;
//! and on a disk that is full. The record is held against the promises, which here are the
//! strictest: whatever was answered before a read begins is in it, whoever wrote it.
//!
//! It takes a minute, or `SEALANE_SQLITE_SECONDS`.

#![allow(clippy::unwrap_used, reason = "a test may end there")]
#![allow(clippy::disallowed_methods, reason = "tests measure and bound time")]
#![allow(dead_code, reason = "other checkers use more of the record and the verdict")]

use std::{
    env,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, atomic::Ordering},
    thread::JoinHandle,
    time::Duration,
};

use sea_orm::{ConnectionTrait, DbBackend, Statement};
use sealane::Config;

use history::{Action, Fate, History, process_of};
use load::Load;
use record::Record;
use verdict::Fault;

#[path = "../../../tests/suites/checker/history.rs"]
mod history;
#[path = "sqlite_checker/load.rs"]
mod load;
#[path = "sqlite_checker/record.rs"]
mod record;
#[path = "../../../tests/suites/checker/verdict.rs"]
mod verdict;

/// Said when the disk was full, and all was there.
const FULL: &str = "the small disk was full";
const FILE: &str = "SEALANE_CHECKER_FILE";
/// How long the second process lives before it is killed.
const LIFE: Duration = Duration::from_millis(2500);

fn seconds() -> u64 {
    env::var("SEALANE_SQLITE_SECONDS").ok().and_then(|it| it.parse().ok()).unwrap_or(60)
}

/// What processes tell, in the order of its arrival.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<u8>>>);

impl Told {
    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
    }
}

impl Write for Told {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// This test again, as another process.
fn second(name: &str, path: &Path, first: usize) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", name, "--nocapture"])
        .env(FILE, path)
        .env("SEALANE_CHECKER_FIRST", first.to_string());
    command
}

/// Starts it; what it tells is collected.
fn start(path: &Path, first: usize, told: &Told) -> (Child, JoinHandle<()>) {
    let mut child =
        second("the_second_process", path, first).stdout(Stdio::piped()).spawn().unwrap();
    let (lines, mut told) = (BufReader::new(child.stdout.take().unwrap()), told.clone());
    let reader = std::thread::spawn(move || {
        for line in lines.lines().map_while(Result::ok) {
            told.write_all(format!("{line}\n").as_bytes()).unwrap();
        }
    });
    (child, reader)
}

/// Does nothing unless it is told a file. It lives until it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_process() {
    let (Ok(path), Ok(first)) = (env::var(FILE), env::var("SEALANE_CHECKER_FIRST")) else { return };
    let db = sealane::connect(Config::sqlite(path)).await.unwrap();
    let first = first.parse().unwrap();
    // The harness may have begun a line.
    println!();
    Load::new(db, 1, first, std::io::stdout(), Duration::from_secs(600)).run(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_promise_holds_beside_a_process_that_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cells.db");
    let db = load::prepare(&path).await.unwrap();
    let told = Told::default();
    let time = Duration::from_secs(seconds());
    let load = Arc::new(Load::new(db.clone(), 0, 0, told.clone(), time));
    let running = tokio::spawn({
        let load = Arc::clone(&load);
        async move { load.run(true).await }
    });
    let mut kills = 0;
    while !running.is_finished() {
        // Numbers that none of those before it can have used.
        let (mut child, reader) = start(&path, (kills + 1) * 10_000_000, &told);
        tokio::time::sleep(LIFE).await;
        assert!(child.try_wait().unwrap().is_none(), "the second process ended by itself");
        child.kill().unwrap();
        child.wait().unwrap();
        tokio::task::spawn_blocking(move || reader.join().unwrap()).await.unwrap();
        kills += 1;
    }
    running.await.unwrap();
    let mut done = Done::of(&load, kills);
    drop(load);
    db.close().await.unwrap();
    assert!(!path.with_extension("db-wal").exists(), "a log is left");

    let told = told.take();
    let mut record = Record::of(&told);
    record.last_look(&path);
    let (history, failures) = record.into_history();
    done.count(&history);
    let found = verdict::violations(&history);
    println!("{done:?}, {} errors, {} violations", failures.len(), found.len());
    if !found.is_empty() || !failures.is_empty() {
        let kept = env::temp_dir().join("sealane-sqlite-checker.txt");
        std::fs::write(&kept, &told).unwrap();
        let shown: Vec<_> = found.iter().take(10).map(ToString::to_string).collect();
        panic!("{shown:?} {:?}; all of it in {}", failures.first(), kept.display());
    }
    done.is_enough(seconds());
}

/// What happened, so that no run passes in which nothing did.
#[derive(Debug, Default)]
struct Done {
    /// By process.
    writes: [u64; 2],
    reads: [u64; 2],
    /// In the first process, by the readers of the file.
    reads_by_readers: u64,
    /// Of operations, by process.
    longest_ms: [u64; 2],
    long_streams: u64,
    dropped_streams: u64,
    schema_changes: u64,
    kills: usize,
}

impl Done {
    fn of<W>(load: &Load<W>, kills: usize) -> Self {
        let status = load.db.status();
        let readers = status.endpoints.iter().find(|endpoint| endpoint.name == "readers");
        Done {
            reads_by_readers: readers.unwrap().reads,
            long_streams: load.streams.load(Ordering::Relaxed),
            dropped_streams: load.drops.load(Ordering::Relaxed),
            schema_changes: load.changes.load(Ordering::Relaxed),
            kills,
            ..Done::default()
        }
    }

    fn count(&mut self, history: &History) {
        for operation in &history.operations {
            let process = process_of(operation.session);
            let took_ms = (operation.ended.0 - operation.begun.0) / 1_000_000;
            self.longest_ms[process] = self.longest_ms[process].max(took_ms);
            match operation.action {
                Action::Write { fate: Fate::Done, .. } => self.writes[process] += 1,
                Action::Read { .. } => self.reads[process] += 1,
                _ => {}
            }
        }
    }

    fn is_enough(&self, seconds: u64) {
        assert!(self.writes.iter().all(|writes| *writes > seconds), "{self:?}");
        assert!(self.reads.iter().all(|reads| *reads > seconds * 20), "{self:?}");
        assert!(self.reads_by_readers > seconds * 20, "{self:?}");
        assert!(self.long_streams > 2 && self.dropped_streams > seconds / 4, "{self:?}");
        assert!(self.schema_changes > seconds / 4, "{self:?}");
        assert!(u64::try_from(self.kills).unwrap() > seconds / 6, "{self:?}");
    }
}

/// The same load, with a fault each time that sealane cannot have: each has to be found.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn planted_faults_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cells.db");
    let db = load::prepare(&path).await.unwrap();
    let rival = rusqlite::Connection::open(&path).unwrap();
    rival.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    // It sees this moment until it ends, and keeps all that comes after in the log.
    rival.execute_batch("BEGIN").unwrap();
    let old = record::cells(&rival);
    let told = Told::default();
    let load = Load::new(db.clone(), 0, 0, told.clone(), Duration::from_secs(2));
    load.run(false).await;
    let told = told.take();
    let faults = |change: &dyn Fn(&mut Record)| -> Vec<Fault> {
        let mut record = Record::of(&told);
        change(&mut record);
        let (history, failures) = record.into_history();
        assert_eq!(failures, Vec::<String>::new());
        verdict::violations(&history).iter().map(|violation| violation.fault).collect()
    };

    // A number of a read that is held against its session, and of one that is held against all.
    let session = 2;
    let own = faults(&|record| record.looks(4_000_000, session, old.clone()));
    assert!(own.contains(&Fault::OwnWriteMissed), "an old state in a session: {own:?}");
    let all = faults(&|record| record.looks(4_000_002, session, old.clone()));
    assert!(all.contains(&Fault::TooStale), "an old state for all: {all:?}");
    let log = faults(&|record| record.last_look(&path));
    assert!(log.contains(&Fault::TooStale), "what is only in the log: {log:?}");

    rival.execute_batch("COMMIT").unwrap();
    drop((load, rival));
    db.close().await.unwrap();
    let none = faults(&|record| record.last_look(&path));
    assert_eq!(none, [], "nothing is planted");

    let rival = rusqlite::Connection::open(&path).unwrap();
    rival.execute("UPDATE cell SET version = version + 1 WHERE key = 0", []).unwrap();
    rival.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(rival);
    let half = faults(&|record| record.last_look(&path));
    assert!(half.contains(&Fault::TornSnapshot), "half a write: {half:?}");
    assert!(half.contains(&Fault::NeverWritten), "what nobody wrote: {half:?}");

    let mut record = Record::of("F 0 0 database is locked ;\n");
    record.note("F 2 1 no such column ;");
    assert_eq!(record.into_history().1.len(), 2, "errors");
}

#[test]
fn what_was_answered_on_a_disk_that_filled_up_is_there() {
    let folder = tempfile::tempdir().unwrap();
    // A mount of its own, in a namespace that ends with it.
    let script = "mount -t tmpfs -o size=1m tmpfs \"$0\" && exec \"$@\"";
    let small = |namespaces: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(namespaces).args(["sh", "-c", script]).arg(folder.path());
        command
    };
    let ways: [&[&str]; 2] = [&["--mount"], &["--user", "--map-root-user", "--mount"]];
    let can = |way: &&&[&str]| small(way).arg("true").output().is_ok_and(|it| it.status.success());
    let Some(way) = ways.iter().find(can) else {
        assert!(!rustix::process::geteuid().is_root(), "root cannot mount a small disk");
        eprintln!("SKIPPED: no full disk was tried, for this user cannot mount a small one");
        return;
    };
    let child = second("on_a_small_disk", &folder.path().join("cells.db"), 0);
    let run = small(way)
        .arg(child.get_program())
        .args(child.get_args())
        .env(FILE, folder.path().join("cells.db"))
        .env("SEALANE_CHECKER_DISK", "full")
        .output()
        .unwrap();
    let (said, failed) =
        (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success() && said.contains(FULL), "{said} {failed}");
    assert!(!folder.path().join("cells.db").exists(), "it was not on the small disk");
}

/// Does nothing unless it is on such a disk.
#[tokio::test]
async fn on_a_small_disk() {
    let (Ok(path), Ok(_)) = (env::var(FILE), env::var("SEALANE_CHECKER_DISK")) else { return };
    let path = PathBuf::from(path);
    let db = sealane::connect(Config::sqlite(&path)).await.unwrap();
    db.execute_unprepared("CREATE TABLE cargo (id INTEGER PRIMARY KEY, label TEXT)").await.unwrap();
    let filler = path.with_extension("filler");
    std::fs::write(&filler, vec![0; 300_000]).unwrap();
    let insert = |id: i64| {
        let values = [id.into(), "x".repeat(1000).into()];
        Statement::from_sql_and_values(DbBackend::Sqlite, "INSERT INTO cargo VALUES (?, ?)", values)
    };
    let count = async || {
        let count = Statement::from_string(DbBackend::Sqlite, "SELECT count(*) FROM cargo");
        let row = db.query_one_raw(count).await.unwrap().unwrap();
        row.try_get_by_index::<i64>(0).unwrap()
    };
    let mut answered = 0;
    let full = loop {
        assert!(answered < 10_000, "the disk is never full");
        match db.execute_raw(insert(answered)).await {
            Ok(_) => answered += 1,
            Err(error) => break error.to_string(),
        }
    };
    assert!(full.contains("full"), "{full}");
    assert!(answered > 50, "{answered}");
    assert_eq!(count().await, answered, "while it is full");
    std::fs::remove_file(filler).unwrap();
    for _ in 0..20 {
        db.execute_raw(insert(answered)).await.unwrap();
        answered += 1;
    }
    assert_eq!(count().await, answered, "after it was full");
    db.close().await.unwrap();
    let file = rusqlite::Connection::open(&path).unwrap();
    let check: String = file.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    let rows: i64 = file.query_row("SELECT count(*) FROM cargo", [], |row| row.get(0)).unwrap();
    assert_eq!((&*check, rows), ("ok", answered));
    println!("{FULL}");
}
