//! Sea lanes for [SeaORM](sea_orm): reads on replicas, writes and transactions
//! on the primary, and nobody reads the past by accident.
//!
//! An application changes one line, `Database::connect(url)` to
//! [`connect`]`(config)`, and keeps its entity calls as they are:
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
//! - **Connect.** A [`Config`] names the primary and its replicas: in code, from the
//!   environment ([`Config::from_env`]) or from a file ([`Config::from_toml_file`]). [`connect`]
//!   makes a [`RoutedConnection`] of it, which stands wherever SeaORM's `DatabaseConnection` stood:
//!   `use sealane::RoutedConnection as DatabaseConnection`.
//! - **Give each user a session.** The handle reads its own writes, and so does everybody who
//!   shares it. [`RoutedConnection::session`] gives one user's session a handle of its own, and
//!   [`scope`] binds it to a future. The crate `sealane-tower` does this for each request of a web
//!   service. A task takes its session along with [`in_current_scope`], and another process with a
//!   [token](RoutedConnection::token).
//! - **Say how fresh.** A [`Consistency`] says what reads may miss, a [`FallbackPolicy`] what becomes
//!   of a read that no replica may serve: for all in the [`Config`], or for one handle with
//!   [`RoutedConnection::with_consistency`] and [`RoutedConnection::fallback`].
//! - **Tell what sealane cannot see.** After writes by other means, say
//!   [`RoutedConnection::note_write`]; after migrations, [`RoutedConnection::note_schema_change`].
//! - **Look.** [`RoutedConnection::explain`] tells why a statement goes where it goes,
//!   [`RoutedConnection::status`] how the endpoints stand, [`RoutedConnection::events`] what changes.
//!   What sealane itself has to say of a failed statement, [`Error::of`] finds in SeaORM's error.
//!
//! # Features
//! `postgres`, `mysql` (for MariaDB, too) and `sqlite` choose the drivers; there is none by default.
//! `metrics` tells the recorder of the `metrics` crate how the endpoints stand. `schema-sync`,
//! `entity-registry` and `rbac` go with SeaORM's features of those names.
//!
//! # Where to read on
//! The [book](https://github.com/sealane/sealane/blob/main/docs/src/SUMMARY.md) has a chapter on each
//! of these, a reference of the configuration, notes on each engine, and all promises with their
//! limits.
//!
//! What decides where a statement goes is in `sealane-core`; what proves that
//! it is a read, in `sealane-sql`; what knows the servers, in
//! `sealane-monitor`. This crate is the adapter between those and SeaORM.

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
mod pool;
mod scope;
mod session;
mod signer;
mod stream;
mod transaction;

pub use config::{Config, Replica};
pub use connect::connect;
pub use connection::RoutedConnection;
#[cfg(feature = "rbac")]
pub use connection::{Restricted, RestrictedConnection, RestrictedTransaction};
pub use error::{ConnectError, EndpointError, Error};
pub use observe::{CatalogState, Choice, EndpointStatus, Events, Explanation, LagMillis, Status};
pub use scope::{CurrentScope, in_current_scope};
pub use sealane_core::{
    Access, AttemptOutcome, Balancer, ByGroup, Candidate, Candidates, Condition, Consistency,
    ConsistencyPolicy, Cost, CostClass, Database, Distance, Endpoint, EndpointId, EndpointSet,
    EndpointState, Event, Failure, FallbackPolicy, Health, HealthPolicy, Horizon, Incarnation,
    Intent, Limit, Loads, Moment, Position, ReadOnly, ReadRequest, Refusal, Replication, Role,
    RoundRobin, Routable, Route, RoutingPolicy, Server, ServerInfo, SessionView, TableName, Tables,
    Topology, TwoChoices, Verdict, WhenAhead, WriteStamp, WriteTracking,
};
pub use sealane_sql::{Finding, Place, Reason};
pub use session::{Progress, Resumed, scope};
pub use signer::TokenRefusal;
pub use stream::RoutedStream;
pub use transaction::{RoutedTransaction, RoutedTransactionStream};

/// The name that SeaORM has for its own connection, for code that says `DbConn`.
pub type DbConn = RoutedConnection;

/// What most applications name.
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
