//! Sea lanes for [SeaORM](sea_orm): reads on replicas, writes and transactions
//! on the primary. A session reads what it wrote.
//!
//! An application takes the names of its connection from [`orm`] instead of `sea_orm`, or connects
//! with [`connect`]`(config)`, and keeps its entity calls as they are:
//!
//! ```
//! # #[cfg(feature = "sqlite")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), sea_orm::DbErr> {
//! # let dir = tempfile::tempdir().unwrap();
//! # let path = dir.path().join("harbour.db");
//! use sea_orm::ConnectionTrait;
//!
//! let db = sealane::connect(sealane::Config::sqlite(path)).await?;
//! db.execute_unprepared("CREATE TABLE boat (id INTEGER PRIMARY KEY, name TEXT)").await?;
//! db.execute_unprepared("INSERT INTO boat (name) VALUES ('Ida')").await?;
//!
//! let explanation = db.explain("SELECT name FROM boat");
//! assert_eq!(explanation.first_choice(), Some("readers"));
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "sqlite"))]
//! # fn main() {}
//! ```
//!
//! # A short guide
//! - **Connect.** A [`Config`] names the primary and its replicas: in code, from the environment
//!   ([`Config::from_env`]) or from a file ([`Config::from_toml_file`]). [`connect`] turns it into
//!   a [`RoutedConnection`], which replaces SeaORM's `DatabaseConnection` everywhere. The module
//!   [`orm`] is SeaORM with that in its place.
//! - **Give each user a session.** The handle reads its own writes, and so does everybody who
//!   shares it. [`RoutedConnection::session`] gives one user's session a separate handle, and
//!   [`scope`] binds it to a future. The crate `sealane-tower` does this for each request of a web
//!   service. [`in_current_scope`] carries a session into a task, and a
//!   [token](RoutedConnection::token) carries it to another process.
//! - **Say how fresh.** A [`Consistency`] says what reads may miss. A [`FallbackPolicy`] says what
//!   happens to a read that no replica may serve. Both are set for all reads in the [`Config`], or
//!   for one handle with [`RoutedConnection::with_consistency`] and [`RoutedConnection::fallback`].
//! - **Report what sealane cannot see.** After writes by other means, call
//!   [`RoutedConnection::note_write`]; after migrations, [`RoutedConnection::note_schema_change`].
//! - **Look.** [`RoutedConnection::explain`] tells why a statement goes where it goes,
//!   [`RoutedConnection::status`] shows the state of the endpoints, and
//!   [`RoutedConnection::events`] reports changes. [`Error::of`] finds sealane's own error inside
//!   SeaORM's error.
//!
//! # Features
//! `postgres`, `mysql` (also for MariaDB) and `sqlite` choose the drivers; none is enabled by
//! default. `metrics` reports the state of the endpoints to the recorder of the `metrics` crate.
//! `schema-sync`, `entity-registry` and `rbac` belong to SeaORM's features of the same names.
//!
//! # Where to read on
//! The [book](https://github.com/sealane/sealane/blob/main/docs/src/SUMMARY.md) has a chapter on
//! each of these topics, a reference of the configuration, notes on each engine, and all promises
//! with their limits.
//!
//! `sealane-core` decides where a statement goes, `sealane-sql` proves that a statement is a read,
//! and `sealane-monitor` observes the servers. This crate is the adapter between these crates and
//! SeaORM.

// Statements run in futures within futures. In a release build with several engines, their layout is
// deeper than the compiler follows by default.
#![recursion_limit = "256"]

#[cfg(feature = "assembly")]
#[doc(hidden)]
pub mod assembly;
mod caller;
mod cluster;
mod config;
mod connect;
mod connection;
mod endpoints;
mod error;
mod execute;
mod observe;
pub mod orm;
mod pool;
mod rules;
mod scope;
mod session;
mod signer;
mod stream;
mod transaction;

pub use cluster::{
    LatencyReport, ReadCounts, ShadowComparisons, ShadowDifference, ShadowEndpoint, ShadowReport,
    ShadowStays,
};
pub use config::{Config, Replica, Shadow};
pub use connect::{Target, connect};
pub use connection::RoutedConnection;
#[cfg(feature = "rbac")]
pub use connection::{Restricted, RestrictedConnection, RestrictedTransaction};
pub use error::{ConnectError, EndpointError, Error};
pub use observe::{
    Advice, CatalogState, Choice, ConnectionReport, EndpointReport, EndpointStatus, Events,
    Explanation, LagMillis, Report, StatementReport, StatementReports, Status,
};
pub use rules::LiveRules;
pub use scope::{CurrentScope, in_current_scope};
pub use sealane_core::{
    Access, AttemptOutcome, Balancer, ByGroup, Candidate, Candidates, Condition, Consistency,
    ConsistencyPolicy, Cost, CostClass, Database, Distance, EjectionPolicy, Endpoint, EndpointId,
    EndpointSet, EndpointState, Engine, Event, Failure, FallbackPolicy, FastestResponse, Health,
    HealthPolicy, Horizon, Incarnation, Intent, LeastInFlight, LeastLag, Limit, Loads, LocalFirst,
    Moment, Pattern, Position, PrimaryReads, Random, ReadOnly, ReadRequest, Refusal, Replication,
    Role, RoundRobin, Routable, Route, RoutingPolicy, Rule, RuleError, RuleId, Rules, Server,
    ServerInfo, SessionView, Severity, Sticky, TableName, Tables, TimedEvent, Topology, TwoChoices,
    Verdict, WeightedRoundRobin, WhenAhead, WriteStamp, WriteTracking,
};
pub use sealane_monitor::OPERATION_DURATION_BUCKETS;
pub use sealane_sql::{Finding, Place, Reason};
pub use session::{Progress, Resumed, scope};
pub use signer::TokenRefusal;
pub use stream::RoutedStream;
pub use transaction::{RoutedTransaction, RoutedTransactionStream};

/// SeaORM's name for its own connection, for code that uses `DbConn`.
pub type DbConn = RoutedConnection;

/// The names that most applications need.
///
/// ```
/// use sealane::prelude::*;
///
/// async fn at_start() -> Result<RoutedConnection, ConnectError> {
///     connect(Config::new("postgres://app@db-1/shop").replica("postgres://app@db-2/shop")).await
/// }
/// ```
pub mod prelude {
    pub use crate::{
        Config, ConnectError, Consistency, DbConn, EndpointError, Error, FallbackPolicy, Replica,
        RoutedConnection, RoutedTransaction, connect, in_current_scope, scope,
    };
}

/// A future as SeaORM's traits return it.
type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;
