//! Loads the facts for judging statements from a PostgreSQL server's catalog.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sealane_core::{EndpointId, Failure};
use sealane_sql::{Catalog, CatalogFacts, RelationFact};
use serde::Deserialize;
use sqlx::{ConnectOptions, Connection, PgConnection, Row, postgres::PgConnectOptions};

use super::failure;
use crate::{CatalogSource, Loaded};

/// Everything except the definitions of views.
const CATALOG: &str = include_str!("catalog.sql");

/// Printing a view locks everything that the view reads until the end of the transaction. So each
/// transaction prints only a few views, and none waits long behind a migration: less than
/// `deadlock_timeout` (1 s), so that no migration becomes the victim of a deadlock.
const VIEWS: &str = "SELECT oid::bigint, pg_get_viewdef(oid) \
     FROM unnest($1::bigint[]::oid[]) AS asked (oid)";
const VIEWS_AT_ONCE: usize = 100;

/// Settings of each transaction. The server prints a schema only for names outside the search path,
/// so the search path must hold no user schema. The statement timeout stops the server after the
/// client has given up.
const SETTINGS: &str = "SELECT set_config('search_path', 'pg_catalog', true), \
     set_config('lock_timeout', '100ms', true), set_config('statement_timeout', '20s', true)";

/// Loads the catalog of any endpoint of one cluster.
#[derive(Default)]
pub struct PostgresCatalog {
    options: Mutex<Vec<(EndpointId, PgConnectOptions)>>,
}

impl PostgresCatalog {
    /// Sets how to connect to `endpoint`.
    pub fn add(&self, endpoint: EndpointId, options: PgConnectOptions) {
        self.options().push((endpoint, options.disable_statement_logging()));
    }

    /// Forgets how to connect to `endpoint`.
    pub fn remove(&self, endpoint: EndpointId) {
        self.options().retain(|(of, _)| *of != endpoint);
    }

    fn of(&self, endpoint: EndpointId) -> Option<PgConnectOptions> {
        self.options().iter().find(|(of, _)| *of == endpoint).map(|(_, options)| options.clone())
    }

    fn options(&self) -> MutexGuard<'_, Vec<(EndpointId, PgConnectOptions)>> {
        self.options.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CatalogSource for Arc<PostgresCatalog> {
    /// Opens a connection for each load, because loads happen only once a minute.
    async fn load(&self, primary: EndpointId) -> Result<Loaded, Failure> {
        let Some(options) = self.of(primary) else {
            return Err(Failure::Unexpected(format!("there is no endpoint {primary}")));
        };
        let mut connection =
            PgConnection::connect_with(&options).await.map_err(|error| failure(&error))?;
        let text = facts(&mut connection).await.map_err(|error| failure(&error))?;
        let mut answer: Answer = serde_json::from_str(&text)
            .map_err(|error| Failure::Unexpected(format!("the catalog's facts: {error}")))?;
        for views in answer.views.chunks(VIEWS_AT_ONCE) {
            let defined =
                definitions(&mut connection, views).await.map_err(|error| failure(&error))?;
            defined.into_iter().for_each(|view| answer.facts.relations.push(view));
        }
        // The facts have arrived, so an error at closing does not matter.
        let _ = connection.close().await;
        // Each view is parsed: milliseconds for hundreds of them.
        let catalog = tokio::task::spawn_blocking(move || Catalog::new(&answer.facts))
            .await
            .map_err(|error| Failure::Unexpected(format!("the catalog's facts: {error}")))?;
        Ok(Loaded { catalog, ..Loaded::default() })
    }
}

/// A view: schema, name and object identifier.
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
    // Not prepared under a name: behind a pooler this may be another client's statement.
    let rows: Vec<(i64, Option<String>)> =
        sqlx::query_as(VIEWS).bind(numbers).persistent(false).fetch_all(&mut *transaction).await?;
    transaction.rollback().await?;
    let defined = rows.into_iter().filter_map(|(number, definition)| {
        let (schema, name, _) = views.iter().find(|(_, _, known)| *known == number)?;
        // A view that was dropped in the meantime has no definition.
        let definitions = vec![definition?];
        let (schema, name) = (schema.clone(), name.clone());
        Some(RelationFact { schema, name, definitions, ..RelationFact::default() })
    });
    Ok(defined.collect())
}

impl std::fmt::Debug for PostgresCatalog {
    /// Without the options, because they contain passwords.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresCatalog").field("endpoints", &self.options().len()).finish()
    }
}
