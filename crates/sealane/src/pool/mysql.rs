//! Pools of a MySQL or MariaDB endpoint.

use std::sync::Arc;

use sea_orm::{
    ConnectOptions, Database, DatabaseConnection, DbErr,
    sqlx::{self, mysql::MySqlConnectOptions, pool::PoolOptions},
};
use sealane_monitor::{RunGuard, mysql};

use super::{Pools, Unknown, quiet, routed, sized};

/// What a session may do.
#[derive(Debug, Clone, Copy)]
enum Session {
    Writes,
    /// The server itself refuses a write with error 1792, or 1290 where `read_only`
    /// is on, also after a promotion has turned that off.
    Reads,
}

/// Holds for all transactions of the session that begin later, those of one
/// statement included.
const READ_ONLY: &str = "SET SESSION TRANSACTION READ ONLY";

/// The pools, and how the monitor connects to the same server. `is_first` is
/// said of the endpoint that was configured as the primary.
pub(crate) async fn open(
    options: &ConnectOptions,
    guard: RunGuard,
    is_first: bool,
) -> Result<(Pools, MySqlConnectOptions), DbErr> {
    let options = routed(options);
    let Settings { quiet, pool, connect } = settings(&options).await?;

    let (writes, reads) = sized(&options, pool, is_first);

    // The application's hook runs once, on the primary; not on servers that may be down.
    let writes_options = if is_first { options } else { quiet.clone() };
    let writes = guarded(writes, guard.clone(), Session::Writes);
    let writes = open_pool(writes_options, writes, connect.clone()).await?;
    let reads = guarded(reads, guard, Session::Reads);
    let reads = open_pool(quiet, reads, connect.clone()).await?;
    Ok((Pools { reads, writes }, connect))
}

/// What an application's options come to.
struct Settings {
    /// The options without the hook that runs statements at once.
    quiet: ConnectOptions,
    pool: PoolOptions<sqlx::MySql>,
    connect: MySqlConnectOptions,
}

/// As with PostgreSQL: a pool is made that is never used, and carries the
/// application's settings, to which the real pools add ours.
async fn settings(options: &ConnectOptions) -> Result<Settings, DbErr> {
    let quiet = quiet(options);
    let pattern = Database::connect(quiet.clone()).await?;
    let pattern = pattern.get_mysql_connection_pool();
    let connect = MySqlConnectOptions::clone(&pattern.connect_options());
    Ok(Settings { quiet, pool: pattern.options().clone(), connect })
}

/// A lazy pool with just these settings, from its first connection on: sqlx may
/// begin to fill it at once.
async fn open_pool(
    mut options: ConnectOptions,
    pool: PoolOptions<sqlx::MySql>,
    connect: MySqlConnectOptions,
) -> Result<DatabaseConnection, DbErr> {
    options
        .connect_lazy(true)
        .map_sqlx_mysql_pool_opts(move |_| pool.clone())
        .map_sqlx_mysql_opts(move |_| connect.clone());
    Database::connect(options).await
}

/// The pool's settings with the guard in them.
fn guarded(
    pool: PoolOptions<sqlx::MySql>,
    guard: RunGuard,
    session: Session,
) -> PoolOptions<sqlx::MySql> {
    let guard = Arc::new(guard);
    pool.after_connect(move |connection, _| {
        let guard = Arc::clone(&guard);
        Box::pin(async move {
            let unknown = match session {
                Session::Writes => Unknown::Admitted,
                Session::Reads => {
                    sqlx::raw_sql(READ_ONLY).execute(&mut *connection).await?;
                    Unknown::Refused
                }
            };
            let incarnation = mysql::incarnation(connection).await?;
            unknown.admit(&guard, &incarnation).await
        })
    })
}
