//! The probe for PostgreSQL 15 and later: primaries, streaming replicas, logical subscribers, and
//! Aurora.
//!
//! Probes prepare nothing: if a pooler assigns a connection for each transaction, another client
//! may have prepared another statement under the same name. (This costs a server 0.1 ms more per
//! probe.)

mod aurora;
mod catalog;
mod flush;
mod greeting;
mod receiver;
mod server;
mod subscriber;
mod timeline;
mod trial;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sealane_core::{Database, Failure, Incarnation, Lsn, Report};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, PgConnection, Row,
    postgres::{PgConnectOptions, PgDatabaseError, PgRow},
};

use tokio::time::Instant;

pub use catalog::PostgresCatalog;
pub use greeting::{Greeting, greet};
pub use trial::read_only;

use crate::Probe;
use flush::Flush;
use receiver::Receiver;
use timeline::Timeline;
use trial::Trial;

/// The question asked once on each connection. `to_regproc` returns NULL if the function does not
/// exist.
const FIRST: &str = "SELECT current_setting('server_version') AS version, \
     current_database()::text AS database, \
     (SELECT oid::int8 FROM pg_database WHERE datname = current_database()) AS number, \
     current_setting('search_path') AS search_path, \
     to_regproc('aurora_replica_status') IS NOT NULL AS is_aurora";

/// The application name of all monitors, or the beginning of their names.
const NAME: &str = "sealane monitor";

/// Sent with a probe now and then: counts the monitors of all processes that probe this server, for
/// all its databases. Every role may read the name of a connection. (The view `pg_stat_activity`
/// shows the same, but planning it takes three times as long.)
const COUNT: &str = "; SELECT count(*)::int8 AS monitors FROM pg_stat_get_activity(NULL) \
     WHERE application_name LIKE 'sealane monitor%'";

/// Least time from one count to the next. Each monitor adds [`COUNT_SHARE`], so that counting does
/// not cost more in a large fleet, where the server has more connections to search.
const COUNT_INTERVAL: Duration = Duration::from_secs(1);
const COUNT_SHARE: Duration = Duration::from_millis(20);

/// Probes a PostgreSQL server over its own connection.
pub struct PostgresProbe {
    options: PgConnectOptions,
    part: Part,
    link: Option<Link>,
    flush: Flush,
    receiver: Receiver,
    trial: Trial,
    timeline: Timeline,
}

/// The configured kind of server.
#[derive(Debug, Clone)]
enum Part {
    /// A primary or a streaming replica; the server itself says which. `with_feeds`: whether the
    /// probe also asks which subscribers the server sends to, from its next connection on.
    Server { with_feeds: Arc<AtomicBool> },
    /// A logical subscriber with this subscription.
    Subscriber(Arc<str>),
}

/// A connection, with what the probe has learned on it.
struct Link {
    connection: PgConnection,
    is_aurora: bool,
    version: Arc<str>,
    database: Arc<Database>,
    search_path: Arc<str>,
    /// Known from the first answer on.
    identity: Option<Arc<str>>,
    probe: Arc<str>,
    probe_and_count: Arc<str>,
    monitors: Option<u32>,
    /// When to count monitors next; `None` if this role may not count them.
    count_at: Option<Instant>,
}

impl PostgresProbe {
    /// A probe for a primary or a streaming replica. It connects with `options` at the first
    /// question.
    #[must_use]
    pub fn new(options: PgConnectOptions) -> Self {
        Self::with_feeds(options, Arc::default())
    }

    /// The same for a cluster with logical subscribers: while `with_feeds` is set, the probe also
    /// asks a primary which subscribers it sends to. All probes of a cluster share the switch, so
    /// that a subscriber can be added later.
    #[must_use]
    pub fn with_feeds(options: PgConnectOptions, with_feeds: Arc<AtomicBool>) -> Self {
        Self::of(options, Part::Server { with_feeds })
    }

    /// A probe for a logical subscriber with the subscription of this name.
    #[must_use]
    pub fn subscriber(options: PgConnectOptions, subscription: &str) -> Self {
        Self::of(options, Part::Subscriber(subscription.into()))
    }

    fn of(options: PgConnectOptions, part: Part) -> Self {
        let options = options.application_name(NAME).disable_statement_logging();
        PostgresProbe {
            options,
            part,
            link: None,
            flush: Flush::default(),
            receiver: Receiver::default(),
            trial: Trial::default(),
            timeline: Timeline::default(),
        }
    }
}

impl Probe for PostgresProbe {
    async fn ask(&mut self) -> Result<Report, Failure> {
        // Only a connection that has just answered is kept: a dropped call leaves no connection
        // behind.
        if let Some(link) = self.link.take() {
            match self.ask_on(link).await {
                // Perhaps only the connection is lost; a new connection shows it.
                Err(failure @ (Failure::Connection(_) | Failure::Unavailable(_))) => {
                    tracing::debug!(target: "sealane::probe", %failure, "connecting anew");
                }
                answer => return answer,
            }
        }
        self.flush.forget();
        let link = Link::open(&self.options, &self.part).await.map_err(|e| failure(&e))?;
        self.trial.make(&self.options).await?;
        self.ask_on(link).await
    }

    fn disconnect(&mut self) {
        self.link = None;
    }

    /// While the end of the primary's log is not written out, no replica can be proved up to date.
    fn is_undecided(&self) -> bool {
        self.flush.is_pending()
    }

    fn is_connected(&self) -> bool {
        self.link.is_some()
    }

    fn system(&self) -> &'static str {
        "postgresql"
    }
}

impl PostgresProbe {
    async fn ask_on(&mut self, mut link: Link) -> Result<Report, Failure> {
        let mut report = match &self.part {
            Part::Subscriber(name) => {
                self.trial.must_hold()?;
                subscriber::ask(&mut link, name).await?
            }
            Part::Server { .. } if link.is_aurora => aurora::ask(&mut link).await?,
            Part::Server { .. } => {
                let answer = server::ask(&mut link).await?;
                if let Some(end) = self.flush.note(answer.tail()?, Instant::now()) {
                    self.flush.forget();
                    write_out(&mut link.connection, end).await?;
                }
                answer.report(&mut link, &mut self.receiver, &mut self.timeline)?
            }
        };
        report.info.monitors = link.monitors;
        report.info.read_only = self.trial.outcome();
        self.link = Some(link);
        Ok(report)
    }
}

/// Makes the primary write out its log. On a busy primary this costs one more commit; on an idle
/// one nothing else would do it for a long time.
async fn write_out(connection: &mut PgConnection, end: Lsn) -> Result<(), Failure> {
    match flush::run(connection, end).await {
        Ok(()) => Ok(()),
        // The probe has answered anyway; the proof for replicas only comes a little later.
        Err(error @ sqlx::Error::Database(_)) => {
            tracing::debug!(target: "sealane::probe", %error, "the log is not written out");
            Ok(())
        }
        Err(error) => Err(failure(&error)),
    }
}

impl Link {
    async fn open(options: &PgConnectOptions, part: &Part) -> Result<Self, sqlx::Error> {
        let mut connection = PgConnection::connect_with(options).await?;
        let row = sqlx::raw_sql(FIRST).fetch_one(&mut connection).await?;
        let is_aurora = row.try_get("is_aurora")?;
        let engine = if is_aurora { "Aurora PostgreSQL" } else { "PostgreSQL" };
        let version = format!("{engine} {}", row.try_get::<&str, _>("version")?).into();
        let probe: Arc<str> = match part {
            Part::Subscriber(name) => subscriber::probe(name).into(),
            Part::Server { .. } if is_aurora => aurora::PROBE.into(),
            Part::Server { with_feeds } if with_feeds.load(Ordering::Acquire) => {
                server::PROBE_WITH_FEEDS.into()
            }
            Part::Server { .. } => server::PROBE.into(),
        };
        let database = Arc::new(Database {
            name: row.try_get::<&str, _>("database")?.into(),
            number: row.try_get::<i64, _>("number").ok().and_then(|it| u64::try_from(it).ok()),
        });
        let search_path = row.try_get::<&str, _>("search_path")?.into();
        Ok(Link {
            connection,
            is_aurora,
            version,
            database,
            search_path,
            identity: None,
            probe_and_count: format!("{probe}{COUNT}").into(),
            probe,
            monitors: None,
            count_at: Some(Instant::now()),
        })
    }

    /// The answer to the probe, in one round trip. Nothing is prepared: a pooler may assign a new
    /// connection for each transaction, where another client may have prepared another statement
    /// under the same name.
    async fn rows(&mut self) -> Result<Vec<PgRow>, Failure> {
        if self.count_at.is_some_and(|at| at <= Instant::now()) {
            let both = sqlx::raw_sql(AssertSqlSafe(Arc::clone(&self.probe_and_count)));
            match both.fetch_all(&mut self.connection).await {
                Ok(mut rows) => {
                    let count = rows.pop().ok_or_else(no_row)?;
                    let monitors: i64 = count.try_get("monitors").map_err(|e| failure(&e))?;
                    let monitors = u32::try_from(monitors).unwrap_or(u32::MAX);
                    self.monitors = Some(monitors);
                    let interval = COUNT_INTERVAL.max(COUNT_SHARE.saturating_mul(monitors));
                    self.count_at = Instant::now().checked_add(interval);
                    return Ok(rows);
                }
                // If this is an error of the probe itself, it comes again below.
                Err(sqlx::Error::Database(_)) => self.count_at = None,
                Err(error) => return Err(failure(&error)),
            }
        }
        let probe = sqlx::raw_sql(AssertSqlSafe(Arc::clone(&self.probe)));
        probe.fetch_all(&mut self.connection).await.map_err(|e| failure(&e))
    }

    /// Adds the connection's database, search path and server version to `report`. For servers that
    /// should hold the primary's database.
    fn complete(&self, report: Report) -> Report {
        let mut report = Report {
            database: Some(Arc::clone(&self.database)),
            search_path: Some(Arc::clone(&self.search_path)),
            ..report
        };
        report.info.version = Some(Arc::clone(&self.version));
        report
    }

    /// The identity of this connection's server, which cannot change on a connection.
    fn identity(&mut self, told: impl ToString) -> Arc<str> {
        Arc::clone(self.identity.get_or_insert_with(|| told.to_string().into()))
    }
}

impl fmt::Debug for PostgresProbe {
    /// Without the options, because they contain the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresProbe")
            .field("part", &self.part)
            .field("connected", &self.is_connected())
            .finish_non_exhaustive()
    }
}

/// Which run of the server `connection` leads to. One round trip.
///
/// # Errors
/// Errors of the server or the connection.
pub async fn incarnation(connection: &mut PgConnection) -> Result<Incarnation, sqlx::Error> {
    greet(connection).await.map(|greeting| greeting.incarnation)
}

/// What a driver's error means for the endpoint. Messages of the server and of the operating system
/// contain no password.
#[must_use]
pub fn failure(error: &sqlx::Error) -> Failure {
    match error {
        sqlx::Error::Database(answer) => {
            let message = answer.try_downcast_ref::<PgDatabaseError>().map_or_else(
                || answer.message().to_owned(),
                |answer| format!("{} ({})", answer.message(), answer.code()),
            );
            match answer.code().as_deref() {
                Some("3D000") => Failure::NoDatabase(message),
                Some("42501") => Failure::Misconfigured(message),
                Some(code) if code.starts_with("28") => Failure::Misconfigured(message),
                Some(code) if code.starts_with("57P") || code.starts_with("53") => {
                    Failure::Unavailable(message)
                }
                Some(_) | None => Failure::Unexpected(message),
            }
        }
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::WorkerCrashed => Failure::Connection(error.to_string()),
        other => Failure::Unexpected(other.to_string()),
    }
}

/// The failure for an answer without rows.
fn no_row() -> Failure {
    Failure::Unexpected("the server's answer has no rows".to_owned())
}

/// The failure for an answer with an unreadable part.
fn unreadable(error: impl ToString) -> Failure {
    Failure::Unexpected(error.to_string())
}
