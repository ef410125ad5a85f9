//! Asks a PostgreSQL server for the facts that statements are judged by.

use sealane_core::Failure;
use sealane_sql::{Catalog, CatalogFacts};
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};

use super::failure;
use crate::CatalogSource;

/// Everything in one statement, hence of one snapshot.
const CATALOG: &str = include_str!("catalog.sql");

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
        let text = facts(options).await.map_err(|error| failure(&error))?;
        let parsed = move || {
            let facts: CatalogFacts = serde_json::from_str(&text)
                .map_err(|error| Failure::Unexpected(format!("the catalog's facts: {error}")))?;
            Ok(Catalog::new(&facts))
        };
        // Each view is parsed: milliseconds for hundreds of them.
        tokio::task::spawn_blocking(parsed)
            .await
            .map_err(|error| Failure::Unexpected(format!("the catalog's facts: {error}")))?
    }
}

async fn facts(options: &PgConnectOptions) -> Result<String, sqlx::Error> {
    let mut connection = PgConnection::connect_with(options).await?;
    let mut transaction = connection.begin().await?;
    // Definitions are printed with the schema of every name that is not in the
    // search path, so there must be none of the user's in it.
    sqlx::query("SET LOCAL search_path TO pg_catalog").execute(&mut *transaction).await?;
    // Whoever asked gives up after this time, but the server would go on.
    sqlx::query("SET LOCAL statement_timeout TO '30s'").execute(&mut *transaction).await?;
    let text = sqlx::query_scalar(CATALOG).fetch_one(&mut *transaction).await?;
    transaction.rollback().await?;
    // The facts are here; how the connection ends does not matter.
    let _ = connection.close().await;
    Ok(text)
}

impl std::fmt::Debug for PostgresCatalog {
    /// Without the options: they hold passwords.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresCatalog").field("endpoints", &self.options.len()).finish()
    }
}
