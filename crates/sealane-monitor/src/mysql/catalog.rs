//! Loads the facts for judging statements from a MySQL or MariaDB server.
//!
//! # What is asked, and what an ordinary role sees
//! `information_schema` shows each role the objects for which the role has some privilege. This is
//! enough: the role cannot read by name what it is not shown. Seeing a view's definition needs
//! `SHOW VIEW`. Seeing a function's body requires that the role has defined the function, or has
//! `SHOW_ROUTINE` (MySQL) or `SHOW CREATE ROUTINE` (MariaDB). A view or function whose text is not
//! visible runs on the primary.
//!
//! # Changes by others
//! The whole catalog is loaded once a minute, and compared on our side. (Rejected: asking for a
//! version first. `information_schema.TABLES` has no time for a view in MariaDB, `UPDATE_TIME`
//! changes with rows, and a hash over the definitions makes the server read everything that the
//! load reads.) So a change by another program takes effect after a minute at the latest, or as
//! soon as the application calls `note_schema_change`. Until then, a new name runs on the primary,
//! and a replaced view is read as it was.
//!
//! # Storage engines
//! Tables of known engines are read on replicas. MEMORY loses its rows when a server restarts;
//! BLACKHOLE, FEDERATED, CONNECT and others hold rows elsewhere or none. Only the primary's engine
//! is known: a table that has another engine on a replica is not noticed. While there is a table of
//! another engine, read-only transactions run on the primary, because their statements are not
//! judged. A table that our role does not see does not count, even if a view shows its rows.
//!
//! # Filters
//! Servers are asked for the filters of their replication, and for those of their binary log, because a
//! replica may follow another replica. Seeing filters needs `REPLICATION CLIENT` (MySQL), or `SLAVE
//! MONITOR` and `BINLOG MONITOR` (MariaDB). Tables that one server leaves out are read on the primary,
//! whichever replica would be read. A server that does not answer during a load keeps its earlier
//! filters. When servers are asked: [`crate::CatalogSource`]. Not noticed: what a replica leaves out
//! that others follow, until it is asked after its restart.

mod filters;
mod spread;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sealane_core::{EndpointId, Failure};
use sealane_sql::{Catalog, CatalogFacts, FunctionFact, RelationFact, ReplicationFilter};
use sqlx::{
    ConnectOptions, Connection, MySqlConnection,
    mysql::{MySqlConnectOptions, MySqlRow},
};

use super::{failure, text};
use crate::{CatalogSource, KnownFilters, Loaded, ServerFilters, Told, TopologyStore};

/// A definition is printed in the SQL mode of the asking session.
const SETTINGS: &str = "SET SESSION sql_mode = '', max_statement_time = 20";
/// MySQL has another name for the limit, in milliseconds.
const SETTINGS_OF_MYSQL: &str = "SET SESSION sql_mode = '', max_execution_time = 20000";

/// The servers' own schemas are judged by name.
macro_rules! but_the_servers_own {
    ($column:literal) => {
        concat!(
            " WHERE ",
            $column,
            " NOT IN ('information_schema', 'mysql', 'performance_schema', 'sys')"
        )
    };
}

const TABLES: &str = concat!(
    "SELECT table_schema AS its_schema, table_name AS its_name, table_type AS its_kind, \
     engine AS its_engine FROM information_schema.tables",
    but_the_servers_own!("table_schema")
);
const VIEWS: &str = concat!(
    "SELECT table_schema AS its_schema, table_name AS its_name, view_definition AS definition \
     FROM information_schema.views",
    but_the_servers_own!("table_schema")
);
const FUNCTIONS: &str = concat!(
    "SELECT routine_schema AS its_schema, routine_name AS its_name, \
     routine_definition AS body, sql_mode AS its_mode FROM information_schema.routines",
    but_the_servers_own!("routine_schema"),
    " AND routine_type = 'FUNCTION'"
);
const USED: &str = "SELECT DATABASE() AS used";
const FOLDS: &str = "SELECT CAST(@@global.lower_case_table_names AS CHAR) AS folds";

/// Loads the catalog of any endpoint of one cluster.
pub struct MySqlCatalog {
    filters: KnownFilters,
    /// How to connect to each endpoint.
    options: Mutex<Vec<(EndpointId, MySqlConnectOptions)>>,
}

impl MySqlCatalog {
    /// A catalog without endpoints.
    #[must_use]
    pub fn new(store: Arc<TopologyStore>) -> Self {
        MySqlCatalog { filters: KnownFilters::new(store), options: Mutex::default() }
    }

    /// Sets how to connect to `endpoint`.
    pub fn add(&self, endpoint: EndpointId, options: MySqlConnectOptions) {
        self.options().push((endpoint, options.disable_statement_logging()));
    }

    /// Forgets how to connect to `endpoint`, and its filters.
    pub fn remove(&self, endpoint: EndpointId) {
        self.options().retain(|(of, _)| *of != endpoint);
        self.filters.forget(endpoint);
    }

    fn options(&self) -> MutexGuard<'_, Vec<(EndpointId, MySqlConnectOptions)>> {
        self.options.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How to connect to `endpoint`.
    fn options_of(&self, endpoint: EndpointId) -> Option<MySqlConnectOptions> {
        self.options().iter().find(|(of, _)| *of == endpoint).map(|(_, it)| it.clone())
    }
}

async fn filters_of(options: MySqlConnectOptions) -> Result<ServerFilters, String> {
    filters::of_server(&options).await.map_err(|error| failure(&error).to_string())
}

/// The facts with these filters, as a catalog.
async fn judged(
    mut facts: CatalogFacts,
    filters: Vec<ReplicationFilter>,
    folds: bool,
) -> Result<Catalog, Failure> {
    facts.filters = match folds {
        true => filters.into_iter().map(ReplicationFilter::folded).collect(),
        false => filters,
    };
    // Each view is parsed: milliseconds for hundreds of them.
    tokio::task::spawn_blocking(move || Catalog::of_mysql(&facts))
        .await
        .map_err(|error| Failure::Unexpected(format!("the catalog's facts: {error}")))
}

impl CatalogSource for Arc<MySqlCatalog> {
    const HAS_FILTERS: bool = true;

    /// Opens a connection for each load, because loads happen only once a minute.
    async fn load(&self, primary: EndpointId) -> Result<Loaded, Failure> {
        let Some(options) = self.options_of(primary) else {
            return Err(Failure::Unexpected(format!("there is no endpoint {primary}")));
        };
        let mut connection =
            MySqlConnection::connect_with(&options).await.map_err(|error| failure(&error))?;
        let facts = facts(&mut connection).await.map_err(|error| failure(&error))?;
        let folds = folds_names(&mut connection).await.map_err(|error| failure(&error))?;
        // The facts have arrived, so an error at closing does not matter.
        let _ = connection.close().await;
        let servers = || {
            let all = self.options().clone();
            all.into_iter().map(|(id, options)| (id, filters_of(options))).collect()
        };
        self.filters.load(servers, |filters| judged(facts.clone(), filters, folds)).await
    }

    async fn ask(&self, server: EndpointId, question: u32) -> Told {
        match self.options_of(server) {
            Some(options) => self.filters.ask(server, question, filters_of(options)).await,
            None => Told::Nothing(format!("there is no endpoint {server}")),
        }
    }
}

/// Whether the case of table names is ignored. Filters show names as they were written.
async fn folds_names(connection: &mut MySqlConnection) -> Result<bool, sqlx::Error> {
    let row = sqlx::raw_sql(FOLDS).fetch_one(connection).await?;
    Ok(text(&row, "folds")? != "0")
}

async fn facts(connection: &mut MySqlConnection) -> Result<CatalogFacts, sqlx::Error> {
    if sqlx::raw_sql(SETTINGS).execute(&mut *connection).await.is_err() {
        sqlx::raw_sql(SETTINGS_OF_MYSQL).execute(&mut *connection).await?;
    }
    let used = sqlx::raw_sql(USED).fetch_one(&mut *connection).await?;
    let mut facts = CatalogFacts::default();
    facts.has_all_relations = true;
    facts.default_schema = text(&used, "used").ok();
    let mut shares_rows = false;
    // A view that is created between the two answers is unknown, so it is read on the primary.
    for row in rows_of(connection, TABLES).await? {
        facts.relations.extend(table(&row)?);
        let engine = text(&row, "its_engine").unwrap_or_default();
        shares_rows |= engine.eq_ignore_ascii_case("mrg_myisam");
    }
    for row in rows_of(connection, VIEWS).await? {
        facts.relations.push(view(&row)?);
    }
    if !shares_rows {
        facts.tables = match spread::spread(connection, &facts.relations).await {
            // A question that the server refuses costs the knowledge of tables, and not the catalog.
            Err(sqlx::Error::Database(_)) => None,
            told => told?,
        };
    }
    for row in rows_of(connection, FUNCTIONS).await? {
        let (schema, name) = (text(&row, "its_schema")?, text(&row, "its_name")?);
        let (body, mode) = (text(&row, "body").ok(), text(&row, "its_mode")?);
        facts.functions.push(FunctionFact::of_routine(schema, name, body.as_deref(), &mode));
    }
    Ok(facts)
}

async fn rows_of(
    connection: &mut MySqlConnection,
    sql: &'static str,
) -> Result<Vec<MySqlRow>, sqlx::Error> {
    sqlx::raw_sql(sql).fetch_all(connection).await
}

fn named(row: &MySqlRow) -> Result<RelationFact, sqlx::Error> {
    let (schema, name) = (text(row, "its_schema")?, text(row, "its_name")?);
    Ok(RelationFact { schema, name, ..RelationFact::default() })
}

/// Returns `None` for a view, which has another row.
fn table(row: &MySqlRow) -> Result<Option<RelationFact>, sqlx::Error> {
    let kind = text(row, "its_kind")?;
    if kind == "VIEW" {
        return Ok(None);
    }
    let engine = text(row, "its_engine").unwrap_or_default();
    let (refused, replicas_differ) = (refusal(&kind, &engine), differs(&kind, &engine));
    Ok(Some(RelationFact { refused, replicas_differ, ..named(row)? }))
}

fn view(row: &MySqlRow) -> Result<RelationFact, sqlx::Error> {
    let definition = text(row, "definition").unwrap_or_default();
    let (definitions, refused) = match definition.is_empty() {
        true => (Vec::new(), Some("its definition is not visible to our role".to_owned())),
        false => (vec![definition], None),
    };
    Ok(RelationFact { definitions, refused, ..named(row)? })
}

/// Engines whose rows are replicated and survive a restart.
const ENGINES: &[&str] = &[
    "archive",
    "aria",
    "csv",
    "innodb",
    "mrg_myisam",
    "myisam",
    "ndb",
    "ndbcluster",
    "rocksdb",
    "tokudb",
];

/// Why a replica must not read a table of this kind and engine.
fn refusal(kind: &str, engine: &str) -> Option<String> {
    if kind == "SEQUENCE" {
        return Some("it is a sequence, which is ahead on replicas".to_owned());
    }
    match engine.to_ascii_lowercase().as_str() {
        "memory" => Some("its rows are lost when a server starts again".to_owned()),
        "" => Some("its storage engine is not known".to_owned()),
        known if ENGINES.contains(&known) => None,
        _ => Some(format!("its storage engine is {engine}, which may hold other rows elsewhere")),
    }
}

/// Whether a replica may show other rows of such a table. On a replica, a sequence is ahead of the
/// primary and never behind.
fn differs(kind: &str, engine: &str) -> bool {
    kind != "SEQUENCE" && refusal(kind, engine).is_some()
}

impl std::fmt::Debug for MySqlCatalog {
    /// Without the options, because they contain passwords.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MySqlCatalog").field("endpoints", &self.options().len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("BASE TABLE", "InnoDB", None)]
    #[case("SYSTEM VERSIONED", "Aria", None)]
    #[case("BASE TABLE", "MEMORY", Some("lost"))]
    #[case("BASE TABLE", "FEDERATED", Some("FEDERATED"))]
    #[case("BASE TABLE", "CONNECT", Some("CONNECT"))]
    #[case("BASE TABLE", "BLACKHOLE", Some("BLACKHOLE"))]
    #[case("BASE TABLE", "", Some("not known"))]
    #[case("SEQUENCE", "InnoDB", Some("sequence"))]
    fn engines_that_hold_their_rows_are_read_on_replicas(
        #[case] kind: &str,
        #[case] engine: &str,
        #[case] word: Option<&str>,
    ) {
        let why = refusal(kind, engine);
        assert_eq!(why.is_some(), word.is_some(), "{why:?}");
        assert_eq!(differs(kind, engine), word.is_some_and(|word| word != "sequence"));
        assert!(why.is_none_or(|why| word.is_some_and(|word| why.contains(word))));
    }
}
