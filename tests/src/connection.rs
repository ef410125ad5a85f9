//! Statements over connections of their own, with the driver that the engine needs.

use std::collections::BTreeMap;

use sqlx::mysql::MySqlConnection;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Column, Connection, Decode, MySql, Postgres, Row, Type};

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

pub(crate) async fn execute(driver: Driver, url: &str, sql: &str) -> sqlx::Result<()> {
    match driver {
        Driver::Postgres => {
            let mut connection = PgConnection::connect(url).await?;
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await?;
            connection.close().await
        }
        Driver::Mysql => {
            let mut connection = MySqlConnection::connect(url).await?;
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await?;
            connection.close().await
        }
    }
}

pub(crate) async fn scalar<T: Scalar>(driver: Driver, url: &str, sql: &str) -> sqlx::Result<T> {
    match driver {
        Driver::Postgres => {
            let mut connection = PgConnection::connect(url).await?;
            let row = sqlx::query(AssertSqlSafe(sql)).fetch_one(&mut connection).await?;
            connection.close().await?;
            row.try_get(0)
        }
        Driver::Mysql => {
            let mut connection = MySqlConnection::connect(url).await?;
            let row = sqlx::query(AssertSqlSafe(sql)).fetch_one(&mut connection).await?;
            connection.close().await?;
            row.try_get(0)
        }
    }
}

/// What a replica says of its replication, by column; nothing from a server without a source.
pub(crate) async fn replica_status(url: &str) -> sqlx::Result<Option<BTreeMap<String, String>>> {
    let mut connection = MySqlConnection::connect(url).await?;
    // Unprepared: then every value comes as text, whatever its type is in which version.
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
