//! Pools of a PostgreSQL endpoint.

use std::sync::Arc;

use sea_orm::{
    ConnectOptions, Database, DatabaseConnection, DbErr,
    sqlx::{self, pool::PoolOptions, postgres::PgConnectOptions},
};
use sealane_monitor::{RunGuard, postgres};

use super::{
    Pools, Unknown,
    guard::{self, Replica},
    quiet, routed, sized,
};

/// The pools, and how the monitor connects to the same server. `is_first` is
/// said of the endpoint that was configured as the primary.
pub(crate) async fn open(
    options: &ConnectOptions,
    guard: RunGuard,
    is_first: bool,
    replica: Replica,
) -> Result<(Pools, PgConnectOptions), DbErr> {
    let options = routed(options);
    let Settings { quiet, pool, connect } = settings(&options).await?;

    let (writes, reads) = sized(&options, pool, is_first);

    // The application's hook runs once, on the primary; not on servers that may be down.
    let writes_options = if is_first { options } else { quiet.clone() };
    let writes = guarded(&quiet, writes, guard.clone(), Unknown::Admitted, None);
    let writes = open_pool(writes_options, writes, connect.clone()).await?;
    let read_only = guard::options(&connect, &guard);
    let reads = guarded(&quiet, reads, guard, Unknown::Refused, Some(replica));
    let reads = open_pool(quiet, reads, read_only).await?;
    Ok((Pools { reads, writes }, connect))
}

/// What an application's options come to.
struct Settings {
    /// The options without the hook that runs statements at once.
    quiet: ConnectOptions,
    pool: PoolOptions<sqlx::Postgres>,
    connect: PgConnectOptions,
}

/// SeaORM keeps the hooks that the application gave it out of reach, and takes
/// one of each kind. So a pool is made that is never used: it carries the
/// application's settings, to which the real pools add ours.
async fn settings(options: &ConnectOptions) -> Result<Settings, DbErr> {
    let quiet = quiet(options);
    let pattern = Database::connect(quiet.clone()).await?;
    let pattern = pattern.get_postgres_connection_pool();
    let connect = PgConnectOptions::clone(&pattern.connect_options());
    Ok(Settings { quiet, pool: pattern.options().clone(), connect })
}

/// Has new connections for reading made as is known now to work.
pub(crate) fn adapt(pools: &Pools, connect: &PgConnectOptions, guard: &RunGuard) {
    let reads = pools.reads.get_postgres_connection_pool();
    reads.set_connect_options(guard::options(connect, guard));
}

/// How SeaORM would connect with `options`.
pub(crate) async fn connect_options(options: &ConnectOptions) -> Result<PgConnectOptions, DbErr> {
    settings(options).await.map(|settings| settings.connect)
}

/// A lazy pool with just these settings, from its first connection on: sqlx may
/// begin to fill it at once.
async fn open_pool(
    mut options: ConnectOptions,
    pool: PoolOptions<sqlx::Postgres>,
    connect: PgConnectOptions,
) -> Result<DatabaseConnection, DbErr> {
    options
        .connect_lazy(true)
        .map_sqlx_postgres_pool_opts(move |_| pool.clone())
        .map_sqlx_postgres_opts(move |_| connect.clone());
    Database::connect(options).await
}

/// Whether SeaORM sets the search path by the one hook that the guard needs.
/// The setting has no getter; its debug form shows it. Without the guard, a
/// restart that goes unnoticed for up to a probe's interval is not caught;
/// without the search path, reads would find other tables.
fn sets_search_path(options: &ConnectOptions) -> bool {
    format!("{options:?}").contains("schema_search_path: Some(")
}

/// The pool's settings with the guard in them, where there is room for it.
fn guarded(
    options: &ConnectOptions,
    pool: PoolOptions<sqlx::Postgres>,
    guard: RunGuard,
    unknown: Unknown,
    replica: Option<Replica>,
) -> PoolOptions<sqlx::Postgres> {
    if sets_search_path(options) {
        return pool;
    }
    let guard = Arc::new(guard);
    pool.after_connect(move |connection, _| {
        let guard = Arc::clone(&guard);
        Box::pin(async move {
            let greeting = postgres::greet(connection).await?;
            if let Some(replica) = replica {
                guard::check(&greeting, replica)?;
            }
            unknown.admit(&guard, &greeting.incarnation).await
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
