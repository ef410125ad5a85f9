//! Pools of a PostgreSQL endpoint.

use std::sync::Arc;

use sea_orm::{
    ConnectOptions, Database, DatabaseConnection, DbErr,
    sqlx::{self, pool::PoolOptions, postgres::PgConnectOptions},
};
use sealane_monitor::{RunGuard, postgres};

use super::{Pools, REPLICA_ACQUIRE_TIMEOUT, routed};

/// The pools, and how the monitor connects to the same server. `is_first` is
/// said of the endpoint that was configured as the primary.
///
/// SeaORM keeps the hooks that the application gave it out of reach, and takes
/// one of each kind. So a pool is made that is never used: it carries the
/// application's settings, and the real pools add ours to them.
pub(crate) async fn open(
    options: &ConnectOptions,
    guard: RunGuard,
    is_first: bool,
) -> Result<(Pools, PgConnectOptions), DbErr> {
    let mut options = routed(options);
    options.connect_lazy(true);
    let mut quiet = options.clone();
    // The application's hook runs once, on the primary; not on servers that may be down.
    quiet.after_connect(|_| Box::pin(async { Ok(()) }));
    let pattern = Database::connect(quiet.clone()).await?;
    let pattern = pattern.get_postgres_connection_pool();

    // Only the pool that the endpoint's role makes likely is filled beforehand.
    let mut writes = pattern.options().clone();
    let mut reads = pattern.options().clone().min_connections(0);
    if !is_first {
        reads = reads.min_connections(writes.get_min_connections());
        writes = writes.min_connections(0);
    }
    if options.get_acquire_timeout().is_none() && options.get_connect_timeout().is_none() {
        reads = reads.acquire_timeout(REPLICA_ACQUIRE_TIMEOUT);
    }

    let writes_options = if is_first { options } else { quiet.clone() };
    let writes = open_pool(writes_options, writes, guard.clone(), Unknown::Admitted).await?;
    let reads = open_pool(quiet, reads, guard, Unknown::Refused).await?;
    let pool = reads.get_postgres_connection_pool();
    let connect_options = PgConnectOptions::clone(&pattern.connect_options());
    let read_only = connect_options.clone().options([("default_transaction_read_only", "on")]);
    pool.set_connect_options(read_only);
    Ok((Pools { reads, writes }, connect_options))
}

/// What becomes of a connection to a run that the monitor does not get to know.
#[derive(Debug, Clone, Copy)]
enum Unknown {
    /// Writes go on even where probes cannot.
    Admitted,
    /// Nothing is proved of what it would read.
    Refused,
}

async fn open_pool(
    mut options: ConnectOptions,
    pool_options: PoolOptions<sqlx::Postgres>,
    guard: RunGuard,
    unknown: Unknown,
) -> Result<DatabaseConnection, DbErr> {
    let pool_options = match sets_search_path(&options) {
        true => pool_options,
        false => guarded(pool_options, guard, unknown),
    };
    options.map_sqlx_postgres_pool_opts(move |_| pool_options.clone());
    Database::connect(options).await
}

/// How SeaORM would connect with `options`.
pub(crate) async fn connect_options(options: &ConnectOptions) -> Result<PgConnectOptions, DbErr> {
    let mut quiet = options.clone();
    quiet.connect_lazy(true).min_connections(0).after_connect(|_| Box::pin(async { Ok(()) }));
    let pattern = Database::connect(quiet).await?;
    let pool = pattern.get_postgres_connection_pool();
    Ok(PgConnectOptions::clone(&pool.connect_options()))
}

/// Whether SeaORM sets the search path by the one hook that the guard needs.
/// The setting has no getter; its debug form shows it. Without the guard, a
/// restart that goes unnoticed for up to a probe's interval is not caught;
/// without the search path, reads would find other tables.
fn sets_search_path(options: &ConnectOptions) -> bool {
    format!("{options:?}").contains("schema_search_path: Some(")
}

fn guarded(
    options: PoolOptions<sqlx::Postgres>,
    guard: RunGuard,
    unknown: Unknown,
) -> PoolOptions<sqlx::Postgres> {
    let guard = Arc::new(guard);
    options.after_connect(move |connection, _| {
        let guard = Arc::clone(&guard);
        Box::pin(async move {
            let incarnation = postgres::incarnation(connection).await?;
            match (guard.admit(&incarnation).await, unknown) {
                (true, _) | (false, Unknown::Admitted) => Ok(()),
                (false, Unknown::Refused) => {
                    Err(sqlx::Error::Protocol("the monitor does not know this server's run".into()))
                }
            }
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
