//! Pools of a PostgreSQL endpoint.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use sea_orm::{
    ConnectOptions, Database, DatabaseConnection, DbErr, SqlxPostgresConnector,
    sqlx::{self, AssertSqlSafe, Executor, pool::PoolOptions, postgres::PgConnectOptions},
};
use sealane_core::{EndpointId, Incarnation, ReadOnly};
use sealane_monitor::{Board, postgres};

use super::{
    EndpointPools,
    driver::{Access, Driver, Opener},
    guard::{self, Replica},
    quiet, routed,
};

/// The pools, and how the monitor connects to the same server. `is_first` is
/// said of the endpoint that was configured as the primary.
pub(crate) async fn open(
    options: &ConnectOptions,
    board: &Arc<Board>,
    endpoint: EndpointId,
    is_first: bool,
    replica: Replica,
) -> Result<(EndpointPools, PgConnectOptions), DbErr> {
    let options = routed(options);
    let Given { pool, connect } = given(&options).await?;
    let (writes, reads) = Opener::sized(&options, pool, is_first);
    let opener = Opener::<sqlx::Postgres> {
        board: Arc::clone(board),
        endpoint,
        writes,
        reads,
        connect: connect.clone(),
        settings: Settings {
            search_path: search_path(&options).map(|path| set_search_path(&path).into()),
            replica,
        },
    };
    let plain = open_plain(if is_first { options } else { quiet(&options) }, &opener).await?;
    Ok((EndpointPools::renewed(Box::new(opener), plain), connect))
}

/// SeaORM's own connection. The application's hook runs with it, once, on the primary; not on
/// servers that may be down.
async fn open_plain(
    mut options: ConnectOptions,
    opener: &Opener<sqlx::Postgres>,
) -> Result<DatabaseConnection, DbErr> {
    let (pool, connect) = (opener.plain(), opener.connect.clone());
    options
        .connect_lazy(true)
        .map_sqlx_postgres_pool_opts(move |_| pool.clone())
        .map_sqlx_postgres_opts(move |_| connect.clone());
    Database::connect(options).await
}

/// What pools need to know beside their options.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The statement that sets the search path.
    search_path: Option<Arc<str>>,
    replica: Replica,
}

/// What an application's options come to.
struct Given {
    pool: PoolOptions<sqlx::Postgres>,
    connect: PgConnectOptions,
}

/// SeaORM keeps the hooks that the application gave it out of reach, and takes
/// one of each kind. So a pool is made that is never used: it carries the
/// application's settings, to which the real pools add ours.
async fn given(options: &ConnectOptions) -> Result<Given, DbErr> {
    let pattern = Database::connect(quiet(options)).await?;
    let pattern = pattern.get_postgres_connection_pool();
    let connect = PgConnectOptions::clone(&pattern.connect_options());
    Ok(Given { pool: pattern.options().clone(), connect })
}

/// How SeaORM would connect with `options`.
pub(crate) async fn connect_options(options: &ConnectOptions) -> Result<PgConnectOptions, DbErr> {
    given(options).await.map(|given| given.connect)
}

impl Driver for sqlx::Postgres {
    type Settings = Settings;

    fn wrap(pool: sqlx::PgPool) -> DatabaseConnection {
        SqlxPostgresConnector::from_sqlx_postgres_pool(pool)
    }

    fn reading(connect: &PgConnectOptions, known: Option<ReadOnly>) -> PgConnectOptions {
        guard::options(connect, known)
    }

    fn set_up<'c>(
        connection: &'c mut sqlx::PgConnection,
        access: Access,
        settings: &'c Settings,
    ) -> BoxFuture<'c, Result<Incarnation, sqlx::Error>> {
        Box::pin(async move {
            if let Some(statement) = &settings.search_path {
                (&mut *connection).execute(AssertSqlSafe(statement.to_string())).await?;
            }
            let greeting = postgres::greet(connection).await?;
            if access == Access::Reads {
                guard::check(&greeting, settings.replica)?;
            }
            Ok(greeting.incarnation)
        })
    }
}

/// The search path that SeaORM would set by the one hook that the guard needs. The setting has no
/// getter; its debug form shows it.
fn search_path(options: &ConnectOptions) -> Option<String> {
    let shown = format!("{options:?}");
    let (_, shown) = shown.split_once("schema_search_path: Some(\"")?;
    let mut path = String::new();
    let mut characters = shown.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => return Some(path),
            '\\' => path.extend(characters.next()),
            character => path.push(character),
        }
    }
    None
}

/// As SeaORM writes it.
fn set_search_path(path: &str) -> String {
    let quoted = |schema: &str| match schema.starts_with('"') {
        true => schema.to_owned(),
        false => format!("\"{schema}\""),
    };
    let schemas = match path.starts_with('"') {
        true => path.to_owned(),
        false => path.split(',').map(quoted).collect::<Vec<_>>().join(","),
    };
    format!("SET search_path = {schemas}")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("tenant", "SET search_path = \"tenant\"")]
    #[case("tenant,public", "SET search_path = \"tenant\",\"public\"")]
    #[case("\"Tenant \\ 1\",public", "SET search_path = \"Tenant \\ 1\",public")]
    fn a_search_path_is_set_as_seaorm_sets_it(#[case] path: &str, #[case] statement: &str) {
        let mut options = ConnectOptions::new("postgres://db/app");
        assert_eq!(search_path(&options), None);
        options.set_schema_search_path(path);
        assert_eq!(search_path(&options).as_deref(), Some(path));
        assert_eq!(set_search_path(path), statement);
    }
}
