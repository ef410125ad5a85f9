//! What SeaORM's own connection offers besides its traits, so that code written for
//! `DatabaseConnection` compiles with ours.

use std::time::Duration;

use sea_orm::{
    AccessMode, ConnectionTrait, DatabaseExecutor, DbBackend, IntoDatabaseExecutor, IsolationLevel,
    Schema, SchemaBuilder, TransactionError, TransactionTrait, metric::Info,
};
use sealane_core::Engine;

use crate::{RoutedConnection, RoutedTransaction, observe::Metric};

/// How long an executor of SeaORM's is expected to write after it was handed out. An executor is
/// meant for one call, such as that of a service. Each read during this time costs a read on the
/// primary.
const EXECUTOR_WRITES: Duration = Duration::from_secs(1);

impl RoutedConnection {
    /// The backend of all endpoints.
    #[must_use]
    pub fn get_database_backend(&self) -> DbBackend {
        match self.cluster().engine {
            Engine::Postgres => DbBackend::Postgres,
            Engine::MySql => DbBackend::MySql,
            _ => DbBackend::Sqlite,
        }
    }

    /// A builder of schemas for this backend.
    #[must_use]
    pub fn get_schema_builder(&self) -> SchemaBuilder {
        Schema::new(self.get_database_backend()).builder()
    }

    /// Builds the schema of the entities registered under `prefix`.
    #[cfg(feature = "entity-registry")]
    #[must_use]
    pub fn get_schema_registry(&self, prefix: &str) -> SchemaBuilder {
        self.cluster().primary_or_first().get_schema_registry(prefix)
    }

    /// Sets a `callback` that is called when a statement of this handle ends, or of a handle or
    /// transaction made from this handle later.
    ///
    /// The callback is called once per statement, with the time from the call to the result. This
    /// time includes all attempts and the waits for a connection and for a server. For a stream,
    /// the callback is called when the stream ends or is dropped. As with SeaORM, the callback is
    /// not called for `execute_unprepared`, for the beginning and the end of a transaction, or for
    /// a statement whose future is dropped. Neither is it called for statements through
    /// [`primary`](Self::primary) or SeaORM's own type. It runs on the task of the statement, under
    /// no lock.
    ///
    /// ```
    /// # #[cfg(feature = "sqlite")]
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), sea_orm::DbErr> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// let mut db = sealane::connect(sealane::Config::sqlite(dir.path().join("shop.db"))).await?;
    /// db.set_metric_callback(|info| {
    ///     println!("{:?} {} {}", info.elapsed, info.failed, info.statement.sql);
    /// });
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "sqlite"))]
    /// # fn main() {}
    /// ```
    pub fn set_metric_callback<F>(&mut self, callback: F)
    where
        F: Fn(&Info<'_>) + Send + Sync + 'static,
    {
        self.set_metric(Metric::new(callback));
    }

    /// Runs `callback` in a transaction, which is committed on `Ok` and rolled back on `Err`.
    ///
    /// # Errors
    /// The callback's error, or the error of beginning or ending the transaction.
    pub async fn transaction_async<F, T, E>(&self, callback: F) -> Result<T, TransactionError<E>>
    where
        F: for<'c> AsyncFnOnce(&'c RoutedTransaction) -> Result<T, E> + Send,
        T: Send,
        E: std::fmt::Display + std::fmt::Debug + Send,
    {
        self.begin().await?.call_async(callback).await
    }

    /// Runs `callback` in a transaction with this isolation level and access mode, which is
    /// committed on `Ok` and rolled back on `Err`.
    ///
    /// # Errors
    /// The callback's error, or the error of beginning or ending the transaction.
    pub async fn transaction_with_config_async<F, T, E>(
        &self,
        callback: F,
        isolation_level: Option<IsolationLevel>,
        access_mode: Option<AccessMode>,
    ) -> Result<T, TransactionError<E>>
    where
        F: for<'c> AsyncFnOnce(&'c RoutedTransaction) -> Result<T, E> + Send,
        T: Send,
        E: std::fmt::Display + std::fmt::Debug + Send,
    {
        self.begin_with_config(isolation_level, access_mode).await?.call_async(callback).await
    }

    /// The primary's pool.
    ///
    /// # Panics
    /// If this is not a MySQL connection, as SeaORM does.
    #[cfg(feature = "mysql")]
    #[must_use]
    pub fn get_mysql_connection_pool(&self) -> &sea_orm::sqlx::MySqlPool {
        self.cluster().primary_or_first().get_mysql_connection_pool()
    }

    /// The primary's pool.
    ///
    /// # Panics
    /// If this is not a PostgreSQL connection, as SeaORM does.
    #[cfg(feature = "postgres")]
    #[must_use]
    pub fn get_postgres_connection_pool(&self) -> &sea_orm::sqlx::PgPool {
        self.cluster().primary_or_first().get_postgres_connection_pool()
    }

    /// The writer's pool.
    ///
    /// # Panics
    /// If this is not an SQLite connection, as SeaORM does.
    #[cfg(feature = "sqlite")]
    #[must_use]
    pub fn get_sqlite_connection_pool(&self) -> &sea_orm::sqlx::SqlitePool {
        self.cluster().primary_or_first().get_sqlite_connection_pool()
    }
}

impl RoutedConnection {
    /// Assumes that something unseen is written soon.
    fn expect_writes(&self) {
        let until = self.cluster().store().now() + EXECUTOR_WRITES;
        self.here().session_ref().expect_writes(until);
    }
}

/// Services that take any executor, migrations and the like run on the primary, through SeaORM's
/// own connection. sealane does not see what they write. So for one second after the conversion the
/// session counts as writing: its reads during that time miss nothing that had ended before them,
/// and the first read after it misses nothing that ended before that read. (Nobody can see when an
/// executor is dropped.) A write that ends later, after that first read, needs a
/// [`RoutedConnection::note_write`]. The shared handle, whose reads wait for sessions, counts as
/// writing too.
impl<'c> From<&'c RoutedConnection> for DatabaseExecutor<'c> {
    fn from(connection: &'c RoutedConnection) -> Self {
        connection.expect_writes();
        DatabaseExecutor::Connection(connection.primary())
    }
}

impl<'c> IntoDatabaseExecutor<'c> for &'c RoutedConnection {
    fn into_database_executor(self) -> DatabaseExecutor<'c> {
        self.into()
    }
}

impl<'c> From<&'c RoutedTransaction> for DatabaseExecutor<'c> {
    fn from(transaction: &'c RoutedTransaction) -> Self {
        DatabaseExecutor::Transaction(transaction)
    }
}

impl<'c> IntoDatabaseExecutor<'c> for &'c RoutedTransaction {
    fn into_database_executor(self) -> DatabaseExecutor<'c> {
        self.into()
    }
}

/// A transaction that is given away, for example to SeaORM's `SchemaManager`, which commits it.
/// sealane does not see how it ends. So the session counts as writing for one second from now on,
/// as after the conversion of a connection. After a later commit, call
/// [`RoutedConnection::note_write`]; after a change of the schema,
/// [`RoutedConnection::note_schema_change`]. If the server is lost, only SeaORM's error reports
/// this.
impl From<RoutedTransaction> for DatabaseExecutor<'_> {
    fn from(transaction: RoutedTransaction) -> Self {
        DatabaseExecutor::OwnedTransaction(transaction.give_away(EXECUTOR_WRITES))
    }
}

impl IntoDatabaseExecutor<'static> for RoutedTransaction {
    fn into_database_executor(self) -> DatabaseExecutor<'static> {
        self.into()
    }
}

/// Schema discovery reads the primary's catalog, because a replica may not have replayed the last
/// change yet.
#[cfg(all(
    feature = "schema-sync",
    any(feature = "mysql", feature = "postgres", feature = "sqlite")
))]
#[async_trait::async_trait]
impl sea_schema::Connection for RoutedConnection {
    async fn query_all(
        &self,
        select: sea_orm::sea_query::SelectStatement,
    ) -> Result<Vec<sea_schema::sqlx_types::SqlxRow>, sea_orm::sqlx::Error> {
        sea_schema::Connection::query_all(self.primary(), select).await
    }

    async fn query_all_raw(
        &self,
        sql: String,
    ) -> Result<Vec<sea_schema::sqlx_types::SqlxRow>, sea_orm::sqlx::Error> {
        sea_schema::Connection::query_all_raw(self.primary(), sql).await
    }
}

#[cfg(all(
    feature = "schema-sync",
    any(feature = "mysql", feature = "postgres", feature = "sqlite")
))]
#[async_trait::async_trait]
impl sea_schema::Connection for RoutedTransaction {
    async fn query_all(
        &self,
        select: sea_orm::sea_query::SelectStatement,
    ) -> Result<Vec<sea_schema::sqlx_types::SqlxRow>, sea_orm::sqlx::Error> {
        sea_schema::Connection::query_all(self.inner().driver(), select).await
    }

    async fn query_all_raw(
        &self,
        sql: String,
    ) -> Result<Vec<sea_schema::sqlx_types::SqlxRow>, sea_orm::sqlx::Error> {
        sea_schema::Connection::query_all_raw(self.inner().driver(), sql).await
    }
}

impl RoutedTransaction {
    /// The backend of the transaction.
    #[must_use]
    pub fn get_database_backend(&self) -> DbBackend {
        ConnectionTrait::get_database_backend(self.inner().driver())
    }

    /// Runs `callback` in a nested transaction, which is committed on `Ok` and rolled back on
    /// `Err`.
    ///
    /// # Errors
    /// The callback's error, or the error of beginning or ending the transaction.
    pub async fn transaction_async<F, T, E>(&self, callback: F) -> Result<T, TransactionError<E>>
    where
        F: for<'c> AsyncFnOnce(&'c RoutedTransaction) -> Result<T, E> + Send,
        T: Send,
        E: std::fmt::Display + std::fmt::Debug + Send,
    {
        self.begin().await?.call_async(callback).await
    }

    /// Runs `callback` in a nested transaction with this isolation level and access mode, which is
    /// committed on `Ok` and rolled back on `Err`.
    ///
    /// # Errors
    /// The callback's error, or the error of beginning or ending the transaction.
    pub async fn transaction_with_config_async<F, T, E>(
        &self,
        callback: F,
        isolation_level: Option<IsolationLevel>,
        access_mode: Option<AccessMode>,
    ) -> Result<T, TransactionError<E>>
    where
        F: for<'c> AsyncFnOnce(&'c RoutedTransaction) -> Result<T, E> + Send,
        T: Send,
        E: std::fmt::Display + std::fmt::Debug + Send,
    {
        self.begin_with_config(isolation_level, access_mode).await?.call_async(callback).await
    }
}
