//! What a failed statement says about its endpoint, in core's terms.

#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
use sea_orm::RuntimeErr;
use sea_orm::{ConnAcquireErr, DbErr};
use sealane_core::ErrorCode;

/// Whether a statement that failed on the primary is over: the server itself reported the error, or
/// there was no connection to send the statement on.
pub(crate) fn is_end(error: &DbErr) -> bool {
    with_code(error, |code| matches!(code, ErrorCode::Server(_) | ErrorCode::PoolExhausted))
}

/// Translates the driver's error into core's terms, for `judge`.
pub(crate) fn with_code<T>(error: &DbErr, judge: impl FnOnce(ErrorCode<'_>) -> T) -> T {
    match error {
        DbErr::ConnectionAcquire(ConnAcquireErr::Timeout | ConnAcquireErr::ConnectionClosed) => {
            judge(ErrorCode::PoolExhausted)
        }
        #[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
        DbErr::Conn(RuntimeErr::SqlxError(error))
        | DbErr::Exec(RuntimeErr::SqlxError(error))
        | DbErr::Query(RuntimeErr::SqlxError(error)) => sqlx_code(error, judge),
        _ => judge(ErrorCode::Other),
    }
}

/// PostgreSQL's driver says this when the server closes the connection instead of answering.
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
const LOST_IN_HANDSHAKE: &str = "unexpected response from SSLRequest";

#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
fn sqlx_code<T>(error: &sea_orm::sqlx::Error, judge: impl FnOnce(ErrorCode<'_>) -> T) -> T {
    use sea_orm::sqlx::Error;
    match error {
        Error::Database(answer) => {
            #[cfg(feature = "mysql")]
            if let Some(answer) =
                answer.try_downcast_ref::<sea_orm::sqlx::mysql::MySqlDatabaseError>()
            {
                return judge(ErrorCode::Server(&answer.number().to_string()));
            }
            match answer.code() {
                Some(code) => judge(ErrorCode::Server(&code)),
                None => judge(ErrorCode::Other),
            }
        }
        Error::Io(_) | Error::Tls(_) | Error::WorkerCrashed => judge(ErrorCode::Connection),
        // Not `Protocol` in general: the driver also uses it for values that it cannot send. But this
        // is a server that ended while a connection was made, or what listened in its place.
        Error::Protocol(text) if text.starts_with(LOST_IN_HANDSHAKE) => {
            judge(ErrorCode::Connection)
        }
        Error::PoolTimedOut => judge(ErrorCode::PoolExhausted),
        _ => judge(ErrorCode::Other),
    }
}

#[cfg(all(test, any(feature = "postgres", feature = "mysql", feature = "sqlite")))]
mod tests {
    use sea_orm::sqlx::Error;

    use super::*;

    #[test]
    fn a_server_that_ends_in_the_handshake_is_a_lost_connection_and_a_bad_value_is_not() {
        let is_lost = |text: &str| {
            let error = DbErr::Conn(RuntimeErr::SqlxError(Error::Protocol(text.to_owned()).into()));
            with_code(&error, |code| code == ErrorCode::Connection)
        };
        assert!(is_lost("unexpected response from SSLRequest: 0x00 (sqlx_postgres)"));
        assert!(!is_lost("value is too large to send"));
    }
}
