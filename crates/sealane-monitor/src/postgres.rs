//! The probe of PostgreSQL 15 and later: of primaries and their streaming replicas, of
//! logical subscribers, and of Aurora.

mod aurora;
mod catalog;
mod receiver;
mod server;
mod subscriber;
mod timeline;

use std::{fmt, sync::Arc, time::Duration};

use sealane_core::{Database, Failure, Incarnation, Report};
use sqlx::{
    ConnectOptions, Connection, PgConnection, Row,
    postgres::{PgConnectOptions, PgDatabaseError},
};

use tokio::time::Instant;

pub use catalog::PostgresCatalog;

use crate::Probe;
use receiver::Receiver;
use timeline::Timeline;

/// Which run of the server this is. The start time changes with every start of
/// the postmaster; the statistics are reset when it restarts its children after
/// one of them crashed, which a replica may survive with less data too.
/// Readable without privileges.
const INCARNATION: &str = "SELECT concat(pg_postmaster_start_time(), ' ', stats_reset) \
     FROM pg_stat_bgwriter";

/// What is asked once on each connection. `to_regproc` finds nothing where there is no
/// such function.
const FIRST: &str = "SELECT current_setting('server_version') AS version, \
     current_database()::text AS database, \
     (SELECT oid::int8 FROM pg_database WHERE datname = current_database()) AS number, \
     current_setting('search_path') AS search_path, \
     to_regproc('aurora_replica_status') IS NOT NULL AS is_aurora";

/// Has the primary write out what is in its log: a transaction that has written
/// something does so when it commits. `local`, so that it does not wait for synchronous
/// replicas. The message is empty; logical decoding that asks for messages sees it.
///
/// What waits there may be nobody's commit: a query that tidies a page logs it, and
/// on an idle primary nothing writes that out for up to fifteen seconds (when the
/// background writer logs a snapshot). The position ends behind it, because a
/// commit that did not wait (`synchronous_commit = off`) may be in it too; so
/// without this no replica would be proved to be up to date.
const FLUSH: &str = "SELECT set_config('synchronous_commit', 'local', true), \
     pg_logical_emit_message(true, 'sealane', '')::text";

/// Between two of them at least, however often somebody waits.
const FLUSH_INTERVAL: Duration = Duration::from_millis(100);

/// Asks a PostgreSQL server over a connection of its own.
pub struct PostgresProbe {
    options: PgConnectOptions,
    part: Part,
    link: Option<Link>,
    /// When the primary's log was last written out for us.
    flushed: Option<Instant>,
    receiver: Receiver,
    timeline: Timeline,
}

/// What a server is configured to be.
#[derive(Debug, Clone)]
enum Part {
    /// A primary or a streaming replica, which it is to tell; and whether it is to
    /// tell to whom it sends as well.
    Server { with_feeds: bool },
    /// A subscriber, by this subscription.
    Subscriber(Arc<str>),
}

/// A connection, and what was learned when it was made.
struct Link {
    connection: PgConnection,
    is_aurora: bool,
    version: Arc<str>,
    database: Arc<Database>,
    search_path: Arc<str>,
    /// Told with the first answer.
    identity: Option<Arc<str>>,
}

impl PostgresProbe {
    /// A probe of a primary or a streaming replica that connects with `options` when
    /// it is first asked.
    #[must_use]
    pub fn new(options: PgConnectOptions) -> Self {
        Self::of(options, Part::Server { with_feeds: false })
    }

    /// The same for a cluster that has logical subscribers: a primary is asked, too,
    /// which of them it sends to.
    #[must_use]
    pub fn with_feeds(options: PgConnectOptions) -> Self {
        Self::of(options, Part::Server { with_feeds: true })
    }

    /// A probe of a server that is a replica by its subscription of this name.
    #[must_use]
    pub fn subscriber(options: PgConnectOptions, subscription: &str) -> Self {
        Self::of(options, Part::Subscriber(subscription.into()))
    }

    fn of(options: PgConnectOptions, part: Part) -> Self {
        let options = options.application_name("sealane monitor").disable_statement_logging();
        PostgresProbe {
            options,
            part,
            link: None,
            flushed: None,
            receiver: Receiver::default(),
            timeline: Timeline::default(),
        }
    }
}

impl Probe for PostgresProbe {
    async fn ask(&mut self) -> Result<Report, Failure> {
        // Only a connection that has just answered is kept: a call that is dropped
        // half-way leaves none behind.
        if let Some(link) = self.link.take() {
            match self.ask_on(link).await {
                // The connection may be all that was lost; a new one tells.
                Err(failure @ (Failure::Connection(_) | Failure::Unavailable(_))) => {
                    tracing::debug!(target: "sealane::probe", %failure, "connecting anew");
                }
                answer => return answer,
            }
        }
        let link = Link::open(&self.options).await.map_err(|e| failure(&e))?;
        self.ask_on(link).await
    }

    fn disconnect(&mut self) {
        self.link = None;
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
        let report = match &self.part {
            Part::Subscriber(name) => subscriber::ask(&mut link, name).await?,
            Part::Server { .. } if link.is_aurora => aurora::ask(&mut link).await?,
            Part::Server { with_feeds } => {
                let answer = server::ask(&mut link.connection, *with_feeds).await?;
                self.flush(answer.unflushed, &mut link.connection).await?;
                answer.report(&mut link, &mut self.receiver, &mut self.timeline)?
            }
        };
        self.link = Some(link);
        Ok(report)
    }

    /// Writes the log out if its end is not: where there are commits that costs one
    /// more, and where there are none nobody else would do it for a long time.
    async fn flush(
        &mut self,
        unflushed: bool,
        connection: &mut PgConnection,
    ) -> Result<(), Failure> {
        let is_due = self.flushed.is_none_or(|flushed| flushed.elapsed() >= FLUSH_INTERVAL);
        if !(unflushed && is_due) {
            return Ok(());
        }
        self.flushed = Some(Instant::now());
        match sqlx::query(FLUSH).execute(connection).await {
            Ok(_) => Ok(()),
            // It answers all the same; replicas will be proved a little later.
            Err(error @ sqlx::Error::Database(_)) => {
                tracing::debug!(target: "sealane::probe", %error, "the log is not written out");
                Ok(())
            }
            Err(error) => Err(failure(&error)),
        }
    }
}

impl Link {
    async fn open(options: &PgConnectOptions) -> Result<Self, sqlx::Error> {
        let mut connection = PgConnection::connect_with(options).await?;
        let row = sqlx::raw_sql(FIRST).fetch_one(&mut connection).await?;
        let is_aurora = row.try_get("is_aurora")?;
        let engine = if is_aurora { "Aurora PostgreSQL" } else { "PostgreSQL" };
        let version = format!("{engine} {}", row.try_get::<&str, _>("version")?).into();
        let database = Arc::new(Database {
            name: row.try_get::<&str, _>("database")?.into(),
            number: row.try_get::<i64, _>("number").ok().and_then(|it| u64::try_from(it).ok()),
        });
        let search_path = row.try_get::<&str, _>("search_path")?.into();
        Ok(Link { connection, is_aurora, version, database, search_path, identity: None })
    }

    /// `report` of a server that is to hold the primary's database: where this connection
    /// leads to, and who says so.
    fn complete(&self, report: Report) -> Report {
        let mut report = Report {
            database: Some(Arc::clone(&self.database)),
            search_path: Some(Arc::clone(&self.search_path)),
            ..report
        };
        report.particulars.version = Some(Arc::clone(&self.version));
        report
    }

    /// What this connection's server is called; it does not change while it lasts.
    fn identity(&mut self, told: impl ToString) -> Arc<str> {
        Arc::clone(self.identity.get_or_insert_with(|| told.to_string().into()))
    }
}

impl fmt::Debug for PostgresProbe {
    /// Without the options: they hold the password.
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
/// Whatever the server or the connection says.
pub async fn incarnation(connection: &mut PgConnection) -> Result<Incarnation, sqlx::Error> {
    let text: String = sqlx::query_scalar(INCARNATION).fetch_one(connection).await?;
    Ok(Incarnation::new(text))
}

/// What a driver's error says about the endpoint. Messages of the server and
/// of the operating system carry no password.
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

/// An answer that was understood only in part.
fn unreadable(error: impl ToString) -> Failure {
    Failure::Unexpected(error.to_string())
}
