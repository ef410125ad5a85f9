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
//! What decides where a statement goes is in `sealane-core`; what proves that
//! it is a read, in `sealane-sql`; what knows the servers, in
//! `sealane-monitor`. This crate is the adapter between those and SeaORM.

mod ahead;
mod cluster;
mod config;
mod connect;
mod connection;
mod error;
mod events;
mod execute;
mod explain;
mod failover;
mod group;
mod pool;
mod scope;
mod session;
mod status;
mod stream;
mod token;
mod transaction;

pub use config::Config;
pub use connect::{ConnectError, connect};
pub use connection::RoutedConnection;
pub use error::Error;
pub use events::Events;
pub use explain::{Choice, Explanation};
pub use scope::{in_current_scope, scope};
pub use sealane_core::{
    Balancer, Condition, Consistency, Distance, EndpointId, Event, Health, HealthPolicy, Intent,
    ReadOnly, RoundRobin, TwoChoices, WhenAhead, WhenBehind, WriteTracking,
};
pub use sealane_sql::{Cost, CostClass, Finding, Limit, Place, Reason, TableName, Tables};
pub use session::{Progress, Resumed};
pub use status::{CatalogState, EndpointStatus, LagMillis, Status};
pub use stream::RoutedStream;
pub use token::TokenRefusal;
pub use transaction::{RoutedTransaction, RoutedTransactionStream};

/// A future as SeaORM's traits return it.
type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;
