//! A primary and replicas without a network, which fail and change when they are told to.

use std::{
    borrow::Cow,
    error::Error as StdError,
    fmt,
    future::pending,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use futures_util::{Stream, StreamExt};
use sea_orm::{
    DbErr, RuntimeErr, Statement, Value,
    sqlx::{
        Error,
        error::{DatabaseError, ErrorKind},
    },
};
use sealane::{
    Config, Database, Endpoint, EndpointId, Engine, Failure, Incarnation, Position, Replication,
    Role, RoutedConnection, Topology,
    assembly::{Answer, Connection, Lender, OpenLenders, Parts, Row, assemble},
};
use sealane_core::{Lsn, Report, Transactions};
use sealane_monitor::{BoxProbe, Probe, Stage, TopologyStore};
use sealane_sql::Dialect;
use tokio::time::sleep;

type Answering<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a server does with a statement.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Does {
    Answers,
    /// Answers after this time.
    AnswersAfter(Duration),
    /// Answers at the moment from which on the answer must not be believed.
    AnswersTooLate,
    /// Breaks the connection.
    Breaks,
    /// Answers with this code, and quotes a literal.
    Fails(&'static str),
    /// Lends no connection.
    LendsNone,
    /// Lends each connection after this time.
    LendsAfter(Duration),
    /// Lends a connection at the moment from which on it must not be used.
    LendsTooLate,
    /// Goes on for this time, and then is away with all that it was doing.
    DiesAfter(Duration),
    /// Breaks each connection, and answers no probe.
    IsAway,
    /// Lends nothing, and answers nothing, no probe either.
    Hangs,
}

/// How long a probe of a server that is away takes to find out.
const FOUND_OUT: Duration = Duration::from_millis(50);

/// The size of each pool.
pub(crate) const POOL: u32 = 10;
/// What a server's message quotes.
pub(crate) const QUOTED: &str = "quoted-by-a-server";
/// The number that the next transaction gets.
const NEXT_TRANSACTION: u64 = 100;

/// One server, which can be changed while it is in use; or a pool of connections to it, or one of
/// these.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    id: EndpointId,
    store: Arc<TopologyStore>,
    state: Arc<Mutex<State>>,
    /// Whether the connections may write.
    writes: bool,
}

#[derive(Debug)]
struct State {
    role: Role,
    timeline: u32,
    lsn: u64,
    run: u32,
    /// All transactions before this one are over; `None` if it does not tell.
    oldest: Option<u64>,
    does: Does,
    /// How often a connection was asked for, and how often one that may write.
    asked: usize,
    asked_to_write: usize,
    /// The statements that it was sent.
    heard: Vec<String>,
}

impl Server {
    fn new(index: usize, role: Role, store: &Arc<TopologyStore>) -> Self {
        let state = State {
            role,
            timeline: 1,
            lsn: 7,
            run: 1,
            oldest: None,
            does: Does::Answers,
            asked: 0,
            asked_to_write: 0,
            heard: Vec::new(),
        };
        let (id, store) = (EndpointId::from_index(index).unwrap(), Arc::clone(store));
        Server { id, store, state: Arc::new(Mutex::new(state)), writes: false }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// What the process knows of all servers.
    pub(crate) fn store(&self) -> &TopologyStore {
        &self.store
    }

    pub(crate) fn does(&self, does: Does) {
        self.lock().does = does;
    }

    pub(crate) fn has(&self, lsn: u64) {
        self.lock().lsn = lsn;
    }

    /// Its transactions before this one are over, and the others may be running.
    pub(crate) fn shows_all_before(&self, oldest: u64) {
        self.lock().oldest = Some(oldest);
    }

    /// It has this role from now on. A primary begins a timeline of its own.
    pub(crate) fn becomes(&self, role: Role) {
        let mut state = self.lock();
        state.timeline += u32::from(role == Role::Primary);
        state.role = role;
    }

    pub(crate) fn restarts(&self) {
        self.lock().run += 1;
    }

    /// Waits until probes have told that it is the primary.
    pub(crate) async fn is_known_as_primary(&self) {
        self.store.until(|topology| topology.primary() == Some(self.id)).await;
    }

    /// How often it was asked for a connection since the last time that this was called.
    pub(crate) fn asked(&self) -> usize {
        std::mem::take(&mut self.lock().asked)
    }

    /// The same, for connections that may write.
    pub(crate) fn asked_to_write(&self) -> usize {
        std::mem::take(&mut self.lock().asked_to_write)
    }

    /// The statements that it was sent since the last time that this was called.
    pub(crate) fn heard(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().heard)
    }

    fn hears(&self, sql: &str) {
        self.lock().heard.push(sql.to_owned());
    }

    /// A row with the number of the server.
    fn row(&self) -> Row {
        let number = i32::try_from(self.id.place() + 1).unwrap();
        Row::from([("id".to_owned(), Value::from(number))])
    }

    async fn lends(&self) -> Result<(), DbErr> {
        let does = {
            let mut state = self.lock();
            state.asked += 1;
            state.asked_to_write += usize::from(self.writes);
            state.does
        };
        match does {
            Does::LendsNone => self.answer()?,
            Does::LendsAfter(time) => sleep(time).await,
            Does::LendsTooLate => self.is_too_late(Stage::Unsent).await,
            Does::Hangs => pending::<()>().await,
            _ => {}
        }
        Ok(())
    }

    /// Answers when it is time to.
    async fn answer_in_time(&self) -> Result<(), DbErr> {
        let does = self.lock().does;
        match does {
            Does::AnswersAfter(time) => sleep(time).await,
            Does::AnswersTooLate => self.is_too_late(Stage::Sent).await,
            Does::DiesAfter(time) => {
                sleep(time).await;
                self.does(Does::IsAway);
            }
            Does::Hangs => pending::<()>().await,
            _ => {}
        }
        self.answer()
    }

    /// Completes when the process learns something after which nothing may go on that began here now.
    /// An answer that comes then comes at the very moment at which nobody waits for it any more.
    async fn is_too_late(&self, stage: Stage) {
        let footing = {
            let topology = self.store.topology();
            let role = match topology.primary() == Some(self.id) {
                true => Role::Primary,
                false => Role::Replica,
            };
            self.store.footing(&topology, self.id, role).unwrap()
        };
        self.store.moved(&footing, stage).await;
    }

    fn answer(&self) -> Result<(), DbErr> {
        let error = match self.lock().does {
            Does::LendsNone => Some(Error::PoolTimedOut),
            Does::Breaks | Does::IsAway => Some(Error::Io(io::ErrorKind::ConnectionReset.into())),
            Does::Fails(code) => Some(Error::Database(Box::new(Refused(code)))),
            _ => None,
        };
        match error {
            Some(error) => Err(DbErr::Query(RuntimeErr::SqlxError(error.into()))),
            None => Ok(()),
        }
    }
}

/// `db-1`, the primary, and the replicas `db-2` and so on, configured by `configure`.
pub(crate) async fn cluster(
    replicas: usize,
    configure: impl FnOnce(Config) -> Config,
) -> (RoutedConnection, Vec<Server>) {
    cluster_of(Engine::Postgres, replicas, configure).await
}

/// The same, whose errors are those of `engine`.
pub(crate) async fn cluster_of(
    engine: Engine,
    replicas: usize,
    configure: impl FnOnce(Config) -> Config,
) -> (RoutedConnection, Vec<Server>) {
    let roles = std::iter::once(Role::Primary).chain(std::iter::repeat_n(Role::Replica, replicas));
    let endpoints =
        (1..=replicas + 1).map(|n| Endpoint::new(format!("db-{n}"), format!("10.0.0.{n}:5432")));
    let store = TopologyStore::new(Topology::new(endpoints.collect()));
    let servers: Vec<_> =
        roles.enumerate().map(|(index, role)| Server::new(index, role, &store)).collect();
    let parts = Parts {
        config: configure(Config::new("postgres://app@10.0.0.1/shop")),
        engine,
        dialect: Dialect::PostgreSql,
        store,
        probes: servers.iter().cloned().map(BoxProbe::new).collect(),
        pools: servers.iter().cloned().map(|it| Box::new(it) as Box<dyn OpenLenders>).collect(),
    };
    (assemble(parts).await, servers)
}

impl Probe for Server {
    async fn ask(&mut self) -> Result<Report, Failure> {
        let does = self.lock().does;
        match does {
            Does::IsAway => {
                sleep(FOUND_OUT).await;
                return Err(Failure::Connection("refused".to_owned()));
            }
            Does::Hangs => pending::<()>().await,
            _ => {}
        }
        let state = self.lock();
        let (timeline, lsn) = (state.timeline, Lsn::from_bytes(state.lsn));
        let run = format!("run {} of {}", state.run, self.id);
        Ok(Report {
            position: Some(Position::Wal { system: 1, timeline, lsn }),
            replication: Replication::Running,
            database: Some(Arc::new(Database { name: "shop".into(), number: Some(5) })),
            transactions: state
                .oldest
                .map(|oldest| Transactions::Numbered { oldest, next: NEXT_TRANSACTION }),
            ..Report::new(state.role, Incarnation::new(run))
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
        let pool = |writes| -> Arc<dyn Lender> { Arc::new(Server { writes, ..self.clone() }) };
        (pool(false), pool(true))
    }
}

impl Lender for Server {
    fn lend(&self) -> Answering<'_, Result<Box<dyn Connection>, DbErr>> {
        Box::pin(async {
            self.lends().await?;
            Ok(Box::new(self.clone()) as Box<dyn Connection>)
        })
    }

    fn size(&self) -> u32 {
        POOL
    }

    fn close(&self) {}
}

impl Connection for Server {
    fn send<'a>(&'a mut self, statement: &'a Statement) -> Answering<'a, Result<Answer, DbErr>> {
        Box::pin(async {
            self.hears(&statement.sql);
            // Other statements are sent meanwhile.
            tokio::task::yield_now().await;
            self.answer_in_time().await?;
            Ok(Answer { rows: vec![self.row()], affected: 1 })
        })
    }

    fn stream(
        self: Box<Self>,
        statement: Statement,
    ) -> Pin<Box<dyn Stream<Item = Result<Row, DbErr>> + Send>> {
        let rows = async move {
            self.hears(&statement.sql);
            let first = self.answer().map(|()| self.row());
            futures_util::stream::iter([first, Ok(self.row())])
        };
        Box::pin(futures_util::stream::once(rows).flatten())
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
