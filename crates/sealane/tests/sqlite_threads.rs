//! A file while the process can start no thread: each connection of the driver needs one.
//!
//! Alone in its program, because the limit is the whole process's.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may end there")]

use std::thread::JoinHandle;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sea_orm::sqlx::Connection;
use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};
use sealane::{Config, RoutedConnection};

/// Less than the stack of a thread.
const ROOM: u64 = 1 << 20;

/// No thread can be started until this is dropped.
struct NoThreads {
    before: Rlimit,
    /// Of those that were over, their stacks are kept for others.
    hogs: Vec<JoinHandle<()>>,
}

impl NoThreads {
    fn now() -> Self {
        let before = getrlimit(Resource::As);
        let status = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages: u64 = status.split(' ').next().unwrap().parse().unwrap();
        let used = pages * rustix::param::page_size() as u64;
        let limit = Rlimit { current: Some(used + ROOM), ..before };
        setrlimit(Resource::As, limit).unwrap();
        let mut hogs = Vec::new();
        while let Ok(hog) = std::thread::Builder::new().spawn(std::thread::park) {
            hogs.push(hog);
            assert!(hogs.len() < 100, "threads can be started");
        }
        NoThreads { before, hogs }
    }
}

impl Drop for NoThreads {
    fn drop(&mut self) {
        setrlimit(Resource::As, self.before).unwrap();
        for hog in self.hogs.drain(..) {
            hog.thread().unpark();
            hog.join().unwrap();
        }
    }
}

/// The driver's threads, one for each connection. One that has ended but is still listed has not
/// given up its stack, which the next thread could take.
fn workers() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|it| std::fs::read_to_string(it.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("sqlx-sqlite")).count()
}

async fn count(db: &RoutedConnection) -> Result<i64, DbErr> {
    let count = Statement::from_string(DbBackend::Sqlite, "SELECT count(*) FROM boat");
    db.query_one_raw(count).await?.unwrap().try_get_by_index(0)
}

fn reads(db: &RoutedConnection, name: &str) -> u64 {
    db.status().endpoints.iter().find(|it| it.name == name).unwrap().reads
}

#[tokio::test]
async fn a_thread_that_could_not_be_started_takes_nothing_out_of_use() {
    let folder = tempfile::tempdir().unwrap();
    let db = sealane::connect(Config::sqlite(folder.path().join("boats.db"))).await.unwrap();
    db.execute_unprepared("CREATE TABLE boat (name TEXT)").await.unwrap();
    let insert = "INSERT INTO boat VALUES ('Ida')";

    let limit = NoThreads::now();
    assert_eq!(count(&db).await.unwrap(), 0, "the writer has its thread");
    drop(limit);
    let before = reads(&db, "readers");
    assert_eq!(count(&db).await.unwrap(), 0);
    assert_eq!(reads(&db, "readers"), before + 1, "the readers are out of use");

    // The writer's connection and its thread are gone, and the next one needs a thread.
    let writer = db.primary().get_sqlite_connection_pool().acquire().await.unwrap().detach();
    let before = workers();
    assert!(before > 0, "the driver's threads have another name");
    writer.close().await.unwrap();
    while workers() >= before {
        tokio::task::yield_now().await;
    }
    let limit = NoThreads::now();
    assert!(db.execute_unprepared(insert).await.is_err());
    drop(limit);
    db.execute_unprepared(insert).await.unwrap();
    assert_eq!(count(&db).await.unwrap(), 1);
}
