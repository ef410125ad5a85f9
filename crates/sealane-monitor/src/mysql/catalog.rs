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
//! is known: a table that has another engine on a replica is not noticed.
//!
//! # Filters
//! Replicas are asked for their filters at each load, and all servers for those of their binary logs:
//! a replica may follow another replica. The catalog is also loaded when a server answers that did
//! not answer before, and after a failover. Seeing filters needs `REPLICATION CLIENT` (MySQL), or
//! `SLAVE MONITOR` and `BINLOG MONITOR` (MariaDB). Tables that one server leaves out are read on the
//! primary, whichever replica would be read. A replica that does not answer keeps its earlier
//! filters. A replica that never answered has none until the end of the load that begins once it
//! answers. Reads of these few tenths of a second may miss what it leaves out.

mod filters;
mod spread;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sealane_core::{EndpointId, EndpointState, Failure};
use sealane_sql::{Catalog, CatalogFacts, FunctionFact, RelationFact, ReplicationFilter};
use sqlx::{
    ConnectOptions, Connection, MySqlConnection,
    mysql::{MySqlConnectOptions, MySqlRow},
};

use super::{failure, text};
use crate::{CatalogSource, TopologyStore};
use filters::Told;

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

/// Time limit for one replica to report its filters. The catalog waits for this.
const REPLICA_LIMIT: Duration = Duration::from_secs(2);

/// Loads the catalog of any endpoint of one cluster.
pub struct MySqlCatalog {
    /// Knows the endpoints' names.
    store: Arc<TopologyStore>,
    sources: Mutex<Vec<Source>>,
}

/// One endpoint.
struct Source {
    endpoint: EndpointId,
    options: MySqlConnectOptions,
    /// The filters that it last reported, so that each is logged only once.
    told: Option<Told>,
}

impl MySqlCatalog {
    /// A catalog without endpoints.
    #[must_use]
    pub fn new(store: Arc<TopologyStore>) -> Self {
        MySqlCatalog { store, sources: Mutex::default() }
    }

    /// Sets how to connect to `endpoint`.
    pub fn add(&self, endpoint: EndpointId, options: MySqlConnectOptions) {
        let options = options.disable_statement_logging();
        self.sources().push(Source { endpoint, options, told: None });
    }

    /// Forgets how to connect to `endpoint`, and its filters.
    pub fn remove(&self, endpoint: EndpointId) {
        self.sources().retain(|source| source.endpoint != endpoint);
    }

    fn sources(&self) -> MutexGuard<'_, Vec<Source>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How to connect to each endpoint.
    fn all(&self) -> Vec<(EndpointId, MySqlConnectOptions)> {
        self.sources().iter().map(|source| (source.endpoint, source.options.clone())).collect()
    }

    /// The filters of all servers.
    async fn filters(
        &self,
        primary: EndpointId,
        connection: &mut MySqlConnection,
    ) -> Vec<ReplicationFilter> {
        for (endpoint, options) in self.all() {
            // A replica that is down reports its filters when it is back.
            if endpoint != primary
                && !self.store.topology().get(endpoint).is_some_and(EndpointState::is_usable)
            {
                continue;
            }
            let told = match endpoint == primary {
                true => filters::of_primary(connection).await.ok(),
                false => tokio::time::timeout(REPLICA_LIMIT, filters::of_replica(&options))
                    .await
                    .ok()
                    .and_then(Result::ok),
            };
            // A server that does not answer has reported before, or reports at the next load.
            if let Some(told) = told {
                self.note(endpoint, told);
            }
        }
        let sources = self.sources();
        let told = sources.iter().filter_map(|source| source.told.as_ref());
        told.flat_map(Told::filters).cloned().collect()
    }

    /// Logs filters once, and after each change.
    fn note(&self, endpoint: EndpointId, told: Told) {
        let is_news = match self.sources().iter_mut().find(|it| it.endpoint == endpoint) {
            Some(source) => source.told.replace(told.clone()).as_ref() != Some(&told),
            None => false,
        };
        if is_news && let Some(state) = self.store.topology().get(endpoint) {
            told.say(state.endpoint.name());
        }
    }
}

impl CatalogSource for Arc<MySqlCatalog> {
    /// Each server has filters of its own.
    const ASKS_ALL: bool = true;

    /// Opens a connection for each load, because loads happen only once a minute.
    async fn load(&self, endpoint: EndpointId) -> Result<Catalog, Failure> {
        let known = self.all().into_iter().find(|(known, _)| *known == endpoint);
        let Some((_, options)) = known else {
            return Err(Failure::Unexpected(format!("there is no endpoint {endpoint}")));
        };
        let mut connection =
            MySqlConnection::connect_with(&options).await.map_err(|error| failure(&error))?;
        let mut facts = facts(&mut connection).await.map_err(|error| failure(&error))?;
        facts.filters = self.filters(endpoint, &mut connection).await;
        if folds_names(&mut connection).await.map_err(|error| failure(&error))? {
            facts.filters = facts.filters.into_iter().map(ReplicationFilter::folded).collect();
        }
        // The facts have arrived, so an error at closing does not matter.
        let _ = connection.close().await;
        // Each view is parsed: milliseconds for hundreds of them.
        tokio::task::spawn_blocking(move || Catalog::of_mysql(&facts))
            .await
            .map_err(|error| Failure::Unexpected(format!("the catalog's facts: {error}")))
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
    Ok(Some(RelationFact { refused: refusal(&kind, &engine), ..named(row)? }))
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

impl std::fmt::Debug for MySqlCatalog {
    /// Without the options, because they contain passwords.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MySqlCatalog").field("endpoints", &self.sources().len()).finish()
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
        assert!(why.is_none_or(|why| word.is_some_and(|word| why.contains(word))));
    }
}
