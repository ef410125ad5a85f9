//! One connection of a pool, while a statement uses it.
//!
//! SeaORM's own connection takes a connection from its pool and sends the statement in one step. So
//! after a cancelled statement nobody knows whether it was sent. Here the two steps are separate.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::Stream;
#[cfg(feature = "sqlite")]
use futures_util::future::Either;
#[cfg(any(feature = "mysql", feature = "postgres"))]
use sea_orm::DatabaseConnectionType;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbErr, ExecResult, QueryResult, QueryStream, Statement,
    StreamTrait,
};

use super::Pool;
#[cfg(any(feature = "mysql", feature = "postgres"))]
use super::lent::Lent;
#[cfg(feature = "mysql")]
use super::mysql::MySqlLine;
#[cfg(any(feature = "mysql", feature = "postgres"))]
use super::rows::Rows;
#[cfg(feature = "sqlite")]
use super::sqlite::{FileLine, WrittenRows};

/// A connection that one statement uses alone.
#[derive(Debug)]
pub(crate) enum Line {
    #[cfg(feature = "postgres")]
    Postgres(Lent<sea_orm::sqlx::Postgres>),
    #[cfg(feature = "mysql")]
    MySql(MySqlLine),
    #[cfg(feature = "sqlite")]
    File(FileLine),
    /// A simulator's connection.
    #[cfg(feature = "assembly")]
    Simulated(Box<dyn super::simulated::Connection>),
    /// A pool used as a whole: an SQLite database that is not split, or a mock.
    Whole(DatabaseConnection),
}

/// A way to send a statement, with the type of its result.
pub(crate) trait Verb: 'static {
    type Output: Send + 'static;
    /// Whether the text is one statement, which is executed completely or not at all.
    const IS_ONE_STATEMENT: bool = true;
    /// Whether the result is the first of several rows.
    const IS_FIRST_ROW: bool = false;

    /// The rows of the result; `None` if it has none.
    fn rows(_: &Self::Output) -> Option<&[QueryResult]> {
        None
    }

    fn send(
        line: &mut Line,
        statement: &Statement,
    ) -> impl Future<Output = Result<Self::Output, DbErr>> + Send;
}

/// Executes a prepared statement for its effect.
pub(crate) struct Execute;
/// Executes a text without preparing it, so that it may hold several statements.
pub(crate) struct ExecuteUnprepared;
/// Queries the first row.
pub(crate) struct QueryOne;
/// Queries all rows.
pub(crate) struct QueryAll;

impl Line {
    /// Takes a connection from `pool` or opens one. Sends no statement.
    ///
    /// # Errors
    /// No connection became free in time, or the server refuses connections.
    pub(crate) async fn take(pool: &Pool) -> Result<Line, DbErr> {
        #[cfg(feature = "sqlite")]
        if let Some(seat) = &pool.seat {
            return seat.take(&pool.connection).await.map(Line::File);
        }
        #[cfg(feature = "assembly")]
        if let Some(lender) = &pool.lender {
            return lender.lend().await.map(Line::Simulated);
        }
        #[cfg(feature = "mysql")]
        let canceller = pool.canceller.as_ref();
        let pool = &pool.connection;
        #[cfg(any(feature = "mysql", feature = "postgres"))]
        match &pool.inner {
            #[cfg(feature = "postgres")]
            DatabaseConnectionType::SqlxPostgresPoolConnection(_) => {
                return Lent::of(pool.get_postgres_connection_pool()).await.map(Line::Postgres);
            }
            #[cfg(feature = "mysql")]
            DatabaseConnectionType::SqlxMySqlPoolConnection(_) => {
                let lent = Lent::of(pool.get_mysql_connection_pool()).await?;
                return Ok(Line::MySql(MySqlLine::of(lent, canceller).await));
            }
            _ => {}
        }
        Ok(Line::Whole(pool.clone()))
    }

    /// Streams the rows of `statement`. The statement is sent when the stream is first polled.
    pub(crate) async fn stream(self, statement: Statement) -> Result<RowStream, DbErr> {
        let rows = match self {
            #[cfg(feature = "postgres")]
            Line::Postgres(lent) => QueryStream::from((lent.into_inner(), statement, None)),
            #[cfg(feature = "mysql")]
            Line::MySql(line) => line.stream(statement),
            #[cfg(feature = "sqlite")]
            Line::File(line) => match line.stream(statement) {
                Either::Left(rows) => rows,
                Either::Right(written) => return Ok(RowStream::Written(written)),
            },
            #[cfg(feature = "assembly")]
            Line::Simulated(connection) => {
                return Ok(RowStream::Simulated(super::simulated::stream(connection, statement)));
            }
            Line::Whole(pool) => pool.stream_raw(statement).await?,
        };
        Ok(RowStream::Driver(rows))
    }

    /// What runs here from now on is a read: when it is abandoned, the server is to end it.
    #[cfg_attr(
        not(any(feature = "mysql", feature = "sqlite")),
        allow(clippy::needless_pass_by_ref_mut, reason = "for MySQL and SQLite")
    )]
    pub(crate) fn of_read(&mut self) {
        #[cfg(feature = "mysql")]
        if let Line::MySql(line) = self {
            line.of_read();
        }
        #[cfg(feature = "sqlite")]
        if let Line::File(line) = self {
            line.of_read();
        }
    }

    /// Streams the rows of the read `statement`. The server ends a read that is dropped half-way.
    pub(crate) async fn stream_read(self, statement: Statement) -> Result<RowStream, DbErr> {
        match self {
            #[cfg(feature = "postgres")]
            Line::Postgres(lent) => Ok(RowStream::Read(Rows::new(lent.rows(statement, || {})))),
            #[cfg(feature = "mysql")]
            Line::MySql(line) => Ok(RowStream::Read(Rows::new(line.rows(statement)))),
            line => line.stream(statement).await,
        }
    }

    /// Pings the server.
    pub(crate) async fn ping(&mut self) -> Result<(), DbErr> {
        match self {
            #[cfg(feature = "postgres")]
            Line::Postgres(lent) => lent.ping().await,
            #[cfg(feature = "mysql")]
            Line::MySql(line) => line.ping().await,
            #[cfg(feature = "sqlite")]
            Line::File(line) => line.ping().await,
            #[cfg(feature = "assembly")]
            Line::Simulated(connection) => connection.ping().await,
            Line::Whole(pool) => pool.ping().await,
        }
    }
}

/// The rows of a statement.
pub(crate) enum RowStream {
    Driver(QueryStream),
    #[cfg(any(feature = "mysql", feature = "postgres"))]
    Read(Rows),
    #[cfg(feature = "sqlite")]
    Written(WrittenRows),
    #[cfg(feature = "assembly")]
    Simulated(super::simulated::Rows),
}

impl Stream for RowStream {
    type Item = Result<QueryResult, DbErr>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.get_mut() {
            RowStream::Driver(rows) => Pin::new(rows).poll_next(cx),
            #[cfg(any(feature = "mysql", feature = "postgres"))]
            RowStream::Read(rows) => rows.poll(cx),
            #[cfg(feature = "sqlite")]
            RowStream::Written(rows) => rows.poll(cx),
            #[cfg(feature = "assembly")]
            RowStream::Simulated(rows) => rows.as_mut().poll_next(cx),
        }
    }
}

impl Verb for Execute {
    type Output = ExecResult;

    async fn send(line: &mut Line, statement: &Statement) -> Result<ExecResult, DbErr> {
        match line {
            #[cfg(feature = "postgres")]
            Line::Postgres(lent) => lent.execute(statement).await,
            #[cfg(feature = "mysql")]
            Line::MySql(line) => {
                let answer = line.send().execute(statement).await;
                line.answered();
                answer
            }
            #[cfg(feature = "sqlite")]
            Line::File(line) => line.running(&statement.sql).execute(statement).await,
            #[cfg(feature = "assembly")]
            Line::Simulated(it) => super::simulated::execute(&mut **it, statement).await,
            Line::Whole(pool) => pool.execute_raw(statement.clone()).await,
        }
    }
}

impl Verb for ExecuteUnprepared {
    type Output = ExecResult;
    const IS_ONE_STATEMENT: bool = false;

    async fn send(line: &mut Line, statement: &Statement) -> Result<ExecResult, DbErr> {
        match line {
            #[cfg(feature = "postgres")]
            Line::Postgres(lent) => lent.execute_unprepared(&statement.sql).await,
            #[cfg(feature = "mysql")]
            Line::MySql(line) => {
                let answer = line.send().execute_unprepared(&statement.sql).await;
                line.answered();
                answer
            }
            #[cfg(feature = "sqlite")]
            Line::File(line) => {
                line.running(&statement.sql).execute_unprepared(&statement.sql).await
            }
            #[cfg(feature = "assembly")]
            Line::Simulated(it) => super::simulated::execute(&mut **it, statement).await,
            Line::Whole(pool) => pool.execute_unprepared(&statement.sql).await,
        }
    }
}

impl Verb for QueryOne {
    type Output = Option<QueryResult>;
    const IS_FIRST_ROW: bool = true;

    fn rows(row: &Option<QueryResult>) -> Option<&[QueryResult]> {
        Some(row.as_slice())
    }

    async fn send(line: &mut Line, statement: &Statement) -> Result<Option<QueryResult>, DbErr> {
        match line {
            #[cfg(feature = "postgres")]
            Line::Postgres(lent) => lent.query_one(statement).await,
            #[cfg(feature = "mysql")]
            Line::MySql(line) => {
                let answer = match line.is_of_read() {
                    true => line.send().query_one(statement).await,
                    false => line.send().query_one_to_the_end(statement).await,
                };
                line.answered();
                answer
            }
            #[cfg(feature = "sqlite")]
            Line::File(line) => match line.only_reads() {
                true => line.running(&statement.sql).query_one(statement).await,
                false => line.running(&statement.sql).query_one_to_the_end(statement).await,
            },
            #[cfg(feature = "assembly")]
            Line::Simulated(it) => {
                let rows = super::simulated::query(&mut **it, statement).await?;
                Ok(rows.into_iter().next())
            }
            Line::Whole(pool) => pool.query_one_raw(statement.clone()).await,
        }
    }
}

impl Verb for QueryAll {
    type Output = Vec<QueryResult>;

    fn rows(rows: &Vec<QueryResult>) -> Option<&[QueryResult]> {
        Some(rows)
    }

    async fn send(line: &mut Line, statement: &Statement) -> Result<Vec<QueryResult>, DbErr> {
        match line {
            #[cfg(feature = "postgres")]
            Line::Postgres(lent) => lent.query_all(statement).await,
            #[cfg(feature = "mysql")]
            Line::MySql(line) => {
                let answer = line.send().query_all(statement).await;
                line.answered();
                answer
            }
            #[cfg(feature = "sqlite")]
            Line::File(line) => line.running(&statement.sql).query_all(statement).await,
            #[cfg(feature = "assembly")]
            Line::Simulated(it) => super::simulated::query(&mut **it, statement).await,
            Line::Whole(pool) => pool.query_all_raw(statement.clone()).await,
        }
    }
}
