//! A primary and a replica that answer as a test says.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{Stream, StreamExt};
use sea_orm::{ConnectionTrait, DbBackend, DbErr, QueryResult, Statement};
use sealane::{
    Config, RoutedConnection, ShadowReport,
    assembly::{self, Answer, Connection, Lender, OpenLenders, Parts, Row},
};
use sealane_core::{
    Endpoint, Engine, Failure, HealthPolicy, Incarnation, Lsn, Position, Replication, Report, Role,
    Topology,
};
use sealane_monitor::{BoxProbe, Probe, TopologyStore};
use sealane_sql::Dialect;

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a server answers, and what it was asked.
#[derive(Debug, Default)]
pub struct State {
    /// The names of the boats 1, 2, 3…
    pub boats: Mutex<Vec<&'static str>>,
    /// Added to each `id`.
    pub first_id: AtomicUsize,
    /// Whether each answer has one row more than the last one.
    pub is_growing: AtomicBool,
    pub hangs: AtomicBool,
    pub fails: AtomicBool,
    /// Statements on connections for reading, and on all others.
    pub asked: [AtomicUsize; 2],
    pub running: AtomicUsize,
    pub most_running: AtomicUsize,
}

impl State {
    fn boats(&self) -> Vec<Row> {
        let mut boats = self.boats.lock().unwrap();
        if self.is_growing.load(Ordering::Relaxed) {
            boats.push("Neu");
        }
        let first = self.first_id.load(Ordering::Relaxed) as i64;
        let row = |(id, name): (i64, &&str)| {
            let cells = [("id", (first + id).into()), ("name", (*name).into())];
            cells.map(|(column, value)| (column.to_owned(), value)).into()
        };
        (1..).zip(boats.iter()).map(row).collect()
    }

    pub fn asked(&self) -> [usize; 2] {
        [&self.asked[0], &self.asked[1]].map(|count| count.load(Ordering::Relaxed))
    }

    async fn answer(&self, place: usize) -> Result<Answer, DbErr> {
        self.asked[place].fetch_add(1, Ordering::Relaxed);
        let running = self.running.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_running.fetch_max(running, Ordering::Relaxed);
        let _running = Running(&self.running);
        if self.hangs.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        match self.fails.load(Ordering::Relaxed) {
            true => Err(DbErr::Custom("it hurts".to_owned())),
            false => Ok(Answer { rows: self.boats(), affected: 1 }),
        }
    }
}

/// A statement that runs, until it is dropped.
struct Running<'a>(&'a AtomicUsize);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A pool, or a connection of it: for reading (0), or for everything else (1).
#[derive(Debug, Clone)]
struct Line(Arc<State>, usize);

impl Lender for Line {
    fn lend(&self) -> Boxed<'_, Result<Box<dyn Connection>, DbErr>> {
        Box::pin(async { Ok(Box::new(self.clone()) as Box<dyn Connection>) })
    }

    fn size(&self) -> u32 {
        10
    }

    fn close(&self) {}
}

impl Connection for Line {
    fn send<'a>(&'a mut self, _: &'a Statement) -> Boxed<'a, Result<Answer, DbErr>> {
        Box::pin(self.0.answer(self.1))
    }

    fn stream(
        self: Box<Self>,
        _: Statement,
    ) -> Pin<Box<dyn Stream<Item = Result<Row, DbErr>> + Send>> {
        let rows = async move { futures_util::stream::iter(self.0.boats().into_iter().map(Ok)) };
        Box::pin(futures_util::stream::once(rows).flatten())
    }

    fn ping(&mut self) -> Boxed<'_, Result<(), DbErr>> {
        Box::pin(async { Ok(()) })
    }
}

struct Pools(Arc<State>);

impl OpenLenders for Pools {
    fn open(&self, _: u64) -> (Arc<dyn Lender>, Arc<dyn Lender>) {
        (Arc::new(Line(Arc::clone(&self.0), 0)), Arc::new(Line(Arc::clone(&self.0), 1)))
    }
}

struct FakeProbe(Role);

impl Probe for FakeProbe {
    async fn ask(&mut self) -> Result<Report, Failure> {
        // A round trip takes a moment.
        tokio::time::sleep(Duration::from_millis(1)).await;
        let lsn = Lsn::from_bytes(100);
        Ok(Report {
            position: Some(Position::Wal { system: 1, timeline: 1, lsn }),
            replication: match self.0 {
                Role::Replica => Replication::Running,
                _ => Replication::NotApplicable,
            },
            ..Report::new(self.0, Incarnation::new("first"))
        })
    }

    fn disconnect(&mut self) {}

    fn is_connected(&self) -> bool {
        true
    }

    fn system(&self) -> &'static str {
        "fake"
    }
}

pub struct Fleet {
    pub db: RoutedConnection,
    pub primary: Arc<State>,
    pub replica: Arc<State>,
}

impl Fleet {
    /// Both servers have the boats Ida and Jolle.
    pub async fn of(configure: impl FnOnce(Config) -> Config) -> Self {
        let names = ["db-1", "db-2"];
        let endpoints = names.map(|name| Endpoint::new(name, "here:5432")).into();
        let store =
            TopologyStore::of_database("shop", Topology::new(endpoints), HealthPolicy::default());
        let servers = names.map(|_| {
            Arc::new(State { boats: Mutex::new(vec!["Ida", "Jolle"]), ..State::default() })
        });
        let pools = servers.iter().map(|it| Box::new(Pools(Arc::clone(it))) as Box<_>).collect();
        let parts = Parts {
            config: configure(Config::new("postgres://app@db-1/shop")),
            engine: Engine::Postgres,
            dialect: Dialect::PostgreSql,
            store,
            probes: [Role::Primary, Role::Replica].map(|it| BoxProbe::new(FakeProbe(it))).into(),
            pools,
        };
        let [primary, replica] = servers;
        Fleet { db: assembly::assemble(parts).await, primary, replica }
    }

    /// Runs `sql`, and returns how many rows it shows.
    pub async fn read(&self, sql: &str) -> usize {
        all(&self.db, sql).await.len()
    }

    /// Waits until the report is like this.
    pub async fn until(&self, holds: impl Fn(&ShadowReport) -> bool) -> ShadowReport {
        let waiting = async {
            loop {
                let report = self.db.shadow_report();
                if holds(&report) {
                    return report;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let found = tokio::time::timeout(Duration::from_secs(60), waiting).await;
        assert!(found.is_ok(), "not in time: {}", self.db.shadow_report());
        found.unwrap()
    }
}

pub fn raw(sql: &str) -> Statement {
    Statement::from_string(DbBackend::Postgres, sql)
}

pub async fn all(db: &impl ConnectionTrait, sql: &str) -> Vec<QueryResult> {
    db.query_all_raw(raw(sql)).await.unwrap()
}
