//! Errors of draining and removing endpoints.

use sea_orm::DbErr;

/// Why an endpoint could not be drained, undrained or removed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// No endpoint has this name.
    #[error("no endpoint has this name (RoutedConnection::status tells all names)")]
    Unknown,
    /// The connection was made for a single server or for one SQLite file.
    #[error(
        "this connection was made for one server alone or for one file, whose endpoints are fixed"
    )]
    Fixed,
    /// No endpoint would be left.
    #[error("the last endpoint cannot be removed")]
    Last,
    /// Somebody else ended the draining.
    #[error("the draining of this endpoint was ended by RoutedConnection::undrain")]
    Undrained,
}

impl From<EndpointError> for DbErr {
    fn from(error: EndpointError) -> DbErr {
        DbErr::Custom(error.to_string())
    }
}
