//! SeaORM's traits over the routed connection.

use std::pin::Pin;

use async_trait::async_trait;
use sea_orm::{
    AccessMode, ConnectionTrait, DbBackend, DbErr, ExecResult, IsolationLevel, QueryResult,
    Statement, StatementBuilder, StreamTrait, TransactionError, TransactionOptions,
    TransactionTrait,
};
use tracing::Instrument;

use crate::{
    BoxFuture, RoutedConnection, RoutedStream, RoutedTransaction,
    execute::PrimaryWait,
    observe::span,
    pool::{Execute, ExecuteUnprepared, QueryAll, QueryOne, Verb},
    stream, transaction,
};

impl RoutedConnection {
    async fn run<V: Verb>(&self, statement: Statement) -> Result<V::Output, DbErr> {
        let here = self.here();
        let span = span::open(self.cluster(), &statement.sql);
        let began = self.metric().begins(self.cluster());
        let result = here.run::<V>(&statement).instrument(span.clone()).await;
        self.metric().ends(began, self.cluster(), &statement, &result);
        span::ended(&span, &result);
        result
    }
}

#[async_trait]
impl ConnectionTrait for RoutedConnection {
    fn get_database_backend(&self) -> DbBackend {
        self.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.run::<Execute>(statement).await
    }

    async fn execute<S: StatementBuilder>(&self, builder: &S) -> Result<ExecResult, DbErr> {
        self.run::<Execute>(self.get_database_backend().build(builder)).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        // Several statements in one text, DDL, `SET`: everything that needs this call belongs on
        // the primary. The result carries no rows, so no read is kept from a replica by this.
        let statement = Statement::from_string(self.get_database_backend(), sql);
        let (here, span) = (self.here(), span::open(self.cluster(), sql));
        let running = here.run_write::<ExecuteUnprepared>(&statement, PrimaryWait::default());
        let result = running.instrument(span.clone()).await;
        span::ended(&span, &result);
        result
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.run::<QueryOne>(statement).await
    }

    async fn query_one<S: StatementBuilder>(
        &self,
        builder: &S,
    ) -> Result<Option<QueryResult>, DbErr> {
        self.run::<QueryOne>(self.get_database_backend().build(builder)).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.run::<QueryAll>(statement).await
    }

    async fn query_all<S: StatementBuilder>(&self, builder: &S) -> Result<Vec<QueryResult>, DbErr> {
        self.run::<QueryAll>(self.get_database_backend().build(builder)).await
    }

    fn support_returning(&self) -> bool {
        self.cluster().primary_or_first().support_returning()
    }

    fn is_mock_connection(&self) -> bool {
        self.cluster().primary_or_first().is_mock_connection()
    }
}

impl StreamTrait for RoutedConnection {
    type Stream<'a> = RoutedStream;

    fn get_database_backend(&self) -> DbBackend {
        self.get_database_backend()
    }

    fn stream_raw<'a>(
        &'a self,
        statement: Statement,
    ) -> BoxFuture<'a, Result<RoutedStream, DbErr>> {
        let here = self.here().into_owned();
        Box::pin(stream::open(here, self.metric(), statement))
    }
}

#[async_trait]
impl TransactionTrait for RoutedConnection {
    type Transaction = RoutedTransaction;

    async fn begin(&self) -> Result<RoutedTransaction, DbErr> {
        self.begin_with_options(TransactionOptions::default()).await
    }

    async fn begin_with_config(
        &self,
        isolation_level: Option<IsolationLevel>,
        access_mode: Option<AccessMode>,
    ) -> Result<RoutedTransaction, DbErr> {
        let options =
            TransactionOptions { isolation_level, access_mode, sqlite_transaction_mode: None };
        self.begin_with_options(options).await
    }

    async fn begin_with_options(
        &self,
        options: TransactionOptions,
    ) -> Result<RoutedTransaction, DbErr> {
        transaction::begin(&self.here(), self.metric().clone(), options).await
    }

    async fn transaction<F, T, E>(&self, callback: F) -> Result<T, TransactionError<E>>
    where
        F: for<'c> FnOnce(
                &'c RoutedTransaction,
            ) -> Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'c>>
            + Send,
        T: Send,
        E: std::fmt::Display + std::fmt::Debug + Send,
    {
        self.begin().await?.call(callback).await
    }

    async fn transaction_with_config<F, T, E>(
        &self,
        callback: F,
        isolation_level: Option<IsolationLevel>,
        access_mode: Option<AccessMode>,
    ) -> Result<T, TransactionError<E>>
    where
        F: for<'c> FnOnce(
                &'c RoutedTransaction,
            ) -> Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'c>>
            + Send,
        T: Send,
        E: std::fmt::Display + std::fmt::Debug + Send,
    {
        self.begin_with_config(isolation_level, access_mode).await?.call(callback).await
    }
}
