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
//! Servers are asked for their filters at each load, and each new run of a server as soon as it
//! answers: for those of its replication, and for those of its binary log, because a replica may
//! follow another replica. A server gets no reads before. Seeing filters needs `REPLICATION CLIENT`
//! (MySQL), or `SLAVE MONITOR` and `BINLOG MONITOR` (MariaDB). Tables that one server leaves out are
//! read on the primary, whichever replica would be read. A server that does not answer keeps its
//! earlier filters. Not noticed before the next load: filters that are set while a server runs.

mod filters;
mod spread;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use sealane_core::{EndpointId, Failure};
use sealane_sql::{Catalog, CatalogFacts, FunctionFact, RelationFact, ReplicationFilter};
use sqlx::{
    ConnectOptions, Connection, MySqlConnection,
    mysql::{MySqlConnectOptions, MySqlRow},
};

use super::{failure, text};
use crate::{Asked, CatalogSource, Loaded, TopologyStore};
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

/// Time limit for one server to report its filters. The catalog waits for this.
const SERVER_LIMIT: Duration = Duration::from_secs(2);

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
    /// The filters that the last catalog includes.
    told: Option<Told>,
}

/// What one run of a server has reported.
struct Answer {
    endpoint: EndpointId,
    run: u32,
    told: Told,
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

    /// How to connect to each of these endpoints.
    fn options_of(
        &self,
        is_meant: impl Fn(EndpointId) -> bool,
    ) -> Vec<(EndpointId, MySqlConnectOptions)> {
        let sources = self.sources();
        let meant = sources.iter().filter(|source| is_meant(source.endpoint));
        meant.map(|source| (source.endpoint, source.options.clone())).collect()
    }

    /// What each of these servers reports in time.
    async fn answers(&self, servers: Vec<(EndpointId, MySqlConnectOptions)>) -> Vec<Answer> {
        // A server that is down reports its filters when it is back.
        let up = servers.into_iter().filter_map(|(endpoint, options)| {
            let topology = self.store.topology();
            let state = topology.get(endpoint).filter(|state| state.is_usable())?;
            let run = state.run;
            Some(async move {
                let told = tokio::time::timeout(SERVER_LIMIT, filters::of_server(&options));
                let told = told.await.ok()?.ok()?;
                Some(Answer { endpoint, run, told })
            })
        });
        let answers = join_all(up).await;
        answers.into_iter().flatten().collect()
    }

    /// Keeps the filters of these servers, and logs them if they are new.
    fn keep(&self, answers: Vec<Answer>) {
        for Answer { endpoint, told, .. } in answers {
            let is_news = match self.sources().iter_mut().find(|it| it.endpoint == endpoint) {
                Some(source) => source.told.replace(told.clone()).as_ref() != Some(&told),
                None => false,
            };
            if is_news && let Some(state) = self.store.topology().get(endpoint) {
                told.say(state.endpoint.name());
            }
        }
    }

    /// The filters in these answers, and for the other servers those that the last catalog includes.
    fn filters_with(&self, answers: &[Answer]) -> Vec<ReplicationFilter> {
        let sources = self.sources();
        let told = sources.iter().filter_map(|source| {
            let answer = answers.iter().find(|answer| answer.endpoint == source.endpoint);
            answer.map(|answer| &answer.told).or(source.told.as_ref())
        });
        told.flat_map(Told::filters).cloned().collect()
    }

    /// Whether the last catalog includes all filters of this answer, of whatever server.
    fn includes(&self, answer: &Answer) -> bool {
        let sources = self.sources();
        let known = || sources.iter().filter_map(|it| it.told.as_ref()).flat_map(Told::filters);
        answer.told.filters().iter().all(|filter| known().any(|it| it == filter))
    }
}

impl CatalogSource for Arc<MySqlCatalog> {
    const HAS_FILTERS: bool = true;

    /// Opens a connection for each load, because loads happen only once a minute.
    async fn load(&self, primary: EndpointId) -> Result<Loaded, Failure> {
        let known = self.options_of(|endpoint| endpoint == primary).into_iter().next();
        let Some((_, options)) = known else {
            return Err(Failure::Unexpected(format!("there is no endpoint {primary}")));
        };
        let mut connection =
            MySqlConnection::connect_with(&options).await.map_err(|error| failure(&error))?;
        let mut facts = facts(&mut connection).await.map_err(|error| failure(&error))?;
        let folds = folds_names(&mut connection).await.map_err(|error| failure(&error))?;
        // The facts have arrived, so an error at closing does not matter.
        let _ = connection.close().await;
        let answers = self.answers(self.options_of(|_| true)).await;
        facts.filters = self.filters_with(&answers);
        if folds {
            facts.filters = facts.filters.into_iter().map(ReplicationFilter::folded).collect();
        }
        // Each view is parsed: milliseconds for hundreds of them.
        let catalog = tokio::task::spawn_blocking(move || Catalog::of_mysql(&facts))
            .await
            .map_err(|error| Failure::Unexpected(format!("the catalog's facts: {error}")))?;
        let runs = answers.iter().map(|answer| (answer.endpoint, answer.run)).collect();
        let has_new_filters = answers.iter().any(|answer| !self.includes(answer));
        self.keep(answers);
        Ok(Loaded { catalog, runs, has_new_filters })
    }

    async fn ask(&self, servers: Vec<EndpointId>) -> Asked {
        let answers = self.answers(self.options_of(|endpoint| servers.contains(&endpoint))).await;
        let included = answers.iter().filter(|answer| self.includes(answer));
        let included: Vec<_> = included.map(|answer| (answer.endpoint, answer.run)).collect();
        let is_news = included.len() < answers.len();
        Asked { included, is_news }
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
