//! Pools of a PostgreSQL endpoint.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use sea_orm::{
    ConnectOptions, Database, DatabaseConnection, DbErr, SqlxPostgresConnector,
    sqlx::{self, AssertSqlSafe, Executor, pool::PoolOptions, postgres::PgConnectOptions},
};
use sealane_core::{EndpointId, Incarnation, ReadOnly};
use sealane_monitor::{TopologyStore, postgres};

use super::{
    EndpointPools, Pool,
    driver::{Access, Driver, Hook, Opener, sets_patience},
    guard::{self, Replica},
    quiet, routed,
};

/// Opens the pools, and returns how the monitor connects to the same server. `is_first`: whether
/// the endpoint is configured as the primary.
pub(crate) async fn open(
    options: &ConnectOptions,
    store: &Arc<TopologyStore>,
    endpoint: EndpointId,
    is_first: bool,
    replica: Replica,
) -> Result<(EndpointPools, PgConnectOptions), DbErr> {
    let options = routed(options);
    let Given { pool, connect } = given(&options).await?;
    let hook = Arc::new(Hook::of(pool.clone(), store.entropy().word()));
    let (writes, reads) = Opener::sized(&options, pool, is_first);
    let opener = Opener::<sqlx::Postgres> {
        store: Arc::clone(store),
        endpoint,
        writes,
        reads,
        is_patience_set: sets_patience(&options),
        connect: connect.clone(),
        settings: Settings {
            search_path: search_path(&options).map(|path| set_search_path(&path).into()),
            replica,
        },
        hook,
    };
    let plain = open_plain(if is_first { options } else { quiet(&options) }, &opener).await?;
    Ok((EndpointPools::renewed(Box::new(opener), plain), connect))
}

/// SeaORM's own connection. It runs the application's hook once on the primary, but not on other
/// servers, which may be down.
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

/// What pools need in addition to their options.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The statement that sets the search path.
    search_path: Option<Arc<str>>,
    replica: Replica,
}

/// The pool and connect options that result from the application's options.
struct Given {
    pool: PoolOptions<sqlx::Postgres>,
    connect: PgConnectOptions,
}

/// SeaORM does not give access to the application's hooks, and it accepts only one hook of each
/// kind. So a pool is created that is never used: it carries the application's settings, and the
/// real pools add ours to them.
async fn given(options: &ConnectOptions) -> Result<Given, DbErr> {
    let pattern = Database::connect(quiet(options)).await?;
    let pattern = pattern.get_postgres_connection_pool();
    let connect = PgConnectOptions::clone(&pattern.connect_options());
    Ok(Given { pool: pattern.options().clone(), connect })
}

/// The connect options that SeaORM derives from `options`.
pub(crate) async fn connect_options(options: &ConnectOptions) -> Result<PgConnectOptions, DbErr> {
    given(options).await.map(|given| given.connect)
}

impl Driver for sqlx::Postgres {
    type Settings = Settings;

    fn wrap(pool: sqlx::PgPool, _: &Settings) -> Pool {
        SqlxPostgresConnector::from_sqlx_postgres_pool(pool).into()
    }

    fn reading(connect: &PgConnectOptions, known: Option<ReadOnly>) -> PgConnectOptions {
        guard::options(connect, known)
    }

    fn named(connect: &PgConnectOptions, name: &str) -> PgConnectOptions {
        connect.clone().application_name(name)
    }

    /// A server that does not show the other session (a pooler is in between) does not tell, and
    /// neither does one that does not track activities.
    fn is_used<'c>(
        connection: &'c mut sqlx::PgConnection,
        _: &'c mut sqlx::PgConnection,
        name: &'c str,
        settings: &'c Settings,
    ) -> BoxFuture<'c, Result<bool, sqlx::Error>> {
        Box::pin(async move {
            let last: Option<(Option<String>,)> = sqlx::query_as(LAST_STATEMENT)
                .bind(name)
                .persistent(false)
                .fetch_optional(connection)
                .await?;
            let last = last.and_then(|(last,)| last).unwrap_or_default();
            // SeaORM's hook, which sets the search path, is not the application's.
            Ok(!last.is_empty() && settings.search_path.as_deref() != Some(&*last))
        })
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
            // Where the platform cannot do this, the server says so, and what is abandoned runs to
            // its end.
            let _ = connection.execute(END_ABANDONED).await;
            Ok(greeting.incarnation)
        })
    }
}

/// Lets the server end a statement whose client has gone away, within a quarter of a second. So an
/// abandoned read does not burden a server that is slow already, and a write whose outcome is unknown
/// is not executed long after somebody has looked for it. This does nothing before PostgreSQL 14, or
/// if somebody has chosen a time.
/// <https://www.postgresql.org/docs/current/runtime-config-connection.html#GUC-CLIENT-CONNECTION-CHECK-INTERVAL>
const END_ABANDONED: &str = "SELECT set_config('client_connection_check_interval', '250', false) \
     WHERE current_setting('client_connection_check_interval', true) = '0'";

const LAST_STATEMENT: &str = "SELECT query FROM pg_stat_activity WHERE application_name = $1";

/// The search path of the options. SeaORM sets it in the same hook that the guard needs, so we must
/// set it ourselves. The setting has no getter, but the debug output shows it.
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

/// The statement that SeaORM would send to set the search path.
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
