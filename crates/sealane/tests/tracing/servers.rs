//! A primary and replicas without a network, which fail when they are told to.

use std::{
    borrow::Cow,
    error::Error as StdError,
    fmt, io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use futures_util::Stream;
use sea_orm::{
    DbErr, RuntimeErr, Statement, Value,
    sqlx::{
        Error,
        error::{DatabaseError, ErrorKind},
    },
};
use sealane::{
    Config, Database, Endpoint, Engine, Failure, Incarnation, Position, Replication, Role,
    RoutedConnection, Topology,
    assembly::{Answer, Connection, Lender, OpenLenders, Parts, Row, assemble},
};
use sealane_core::{Lsn, Report};
use sealane_monitor::{BoxProbe, Probe, TopologyStore};
use sealane_sql::Dialect;

type Answering<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a server does with a statement.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Does {
    Answers,
    /// Breaks the connection.
    Breaks,
    /// Answers with this code, and quotes a literal.
    Fails(&'static str),
    /// Lends no connection.
    LendsNone,
    /// Goes on for this time, and then is away with all that it was doing.
    DiesAfter(Duration),
    /// Breaks each connection, and answers no probe.
    IsAway,
}

/// How long a probe of a server that is away takes to find out.
const FOUND_OUT: Duration = Duration::from_millis(50);

/// The size of each pool.
pub(crate) const POOL: u32 = 10;
/// What a server's message quotes.
pub(crate) const QUOTED: &str = "quoted-by-a-server";

/// One server, which can be changed while it is in use.
#[derive(Debug, Clone)]
pub(crate) struct Server(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    role: Role,
    lsn: u64,
    does: Does,
    /// How often a connection was asked for.
    asked: usize,
}

impl Server {
    fn new(role: Role) -> Self {
        Server(Arc::new(Mutex::new(State { role, lsn: 7, does: Does::Answers, asked: 0 })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(crate) fn does(&self, does: Does) {
        self.lock().does = does;
    }

    pub(crate) fn has(&self, lsn: u64) {
        self.lock().lsn = lsn;
    }

    /// How often it was asked for a connection since the last time that this was called.
    pub(crate) fn asked(&self) -> usize {
        std::mem::take(&mut self.lock().asked)
    }

    fn lends(&self) -> bool {
        let mut state = self.lock();
        state.asked += 1;
        !matches!(state.does, Does::LendsNone)
    }

    /// Answers once it has died, if it is about to.
    async fn answer_in_time(&self) -> Result<(), DbErr> {
        let does = self.lock().does;
        if let Does::DiesAfter(time) = does {
            tokio::time::sleep(time).await;
            self.does(Does::IsAway);
        }
        self.answer()
    }

    fn answer(&self) -> Result<(), DbErr> {
        let error = match self.lock().does {
            Does::Answers | Does::DiesAfter(_) => return Ok(()),
            Does::LendsNone => Error::PoolTimedOut,
            Does::Breaks | Does::IsAway => Error::Io(io::ErrorKind::ConnectionReset.into()),
            Does::Fails(code) => Error::Database(Box::new(Refused(code))),
        };
        Err(DbErr::Query(RuntimeErr::SqlxError(error.into())))
    }
}

/// `db-1`, the primary, and the replicas `db-2` and so on, configured by `configure`.
pub(crate) async fn cluster(
    replicas: usize,
    configure: impl FnOnce(Config) -> Config,
) -> (RoutedConnection, Vec<Server>) {
    let roles = std::iter::once(Role::Primary).chain(std::iter::repeat_n(Role::Replica, replicas));
    let servers: Vec<_> = roles.map(Server::new).collect();
    let endpoints =
        (1..=servers.len()).map(|n| Endpoint::new(format!("db-{n}"), format!("10.0.0.{n}:5432")));
    let parts = Parts {
        config: configure(Config::new("postgres://app@10.0.0.1/shop")),
        engine: Engine::Postgres,
        dialect: Dialect::PostgreSql,
        store: TopologyStore::new(Topology::new(endpoints.collect())),
        probes: servers.iter().cloned().map(BoxProbe::new).collect(),
        pools: servers.iter().cloned().map(|it| Box::new(it) as Box<dyn OpenLenders>).collect(),
    };
    (assemble(parts).await, servers)
}

impl Probe for Server {
    async fn ask(&mut self) -> Result<Report, Failure> {
        let does = self.lock().does;
        if let Does::IsAway = does {
            tokio::time::sleep(FOUND_OUT).await;
            return Err(Failure::Connection("refused".to_owned()));
        }
        let state = self.lock();
        let lsn = Lsn::from_bytes(state.lsn);
        Ok(Report {
            position: Some(Position::Wal { system: 1, timeline: 1, lsn }),
            replication: Replication::Running,
            database: Some(Arc::new(Database { name: "shop".into(), number: Some(5) })),
            ..Report::new(state.role, Incarnation::new("first"))
        })
    }

    fn disconnect(&mut self) {}

    fn is_connected(&self) -> bool {
        true
    }

    fn system(&self) -> &'static str {
        "postgresql"
    }
}

impl OpenLenders for Server {
    fn open(&self, _: u64) -> (Arc<dyn Lender>, Arc<dyn Lender>) {
        (Arc::new(self.clone()), Arc::new(self.clone()))
    }
}

impl Lender for Server {
    fn lend(&self) -> Answering<'_, Result<Box<dyn Connection>, DbErr>> {
        Box::pin(async {
            if !self.lends() {
                self.answer()?;
            }
            Ok(Box::new(self.clone()) as Box<dyn Connection>)
        })
    }

    fn size(&self) -> u32 {
        POOL
    }

    fn close(&self) {}
}

impl Connection for Server {
    fn send<'a>(&'a mut self, _: &'a Statement) -> Answering<'a, Result<Answer, DbErr>> {
        Box::pin(async {
            // Other statements are sent meanwhile.
            tokio::task::yield_now().await;
            self.answer_in_time().await.map(|()| Answer::default())
        })
    }

    fn stream(
        self: Box<Self>,
        _: Statement,
    ) -> Pin<Box<dyn Stream<Item = Result<Row, DbErr>> + Send>> {
        let row = || Ok(Row::from([("id".to_owned(), Value::from(1))]));
        Box::pin(futures_util::stream::iter([
            self.answer().map(|()| Row::new()).and_then(|_| row()),
            row(),
        ]))
    }

    fn ping(&mut self) -> Answering<'_, Result<(), DbErr>> {
        Box::pin(async { Ok(()) })
    }
}

/// A server's answer with a code.
#[derive(Debug)]
struct Refused(&'static str);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(QUOTED)
    }
}

impl StdError for Refused {}

impl DatabaseError for Refused {
    fn message(&self) -> &str {
        QUOTED
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(self.0))
    }

    fn as_error(&self) -> &(dyn StdError + Send + Sync + 'static) {
        self
    }

    fn as_error_mut(&mut self) -> &mut (dyn StdError + Send + Sync + 'static) {
        self
    }

    fn into_error(self: Box<Self>) -> Box<dyn StdError + Send + Sync + 'static> {
        self
    }

    fn kind(&self) -> ErrorKind {
        ErrorKind::Other
    }
}
