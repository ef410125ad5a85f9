//! SeaORM, with sealane's connection in place of its own.
//!
//! All of SeaORM's names are here. [`Database`], [`DatabaseConnection`], [`DbConn`] and
//! [`DatabaseTransaction`] are sealane's, also in the [`prelude`]. So an application is mostly moved by
//! its `use` lines, and one whose crates get SeaORM from a module of its own by one line there:
//! `pub use sealane::orm as sea_orm;`.
//!
//! ```
//! # #[cfg(feature = "sqlite")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), sea_orm::DbErr> {
//! # let dir = tempfile::tempdir().unwrap();
//! # let url = format!("sqlite://{}?mode=rwc", dir.path().join("harbour.db").display());
//! use sealane::orm::{ConnectionTrait, Database, DatabaseConnection}; // was: use sea_orm::{..};
//!
//! let db: DatabaseConnection = Database::connect(url).await?;
//! db.execute_unprepared("CREATE TABLE boat (name TEXT)").await?;
//! assert_eq!(db.explain("SELECT name FROM boat").first_choice(), Some("readers"));
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "sqlite"))]
//! # fn main() {}
//! ```
//!
//! # What stays SeaORM's
//! - Derived code names the crate `sea_orm`, so that stays among the application's dependencies.
//! - Connections of other makers: mocks, proxies, SeaORM's own around a pool of sqlx. `.into()` turns
//!   them into routed ones, which run everything there.
//! - `sea_orm::DatabaseConnection` where it is spelled out, also in signatures of other crates. Two
//!   `use` lines with `*` that bring both types under one name are an error where the name is used.

pub use sea_orm::*;

use crate::{Config, connect};
pub use crate::{
    DbConn, RoutedConnection as DatabaseConnection, RoutedTransaction as DatabaseTransaction,
};
#[cfg(feature = "rbac")]
pub use crate::{RestrictedConnection, RestrictedTransaction};

/// Connects to a primary and its replicas; SeaORM's `Database` connects to one server.
#[derive(Debug, Clone, Copy, Default)]
pub struct Database;

impl Database {
    /// Connects to the primary at this URL, and to the replicas that `DATABASE_REPLICA_URLS` names. If
    /// `DATABASE_URL` is set and another one, the replicas belong to that, and are left out with a
    /// warning. [`Config::from_env`] describes the other variables.
    ///
    /// An SQLite file is split into a writer and readers, and changed to WAL mode for good, as by
    /// `Config::sqlite`.
    ///
    /// Options of connections differ between servers, so this takes none. With `ConnectOptions`, use
    /// [`connect`](crate::connect()): `connect(Config::new(options).replica(its_options))`.
    ///
    /// # Errors
    /// Those of [`connect`](crate::connect()) and [`Config::from_env`], as SeaORM's error.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn connect(url: impl Into<String>) -> Result<DatabaseConnection, DbErr> {
        Ok(connect(Config::at(url.into())?).await?)
    }
}

/// SeaORM's prelude, with sealane's connection.
pub mod prelude {
    pub use sea_orm::entity::prelude::*;

    pub use super::{DatabaseConnection, DbConn};
}

/// SeaORM's entities, with the [`prelude`](super::prelude) from here.
pub mod entity {
    pub use sea_orm::entity::*;

    pub use super::prelude;
}
