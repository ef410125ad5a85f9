//! Decides what to do about an error, by its code and by the role of the endpoint.
//!
//! The message text never decides, because it changes with the server's language.

mod mysql;

use serde::{Deserialize, Serialize};

use crate::Role;

/// The kind of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Engine {
    /// PostgreSQL and servers that speak its protocol.
    Postgres,
    /// MySQL and MariaDB.
    MySql,
    /// SQLite.
    Sqlite,
}

/// How a statement failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode<'a> {
    /// The connection could not be made or was lost. The statement may or may not have run.
    Connection,
    /// No connection of the pool became free in time.
    PoolExhausted,
    /// The server answered with this code: SQLSTATE for PostgreSQL, the error
    /// number for MySQL, the extended result code for SQLite.
    Server(&'a str),
    /// The failure does not come from the server: for example a value that does not fit its type.
    Other,
}

impl ErrorCode<'_> {
    /// Whether a statement with this error may have been executed. It may if the connection was
    /// lost, if a proxy in front of MySQL reports a lost connection, or if the server ended the
    /// connection or shut down while the statement ran.
    #[must_use]
    pub fn leaves_unknown(self, engine: Engine) -> bool {
        match (engine, self) {
            (_, ErrorCode::Connection) => true,
            (Engine::MySql, ErrorCode::Server(code)) => mysql::leaves_unknown(code),
            (Engine::Postgres, ErrorCode::Server(code)) => {
                code.starts_with("08") && code != "08P01"
            }
            _ => false,
        }
    }

    /// Whether the code means that somebody terminated this connection, or that the server is
    /// shutting down. PostgreSQL uses one code for `pg_terminate_backend` and for a shutdown.
    /// MariaDB has a separate code for `KILL CONNECTION`. MySQL sends no code.
    #[must_use]
    pub fn is_termination(self, engine: Engine) -> bool {
        matches!(
            (engine, self),
            (Engine::Postgres, ErrorCode::Server("57P01"))
                | (Engine::MySql, ErrorCode::Server("1927" | "3169"))
        )
    }

    /// Whether a primary refused the statement because the primary takes no writes.
    #[must_use]
    pub fn is_read_only_refusal(self, engine: Engine) -> bool {
        matches!(
            (engine, self),
            (Engine::Postgres, ErrorCode::Server("25006"))
                | (Engine::MySql, ErrorCode::Server("1290" | "1836"))
        )
    }

    /// Whether the error shows nothing wrong with the server, although another endpoint may serve the
    /// statement: our own pool is full, the statement conflicts with what is being applied, or its
    /// connection had been given up.
    #[must_use]
    pub fn is_incidental(self, engine: Engine) -> bool {
        matches!(
            (engine, self),
            (_, ErrorCode::PoolExhausted)
                | (Engine::Postgres, ErrorCode::Server("40001" | "40P01" | "26000"))
                | (Engine::MySql, ErrorCode::Server("1205" | "1213" | "1243"))
        )
    }

    /// The condition of the server that the error shows, in words. `None` if the statement is at
    /// fault, or if sealane has no descriptions for the errors of this engine.
    #[must_use]
    pub fn condition(self, engine: Engine) -> Option<&'static str> {
        match (engine, self) {
            (_, ErrorCode::PoolExhausted) => Some("no connection became free in time"),
            (Engine::MySql, ErrorCode::Server(code)) => mysql::condition(code),
            _ => None,
        }
    }
}

/// What to do with an autocommit read that failed before its first row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RetryDecision {
    /// The statement itself is wrong: the caller gets the error.
    ReturnToCaller,
    /// Another endpoint may succeed; nothing is wrong with this one.
    TryElsewhere,
    /// Another endpoint may succeed. This one gets no more statements until it has answered a
    /// probe.
    Suspect,
    /// Another connection may do better; nothing is wrong with the server.
    Reconnect,
    /// Another connection will do: this one had ended before the statement arrived. The error says
    /// nothing about the statement or the server.
    Renew,
    /// The read runs on the primary: the replica lacks something that the primary has.
    AskPrimary,
    /// The statement is a write after all: it runs on the primary, now and in the future.
    LearnWrite,
}

impl RetryDecision {
    /// The decision for an endpoint in `role` where opening a connection or beginning a transaction
    /// failed. No statement was sent yet, so a refusal concerns the server, not a statement.
    #[must_use]
    pub fn for_opening(engine: Engine, role: Role, code: ErrorCode<'_>) -> RetryDecision {
        match (engine, code) {
            (Engine::MySql, ErrorCode::Server(code)) => mysql::for_opening(role, code),
            _ => RetryDecision::for_read(engine, role, code),
        }
    }

    /// The decision for a read that failed with `code` on an endpoint in `role`.
    #[must_use]
    pub fn for_read(engine: Engine, role: Role, code: ErrorCode<'_>) -> RetryDecision {
        match (code, role) {
            (ErrorCode::Connection, _) => RetryDecision::Suspect,
            (ErrorCode::PoolExhausted, _) => RetryDecision::TryElsewhere,
            (ErrorCode::Other, _) => RetryDecision::ReturnToCaller,
            (ErrorCode::Server(code), role) => match (engine, role) {
                (Engine::MySql, _) => mysql::for_statement(role, code),
                (Engine::Postgres, Role::Primary) if is_postgres_shutdown(code) => {
                    RetryDecision::Suspect
                }
                (_, Role::Primary) => RetryDecision::ReturnToCaller,
                (Engine::Postgres, _) => postgres_replica(code),
                (Engine::Sqlite, _) => sqlite_reader(code),
            },
        }
    }
}

/// Whether the code means that the server is shutting down or still starting. 08P01
/// (protocol_violation) is excluded: the server also sends it for a statement with a missing value.
fn is_postgres_shutdown(code: &str) -> bool {
    (code.starts_with("08") && code != "08P01") || matches!(code, "57P01" | "57P02" | "57P03")
}

/// SQLSTATE codes (PostgreSQL manual, appendix A).
fn postgres_replica(code: &str) -> RetryDecision {
    match code {
        _ if is_postgres_shutdown(code) => RetryDecision::Suspect,
        // read_only_sql_transaction: the statement writes.
        "25006" => RetryDecision::LearnWrite,
        // Unlogged tables, SERIALIZABLE, functions that do not work "during recovery". These codes
        // also have other meanings, so nothing is learned from them.
        "0A000" | "55000" | "XX000" => RetryDecision::AskPrimary,
        // Recovery conflict: replay removed rows or locked a table under the query.
        "40001" | "40P01" => RetryDecision::TryElsewhere,
        // Undefined table, column, function, object, schema, type: probably not replayed yet.
        "42P01" | "42703" | "42883" | "42704" | "3F000" => RetryDecision::AskPrimary,
        // Prepared statement gone (a pooler, a failover in between).
        "26000" => RetryDecision::TryElsewhere,
        // The server refuses the connection: the endpoint's configuration is wrong, not the
        // statement.
        "3D000" => RetryDecision::Suspect,
        _ if code.starts_with("28") => RetryDecision::Suspect,
        // Insufficient resources (53), system error (58), internal error (XX).
        _ if ["53", "58", "XX"].iter().any(|class| code.starts_with(class)) => {
            RetryDecision::TryElsewhere
        }
        _ => RetryDecision::ReturnToCaller,
    }
}

/// Result codes (<https://sqlite.org/rescode.html>). Readers see the same schema as the writer, so
/// an error in a statement is the same on both.
fn sqlite_reader(code: &str) -> RetryDecision {
    let Ok(extended) = code.parse::<u32>() else { return RetryDecision::ReturnToCaller };
    match (extended, extended & 0xFF) {
        // SQLITE_READONLY itself: the statement writes.
        (8, _) => RetryDecision::LearnWrite,
        // 8: extended codes of SQLITE_READONLY. The reader cannot recover the log, cannot open its
        // index, or the file has moved. 5, 6, 14: SQLITE_BUSY, SQLITE_LOCKED, SQLITE_CANTOPEN.
        (_, 5 | 6 | 8 | 14) => RetryDecision::AskPrimary,
        _ => RetryDecision::ReturnToCaller,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::lost(Engine::MySql, ErrorCode::Server("2013"), true)]
    #[case::rolled_back(Engine::MySql, ErrorCode::Server("1213"), false)]
    #[case::lost_on_postgres(Engine::Postgres, ErrorCode::Server("08006"), true)]
    #[case::a_value_too_few(Engine::Postgres, ErrorCode::Server("08P01"), false)]
    #[case::broken(Engine::Sqlite, ErrorCode::Connection, true)]
    #[case::never_sent(Engine::MySql, ErrorCode::PoolExhausted, false)]
    fn an_error_says_whether_the_statement_may_have_been_carried_out(
        #[case] engine: Engine,
        #[case] code: ErrorCode<'_>,
        #[case] expected: bool,
    ) {
        assert_eq!(code.leaves_unknown(engine), expected);
    }

    #[test]
    fn a_code_is_described_where_we_know_it() {
        let told = |engine, code: ErrorCode<'_>| code.condition(engine);
        let full = Some("no connection became free in time");
        assert_eq!(told(Engine::Postgres, ErrorCode::PoolExhausted), full);
        assert!(told(Engine::MySql, ErrorCode::Server("1040")).is_some());
        assert_eq!(told(Engine::Postgres, ErrorCode::Server("53300")), None);
    }

    #[rstest]
    #[case::admin_shutdown(Engine::Postgres, "57P01", RetryDecision::Suspect)]
    #[case::starting_up(Engine::Postgres, "57P03", RetryDecision::Suspect)]
    #[case::read_only(Engine::Postgres, "25006", RetryDecision::LearnWrite)]
    #[case::unlogged(Engine::Postgres, "0A000", RetryDecision::AskPrimary)]
    #[case::recovery_conflict(Engine::Postgres, "40001", RetryDecision::TryElsewhere)]
    #[case::table_not_replayed(Engine::Postgres, "42P01", RetryDecision::AskPrimary)]
    #[case::too_many_connections(Engine::Postgres, "53300", RetryDecision::TryElsewhere)]
    #[case::password(Engine::Postgres, "28P01", RetryDecision::Suspect)]
    #[case::canceled(Engine::Postgres, "57014", RetryDecision::ReturnToCaller)]
    #[case::lost(Engine::Postgres, "08006", RetryDecision::Suspect)]
    #[case::a_value_too_few(Engine::Postgres, "08P01", RetryDecision::ReturnToCaller)]
    #[case::division_by_zero(Engine::Postgres, "22012", RetryDecision::ReturnToCaller)]
    #[case::mysql_read_only(Engine::MySql, "1290", RetryDecision::LearnWrite)]
    #[case::mysql_lost(Engine::MySql, "2013", RetryDecision::Suspect)]
    #[case::mysql_read_only_session(Engine::MySql, "1792", RetryDecision::LearnWrite)]
    #[case::mysql_idle_too_long(Engine::MySql, "4031", RetryDecision::Renew)]
    #[case::mysql_table_not_replayed(Engine::MySql, "1146", RetryDecision::AskPrimary)]
    #[case::mysql_deadlock(Engine::MySql, "1213", RetryDecision::TryElsewhere)]
    #[case::sqlite_read_only(Engine::Sqlite, "8", RetryDecision::LearnWrite)]
    #[case::sqlite_needs_recovery(Engine::Sqlite, "264", RetryDecision::AskPrimary)]
    #[case::sqlite_cannot_lock(Engine::Sqlite, "520", RetryDecision::AskPrimary)]
    #[case::sqlite_moved(Engine::Sqlite, "1032", RetryDecision::AskPrimary)]
    #[case::sqlite_no_index_of_the_log(Engine::Sqlite, "1288", RetryDecision::AskPrimary)]
    #[case::sqlite_locked_table(Engine::Sqlite, "262", RetryDecision::AskPrimary)]
    #[case::sqlite_no_such_table(Engine::Sqlite, "1", RetryDecision::ReturnToCaller)]
    #[case::sqlite_constraint(Engine::Sqlite, "19", RetryDecision::ReturnToCaller)]
    fn a_replicas_error_has_its_retry_decision(
        #[case] engine: Engine,
        #[case] code: &str,
        #[case] decision: RetryDecision,
    ) {
        assert_eq!(
            RetryDecision::for_read(engine, Role::Replica, ErrorCode::Server(code)),
            decision
        );
    }

    #[rstest]
    #[case::conflict(Engine::Postgres, "40001")]
    #[case::read_only(Engine::Postgres, "25006")]
    #[case::unknown_table(Engine::Postgres, "42P01")]
    fn the_primarys_own_errors_go_to_the_caller(#[case] engine: Engine, #[case] code: &str) {
        let decision = RetryDecision::for_read(engine, Role::Primary, ErrorCode::Server(code));
        assert_eq!(decision, RetryDecision::ReturnToCaller);
    }

    #[rstest]
    #[case::it_was_lost(ErrorCode::Connection, true)]
    #[case::the_server_says_so(ErrorCode::Server("08006"), true)]
    #[case::a_value_too_few(ErrorCode::Server("08P01"), false)]
    #[case::a_duplicate(ErrorCode::Server("23505"), false)]
    #[case::none_was_free(ErrorCode::PoolExhausted, false)]
    #[case::a_value_that_does_not_fit(ErrorCode::Other, false)]
    fn a_statement_may_have_run_if_its_connection_was_lost(
        #[case] code: ErrorCode<'static>,
        #[case] is_unknown: bool,
    ) {
        assert_eq!(code.leaves_unknown(Engine::Postgres), is_unknown);
        for engine in [Engine::MySql, Engine::Sqlite] {
            assert_eq!(code.leaves_unknown(engine), code == ErrorCode::Connection);
        }
    }
}
