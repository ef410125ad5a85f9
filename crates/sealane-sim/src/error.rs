//! Errors as the driver's are: by these the product decides.

use std::{borrow::Cow, error::Error as StdError, fmt, io};

use sea_orm::{
    ConnAcquireErr, DbErr, RuntimeErr,
    sqlx::{Error, error::DatabaseError, error::ErrorKind},
};

/// Why a server did not do what it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The connection broke.
    Lost,
    /// Nobody listens.
    Refused,
    /// The server says so.
    Code(&'static str),
}

/// What a server says with a code.
#[derive(Debug)]
struct ServerError(&'static str);

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "simulated error {}", self.0)
    }
}

impl StdError for ServerError {}

impl DatabaseError for ServerError {
    fn message(&self) -> &str {
        "simulated"
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(self.0))
    }

    fn as_error(&self) -> &(dyn StdError + Send + Sync + 'static) {
        self
    }

    fn as_error_mut(&mut self) -> &mut (dyn StdError + Send + Sync + 'static) {
        self
    }

    fn into_error(self: Box<Self>) -> Box<dyn StdError + Send + Sync + 'static> {
        self
    }

    fn kind(&self) -> ErrorKind {
        ErrorKind::Other
    }
}

impl Trouble {
    fn driver(self) -> Error {
        match self {
            Trouble::Lost => Error::Io(io::ErrorKind::ConnectionReset.into()),
            Trouble::Refused => Error::Io(io::ErrorKind::ConnectionRefused.into()),
            Trouble::Code(code) => Error::Database(Box::new(ServerError(code))),
        }
    }

    /// Of a statement.
    pub(crate) fn statement(self) -> DbErr {
        DbErr::Query(RuntimeErr::SqlxError(self.driver().into()))
    }

    /// Of a connection that was asked for.
    pub(crate) fn connection(self) -> DbErr {
        DbErr::Conn(RuntimeErr::SqlxError(self.driver().into()))
    }
}

pub(crate) fn timed_out() -> DbErr {
    DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)
}

pub(crate) fn closed() -> DbErr {
    DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed)
}

/// What the server has said.
pub(crate) fn code(error: &DbErr) -> Option<Cow<'_, str>> {
    match error {
        DbErr::Query(RuntimeErr::SqlxError(error)) | DbErr::Exec(RuntimeErr::SqlxError(error)) => {
            match &**error {
                Error::Database(said) => said.code(),
                _ => None,
            }
        }
        _ => None,
    }
}
