//! Errors that sealane itself returns for a statement, and what a failed statement says about its
//! endpoint.

mod code;
mod connect;
mod endpoint;

use std::time::Duration;

use sea_orm::{DbErr, RuntimeErr};

pub(crate) use code::{is_end, with_code};
pub use connect::ConnectError;
#[cfg(feature = "sqlite")]
pub(crate) use connect::looks_like_url;
pub(crate) use connect::{is_name, safe};
pub use endpoint::EndpointError;

/// Why a statement failed, for errors that come from sealane and not from a server.
///
/// SeaORM's methods return a [`DbErr`]; [`Error::of`] finds this in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// For as long as [`primary_wait`](crate::Config::primary_wait) allows, no endpoint was the
    /// primary, or the primary did not answer. Nothing was executed.
    #[error("no endpoint may take this statement: {why}; waited {waited:?} for a primary")]
    NoPrimary {
        /// What was known about the primary.
        why: String,
        /// How long the statement waited.
        waited: Duration,
        /// The error of the last attempt, if there was one.
        #[source]
        cause: Option<DbErr>,
    },
    /// No replica is fresh enough, and
    /// [`FallbackPolicy::Fail`](sealane_core::FallbackPolicy::Fail) keeps the read from the primary.
    #[error(
        "no replica is fresh enough for this read, and it is not to run on the primary (see \
         RoutedConnection::explain)"
    )]
    NoReplica,
    /// No replica serves this read, and as many such reads run on the primary as
    /// [`fallback_limit`](crate::Config::fallback_limit) allows. Nothing was executed.
    #[error(
        "no replica serves this read, and only {limit} such reads may run on the primary at a time; \
         waited {waited:?}"
    )]
    Shed {
        /// How many may run there.
        limit: usize,
        /// How long the read waited.
        waited: Duration,
    },
    /// The read took longer than [`read_timeout`](crate::Config::read_timeout) allows, on all
    /// endpoints that were tried.
    #[error("the read had no answer after {after:?}, its time limit")]
    ReadTimeout {
        /// The limit.
        after: Duration,
    },
    /// A write was sent, and either its answer was lost, or another server had become the primary
    /// before the answer came. The write may have been executed or not, or it may be lost with the
    /// replaced server. It was not tried again.
    #[error("whether this write was carried out is unknown: it was sent to {endpoint}, and {why}")]
    OutcomeUnknown {
        /// The endpoint that the write was sent to.
        endpoint: String,
        /// What happened afterwards.
        why: &'static str,
        /// The driver's error, if there is one.
        #[source]
        cause: Option<DbErr>,
    },
    /// The server of an open transaction was replaced or restarted, or it no longer answers; or the
    /// driver has ended the transaction by itself. Nothing of the transaction was committed, so the
    /// caller may begin it again.
    #[error("the transaction on {endpoint} is lost, and nothing of it was committed: {why}")]
    TransactionLost {
        /// The endpoint where the transaction began.
        endpoint: String,
        /// What happened.
        why: &'static str,
    },
    /// The server of a stream was replaced or restarted, or it no longer answers, and the caller
    /// has already received rows.
    #[error("the stream of rows from {endpoint} is lost: {why}")]
    StreamLost {
        /// The endpoint where the stream was opened.
        endpoint: String,
        /// What happened.
        why: &'static str,
    },
}

/// A server was replaced while a statement waited for it.
pub(crate) const REPLACED: &str = "another server took its place, or it was restarted";
/// A server does not answer.
pub(crate) const SILENT: &str = "it does not answer, or was restarted";
/// A connection broke.
pub(crate) const LOST: &str = "the connection was lost before its answer";

impl Error {
    /// The error of sealane inside `error`; `None` if the error comes from the server or the
    /// driver.
    #[must_use]
    pub fn of(error: &DbErr) -> Option<&Error> {
        match error {
            #[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
            DbErr::Conn(RuntimeErr::SqlxError(error)) => match &**error {
                sea_orm::sqlx::Error::Io(error) => error.get_ref()?.downcast_ref(),
                _ => None,
            },
            _ => None,
        }
    }
}

impl From<Error> for DbErr {
    /// Wraps the error in the driver's error for a broken connection.
    fn from(error: Error) -> DbErr {
        #[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
        {
            let error = sea_orm::sqlx::Error::Io(std::io::Error::other(error));
            DbErr::Conn(RuntimeErr::SqlxError(error.into()))
        }
        #[cfg(not(any(feature = "postgres", feature = "mysql", feature = "sqlite")))]
        DbErr::Conn(RuntimeErr::Internal(error.to_string()))
    }
}

#[cfg(all(test, any(feature = "postgres", feature = "mysql", feature = "sqlite")))]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn an_error_of_ours_is_found_in_seaorms_with_its_source() {
        let cause = Some(DbErr::Custom("reset by peer".to_owned()));
        let ours = Error::OutcomeUnknown { endpoint: "db-1".to_owned(), why: LOST, cause };
        let error = DbErr::from(ours);
        let found = Error::of(&error).unwrap();
        assert!(matches!(found, Error::OutcomeUnknown { endpoint, .. } if endpoint == "db-1"));
        assert!(found.source().unwrap().to_string().contains("reset by peer"));
        assert!(error.to_string().contains("it was sent to db-1"), "{error}");
    }

    #[test]
    fn errors_of_others_are_not_ours() {
        let broken = sea_orm::sqlx::Error::Io(std::io::ErrorKind::BrokenPipe.into());
        assert!(Error::of(&DbErr::Conn(RuntimeErr::SqlxError(broken.into()))).is_none());
        assert!(Error::of(&DbErr::Custom("no".to_owned())).is_none());
    }
}
