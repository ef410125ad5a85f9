//! What SeaORM's own connection makes of options and paths of SQLite, and what ours makes of them.

#![allow(clippy::unwrap_used, reason = "a test may end there")]

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use rstest::rstest;
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DbBackend, DbErr, Statement,
    sqlx::{
        Executor,
        sqlite::{
            SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqliteLockingMode,
            SqliteSynchronous,
        },
    },
};
use sealane::{Config, ConnectError, PrimaryReads, RoutedConnection};

fn raw(sql: &str) -> Statement {
    Statement::from_sql_and_values(DbBackend::Sqlite, sql, [])
}

async fn ask(db: &impl ConnectionTrait, sql: &str) -> String {
    let row = db.query_one_raw(raw(sql)).await.unwrap().unwrap();
    row.try_get_by_index::<String>(0)
        .or_else(|_| row.try_get_by_index::<i64>(0).map(|number| number.to_string()))
        .unwrap()
}

/// What a database shows after a write, and then what `asked` shows of its settings; or `fails`.
async fn used(db: Result<impl ConnectionTrait, impl Into<DbErr>>, asked: &str) -> String {
    let Ok(db) = db else { return "does not open".to_owned() };
    let write = "CREATE TABLE IF NOT EXISTS boat (name TEXT); INSERT INTO boat VALUES ('Ida')";
    let written = match db.execute_unprepared(write).await {
        Ok(_) => ask(&db, "SELECT count(*) FROM boat").await,
        Err(_) => "read-only".to_owned(),
    };
    match asked {
        "" => written,
        asked => format!("{written}, {}", ask(&db, asked).await),
    }
}

fn is_split(db: &RoutedConnection) -> bool {
    db.status().endpoints.len() == 2
}

fn options(path: &Path, configure: impl Fn(&mut ConnectOptions)) -> ConnectOptions {
    let mut options = ConnectOptions::new(format!("sqlite://{}?mode=rwc", path.display()));
    configure(&mut options);
    options
}

/// Settings of the file.
fn file(set: fn(SqliteConnectOptions) -> SqliteConnectOptions) -> impl Fn(&mut ConnectOptions) {
    move |options| {
        options.map_sqlx_sqlite_opts(set);
    }
}

fn lazy(options: &mut ConnectOptions) {
    options.connect_lazy(true);
}

/// It would fail when it runs again.
fn hook(options: &mut ConnectOptions) {
    options.after_connect(|db| {
        Box::pin(async move {
            let make = "CREATE TABLE boat (name TEXT); INSERT INTO boat VALUES ('Jolle')";
            db.execute_unprepared(make).await.map(drop)
        })
    });
}

/// It writes with each connection of the pool.
fn pool_hook(options: &mut ConnectOptions) {
    options.map_sqlx_sqlite_pool_opts(|pool| {
        pool.after_connect(|connection, _| {
            Box::pin(async move {
                let make = "CREATE TABLE IF NOT EXISTS boat (name TEXT PRIMARY KEY); \
                     INSERT OR IGNORE INTO boat VALUES ('Jolle')";
                connection.execute(make).await.map(drop)
            })
        })
    });
}

fn nothing(_: &mut ConnectOptions) {}

/// As SeaORM: what both show after a write, and whether ours is split.
#[rstest]
#[case::nothing(nothing, "", "1", true)]
#[case::wal(file(|f| f.journal_mode(SqliteJournalMode::Wal)), "PRAGMA journal_mode", "1, wal", true)]
#[case::delete(file(|f| f.journal_mode(SqliteJournalMode::Delete)), "PRAGMA journal_mode", "1, delete", false)]
#[case::truncate(file(|f| f.journal_mode(SqliteJournalMode::Truncate)), "PRAGMA journal_mode", "1, truncate", false)]
#[case::auto_vacuum(file(|f| f.auto_vacuum(SqliteAutoVacuum::Full)), "PRAGMA auto_vacuum", "1, 1", true)]
#[case::page_size(file(|f| f.page_size(8192)), "PRAGMA page_size", "1, 8192", true)]
#[case::user_version(file(|f| f.pragma("user_version", "7")), "PRAGMA user_version", "1, 7", false)]
#[case::application_id(file(|f| f.pragma("application_id", "9")), "PRAGMA application_id", "1, 9", false)]
#[case::synchronous(file(|f| f.synchronous(SqliteSynchronous::Off)), "", "1", true)]
#[case::exclusive(file(|f| f.locking_mode(SqliteLockingMode::Exclusive)), "", "1", false)]
#[case::like(file(|f| f.pragma("case_sensitive_like", "ON")), "SELECT 'a' LIKE 'A'", "1, 0", true)]
#[case::collation(file(|f| f.collation("backwards", |a, b| b.cmp(a))), "SELECT max('a' COLLATE backwards, 'b')", "1, a", true)]
#[case::shared_cache(file(|f| f.shared_cache(true)), "", "1", false)]
#[case::after_connect(hook, "", "2", true)]
#[case::pool_hook(pool_hook, "", "2", false)]
#[case::lazy(lazy, "", "1", true)]
#[tokio::test]
async fn options_mean_what_they_mean_to_seaorm(
    #[case] configure: impl Fn(&mut ConnectOptions),
    #[case] asked: &str,
    #[case] shows: &str,
    #[case] splits: bool,
) {
    let folder = tempfile::tempdir().unwrap();
    let plain = Database::connect(options(&folder.path().join("plain.db"), &configure)).await;
    assert_eq!(used(plain, asked).await, shows, "SeaORM");
    let ours = sealane::connect(options(&folder.path().join("ours.db"), &configure)).await;
    if let Ok(db) = &ours {
        assert_eq!(is_split(db), splits);
    }
    assert_eq!(used(ours, asked).await, shows, "sealane");
}

/// A file that is there, not in WAL mode, and has one row.
fn old_file(folder: &Path) -> PathBuf {
    let path = folder.join("boats.db");
    let file = rusqlite::Connection::open(&path).unwrap();
    file.execute_batch("CREATE TABLE boat (name TEXT); INSERT INTO boat VALUES ('Jolle')").unwrap();
    path
}

#[tokio::test]
async fn the_journal_mode_can_be_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = old_file(folder.path());
    let asked = "PRAGMA journal_mode";
    let kept = sealane::connect(Config::sqlite(&path).keep_journal_mode()).await.unwrap();
    assert!(!is_split(&kept));
    assert_eq!(used(Ok::<_, DbErr>(kept.clone()), asked).await, "2, delete");
    kept.close().await.unwrap();
    let changed = sealane::connect(Config::sqlite(&path)).await.unwrap();
    assert!(is_split(&changed));
    assert_eq!(used(Ok::<_, DbErr>(changed.clone()), asked).await, "3, wal");
    changed.close().await.unwrap();
    // It is in WAL mode by now, and stays so.
    let kept = sealane::connect(Config::sqlite(&path).keep_journal_mode()).await.unwrap();
    assert!(is_split(&kept));
}

#[rstest]
#[case::by_its_url("ro")]
#[case::by_its_rights("rwc")]
fn what_is_read_only_opens_as_with_seaorm(#[case] mode: &str) {
    use std::os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    };
    let folder = tempfile::tempdir().unwrap();
    let path = old_file(folder.path());
    let allow = |path: &Path, rights| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(rights)).unwrap();
    };
    // Somebody who may not write: root always may.
    let this = folder.path().join("test");
    std::fs::copy(std::env::current_exe().unwrap(), &this).unwrap();
    allow(&this, 0o555);
    allow(&path, if mode == "ro" { 0o666 } else { 0o444 });
    allow(folder.path(), 0o555);
    let mut child = std::process::Command::new(&this);
    if std::fs::metadata("/proc/self").unwrap().uid() == 0 {
        child.uid(65_534);
    }
    let child = child
        .current_dir(folder.path())
        .args(["--exact", "as_somebody_who_may_not_write", "--nocapture"])
        .env("SEALANE_TEST_URL", format!("sqlite://{}?mode={mode}", path.display()))
        .output()
        .unwrap();
    allow(folder.path(), 0o755);
    let (said, failed) = (String::from_utf8_lossy(&child.stdout), &child.stderr);
    assert!(child.status.success(), "{said} {}", String::from_utf8_lossy(failed));
    assert!(said.contains("1 passed"), "{said}");
}

/// Does nothing unless it is told a URL.
#[tokio::test]
async fn as_somebody_who_may_not_write() {
    let Ok(url) = std::env::var("SEALANE_TEST_URL") else { return };
    let plain = Database::connect(&*url).await.unwrap();
    assert_eq!((ask(&plain, "SELECT name FROM boat").await, written(&plain).await), shows());
    let ours = sealane::connect(&*url).await.unwrap();
    assert!(!is_split(&ours));
    assert_eq!((ask(&ours, "SELECT name FROM boat").await, written(&ours).await), shows());
}

fn shows() -> (String, bool) {
    ("Jolle".to_owned(), false)
}

async fn written(db: &impl ConnectionTrait) -> bool {
    db.execute_unprepared("INSERT INTO boat VALUES ('Ida')").await.is_ok()
}

#[tokio::test]
async fn the_hook_runs_once_and_a_pool_of_five_has_one_writer() {
    let folder = tempfile::tempdir().unwrap();
    let runs = Arc::new(AtomicUsize::new(0));
    let config = Config::sqlite_with(folder.path().join("boats.db"), |options| {
        let runs = Arc::clone(&runs);
        options.after_connect(move |_| {
            runs.fetch_add(1, Ordering::Relaxed);
            Box::pin(async { Ok(()) })
        });
        options.map_sqlx_sqlite_pool_opts(|pool| pool.max_connections(5));
    });
    let db = sealane::connect(config).await.unwrap();
    let make = "CREATE TABLE boat (n INTEGER); INSERT INTO boat VALUES (0)";
    db.execute_unprepared(make).await.unwrap();
    let tasks = (0..8).map(|_| {
        let db = db.clone();
        tokio::spawn(async move {
            for _ in 0..50 {
                let add = "UPDATE boat SET n = n + 1 WHERE n >= (SELECT min(n) FROM boat)";
                db.execute_raw(raw(add)).await.unwrap();
            }
        })
    });
    futures_util::future::try_join_all(tasks).await.unwrap();
    assert_eq!(ask(&db, "SELECT n FROM boat").await, "400");
    assert_eq!(runs.load(Ordering::Relaxed), 1);
    let writer = db.primary().get_sqlite_connection_pool();
    assert_eq!(writer.options().get_max_connections(), 1);
}

/// Paths in the current folder and anywhere else.
#[rstest]
#[case("boats.db")]
#[case("my file.db")]
#[case("sub dir/x.db")]
#[case("a:b")]
#[case("a[b]")]
#[case("a<b>|c^d")]
#[case("50%20 off?#&.db")]
#[case("file:x?mode=ro")]
#[case("sqlite:x")]
#[case("häfen 🚢.db")]
fn every_path_is_a_path(#[case] name: &str) {
    // Its own process: the current folder belongs to all tests.
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("sub dir")).unwrap();
    let this = std::env::current_exe().unwrap();
    let child = std::process::Command::new(this)
        .current_dir(folder.path())
        .args(["--exact", "in_the_current_folder", "--include-ignored", "--nocapture"])
        .env("SEALANE_TEST_PATH", name)
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
    let path = folder.path().join(name);
    assert!(path.is_file(), "{name} is not there");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let again =
        runtime.block_on(async { used(sealane::connect(Config::sqlite(&path)).await, "").await });
    assert_eq!(again, "2");
}

/// Does nothing unless it is told a path.
#[tokio::test]
async fn in_the_current_folder() {
    let Ok(path) = std::env::var("SEALANE_TEST_PATH") else { return };
    let db = sealane::connect(Config::sqlite(path)).await.unwrap();
    assert!(is_split(&db));
    assert_eq!(used(Ok::<_, DbErr>(db.clone()), "").await, "1");
    db.close().await.unwrap();
}

#[cfg(unix)]
#[tokio::test]
async fn a_path_need_not_be_text() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(std::ffi::OsStr::from_bytes(b"b\xf6rse.db"));
    let db = sealane::connect(Config::sqlite(&path)).await.unwrap();
    assert!(is_split(&db));
    assert_eq!(used(Ok::<_, DbErr>(db), "").await, "1");
    assert!(path.is_file());
}

/// In memory however it is spelled: as SeaORM, and not split.
#[rstest]
#[case("sqlite::memory:", "1")]
#[case("sqlite:%3Amemory%3A", "1")]
#[case("sqlite:?mode=memory", "1")]
#[case("sqlite://boats?mode=%6demory", "1")]
#[case("sqlite://boats?mode=memory&cache=shared", "1")]
#[case("sqlite:file%3Aboats%3Fmode=memory", "1")]
#[case("sqlite:///boats?vfs=memdb&mode=rwc", "1")]
#[case("sqlite:", "1")]
#[case("sqlite://", "1")]
#[tokio::test]
async fn what_is_in_memory_is_not_split(#[case] url: &str, #[case] shows: &str) {
    let plain = Database::connect(url.replace("boats", "plain")).await;
    assert_eq!(used(plain, "").await, shows, "SeaORM");
    let ours = sealane::connect(url).await;
    assert!(!is_split(ours.as_ref().unwrap()));
    assert_eq!(used(ours, "").await, shows, "sealane");
}

#[rstest]
#[case(PrimaryReads::Intended)]
#[case(PrimaryReads::Always)]
#[tokio::test]
async fn the_writer_of_a_file_is_left_to_writes(#[case] reads: PrimaryReads) {
    let folder = tempfile::tempdir().unwrap();
    let config = || Config::sqlite(folder.path().join("file.db"));
    let error = sealane::connect(config().primary_reads(reads)).await.unwrap_err();
    assert!(matches!(error, ConnectError::SqlitePrimaryReads), "{error}");
    assert!(error.to_string().contains("primary_reads"), "{error}");
    assert!(sealane::connect(config().primary_reads(PrimaryReads::Fallback)).await.is_ok());
}
