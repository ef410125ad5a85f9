//! One connection of a pool, while a statement uses it.
//!
//! SeaORM's own connection takes a connection from its pool and sends in one step, so that nobody
//! can tell whether a statement that was given up on has been sent. Here the two steps are apart.

#[cfg(any(feature = "mysql", feature = "postgres"))]
mod lent;

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseConnectionType, DbErr, ExecResult, QueryResult,
    QueryStream, Statement, StreamTrait,
};

#[cfg(any(feature = "mysql", feature = "postgres"))]
use lent::Lent;

/// A connection that one statement has for itself.
#[derive(Debug)]
pub(crate) enum Line {
    #[cfg(feature = "postgres")]
    Postgres(Lent<sea_orm::sqlx::Postgres>),
    #[cfg(feature = "mysql")]
    MySql(Lent<sea_orm::sqlx::MySql>),
    /// A pool that is asked as a whole: SQLite's, and a mock.
    Whole(DatabaseConnection),
}

/// How a statement is sent, and what comes back.
pub(crate) trait Verb {
    type Output: Send;
    /// Whether all of it was carried out, or nothing.
    const IS_ONE_STATEMENT: bool = true;

    fn send(
        line: &mut Line,
        statement: &Statement,
    ) -> impl Future<Output = Result<Self::Output, DbErr>> + Send;
}

/// For what it does.
pub(crate) struct Execute;
/// The same without preparing it, so that it may be several statements.
pub(crate) struct ExecuteUnprepared;
/// For its first row.
pub(crate) struct QueryOne;
/// For all its rows.
pub(crate) struct QueryAll;

impl Line {
    /// Takes a connection of `pool`, or makes one. Nothing of a statement is sent.
    ///
    /// # Errors
    /// None became free in time, or the server cannot be connected to.
    pub(crate) async fn take(pool: &DatabaseConnection) -> Result<Line, DbErr> {
        match &pool.inner {
            #[cfg(feature = "postgres")]
            DatabaseConnectionType::SqlxPostgresPoolConnection(_) => {
                Lent::of(pool.get_postgres_connection_pool()).await.map(Line::Postgres)
            }
            #[cfg(feature = "mysql")]
            DatabaseConnectionType::SqlxMySqlPoolConnection(_) => {
                Lent::of(pool.get_mysql_connection_pool()).await.map(Line::MySql)
            }
            _ => Ok(Line::Whole(pool.clone())),
        }
    }

    /// Streams the rows of `statement`, which is sent when they are first looked at.
    pub(crate) async fn stream(self, statement: Statement) -> Result<QueryStream, DbErr> {
        match self {
            #[cfg(feature = "postgres")]
            Line::Postgres(lent) => Ok(QueryStream::from((lent.into_inner(), statement, None))),
            #[cfg(feature = "mysql")]
            Line::MySql(lent) => Ok(QueryStream::from((lent.into_inner(), statement, None))),
            Line::Whole(pool) => pool.stream_raw(statement).await,
        }
    }

    /// Asks the server for a sign of life.
    pub(crate) async fn ping(&mut self) -> Result<(), DbErr> {
        match self {
            #[cfg(feature = "postgres")]
            Line::Postgres(lent) => lent.ping().await,
            #[cfg(feature = "mysql")]
            Line::MySql(lent) => lent.ping().await,
            Line::Whole(pool) => pool.ping().await,
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
            Line::MySql(lent) => lent.execute(statement).await,
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
            Line::MySql(lent) => lent.execute_unprepared(&statement.sql).await,
            Line::Whole(pool) => pool.execute_unprepared(&statement.sql).await,
        }
    }
}

impl Verb for QueryOne {
    type Output = Option<QueryResult>;

    async fn send(line: &mut Line, statement: &Statement) -> Result<Option<QueryResult>, DbErr> {
        match line {
            #[cfg(feature = "postgres")]
            Line::Postgres(lent) => lent.query_one(statement).await,
            #[cfg(feature = "mysql")]
            Line::MySql(lent) => lent.query_one(statement).await,
            Line::Whole(pool) => pool.query_one_raw(statement.clone()).await,
        }
    }
}

impl Verb for QueryAll {
    type Output = Vec<QueryResult>;

    async fn send(line: &mut Line, statement: &Statement) -> Result<Vec<QueryResult>, DbErr> {
        match line {
            #[cfg(feature = "postgres")]
            Line::Postgres(lent) => lent.query_all(statement).await,
            #[cfg(feature = "mysql")]
            Line::MySql(lent) => lent.query_all(statement).await,
            Line::Whole(pool) => pool.query_all_raw(statement.clone()).await,
        }
    }
}
