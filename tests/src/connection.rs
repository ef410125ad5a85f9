//! Runs statements over separate connections, with the driver that the engine needs.

use std::collections::BTreeMap;

use sqlx::mysql::MySqlConnection;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Column, Connection, Decode, MySql, Postgres, Row, Type};

use crate::Server;
use crate::engine::Driver;

/// A value that every driver can read.
pub trait Scalar:
    for<'row> Decode<'row, Postgres> + Type<Postgres> + for<'row> Decode<'row, MySql> + Type<MySql>
{
}

impl<T> Scalar for T where
    T: for<'row> Decode<'row, Postgres>
        + Type<Postgres>
        + for<'row> Decode<'row, MySql>
        + Type<MySql>
{
}

/// A connection that is kept, and reopened after it is lost.
pub(crate) struct Line {
    driver: Driver,
    url: String,
    kept: Option<Kept>,
}

enum Kept {
    Postgres(PgConnection),
    Mysql(MySqlConnection),
}

impl Line {
    /// An administrator's connection. It opens with the first statement.
    pub(crate) fn to(server: &Server) -> Self {
        Self::new(server.engine.driver(), &server.admin_url)
    }

    /// A connection with the rights of the application.
    pub(crate) fn of_application(server: &Server) -> Self {
        Self::new(server.engine.driver(), &server.url)
    }

    fn new(driver: Driver, url: &str) -> Self {
        Self { driver, url: url.to_owned(), kept: None }
    }

    pub(crate) async fn execute(&mut self, sql: &str) -> sqlx::Result<()> {
        // The connection is put back only after an answer: a dropped call leaves no connection
        // behind.
        let mut kept = self.take().await?;
        match &mut kept {
            Kept::Postgres(to) => {
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(to).await?;
            }
            Kept::Mysql(to) => {
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(to).await?;
            }
        }
        self.kept = Some(kept);
        Ok(())
    }

    pub(crate) async fn scalar<T: Scalar>(&mut self, sql: &str) -> sqlx::Result<T> {
        let mut kept = self.take().await?;
        let found = match &mut kept {
            Kept::Postgres(to) => {
                sqlx::query(AssertSqlSafe(sql)).fetch_one(to).await?.try_get(0)?
            }
            Kept::Mysql(to) => sqlx::query(AssertSqlSafe(sql)).fetch_one(to).await?.try_get(0)?,
        };
        self.kept = Some(kept);
        Ok(found)
    }

    async fn close(self) -> sqlx::Result<()> {
        match self.kept {
            Some(Kept::Postgres(to)) => to.close().await,
            Some(Kept::Mysql(to)) => to.close().await,
            None => Ok(()),
        }
    }

    async fn take(&mut self) -> sqlx::Result<Kept> {
        match (self.kept.take(), self.driver) {
            (Some(kept), _) => Ok(kept),
            (None, Driver::Postgres) => PgConnection::connect(&self.url).await.map(Kept::Postgres),
            (None, Driver::Mysql) => MySqlConnection::connect(&self.url).await.map(Kept::Mysql),
        }
    }
}

pub(crate) async fn execute(driver: Driver, url: &str, sql: &str) -> sqlx::Result<()> {
    let mut line = Line::new(driver, url);
    line.execute(sql).await?;
    line.close().await
}

pub(crate) async fn scalar<T: Scalar>(driver: Driver, url: &str, sql: &str) -> sqlx::Result<T> {
    let mut line = Line::new(driver, url);
    let found = line.scalar(sql).await?;
    line.close().await?;
    Ok(found)
}

/// A replica's replication status by column; `None` from a server without a source.
pub(crate) async fn replica_status(url: &str) -> sqlx::Result<Option<BTreeMap<String, String>>> {
    let mut connection = MySqlConnection::connect(url).await?;
    // Not prepared, so that every value comes as text, whatever its type is in this version.
    let row = sqlx::raw_sql("SHOW REPLICA STATUS").fetch_optional(&mut connection).await?;
    connection.close().await?;
    Ok(row.map(|row| {
        let columns = row.columns().iter();
        let read = |name: &str| row.try_get_unchecked::<String, _>(name).ok();
        columns
            .filter_map(|column| Some((column.name().to_owned(), read(column.name())?)))
            .collect()
    }))
}
