//! Why a server could not be asked.

use std::io::ErrorKind;

use sealane::Engine;
use sealane_core::printable;

/// Why a server could not be asked, in the server's or the driver's words. They contain no
/// password: drivers quote the user, the database and the address only. Characters that a terminal
/// would obey are escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) kind: TroubleKind,
    pub(crate) text: String,
}

/// What kind of trouble that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TroubleKind {
    /// Nobody answers at the address, or not in time.
    Unreachable,
    /// The server does not accept the user or the password.
    Refused,
    /// TLS could not be agreed on.
    Tls,
    /// The server has no such database, or the user may not use it.
    NoDatabase,
    /// The server has no connection left.
    Full,
    /// The server starts or ends, or said something else.
    Unavailable,
}

impl Trouble {
    /// No answer within the limit.
    pub(crate) fn too_late() -> Self {
        let limit = super::PATIENCE.as_secs();
        Trouble {
            kind: TroubleKind::Unreachable,
            text: format!("no answer within {limit} seconds"),
        }
    }

    pub(crate) fn of(engine: Engine, error: &sqlx::Error) -> Self {
        let text = printable(&error.to_string()).to_string();
        let kind = match error {
            // The TLS library tells in this way that it does not trust a certificate.
            sqlx::Error::Io(error) if error.kind() == ErrorKind::InvalidData => TroubleKind::Tls,
            sqlx::Error::Io(_) => TroubleKind::Unreachable,
            sqlx::Error::Tls(_) => TroubleKind::Tls,
            sqlx::Error::Database(error) => {
                // MySQL's own numbers tell more than its SQLSTATE does.
                let number = error
                    .try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>()
                    .map(|error| error.number().to_string());
                let code = number.or_else(|| error.code().map(|code| code.into_owned()));
                by_code(engine, code.as_deref().unwrap_or_default())
            }
            _ => TroubleKind::Unavailable,
        };
        Trouble { kind, text }
    }
}

/// PostgreSQL: <https://www.postgresql.org/docs/current/errcodes-appendix.html>. MySQL:
/// <https://dev.mysql.com/doc/mysql-errors/9.4/en/server-error-reference.html>.
fn by_code(engine: Engine, code: &str) -> TroubleKind {
    match (engine, code) {
        (Engine::MySql, "1044" | "1049") | (Engine::Postgres, "3D000" | "42501") => {
            TroubleKind::NoDatabase
        }
        (Engine::MySql, "1040" | "1203" | "1226") | (Engine::Postgres, "53300") => {
            TroubleKind::Full
        }
        // 3159: the server or the user demands TLS.
        (Engine::MySql, "3159") => TroubleKind::Tls,
        (Engine::MySql, "1045" | "1130" | "1251" | "1698" | "3118" | "4151") => {
            TroubleKind::Refused
        }
        (Engine::Postgres, code) if code.starts_with("28") => TroubleKind::Refused,
        _ => TroubleKind::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn a_terminal_does_not_obey_a_server() {
        let error = sqlx::Error::Protocol("no\u{1b}[2J".to_owned());
        let Trouble { kind, text } = Trouble::of(Engine::Postgres, &error);
        assert_eq!(kind, TroubleKind::Unavailable);
        assert!(text.ends_with("no\\u{1b}[2J"), "{text}");
    }

    #[rstest]
    #[case::not_trusted(ErrorKind::InvalidData, TroubleKind::Tls)]
    #[case::nobody_listens(ErrorKind::ConnectionRefused, TroubleKind::Unreachable)]
    fn a_certificate_that_is_not_trusted_is_no_dead_server(
        #[case] said: ErrorKind,
        #[case] kind: TroubleKind,
    ) {
        let error = sqlx::Error::Io(std::io::Error::new(said, "said by the driver"));
        assert_eq!(Trouble::of(Engine::MySql, &error).kind, kind);
    }

    #[rstest]
    #[case(Engine::Postgres, "28P01", TroubleKind::Refused)]
    #[case(Engine::Postgres, "28000", TroubleKind::Refused)]
    #[case(Engine::Postgres, "3D000", TroubleKind::NoDatabase)]
    #[case(Engine::Postgres, "53300", TroubleKind::Full)]
    #[case(Engine::Postgres, "57P03", TroubleKind::Unavailable)]
    #[case(Engine::MySql, "1045", TroubleKind::Refused)]
    #[case(Engine::MySql, "1049", TroubleKind::NoDatabase)]
    #[case(Engine::MySql, "1040", TroubleKind::Full)]
    #[case(Engine::MySql, "3159", TroubleKind::Tls)]
    fn a_refusal_is_told_by_its_code(
        #[case] engine: Engine,
        #[case] code: &str,
        #[case] kind: TroubleKind,
    ) {
        assert_eq!(by_code(engine, code), kind);
    }
}
