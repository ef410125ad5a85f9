//! Pools of a MySQL or MariaDB endpoint.

mod badge;
mod canceller;
mod line;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use sea_orm::{
    ConnectOptions, Database, DatabaseConnection, DbErr, SqlxMySqlConnector,
    sqlx::{self, Row, mysql::MySqlConnectOptions, pool::PoolOptions},
};
use sealane_core::{EndpointId, Incarnation, ReadOnly};
use sealane_monitor::{TopologyStore, mysql};

use super::{
    EndpointPools, Pool,
    driver::{Access, Driver, Hook, Opener, sets_patience},
    quiet, routed,
};

pub(crate) use canceller::Canceller;
pub(crate) use line::MySqlLine;

/// Applies to all later transactions of the session, including single statements. The server itself
/// then refuses a write with error 1792 (or 1290 if `read_only` is on), even after a promotion has
/// turned `read_only` off.
const READ_ONLY: &str = "SET SESSION TRANSACTION READ ONLY";

/// Opens the pools, and returns how the monitor connects to the same server. `is_first`: whether
/// the endpoint is configured as the primary.
pub(crate) async fn open(
    options: &ConnectOptions,
    store: &Arc<TopologyStore>,
    endpoint: EndpointId,
    is_first: bool,
) -> Result<(EndpointPools, MySqlConnectOptions), DbErr> {
    let options = routed(options);
    let Settings { pool, connect } = settings(&options).await?;
    let hook = Arc::new(Hook::of(pool.clone(), store.entropy().word()));
    let (writes, reads) = Opener::sized(&options, pool, is_first);
    let opener = Opener::<sqlx::MySql> {
        store: Arc::clone(store),
        endpoint,
        writes,
        reads,
        is_patience_set: sets_patience(&options),
        connect: connect.clone(),
        settings: Arc::new(Canceller::new(connect.clone(), store.entropy().clone())),
        hook,
    };
    let plain = open_plain(if is_first { options } else { quiet(&options) }, &opener).await?;
    Ok((EndpointPools::renewed(Box::new(opener), plain), connect))
}

/// SeaORM's own connection. It runs the application's hook once on the primary, but not on other
/// servers, which may be down.
async fn open_plain(
    mut options: ConnectOptions,
    opener: &Opener<sqlx::MySql>,
) -> Result<DatabaseConnection, DbErr> {
    let (pool, connect) = (opener.plain(), opener.connect.clone());
    options
        .connect_lazy(true)
        .map_sqlx_mysql_pool_opts(move |_| pool.clone())
        .map_sqlx_mysql_opts(move |_| connect.clone());
    Database::connect(options).await
}

/// The pool and connect options that result from the application's options.
struct Settings {
    pool: PoolOptions<sqlx::MySql>,
    connect: MySqlConnectOptions,
}

/// As with PostgreSQL, a pool is created that is never used. It carries the application's settings,
/// and the real pools add ours to them.
async fn settings(options: &ConnectOptions) -> Result<Settings, DbErr> {
    let pattern = Database::connect(quiet(options)).await?;
    let pattern = pattern.get_mysql_connection_pool();
    let connect = MySqlConnectOptions::clone(&pattern.connect_options());
    Ok(Settings { pool: pattern.options().clone(), connect })
}

/// The connect options that SeaORM derives from `options`.
pub(crate) async fn connect_options(
    options: &ConnectOptions,
) -> Result<MySqlConnectOptions, DbErr> {
    settings(options).await.map(|settings| settings.connect)
}

impl Driver for sqlx::MySql {
    type Settings = Arc<Canceller>;

    fn wrap(pool: sqlx::MySqlPool, canceller: &Arc<Canceller>) -> Pool {
        let pool = SqlxMySqlConnector::from_sqlx_mysql_pool(pool);
        Pool { canceller: Some(Arc::clone(canceller)), ..pool.into() }
    }

    fn reading(connect: &MySqlConnectOptions, _: Option<ReadOnly>) -> MySqlConnectOptions {
        connect.clone()
    }

    /// MySQL shows no name.
    fn named(connect: &MySqlConnectOptions, _: &str) -> MySqlConnectOptions {
        connect.clone()
    }

    fn is_used<'c>(
        connection: &'c mut sqlx::MySqlConnection,
        other: &'c mut sqlx::MySqlConnection,
        _: &'c str,
        _: &'c Arc<Canceller>,
    ) -> BoxFuture<'c, Result<bool, sqlx::Error>> {
        Box::pin(async move { Ok(statements(connection).await? != statements(other).await?) })
    }

    fn set_up<'c>(
        connection: &'c mut sqlx::MySqlConnection,
        access: Access,
        canceller: &'c Arc<Canceller>,
    ) -> BoxFuture<'c, Result<Incarnation, sqlx::Error>> {
        Box::pin(async move {
            if access == Access::Reads {
                sqlx::raw_sql(READ_ONLY).execute(&mut *connection).await?;
            }
            canceller.set_up(connection).await?;
            mysql::incarnation(connection).await
        })
    }
}

/// How many statements the session has sent.
async fn statements(connection: &mut sqlx::MySqlConnection) -> Result<String, sqlx::Error> {
    let row = sqlx::raw_sql("SHOW SESSION STATUS LIKE 'Questions'").fetch_one(connection).await?;
    row.try_get_unchecked("Value")
}
