//! The probe of MySQL (8.0.22 and later, with GTIDs), of MariaDB (10.5 and later), and of
//! Aurora, of which only the lag is known.
//!
//! # What it relies on
//! - **Roles.** A server with `read_only` on is a replica, one without is the
//!   primary. That it also receives from another server says nothing: two
//!   primaries may receive from each other. So a replica must have `read_only`
//!   on, which keeps writes away from it, too.
//! - **A primary's position contains every write that was answered, and all that anybody has seen.**
//!   MySQL adds a transaction to `gtid_executed` after the engine has committed it and before
//!   the client is answered (`MYSQL_BIN_LOG::process_commit_stage_queue` calls
//!   `update_commit_group`; manual, section 19.1.3.2, "GTID Life Cycle"). By then others have seen
//!   it: on the primary since the engine's commit, on replicas since it was sent. From before it is
//!   in the binary log until it is in `gtid_executed`, it is in `gtid_owned`; so the position is
//!   both sets. MariaDB adds a transaction to `gtid_binlog_pos` even before the engine commits, when
//!   it writes the binary log.
//! - **A replica's position contains only what new snapshots see.** In MySQL for
//!   the same reason; without `replica_preserve_commit_order` the set has holes,
//!   which it shows. MariaDB publishes in `gtid_slave_pos` "only after commit"
//!   (`rpl_slave_state::update_state_hash`), and parallel appliers commit each
//!   domain in its order (manual, "Parallel Replication").
//!
//! # What the role needs
//! Nothing but to connect: system variables and status are everybody's. Whether a
//! replica receives, applies, and what it has received is told to those with
//! `REPLICATION CLIENT` (MySQL) or `SLAVE MONITOR` (MariaDB). Without it routing goes by
//! positions alone, and a process that starts late may not see that a primary was replaced
//! (`outlived` in core's reducer); a MySQL replica then shows as
//! [`Replication::Unknown`](sealane_core::Replication::Unknown), one of MariaDB as
//! running or not.
//!
//! A promoted MariaDB server without `log_slave_updates` has nothing in its binary log of what it
//! replayed before. So a primary's position is the union of `gtid_binlog_pos` and
//! `gtid_slave_pos`; an empty one would prove everything. For the same reason a server without
//! GTIDs, or a primary without a binary log, counts as misconfigured.
//!
//! # Runs
//! MySQL and MariaDB have no start time to read. But the clock and the uptime are both taken when
//! a statement begins and in whole seconds. So their difference is exact, the same in every
//! answer, and the time of the start. (Rejected: differences of two statements, which jitter by a
//! second; MySQL's `server_uuid`, which survives restarts; the binary log's name, which privileges
//! hide.) A clock that is set while the server runs does not change the difference, also if it is
//! set to before the start: then the uptime is negative. A server that crashes and is back within
//! the second in which it started looks like one run.
//!
//! To tell the uptime, a server adds up the status of all its sessions, which takes longer than the rest
//! of the answer. A session ends with its run, so each session asks once and remembers the answer in a
//! variable. The server itself computes it there: a proxy that sends the `SET` to several servers, or
//! again to another run, has each of them remember its own. Where a proxy loses the variable, each probe
//! asks for the uptime.
//!
//! # What a primary shows
//! Sessions that have read on a replica may wait until the primary shows the same. MySQL shows what
//! is in `gtid_executed`, and each probe tells it; what MariaDB shows, `mysql/shown.rs` tells.
//!
//! # Groups
//! Galera and Group Replication are recognised and told to people
//! ([`ServerInfo::group`](sealane_core::ServerInfo::group)). `mysql/group.rs` tells what members'
//! positions prove, and which members are used. Status that only members have is asked of members only,
//! once a second.
//!
//! # One round trip
//! A new connection asks for the version, the server's name, and whether it is Aurora, once, so
//! that quick probes allocate nothing for it. A probe is one round trip: variables (and MariaDB's status),
//! which everybody may read, and in the same text `SHOW REPLICA STATUS`, which few may. A role
//! that may not is asked without it until the next connection. A replica whose disk is full may
//! hold locks that its status waits for; it is then down, as every server that does not answer.

mod catalog;
mod channel;
mod flavour;
mod fleet;
mod group;
mod owned;
mod shown;
pub mod unbound;

use std::{fmt, sync::Arc};

use sealane_core::{Ancestry, Database, Failure, Incarnation, Report};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, MySqlConnection, Row,
    mysql::{MySqlConnectOptions, MySqlDatabaseError, MySqlRow},
};

use crate::Probe;
pub use catalog::MySqlCatalog;
use flavour::Flavour;
use fleet::Fleet;
use group::Group;
use shown::Shown;

/// Which run of the server this is: who it is, and when it started.
///
/// Both the clock and the uptime are taken at the statement's begin and in whole
/// seconds, so that their difference is the moment of the start, the same in
/// every answer (`show_starttime` in both servers). Two starts within one second
/// would look like one run; neither server comes up and down so fast.
///
/// One text for both: MariaDB reads `/*M!` and skips `/*!80000`, MySQL does the
/// opposite. MySQL has no such table in `information_schema`, and MariaDB's
/// `performance_schema` is off by default.
const RUN: &str = "(SELECT CONCAT(@@global.server_id, ' ', \
     UNIX_TIMESTAMP() - CAST(variable_value AS SIGNED)) \
     FROM /*M! information_schema.global_status */ /*!80000 performance_schema.global_status */ \
     WHERE variable_name = 'Uptime')";
/// The same, as the session remembers it.
const REMEMBERED: &str = "@sealane_run";

/// Asks a MySQL or MariaDB server over a connection of its own.
pub struct MySqlProbe {
    options: MySqlConnectOptions,
    link: Option<Link>,
    is_awaited: bool,
}

/// A connection, and what was learned when it was made.
struct Link {
    connection: MySqlConnection,
    flavour: Flavour,
    version: Arc<str>,
    identity: Arc<str>,
    question: Question,
    /// Whether this role may write where `read_only` is on.
    unbound: Option<bool>,
    fleet: Fleet,
    group: Group,
    shown: Shown,
}

impl MySqlProbe {
    /// A probe that connects with `options` when it is first asked.
    #[must_use]
    pub fn new(options: MySqlConnectOptions) -> Self {
        let options = options.disable_statement_logging();
        MySqlProbe { options, link: None, is_awaited: false }
    }
}

impl Probe for MySqlProbe {
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

    fn await_shown(&mut self, is_awaited: bool) {
        self.is_awaited = is_awaited;
    }

    fn system(&self) -> &'static str {
        match self.link.as_ref().map(|link| link.flavour) {
            Some(Flavour::MariaDb) => "mariadb",
            Some(Flavour::MySql | Flavour::Aurora) | None => "mysql",
        }
    }
}

impl MySqlProbe {
    async fn ask_on(&mut self, mut link: Link) -> Result<Report, Failure> {
        let rows = link.rows().await.map_err(|e| failure(&e))?;
        let details = link.question.details;
        let mut report = link.flavour.report(&rows, details, link.group.is_galera())?;
        let Link { fleet, group, shown, connection, flavour, .. } = &mut link;
        if *flavour == Flavour::MariaDb {
            let complete = shown.complete(connection, &mut report, self.is_awaited);
            complete.await.map_err(|e| failure(&e))?;
        }
        group.ask(connection).await.map_err(|e| failure(&e))?;
        report.info.group = group.member();
        report.info.semi_sync = group.semi_sync();
        report.info.monitors = fleet.monitors(connection).await.map_err(|e| failure(&e))?;
        report.info.unbound = link.unbound;
        report.info.version = Some(Arc::clone(&link.version));
        report.info.identity = Some(Arc::clone(&link.identity));
        if link.flavour == Flavour::MySql {
            // Without it (a proxy hides it) histories are told apart by sets alone.
            report.ancestry = Ancestry::mysql(&link.identity).ok();
        }
        link.group.complete(&mut report)?;
        report.database = rows.first().and_then(database);
        self.link = Some(link);
        Ok(report)
    }
}

impl Link {
    async fn open(options: &MySqlConnectOptions) -> Result<Self, sqlx::Error> {
        let mut connection = MySqlConnection::connect_with(options).await?;
        let rows = sqlx::raw_sql(FIRST).fetch_all(&mut connection).await?;
        let variables = rows
            .iter()
            .map(|row| Ok((text(row, "Variable_name")?, text(row, "Value")?)))
            .collect::<Result<Vec<_>, sqlx::Error>>()?;
        let Introduction { flavour, version, identity } = Introduction::of(&variables);
        let unbound = is_unbound(&mut connection, &variables).await;
        let run = match flavour {
            // Its sessions may outlive a restart ("zero-downtime restart").
            Flavour::Aurora => RUN,
            Flavour::MySql | Flavour::MariaDb => {
                remember_run(&mut connection).await?;
                REMEMBERED
            }
        };
        let (fleet, group, shown) = (Fleet::new(), Group::of(&variables), Shown::new());
        let question = Question::new(flavour, run, true);
        Ok(Link { connection, flavour, version, identity, question, unbound, fleet, group, shown })
    }

    /// One round trip, and one more on a new connection of a role that may not see the details, or
    /// through a proxy that remembers nothing.
    async fn rows(&mut self) -> Result<Vec<MySqlRow>, sqlx::Error> {
        loop {
            let Question { ref sql, run, details } = self.question;
            let asked = sqlx::raw_sql(AssertSqlSafe(Arc::clone(sql)));
            self.question = match asked.fetch_all(&mut self.connection).await {
                Err(error) if details && is_refused(&error) => {
                    Question::new(self.flavour, run, false)
                }
                Ok(rows) if run == REMEMBERED && is_forgotten(&rows) => {
                    Question::new(self.flavour, RUN, details)
                }
                answer => return answer,
            };
        }
    }
}

/// What each probe asks on one connection.
struct Question {
    sql: Arc<str>,
    /// The expression that tells which run this is.
    run: &'static str,
    /// Whether this role may ask for details of replication.
    details: bool,
}

impl Question {
    fn new(flavour: Flavour, run: &'static str, details: bool) -> Self {
        Question { sql: flavour.question(run, details).into(), run, details }
    }
}

/// Has the session remember which run it belongs to, unless a proxy in between refuses that.
async fn remember_run(connection: &mut MySqlConnection) -> Result<(), sqlx::Error> {
    let set = format!("SET {REMEMBERED} = {RUN}");
    match sqlx::raw_sql(AssertSqlSafe(set)).execute(connection).await {
        Ok(_) | Err(sqlx::Error::Database(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

fn is_forgotten(rows: &[MySqlRow]) -> bool {
    let run = rows.first().map(|row| row.try_get_unchecked::<Option<String>, _>("incarnation"));
    matches!(run, Some(Ok(None)))
}

/// In place of a database's name.
const NO_DATABASE: &str = "none (its URL names no database)";

/// Whether the user of `connection` may write where `read_only` is on. A proxy in between may not know
/// the statement.
async fn is_unbound(
    connection: &mut MySqlConnection,
    variables: &[(String, String)],
) -> Option<bool> {
    let version = variables.iter().find(|(name, _)| name.eq_ignore_ascii_case("version"))?;
    let rows = sqlx::raw_sql(unbound::GRANTS).fetch_all(connection).await.ok()?;
    let grants = rows.iter().map(|row| row.try_get_unchecked(0).ok());
    let grants: Vec<String> = grants.collect::<Option<_>>()?;
    Some(!unbound::privileges(grants.iter().map(String::as_str), &version.1).is_empty())
}

/// What a server says of itself once on each connection. Those of another flavour are not
/// there, which is no error.
const FIRST: &str = "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('version', \
     'server_uuid', 'server_id', 'gtid_domain_id', 'aurora_version', 'aurora_server_id', \
     'wsrep_on', 'group_replication_group_name', 'rpl_semi_sync_master_enabled', \
     'rpl_semi_sync_slave_enabled', 'rpl_semi_sync_source_enabled', \
     'rpl_semi_sync_replica_enabled')";

/// The same, understood.
#[derive(Debug)]
struct Introduction {
    flavour: Flavour,
    version: Arc<str>,
    identity: Arc<str>,
}

impl Introduction {
    fn of(variables: &[(String, String)]) -> Self {
        let get = |name: &str| {
            let mut found = variables.iter().filter(|(its, _)| its.eq_ignore_ascii_case(name));
            found.next().map(|(_, value)| value.as_str())
        };
        let or_empty = |name| get(name).unwrap_or_default();
        let flavour = match get("aurora_version") {
            Some(_) => Flavour::Aurora,
            None => Flavour::of_version(or_empty("version")),
        };
        let (version, identity) = match flavour {
            Flavour::MySql => (or_empty("version"), or_empty("server_uuid").to_owned()),
            Flavour::MariaDb => {
                let (server, domain) = (or_empty("server_id"), or_empty("gtid_domain_id"));
                (or_empty("version"), format!("server {server}, domain {domain}"))
            }
            Flavour::Aurora => {
                (or_empty("aurora_version"), or_empty("aurora_server_id").to_owned())
            }
        };
        let version = format!("{} {version}", flavour.name()).into();
        Introduction { flavour, version, identity: identity.into() }
    }
}

impl fmt::Debug for MySqlProbe {
    /// Without the options: they hold the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MySqlProbe")
            .field("connected", &self.is_connected())
            .finish_non_exhaustive()
    }
}

/// Which run of the server `connection` leads to. One round trip.
///
/// # Errors
/// Whatever the server or the connection says.
pub async fn incarnation(connection: &mut MySqlConnection) -> Result<Incarnation, sqlx::Error> {
    let sql = AssertSqlSafe(format!("SELECT {RUN} AS incarnation"));
    let row = sqlx::raw_sql(sql).fetch_one(connection).await?;
    Ok(Incarnation::new(text(&row, "incarnation")?))
}

/// What an unprepared statement returns comes as text, whatever its type is in
/// which version. NULL is no text.
fn text(row: &MySqlRow, column: &str) -> Result<String, sqlx::Error> {
    row.try_get_unchecked(column)
}

/// The database that is in use on the connection. It has no number, and replicas hold it under the
/// same name. A URL may name none: that is another place for names than a database is.
fn database(row: &MySqlRow) -> Option<Arc<Database>> {
    let name: Option<String> = row.try_get_unchecked("used_database").ok()?;
    let name = name.unwrap_or_else(|| NO_DATABASE.to_owned());
    Some(Arc::new(Database { name: name.into(), number: None }))
}

/// What a driver's error says about the endpoint. Messages of the server and of
/// the operating system carry no password.
#[must_use]
pub fn failure(error: &sqlx::Error) -> Failure {
    match error {
        sqlx::Error::Database(answer) => match number(&**answer) {
            Some(number) => server_failure(number, answer.message()),
            None => Failure::Unexpected(answer.message().to_owned()),
        },
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::WorkerCrashed => Failure::Connection(error.to_string()),
        other => Failure::Unexpected(other.to_string()),
    }
}

/// Whether the server does not answer such a statement, as long as the connection lasts: there is no
/// privilege, or a proxy in between takes no such statement, or one at a time.
fn is_refused(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(answer) = error else { return false };
    !number(&**answer).is_some_and(is_passing)
}

/// The server's number of the error.
fn number(answer: &dyn sqlx::error::DatabaseError) -> Option<u16> {
    answer.try_downcast_ref::<MySqlDatabaseError>().map(MySqlDatabaseError::number)
}

/// Errors of one moment: out of memory or of threads, shutting down, lock wait, deadlock, killed, too
/// slow.
fn is_passing(number: u16) -> bool {
    matches!(number, 1037 | 1041 | 1053 | 1135 | 1205 | 1213 | 1317 | 1969 | 3024)
}

/// Error numbers (MySQL error reference; MariaDB shares those named here).
fn server_failure(number: u16, message: &str) -> Failure {
    let message = format!("{message} ({number})");
    match number {
        1049 => Failure::NoDatabase(message),
        // No such way to log in, or none without TLS; access denied to the server, a database or
        // a table; host blocked or not allowed; a privilege is missing; the password has expired;
        // the account is locked.
        1044 | 1045 | 1129 | 1130 | 1142 | 1227 | 1251 | 1698 | 1820 | 1862 | 3118 | 3159
        | 3955 | 4150 | 4151 => Failure::Misconfigured(message),
        // Too many connections, in all or of this user; a node that is not ready; offline mode.
        1040 | 1047 | 1203 | 1226 | 3032 => Failure::Unavailable(message),
        number if is_passing(number) => Failure::Unavailable(message),
        // Killed; gone or lost, as a proxy tells; idle for too long.
        1927 | 2006 | 2013 | 3169 | 4031 => Failure::Connection(message),
        _ => Failure::Unexpected(message),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn a_servers_refusal_is_told_with_its_number() {
        let told = |number| server_failure(number, "no");
        assert_eq!(told(1045), Failure::Misconfigured("no (1045)".into()));
        assert_eq!(told(4151), Failure::Misconfigured("no (4151)".into()));
        assert_eq!(told(1049), Failure::NoDatabase("no (1049)".into()));
        assert_eq!(told(1040), Failure::Unavailable("no (1040)".into()));
        assert_eq!(told(1053), Failure::Unavailable("no (1053)".into()));
        assert_eq!(told(1317), Failure::Unavailable("no (1317)".into()));
        assert_eq!(told(2013), Failure::Connection("no (2013)".into()));
        assert_eq!(told(1064), Failure::Unexpected("no (1064)".into()));
    }

    #[rstest]
    #[case::mysql(
        &[("server_id", "1"), ("server_uuid", "3e11fa47-71ca"), ("version", "9.7.4")],
        Flavour::MySql, "MySQL 9.7.4", "3e11fa47-71ca"
    )]
    #[case::mariadb(
        &[("gtid_domain_id", "0"), ("server_id", "2"), ("server_uuid", "x"), ("version", "11.8.6-MariaDB")],
        Flavour::MariaDb, "MariaDB 11.8.6-MariaDB", "server 2, domain 0"
    )]
    #[case::aurora(
        &[("aurora_server_id", "node1"), ("aurora_version", "3.04.0"), ("version", "8.0.28")],
        Flavour::Aurora, "Aurora MySQL 3.04.0", "node1"
    )]
    fn a_server_introduces_itself(
        #[case] variables: &[(&str, &str)],
        #[case] flavour: Flavour,
        #[case] version: &str,
        #[case] identity: &str,
    ) {
        let owned = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        let known = Introduction::of(&owned.collect::<Vec<_>>());
        assert_eq!(known.flavour, flavour);
        assert_eq!((&*known.version, &*known.identity), (version, identity));
    }

    #[test]
    fn the_debug_form_shows_no_password() {
        let probe = MySqlProbe::new(MySqlConnectOptions::new().password("tide"));
        assert!(!format!("{probe:?}").contains("tide"));
    }
}
