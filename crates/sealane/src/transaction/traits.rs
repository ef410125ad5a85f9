//! SeaORM's traits for the routed transaction: everything runs on the endpoint where the
//! transaction began.

use std::pin::Pin;

use async_trait::async_trait;
use sea_orm::{
    AccessMode, ConnectionTrait, DbBackend, DbErr, ExecResult, IsolationLevel, QueryResult,
    Statement, StreamTrait, TransactionError, TransactionOptions, TransactionSession,
    TransactionTrait,
};
use tracing::Instrument;

use crate::{
    BoxFuture, RoutedTransaction, RoutedTransactionStream,
    observe::{Measured, span},
};

#[async_trait]
impl ConnectionTrait for RoutedTransaction {
    fn get_database_backend(&self) -> DbBackend {
        self.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.run(statement, |statement| self.inner().execute_raw(statement)).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.place.note(sql);
        self.place.traced(sql, self.place.within(self.inner().execute_unprepared(sql))).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.run(statement, |statement| self.inner().query_one_raw(statement)).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.run(statement, |statement| self.inner().query_all_raw(statement)).await
    }

    fn support_returning(&self) -> bool {
        self.inner().driver().support_returning()
    }
}

impl RoutedTransaction {
    /// Runs one statement, which `send` sends.
    async fn run<T, F>(
        &self,
        statement: Statement,
        send: impl FnOnce(Statement) -> F,
    ) -> Result<T, DbErr>
    where
        F: Future<Output = Result<T, DbErr>>,
    {
        self.place.note(&statement.sql);
        let kept = self.metric.is_set().then(|| statement.clone());
        let span = self.place.span(&statement.sql);
        let began = self.metric.begins(self.place.cluster());
        let result = self.place.within(send(statement)).instrument(span.clone()).await;
        if let Some(statement) = &kept {
            self.metric.ends(began, self.place.cluster(), statement, &result);
        }
        span::ended(&span, &result);
        result
    }
}

impl StreamTrait for RoutedTransaction {
    type Stream<'a> = RoutedTransactionStream<'a>;

    fn get_database_backend(&self) -> DbBackend {
        self.get_database_backend()
    }

    fn stream_raw<'a>(
        &'a self,
        statement: Statement,
    ) -> BoxFuture<'a, Result<RoutedTransactionStream<'a>, DbErr>> {
        Box::pin(async move {
            self.place.note(&statement.sql);
            let mut measured = self.metric.begin(self.place.cluster(), &statement);
            let span = self.place.span(&statement.sql);
            let opening = self.place.within(self.inner().driver().stream_raw(statement));
            let rows = opening.instrument(span.clone()).await;
            Measured::note(&mut measured, &rows);
            span::ended(&span, &rows);
            Ok(RoutedTransactionStream::new(rows?, &self.place, measured, span))
        })
    }
}

#[async_trait]
impl TransactionTrait for RoutedTransaction {
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
        let beginning = self.place.nest(self.inner(), options);
        let inner = self.place.traced("SAVEPOINT", beginning).await?;
        Ok(self.nested(inner))
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

#[async_trait]
impl TransactionSession for RoutedTransaction {
    async fn commit(self) -> Result<(), DbErr> {
        self.commit().await
    }

    async fn rollback(self) -> Result<(), DbErr> {
        self.rollback().await
    }
}
