//! Pools of a MySQL or MariaDB endpoint.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use sea_orm::{
    ConnectOptions, Database, DatabaseConnection, DbErr, SqlxMySqlConnector,
    sqlx::{self, mysql::MySqlConnectOptions, pool::PoolOptions},
};
use sealane_core::{EndpointId, Incarnation, ReadOnly};
use sealane_monitor::{Board, mysql};

use super::{
    EndpointPools,
    driver::{Access, Driver, Opener},
    quiet, routed,
};

/// Holds for all transactions of the session that begin later, those of one
/// statement included. The server itself refuses a write with error 1792, or 1290 where
/// `read_only` is on, also after a promotion has turned that off.
const READ_ONLY: &str = "SET SESSION TRANSACTION READ ONLY";

/// The pools, and how the monitor connects to the same server. `is_first` is
/// said of the endpoint that was configured as the primary.
pub(crate) async fn open(
    options: &ConnectOptions,
    board: &Arc<Board>,
    endpoint: EndpointId,
    is_first: bool,
) -> Result<(EndpointPools, MySqlConnectOptions), DbErr> {
    let options = routed(options);
    let Settings { pool, connect } = settings(&options).await?;
    let (writes, reads) = Opener::sized(&options, pool, is_first);
    let opener = Opener::<sqlx::MySql> {
        board: Arc::clone(board),
        endpoint,
        writes,
        reads,
        connect: connect.clone(),
        settings: (),
    };
    let plain = open_plain(if is_first { options } else { quiet(&options) }, &opener).await?;
    Ok((EndpointPools::renewed(Box::new(opener), plain), connect))
}

/// SeaORM's own connection. The application's hook runs with it, once, on the primary; not on
/// servers that may be down.
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

/// What an application's options come to.
struct Settings {
    pool: PoolOptions<sqlx::MySql>,
    connect: MySqlConnectOptions,
}

/// As with PostgreSQL: a pool is made that is never used, and carries the
/// application's settings, to which the real pools add ours.
async fn settings(options: &ConnectOptions) -> Result<Settings, DbErr> {
    let pattern = Database::connect(quiet(options)).await?;
    let pattern = pattern.get_mysql_connection_pool();
    let connect = MySqlConnectOptions::clone(&pattern.connect_options());
    Ok(Settings { pool: pattern.options().clone(), connect })
}

impl Driver for sqlx::MySql {
    type Settings = ();

    fn wrap(pool: sqlx::MySqlPool) -> DatabaseConnection {
        SqlxMySqlConnector::from_sqlx_mysql_pool(pool)
    }

    fn reading(connect: &MySqlConnectOptions, _: Option<ReadOnly>) -> MySqlConnectOptions {
        connect.clone()
    }

    fn set_up<'c>(
        connection: &'c mut sqlx::MySqlConnection,
        access: Access,
        (): &'c (),
    ) -> BoxFuture<'c, Result<Incarnation, sqlx::Error>> {
        Box::pin(async move {
            if access == Access::Reads {
                sqlx::raw_sql(READ_ONLY).execute(&mut *connection).await?;
            }
            mysql::incarnation(connection).await
        })
    }
}
