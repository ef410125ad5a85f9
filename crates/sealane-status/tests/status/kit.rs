//! A topology of servers that do what a test says, and a client of the service.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode, header},
    response::Response,
};
use http_body_util::BodyExt;
use sea_orm::DbErr;
use sealane::{
    Config, RoutedConnection,
    assembly::{self, Connection, Lender, OpenLenders, Parts},
};
use sealane_core::{
    Endpoint, Engine, Failure, HealthPolicy, Incarnation, Lsn, Position, Replication, Report, Role,
    Topology,
};
use sealane_monitor::{BoxProbe, Probe, TopologyStore};
use sealane_sql::Dialect;
use sealane_status::StatusService;
use tower::ServiceExt;

pub const PASSWORD: &str = "hunter2";

/// A server: the failure of its probes, or none.
#[derive(Debug, Clone, Default)]
pub struct Server(Arc<Mutex<Option<String>>>);

impl Server {
    pub fn fail(&self, why: &str) {
        *self.0.lock().unwrap() = Some(why.to_owned());
    }

    pub fn answer(&self) {
        *self.0.lock().unwrap() = None;
    }
}

struct FakeProbe(Server, Role);

impl Probe for FakeProbe {
    async fn ask(&mut self) -> Result<Report, Failure> {
        // A round trip takes a moment.
        tokio::time::sleep(Duration::from_millis(1)).await;
        if let Some(why) = self.0.0.lock().unwrap().clone() {
            return Err(Failure::Connection(why));
        }
        let lsn = Lsn::from_bytes(100);
        Ok(Report {
            position: Some(Position::Wal { system: 1, timeline: 1, lsn }),
            replication: match self.1 {
                Role::Replica => Replication::Running,
                _ => Replication::NotApplicable,
            },
            ..Report::new(self.1, Incarnation::new("first"))
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

/// Lends nothing: no test here runs a statement.
#[derive(Debug)]
struct Nobody;

impl Lender for Nobody {
    fn lend(
        &self,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Box<dyn Connection>, DbErr>> + Send + '_>>
    {
        Box::pin(async { Err(DbErr::Custom("nobody lends here".to_owned())) })
    }

    fn size(&self) -> u32 {
        10
    }

    fn close(&self) {}
}

impl OpenLenders for Nobody {
    fn open(&self, _: u64) -> (Arc<dyn Lender>, Arc<dyn Lender>) {
        (Arc::new(Nobody), Arc::new(Nobody))
    }
}

pub struct Fleet {
    pub db: RoutedConnection,
    pub store: Arc<TopologyStore>,
    pub servers: Vec<Server>,
}

impl Fleet {
    /// The first is the primary.
    pub async fn of(names: &[&str]) -> Self {
        let endpoints = names.iter().map(|name| Endpoint::new(*name, "here:5432")).collect();
        let (topology, policy) = (Topology::new(endpoints), HealthPolicy::default());
        let store = TopologyStore::of_database("shop", topology, policy);
        let servers: Vec<_> = names.iter().map(|_| Server::default()).collect();
        let probe = |(place, server): (usize, &Server)| {
            let role = if place == 0 { Role::Primary } else { Role::Replica };
            BoxProbe::new(FakeProbe(server.clone(), role))
        };
        let parts = Parts {
            config: Config::new(format!("postgres://app:{PASSWORD}@db-1/shop")),
            engine: Engine::Postgres,
            dialect: Dialect::PostgreSql,
            store: Arc::clone(&store),
            probes: servers.iter().enumerate().map(probe).collect(),
            pools: names.iter().map(|_| Box::new(Nobody) as Box<dyn OpenLenders>).collect(),
        };
        Fleet { db: assembly::assemble(parts).await, store, servers }
    }

    /// Waits until the state is like this.
    pub async fn until(&self, holds: impl Fn(&sealane::Status) -> bool) {
        let holds = self.store.until(|_| holds(&self.db.status()));
        tokio::time::timeout(Duration::from_secs(60), holds).await.unwrap();
    }
}

/// A client of a service that is mounted as applications do it.
#[derive(Clone)]
pub struct Client(Router);

impl Client {
    pub fn of(service: StatusService) -> Self {
        Client(Router::new().nest_service("/ops", service))
    }

    pub async fn send(&self, request: Request<Body>) -> Response {
        self.0.clone().oneshot(request).await.unwrap()
    }

    pub async fn get(&self, path: &str) -> Response {
        self.send(Request::get(format!("/ops{path}")).body(Body::empty()).unwrap()).await
    }

    /// The status and the body.
    pub async fn read(&self, path: &str) -> (StatusCode, String) {
        text(self.get(path).await).await
    }

    pub async fn json(&self, path: &str) -> (StatusCode, serde_json::Value) {
        let (status, text) = self.read(path).await;
        (status, serde_json::from_str(&text).unwrap())
    }

    pub async fn post(&self, path: &str, kind: &str, body: impl Into<Body>) -> Response {
        let request = Request::post(format!("/ops{path}")).header(header::CONTENT_TYPE, kind);
        self.send(request.body(body.into()).unwrap()).await
    }
}

pub async fn text(response: Response) -> (StatusCode, String) {
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

/// The next piece of a stream; `None` at its end.
pub async fn piece(body: &mut Body) -> Option<String> {
    let frame = tokio::time::timeout(Duration::from_secs(120), body.frame()).await.unwrap()?;
    let bytes = frame.unwrap().into_data().unwrap();
    Some(String::from_utf8(bytes.to_vec()).unwrap())
}
