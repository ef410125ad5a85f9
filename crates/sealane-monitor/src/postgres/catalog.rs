//! Asks a PostgreSQL server for the facts that statements are judged by.

use sealane_core::Failure;
use sealane_sql::{Catalog, CatalogFacts, RelationFact};
use serde::Deserialize;
use sqlx::{Connection, PgConnection, Row, postgres::PgConnectOptions};

use super::failure;
use crate::CatalogSource;

/// All but the definitions of views.
const CATALOG: &str = include_str!("catalog.sql");

/// Printing a view takes a lock on all that it reads, held to the end of the
/// transaction. So few are printed in each, and none waits behind a migration for
/// long: less than `deadlock_timeout` (1 s), so that no migration is its victim.
const VIEWS: &str = "SELECT oid::bigint, pg_get_viewdef(oid) \
     FROM unnest($1::bigint[]::oid[]) AS asked (oid)";
const VIEWS_AT_ONCE: usize = 100;

/// For every transaction. Definitions are printed with the schema of each name that is
/// not in the search path, so there must be none of the user's in it. Whoever asked
/// gives up after a while, but the server would go on.
const SETTINGS: &str = "SELECT set_config('search_path', 'pg_catalog', true), \
     set_config('lock_timeout', '100ms', true), set_config('statement_timeout', '20s', true)";

/// Loads the catalogs of the endpoints of one cluster, whichever is the primary.
pub struct PostgresCatalog {
    options: Vec<PgConnectOptions>,
}

impl PostgresCatalog {
    /// With how to connect to each endpoint, in the order of the configuration.
    #[must_use]
    pub fn new(options: Vec<PgConnectOptions>) -> Self {
        PostgresCatalog { options }
    }
}

impl CatalogSource for PostgresCatalog {
    /// On a connection of its own that lasts only so long: it is asked for once a
    /// minute.
    async fn load(&self, endpoint: sealane_core::EndpointId) -> Result<Catalog, Failure> {
        let Some(options) = self.options.get(endpoint.index()) else {
            return Err(Failure::Unexpected(format!("there is no endpoint {endpoint}")));
        };
        let mut connection =
            PgConnection::connect_with(options).await.map_err(|error| failure(&error))?;
        let text = facts(&mut connection).await.map_err(|error| failure(&error))?;
        let mut answer: Answer = serde_json::from_str(&text)
            .map_err(|error| Failure::Unexpected(format!("the catalog's facts: {error}")))?;
        for views in answer.views.chunks(VIEWS_AT_ONCE) {
            let defined =
                definitions(&mut connection, views).await.map_err(|error| failure(&error))?;
            defined.into_iter().for_each(|view| answer.facts.relations.push(view));
        }
        // The facts are here; how the connection ends does not matter.
        let _ = connection.close().await;
        let parsed = move || Catalog::new(&answer.facts);
        // Each view is parsed: milliseconds for hundreds of them.
        tokio::task::spawn_blocking(parsed)
            .await
            .map_err(|error| Failure::Unexpected(format!("the catalog's facts: {error}")))
    }
}

/// A view: schema, name and the server's number.
type View = (String, String, i64);

#[derive(Deserialize)]
struct Answer {
    #[serde(flatten)]
    facts: CatalogFacts,
    views: Vec<View>,
}

async fn facts(connection: &mut PgConnection) -> Result<String, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    sqlx::raw_sql(SETTINGS).execute(&mut *transaction).await?;
    let row = sqlx::raw_sql(CATALOG).fetch_one(&mut *transaction).await?;
    let text = row.try_get(0)?;
    transaction.rollback().await?;
    Ok(text)
}

async fn definitions(
    connection: &mut PgConnection,
    views: &[View],
) -> Result<Vec<RelationFact>, sqlx::Error> {
    let numbers: Vec<i64> = views.iter().map(|(_, _, number)| *number).collect();
    let mut transaction = connection.begin().await?;
    sqlx::raw_sql(SETTINGS).execute(&mut *transaction).await?;
    // Without a name: behind a pooler that may be another client's statement.
    let rows: Vec<(i64, Option<String>)> =
        sqlx::query_as(VIEWS).bind(numbers).persistent(false).fetch_all(&mut *transaction).await?;
    transaction.rollback().await?;
    let defined = rows.into_iter().filter_map(|(number, definition)| {
        let (schema, name, _) = views.iter().find(|(_, _, known)| *known == number)?;
        // One that was dropped meanwhile has none.
        let definitions = vec![definition?];
        let (schema, name) = (schema.clone(), name.clone());
        Some(RelationFact { schema, name, definitions, ..RelationFact::default() })
    });
    Ok(defined.collect())
}

impl std::fmt::Debug for PostgresCatalog {
    /// Without the options: they hold passwords.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresCatalog").field("endpoints", &self.options.len()).finish()
    }
}
