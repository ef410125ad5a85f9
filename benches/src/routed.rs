//! A routed SELECT from its call to its answer, on servers that answer at once: what sealane adds,
//! and what those add who watch.
//!
//! The rows pass through SeaORM's mock, because nothing else can make them without a server. It is
//! the same part of each count, and a driver costs more.
#![allow(clippy::expect_used, reason = "a measurement that cannot begin may end there")]

use std::{
    cell::{Cell, OnceCell},
    io,
    pin::Pin,
    sync::Arc,
};

use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};
use sealane::{
    Config, Endpoint, Engine, Failure, Incarnation, Position, Replication, Role, RoutedConnection,
    Topology,
    assembly::{Answer, Connection, Lender, OpenLenders, Parts, Row, assemble},
};
use sealane_core::{Lsn, Report};
use sealane_monitor::{BoxProbe, Probe, TopologyStore};
use sealane_sql::Dialect;
use sealane_status::StatusService;
use tokio::runtime::{Builder, Runtime};
use tower_service::Service;
use tracing::{Event, Metadata, Subscriber, span, subscriber::Interest};

use crate::{Operation, SELECT};

type Answering<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One operation for each kind of watcher. Watchers are global, so each operation is to run in a
/// process of its own; they are installed when it first runs.
pub(crate) fn operations() -> Vec<Operation> {
    vec![
        Operation::new("run a routed SELECT", select_beside(|| ())),
        Operation::new("run a routed SELECT beside a recorder of metrics", select_beside(record)),
        Operation::new("run a routed SELECT beside a page, asked once in 1000", select_and_look()),
        Operation::new("run a routed SELECT beside traces that skip it", select_beside(skip)),
        Operation::new("run a routed SELECT in a trace", select_beside(trace)),
    ]
}

fn select_beside(watch: fn()) -> impl Fn() -> bool {
    let routed = OnceCell::new();
    move || routed.get_or_init(|| Routed::beside(watch)).select()
}

/// An open page asks once a second, here in a service with a thousand statements a second.
fn select_and_look() -> impl Fn() -> bool {
    let (routed, count) = (OnceCell::new(), Cell::new(0_u32));
    move || {
        let routed = routed.get_or_init(|| Routed::beside(record));
        count.set(count.get() + 1);
        routed.select() && (!count.get().is_multiple_of(1000) || routed.look())
    }
}

/// A cluster, and where its statements run.
struct Routed {
    runtime: Runtime,
    db: RoutedConnection,
    page: StatusService,
}

impl Routed {
    fn beside(watch: fn()) -> Self {
        watch();
        let runtime = Builder::new_current_thread().enable_time().build();
        let runtime: Runtime = runtime.expect("a runtime");
        let db = runtime.block_on(cluster());
        Routed { runtime, page: StatusService::new(&db), db }
    }

    fn select(&self) -> bool {
        let statement =
            Statement::from_sql_and_values(DbBackend::Postgres, SELECT, [7.into(), 1.into()]);
        let rows = self.runtime.block_on(self.db.query_all_raw(statement));
        rows.is_ok_and(|rows| rows.is_empty())
    }

    /// What an open page asks for.
    fn look(&self) -> bool {
        let mut request = http::Request::new(String::new());
        *request.uri_mut() = http::Uri::from_static("/fragment");
        let answer = self.runtime.block_on(self.page.clone().call(request));
        answer.is_ok_and(|answer| answer.status().is_success())
    }
}

fn record() {
    // In tests another operation of this process may have done it.
    let _ = metrics::set_global_recorder(metrics_util::debugging::DebuggingRecorder::new());
}

fn skip() {
    let _ = tracing::subscriber::set_global_default(Skips);
}

fn trace() {
    let _ = tracing_subscriber::fmt()
        .with_env_filter("sealane::statement=debug")
        .with_span_events(tracing_subscriber::fmt::format::FmtSpan::CLOSE)
        .with_writer(io::sink)
        .try_init();
}

/// A subscriber that decides each time, and always against.
struct Skips;

impl Subscriber for Skips {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, _: &Metadata<'_>) -> bool {
        false
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, _: &Event<'_>) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// A primary and two replicas that have everything.
async fn cluster() -> RoutedConnection {
    let names = ["db-1", "db-2", "db-3"];
    let endpoints = names.map(|name| Endpoint::new(name, format!("{name}:5432")));
    let roles = [Role::Primary, Role::Replica, Role::Replica];
    let config = Config::new("postgres://app@db-1/shop");
    let parts = Parts {
        config,
        engine: Engine::Postgres,
        dialect: Dialect::PostgreSql,
        store: TopologyStore::new(Topology::new(endpoints.to_vec())),
        probes: roles.map(|role| BoxProbe::new(Server(role))).into(),
        pools: roles.map(|_| Box::new(Ready) as Box<dyn OpenLenders>).into(),
    };
    assemble(parts).await
}

struct Server(Role);

impl Probe for Server {
    async fn ask(&mut self) -> Result<Report, Failure> {
        let position = Position::Wal { system: 1, timeline: 1, lsn: Lsn::from_bytes(7) };
        Ok(Report {
            position: Some(position),
            replication: Replication::Running,
            ..Report::new(self.0, Incarnation::new("first"))
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

/// Pools and connections that need nothing.
#[derive(Debug)]
struct Ready;

impl OpenLenders for Ready {
    fn open(&self, _: u64) -> (Arc<dyn Lender>, Arc<dyn Lender>) {
        (Arc::new(Ready), Arc::new(Ready))
    }
}

impl Lender for Ready {
    fn lend(&self) -> Answering<'_, Result<Box<dyn Connection>, DbErr>> {
        Box::pin(async { Ok(Box::new(Ready) as Box<dyn Connection>) })
    }

    fn size(&self) -> u32 {
        10
    }

    fn close(&self) {}
}

impl Connection for Ready {
    fn send<'a>(&'a mut self, _: &'a Statement) -> Answering<'a, Result<Answer, DbErr>> {
        Box::pin(async { Ok(Answer::default()) })
    }

    fn stream(
        self: Box<Self>,
        _: Statement,
    ) -> Pin<Box<dyn futures_util::Stream<Item = Result<Row, DbErr>> + Send>> {
        Box::pin(futures_util::stream::empty())
    }

    fn ping(&mut self) -> Answering<'_, Result<(), DbErr>> {
        Box::pin(async { Ok(()) })
    }
}
