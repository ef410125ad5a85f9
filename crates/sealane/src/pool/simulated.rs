//! Connections that a simulator lends, and their adaptation to SeaORM; see `assembly`.

use std::{collections::BTreeMap, fmt, pin::Pin, sync::Arc};

use futures_util::{Stream, StreamExt};
use sea_orm::{
    AccessMode, ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr,
    ExecResult, MockDatabase, MockExecResult, QueryResult, Statement, TransactionOptions,
    TransactionTrait, Value,
};
use tokio::sync::Mutex;

use crate::BoxFuture;

/// A row, by the names of its columns.
pub type Row = BTreeMap<String, Value>;
/// Rows as they arrive.
pub type Rows = Pin<Box<dyn Stream<Item = Result<QueryResult, DbErr>> + Send>>;

/// A server's answer to a statement.
#[derive(Debug, Default)]
pub struct Answer {
    /// The rows.
    pub rows: Vec<Row>,
    /// How many rows the statement changed.
    pub affected: u64,
}

/// A pool.
pub trait Lender: fmt::Debug + Send + Sync {
    /// Lends a connection, within the pool's own limits. The connection returns when it is dropped.
    fn lend(&self) -> BoxFuture<'_, Result<Box<dyn Connection>, DbErr>>;

    /// How many connections it lends at a time.
    fn size(&self) -> u32;

    /// Stops lending.
    fn close(&self);
}

/// One connection, used by one statement or one transaction at a time. If one of its futures is
/// dropped, the statement may still be running on the server.
pub trait Connection: fmt::Debug + Send {
    /// Sends a statement, or `BEGIN`, `BEGIN READ ONLY`, `COMMIT` or `ROLLBACK`.
    fn send<'a>(&'a mut self, statement: &'a Statement) -> BoxFuture<'a, Result<Answer, DbErr>>;

    /// Sends a statement when first polled, and returns its rows one by one.
    fn stream(
        self: Box<Self>,
        statement: Statement,
    ) -> Pin<Box<dyn Stream<Item = Result<Row, DbErr>> + Send>>;

    /// Checks that the server answers.
    fn ping(&mut self) -> BoxFuture<'_, Result<(), DbErr>>;
}

/// A stand-in of SeaORM's own type that is never used.
pub(crate) fn nowhere(backend: DbBackend) -> DatabaseConnection {
    MockDatabase::new(backend).into_connection()
}

pub(crate) async fn execute(
    connection: &mut dyn Connection,
    statement: &Statement,
) -> Result<ExecResult, DbErr> {
    let Answer { affected, .. } = connection.send(statement).await?;
    let result = MockExecResult { last_insert_id: 0, rows_affected: affected };
    let mock = MockDatabase::new(DbBackend::Postgres).append_exec_results([result]);
    mock.into_connection().execute_raw(nothing()).await
}

pub(crate) async fn query(
    connection: &mut dyn Connection,
    statement: &Statement,
) -> Result<Vec<QueryResult>, DbErr> {
    results(connection.send(statement).await?.rows).await
}

pub(crate) fn stream(connection: Box<dyn Connection>, statement: Statement) -> Rows {
    Box::pin(connection.stream(statement).then(|row| async {
        let mut results = results(vec![row?]).await?;
        results.pop().ok_or_else(|| DbErr::Custom("a row was lost".to_owned()))
    }))
}

/// Converts rows to SeaORM's type.
async fn results(rows: Vec<Row>) -> Result<Vec<QueryResult>, DbErr> {
    let mock = MockDatabase::new(DbBackend::Postgres).append_query_results([rows]);
    mock.into_connection().query_all_raw(nothing()).await
}

fn nothing() -> Statement {
    Statement::from_string(DbBackend::Postgres, "")
}

/// A transaction on its own connection.
pub(crate) struct Transaction {
    connection: Mutex<Box<dyn Connection>>,
    stand_in: DatabaseTransaction,
}

/// Begins a transaction on a connection of `lender`.
pub(crate) async fn begin(
    lender: Arc<dyn Lender>,
    options: TransactionOptions,
) -> Result<Transaction, DbErr> {
    let mut connection = lender.lend().await?;
    let text = match options.access_mode {
        Some(AccessMode::ReadOnly) => "BEGIN READ ONLY",
        _ => "BEGIN",
    };
    connection.send(&Statement::from_string(DbBackend::Postgres, text)).await?;
    let stand_in = nowhere(DbBackend::Postgres).begin().await?;
    Ok(Transaction { connection: Mutex::new(connection), stand_in })
}

impl Transaction {
    pub(crate) fn stand_in(&self) -> &DatabaseTransaction {
        &self.stand_in
    }

    pub(crate) fn into_stand_in(self) -> DatabaseTransaction {
        self.stand_in
    }

    pub(crate) async fn execute(&self, statement: &Statement) -> Result<ExecResult, DbErr> {
        execute(&mut **self.connection.lock().await, statement).await
    }

    pub(crate) async fn query(&self, statement: &Statement) -> Result<Vec<QueryResult>, DbErr> {
        query(&mut **self.connection.lock().await, statement).await
    }

    /// Ends the transaction with `COMMIT` or `ROLLBACK`.
    pub(crate) async fn end(self, how: &str) -> Result<(), DbErr> {
        let mut connection = self.connection.into_inner();
        connection.send(&Statement::from_string(DbBackend::Postgres, how)).await?;
        Ok(())
    }
}
