//! What to do about an error, decided by its code and by where it happened.
//!
//! Never by message text, which changes with the server's language.

use serde::{Deserialize, Serialize};

use crate::Role;

/// The kind of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Engine {
    /// PostgreSQL and what speaks its protocol.
    Postgres,
    /// MySQL and MariaDB.
    MySql,
    /// SQLite.
    Sqlite,
}

/// How a statement failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode<'a> {
    /// The connection could not be made or was lost; the statement may or may
    /// not have run.
    Connection,
    /// No connection of the pool became free in time.
    PoolExhausted,
    /// The server answered with this code: SQLSTATE for PostgreSQL, the error
    /// number for MySQL, the extended result code for SQLite.
    Server(&'a str),
    /// The failure is not the server's: a value that does not fit its type and
    /// the like.
    Other,
}

impl ErrorCode<'_> {
    /// Whether a statement that ended so may have been carried out: the connection was lost, or
    /// something in between says so (a proxy in front of MySQL).
    #[must_use]
    pub fn leaves_unknown(self, engine: Engine) -> bool {
        match (engine, self) {
            (_, ErrorCode::Connection) => true,
            (Engine::MySql, ErrorCode::Server(code)) => matches!(code, "2006" | "2013"),
            (Engine::Postgres, ErrorCode::Server(code)) => {
                code.starts_with("08") && code != "08P01"
            }
            _ => false,
        }
    }

    /// Whether it says that somebody has ended this one connection, or the server is going away:
    /// PostgreSQL's `pg_terminate_backend` and a shutdown give the same code, MariaDB's
    /// `KILL CONNECTION` one of its own. (MySQL gives none.)
    #[must_use]
    pub fn is_termination(self, engine: Engine) -> bool {
        matches!(
            (engine, self),
            (Engine::Postgres, ErrorCode::Server("57P01"))
                | (Engine::MySql, ErrorCode::Server("1927"))
        )
    }
}

/// What becomes of an autocommit read that failed before its first row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Remedy {
    /// The error is the statement's own: the caller gets it.
    ReturnToCaller,
    /// Another endpoint may do better; nothing is wrong with this one.
    TryElsewhere,
    /// Another endpoint may do better; this one gets no more statements until
    /// a probe has answered.
    Suspect,
    /// The primary will do: the replica lacks something that it has.
    AskPrimary,
    /// The statement is a write after all: to the primary, now and for ever.
    LearnWrite,
}

impl Remedy {
    /// The remedy for a read that failed with `code` on an endpoint in `role`.
    #[must_use]
    pub fn for_read(engine: Engine, role: Role, code: ErrorCode<'_>) -> Remedy {
        match (code, role) {
            (ErrorCode::Connection, _) => Remedy::Suspect,
            (ErrorCode::PoolExhausted, _) => Remedy::TryElsewhere,
            (ErrorCode::Other, _) => Remedy::ReturnToCaller,
            (ErrorCode::Server(code), Role::Replica | Role::Unknown) => match engine {
                Engine::Postgres => postgres_replica(code),
                Engine::MySql => mysql_replica(code),
                Engine::Sqlite => sqlite_reader(code),
            },
            (ErrorCode::Server(code), Role::Primary) => {
                if is_shutdown(engine, code) {
                    Remedy::Suspect
                } else {
                    Remedy::ReturnToCaller
                }
            }
        }
    }
}

/// Whether the server says that it is going away or not there yet.
fn is_shutdown(engine: Engine, code: &str) -> bool {
    match engine {
        // Not 08P01, protocol_violation: the server says so of a statement with a value too few.
        Engine::Postgres => {
            (code.starts_with("08") && code != "08P01")
                || matches!(code, "57P01" | "57P02" | "57P03")
        }
        // Shutdown, a Galera node that is not ready, killed, gone (from a proxy), offline
        // mode, disconnected for having been idle.
        Engine::MySql => {
            matches!(code, "1053" | "1047" | "1927" | "2006" | "2013" | "3032" | "4031")
        }
        Engine::Sqlite => false,
    }
}

/// SQLSTATE codes (PostgreSQL manual, appendix A).
fn postgres_replica(code: &str) -> Remedy {
    match code {
        _ if is_shutdown(Engine::Postgres, code) => Remedy::Suspect,
        // read_only_sql_transaction: the statement writes.
        "25006" => Remedy::LearnWrite,
        // Unlogged tables, SERIALIZABLE, functions of the primary "during recovery"; the
        // same codes also mean other things, so nothing is learned from them.
        "0A000" | "55000" | "XX000" => Remedy::AskPrimary,
        // Recovery conflict: replay removed rows or locked a table under the query.
        "40001" | "40P01" => Remedy::TryElsewhere,
        // Undefined table, column, function, object, schema, type: probably not replayed yet.
        "42P01" | "42703" | "42883" | "42704" | "3F000" => Remedy::AskPrimary,
        // Prepared statement gone (a pooler, a failover in between).
        "26000" => Remedy::TryElsewhere,
        // Refused us: a broken configuration of this endpoint, not of the statement.
        "3D000" => Remedy::Suspect,
        _ if code.starts_with("28") => Remedy::Suspect,
        // Insufficient resources (53), system error (58), internal error (XX).
        _ if ["53", "58", "XX"].iter().any(|class| code.starts_with(class)) => Remedy::TryElsewhere,
        _ => Remedy::ReturnToCaller,
    }
}

/// Error numbers (MySQL error reference; MariaDB shares those named here).
fn mysql_replica(code: &str) -> Remedy {
    match code {
        _ if is_shutdown(Engine::MySql, code) => Remedy::Suspect,
        // --read-only, READ ONLY transaction, read-only mode.
        "1290" | "1792" | "1836" => Remedy::LearnWrite,
        // Unknown table, column, function: probably not replayed yet.
        "1146" | "1054" | "1305" => Remedy::AskPrimary,
        // Too many connections.
        "1040" | "1203" => Remedy::TryElsewhere,
        // Access denied, unknown database.
        "1045" | "1044" | "1049" => Remedy::Suspect,
        _ => Remedy::ReturnToCaller,
    }
}

/// Result codes (<https://sqlite.org/rescode.html>).
fn sqlite_reader(code: &str) -> Remedy {
    match code.parse::<u32>().map(|extended| extended & 0xFF) {
        // SQLITE_READONLY: the statement writes.
        Ok(8) => Remedy::LearnWrite,
        // SQLITE_ERROR: among many things, a table that only the writer's connection
        // has (temporary or attached). SQLITE_BUSY, SQLITE_LOCKED, SQLITE_CANTOPEN (the
        // file is not there yet).
        Ok(1 | 5 | 6 | 14) => Remedy::AskPrimary,
        _ => Remedy::ReturnToCaller,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::admin_shutdown(Engine::Postgres, "57P01", Remedy::Suspect)]
    #[case::starting_up(Engine::Postgres, "57P03", Remedy::Suspect)]
    #[case::read_only(Engine::Postgres, "25006", Remedy::LearnWrite)]
    #[case::unlogged(Engine::Postgres, "0A000", Remedy::AskPrimary)]
    #[case::recovery_conflict(Engine::Postgres, "40001", Remedy::TryElsewhere)]
    #[case::table_not_replayed(Engine::Postgres, "42P01", Remedy::AskPrimary)]
    #[case::too_many_connections(Engine::Postgres, "53300", Remedy::TryElsewhere)]
    #[case::password(Engine::Postgres, "28P01", Remedy::Suspect)]
    #[case::canceled(Engine::Postgres, "57014", Remedy::ReturnToCaller)]
    #[case::lost(Engine::Postgres, "08006", Remedy::Suspect)]
    #[case::a_value_too_few(Engine::Postgres, "08P01", Remedy::ReturnToCaller)]
    #[case::division_by_zero(Engine::Postgres, "22012", Remedy::ReturnToCaller)]
    #[case::mysql_read_only(Engine::MySql, "1290", Remedy::LearnWrite)]
    #[case::mysql_lost(Engine::MySql, "2013", Remedy::Suspect)]
    #[case::mysql_read_only_session(Engine::MySql, "1792", Remedy::LearnWrite)]
    #[case::mysql_idle_too_long(Engine::MySql, "4031", Remedy::Suspect)]
    #[case::mysql_table_not_replayed(Engine::MySql, "1146", Remedy::AskPrimary)]
    #[case::mysql_deadlock(Engine::MySql, "1213", Remedy::ReturnToCaller)]
    #[case::sqlite_read_only(Engine::Sqlite, "8", Remedy::LearnWrite)]
    #[case::sqlite_read_only_extended(Engine::Sqlite, "1032", Remedy::LearnWrite)]
    #[case::sqlite_no_such_table(Engine::Sqlite, "1", Remedy::AskPrimary)]
    #[case::sqlite_constraint(Engine::Sqlite, "19", Remedy::ReturnToCaller)]
    fn a_replicas_error_has_its_remedy(
        #[case] engine: Engine,
        #[case] code: &str,
        #[case] remedy: Remedy,
    ) {
        assert_eq!(Remedy::for_read(engine, Role::Replica, ErrorCode::Server(code)), remedy);
    }

    #[rstest]
    #[case::conflict(Engine::Postgres, "40001")]
    #[case::read_only(Engine::Postgres, "25006")]
    #[case::unknown_table(Engine::Postgres, "42P01")]
    fn the_primarys_own_errors_go_to_the_caller(#[case] engine: Engine, #[case] code: &str) {
        let remedy = Remedy::for_read(engine, Role::Primary, ErrorCode::Server(code));
        assert_eq!(remedy, Remedy::ReturnToCaller);
    }
}
