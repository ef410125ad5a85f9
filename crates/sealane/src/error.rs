//! Errors that sealane itself gives to a statement, and what a failed statement says about its
//! endpoint.

mod code;

use std::time::Duration;

use sea_orm::{DbErr, RuntimeErr};

pub(crate) use code::{is_end, is_read_only_refusal, with_code};

/// Why a statement failed, where that was not for its server to say.
///
/// SeaORM's methods return a [`DbErr`]; [`Error::of`] finds this in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No endpoint was the primary, or the primary did not answer, for as long as
    /// [`primary_wait`](crate::Config::primary_wait) allows. Nothing was carried out.
    #[error("no endpoint may take this statement: {why}; waited {waited:?} for a primary")]
    NoPrimary {
        /// What was known of the primary.
        why: String,
        /// How long the statement waited.
        waited: Duration,
        /// What the last attempt failed with, if there was one.
        #[source]
        cause: Option<DbErr>,
    },
    /// No replica is fresh enough, and
    /// [`WhenBehind::Fail`](sealane_core::WhenBehind::Fail) keeps the read from the primary.
    #[error(
        "no replica is fresh enough for this read, and it is not to run on the primary (see \
         RoutedConnection::explain)"
    )]
    NoReplica,
    /// A write was sent, and either its answer was lost, or another server had become the primary
    /// by the time of the answer. It may have been carried out, or not, or be lost with the server
    /// that was replaced. It was not tried again.
    #[error("whether this write was carried out is unknown: it was sent to {endpoint}, and {why}")]
    OutcomeUnknown {
        /// Where it was sent.
        endpoint: String,
        /// What happened then.
        why: &'static str,
        /// The driver's error, if there is one.
        #[source]
        cause: Option<DbErr>,
    },
    /// The server of an open transaction was replaced, restarted or does not answer any more.
    /// Nothing of the transaction was committed, so it may be begun anew.
    #[error("the transaction on {endpoint} is lost, and nothing of it was committed: {why}")]
    TransactionLost {
        /// Where it was begun.
        endpoint: String,
        /// What happened.
        why: &'static str,
    },
    /// The server of a stream was replaced, restarted or does not answer any more, and rows were
    /// already given out.
    #[error("the stream of rows from {endpoint} is lost: {why}")]
    StreamLost {
        /// Where it was opened.
        endpoint: String,
        /// What happened.
        why: &'static str,
    },
}

/// A server was replaced while it was waited for.
pub(crate) const REPLACED: &str = "another server took its place, or it was restarted";
/// A server does not answer.
pub(crate) const SILENT: &str = "it does not answer, or was restarted";
/// A connection broke.
pub(crate) const LOST: &str = "the connection was lost before its answer";

impl Error {
    /// What sealane has to say in `error`; `None` if it is the server's or the driver's.
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
    /// As the driver's error of a broken connection, which carries it.
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
    fn others_errors_are_not_ours() {
        let broken = sea_orm::sqlx::Error::Io(std::io::ErrorKind::BrokenPipe.into());
        assert!(Error::of(&DbErr::Conn(RuntimeErr::SqlxError(broken.into()))).is_none());
        assert!(Error::of(&DbErr::Custom("no".to_owned())).is_none());
    }
}
