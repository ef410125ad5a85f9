//! Those who write and read all the while, and what became of each of their statements.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    Server, eventually,
    fleet::{self, boat},
};
use anyhow::Context;
use sea_orm::{DbErr, entity::prelude::*};
use sealane::RoutedConnection;
use tokio::{task::JoinSet, time::timeout};

const SOON: Duration = Duration::from_secs(20);
/// Between two statements of one of the crew.
const PAUSE: Duration = Duration::from_millis(5);
/// Names in one question to a server.
const NAMES: usize = 500;

/// One statement, from when it was asked for to when its caller went on.
#[derive(Debug)]
pub struct Done {
    /// The name that was made for it.
    pub name: String,
    /// When it was asked for.
    pub began: Instant,
    /// When its caller went on.
    pub ended: Instant,
    /// The error, if it failed.
    pub failure: Option<DbErr>,
}

impl Done {
    /// Whether it was under way at `moment`.
    pub fn spans(&self, moment: Instant) -> bool {
        self.began < moment && moment < self.ended
    }

    /// How long it took.
    pub fn took(&self) -> Duration {
        self.ended - self.began
    }
}

/// Tasks that do the same again and again, until they are told to stop.
#[derive(Debug)]
pub struct Crew {
    stop: Arc<AtomicBool>,
    succeeded: Arc<AtomicUsize>,
    running: Arc<AtomicUsize>,
    done: Arc<Mutex<Vec<Done>>>,
    tasks: JoinSet<()>,
}

impl Crew {
    /// Every one of `count` writes boats, each with a name of its own.
    pub fn writing(db: &RoutedConnection, count: usize) -> Self {
        let db = db.clone();
        Self::start(count, move |_, name| {
            let db = db.clone();
            // One statement, on every engine.
            async move {
                let insert = boat::Entity::insert(fleet::boat(&name));
                insert.exec_without_returning(&db).await.map(drop)
            }
        })
    }

    /// Every one does `work`, which is told whose turn it is and a name for what it makes.
    pub fn start<F, Fut>(count: usize, work: F) -> Self
    where
        F: Fn(usize, String) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<(), DbErr>> + Send,
    {
        let mut crew = Self {
            stop: Arc::default(),
            succeeded: Arc::default(),
            running: Arc::default(),
            done: Arc::default(),
            tasks: JoinSet::new(),
        };
        for member in 0..count {
            let (work, stop) = (work.clone(), Arc::clone(&crew.stop));
            let (succeeded, running) = (Arc::clone(&crew.succeeded), Arc::clone(&crew.running));
            let done = Arc::clone(&crew.done);
            crew.tasks.spawn(async move {
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let name = format!("boat {member}-{number}");
                    let began = Instant::now();
                    running.fetch_add(1, Ordering::Relaxed);
                    let failure = work(member, name.clone()).await.err();
                    running.fetch_sub(1, Ordering::Relaxed);
                    let ended = Instant::now();
                    succeeded.fetch_add(usize::from(failure.is_none()), Ordering::Relaxed);
                    note(&done, Done { name, began, ended, failure });
                    tokio::time::sleep(PAUSE).await;
                }
            });
        }
        crew
    }

    /// How much has succeeded so far.
    pub fn succeeded(&self) -> usize {
        self.succeeded.load(Ordering::Relaxed)
    }

    /// How many wait for the end of something at this moment.
    pub fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    /// Waits until so much more has succeeded.
    pub async fn more(&self, count: usize) -> anyhow::Result<()> {
        let goal = self.succeeded() + count;
        let what = format!("{count} more of the crew's statements succeed");
        eventually(SOON, &what, async || Ok(self.succeeded() >= goal)).await
    }

    /// Nobody begins anything new. Returns all that was done, once each has ended what it did.
    pub async fn stop(mut self, limit: Duration) -> anyhow::Result<Vec<Done>> {
        self.stop.store(true, Ordering::Relaxed);
        let left = async {
            while let Some(ended) = self.tasks.join_next().await {
                ended?;
            }
            anyhow::Ok(())
        };
        let ended = timeout(limit, left).await;
        let running = self.running();
        ended.with_context(|| format!("{running} statements have no end after {limit:?}"))??;
        Ok(std::mem::take(&mut *self.done.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn note(all: &Mutex<Vec<Done>>, done: Done) {
    all.lock().unwrap_or_else(PoisonError::into_inner).push(done);
}

/// How many boats of these names `server` does not have.
pub async fn missing(server: &Server, names: &[&str]) -> anyhow::Result<usize> {
    let mut missing = 0;
    for names in names.chunks(NAMES) {
        let list: Vec<_> = names.iter().map(|name| format!("'{name}'")).collect();
        let count = format!("SELECT count(*) FROM boat WHERE name IN ({})", list.join(", "));
        let there: i64 = server.query_scalar(&count).await?;
        missing += names.len() - usize::try_from(there)?;
    }
    Ok(missing)
}
