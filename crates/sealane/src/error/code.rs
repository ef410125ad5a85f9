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
        // Not `Protocol`: the driver also uses it for values that it cannot send.
        Error::Io(_) | Error::Tls(_) | Error::WorkerCrashed => judge(ErrorCode::Connection),
        Error::PoolTimedOut => judge(ErrorCode::PoolExhausted),
        _ => judge(ErrorCode::Other),
    }
}
