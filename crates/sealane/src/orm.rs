//! SeaORM, with sealane's connection in place of its own.
//!
//! These are SeaORM's names, but for five: [`Database`], [`DatabaseConnection`], [`DbConn`],
//! [`DatabaseTransaction`] and the [`prelude`]. An application that takes its names from here is
//! moved by its `use` lines alone, and one that takes them from a module of its own by one line there:
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
//! Derived code names the crate `sea_orm`, so that stays among the application's dependencies. Two
//! `use` lines with `*` that bring different types under one name are an error where the name is used:
//! take both from here, or neither.

pub use sea_orm::*;

use crate::{Config, connect};
pub use crate::{
    DbConn, RoutedConnection as DatabaseConnection, RoutedTransaction as DatabaseTransaction,
};

/// What connects. SeaORM's `Database` connects to one server; this one also to its replicas.
#[derive(Debug, Clone, Copy, Default)]
pub struct Database;

impl Database {
    /// Connects to the primary at this URL, or with these `ConnectOptions`, and to the replicas whose
    /// URLs `DATABASE_REPLICA_URLS` holds. [`Config::from_env`] names the other variables; for all other
    /// settings there is [`connect`](crate::connect()).
    ///
    /// # Errors
    /// Those of [`connect`](crate::connect()) and [`Config::from_env`], as SeaORM's error.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn connect(options: impl Into<ConnectOptions>) -> Result<DatabaseConnection, DbErr> {
        let config = Config::new(options.into()).with_environment()?;
        Ok(connect(config).await?)
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
