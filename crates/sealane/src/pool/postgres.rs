//! Pools of a PostgreSQL endpoint.

use std::sync::Arc;

use sea_orm::{
    ConnectOptions, Database, DatabaseConnection, DbErr,
    sqlx::{self, pool::PoolOptions, postgres::PgConnectOptions},
};
use sealane_monitor::{RunGuard, postgres};

use super::{Pools, REPLICA_ACQUIRE_TIMEOUT, routed};

/// The pools, and how the monitor connects to the same server.
pub(crate) async fn open(
    options: &ConnectOptions,
    guard: RunGuard,
) -> Result<(Pools, PgConnectOptions), DbErr> {
    let mut options = routed(options);
    options.connect_lazy(true);
    let writes = Database::connect(options.clone()).await?;
    let connect_options =
        PgConnectOptions::clone(&writes.get_postgres_connection_pool().connect_options());
    let reads = open_reads(options, guard).await?;
    Ok((Pools { reads, writes }, connect_options))
}

/// The pool of read-only sessions.
///
/// SeaORM keeps the hooks that the application gave it out of reach, and takes
/// one of each kind. So the pool is made twice: the first one, never used,
/// carries the application's settings; the second adds ours to them.
async fn open_reads(
    mut options: ConnectOptions,
    guard: RunGuard,
) -> Result<DatabaseConnection, DbErr> {
    if options.get_acquire_timeout().is_none() && options.get_connect_timeout().is_none() {
        options.acquire_timeout(REPLICA_ACQUIRE_TIMEOUT);
    }
    let pattern = Database::connect(options.clone()).await?;
    if !sets_search_path(&options) {
        let pool_options = pattern.get_postgres_connection_pool().options().clone();
        options.map_sqlx_postgres_pool_opts(move |_| guarded(pool_options.clone(), guard.clone()));
    }
    let reads = Database::connect(options).await?;
    let pool = reads.get_postgres_connection_pool();
    let connect_options = PgConnectOptions::clone(&pool.connect_options());
    pool.set_connect_options(connect_options.options([("default_transaction_read_only", "on")]));
    Ok(reads)
}

/// Whether SeaORM sets the search path by the one hook that the guard needs.
/// The setting has no getter; its debug form shows it. Without the guard, a
/// restart that goes unnoticed for up to a probe's interval is not caught;
/// without the search path, reads would find other tables.
fn sets_search_path(options: &ConnectOptions) -> bool {
    format!("{options:?}").contains("schema_search_path: Some(")
}

fn guarded(options: PoolOptions<sqlx::Postgres>, guard: RunGuard) -> PoolOptions<sqlx::Postgres> {
    let guard = Arc::new(guard);
    options.after_connect(move |connection, _| {
        let guard = Arc::clone(&guard);
        Box::pin(async move {
            let incarnation = postgres::incarnation(connection).await?;
            if guard.admit(&incarnation).await {
                return Ok(());
            }
            Err(sqlx::Error::Protocol("the monitor does not know this server's run".into()))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_path_is_seen() {
        let mut options = ConnectOptions::new("postgres://db/app");
        assert!(!sets_search_path(&options));
        options.set_schema_search_path("tenant");
        assert!(sets_search_path(&options));
    }
}
