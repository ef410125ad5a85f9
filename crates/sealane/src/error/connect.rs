//! Errors of connecting, and of reading a configuration.

mod text;

use std::{fmt, path::PathBuf, time::Duration};

use sea_orm::{DbErr, RuntimeErr};
use sealane_core::{Endpoint, Failure};

#[cfg(feature = "sqlite")]
pub(crate) use text::looks_like_url;
pub(crate) use text::{is_name, safe};

/// Why [`connect`](crate::connect) or the reading of a configuration failed.
///
/// Its text is one line and contains its causes; its debug form is the same text, for programs that end
/// with it. No password is in either. A field may hold what was configured: print the
/// error, not its fields.
#[non_exhaustive]
pub enum ConnectError {
    /// A URL could not be read.
    InvalidUrl {
        /// The endpoint's name.
        endpoint: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The scheme of a URL is of no known database.
    UnknownScheme {
        /// The endpoint's name.
        endpoint: String,
        /// The scheme found, if it is that of a known product.
        scheme: Option<&'static str>,
    },
    /// The driver of a database was left out at compile time.
    DriverMissing {
        /// The endpoint's name.
        endpoint: String,
        /// The feature to enable in `Cargo.toml`.
        feature: &'static str,
    },
    /// Endpoints of different databases in one configuration.
    MixedEngines {
        /// The endpoint's name.
        endpoint: String,
    },
    /// MySQL and MariaDB in one configuration: they do not replicate to each other
    /// in a way that could be compared.
    MixedFlavours {
        /// The name of an endpoint with MySQL.
        mysql: String,
        /// The name of an endpoint with MariaDB.
        mariadb: String,
    },
    /// Replicas were configured for an SQLite file.
    SqliteReplicas,
    /// A name that would not be one in what people read.
    InvalidName {
        /// The endpoint's place in the configuration; the primary's is 1.
        place: usize,
        /// What should be a name: `name`, `group`, `subscription`.
        what: &'static str,
    },
    /// Two endpoints with one name.
    DuplicateName {
        /// The name.
        name: String,
    },
    /// A group that no statement could ask for.
    InvalidGroup {
        /// The endpoint's name.
        endpoint: String,
    },
    /// The endpoint configured first has a group or a subscription; only replicas have.
    PrimaryApart,
    /// A logical subscriber that statements could reach which do not ask for it.
    UngroupedSubscriber {
        /// The endpoint's name.
        endpoint: String,
    },
    /// A subscription of an engine that has none.
    NoSubscriptions {
        /// The endpoint's name.
        endpoint: String,
    },
    /// A pool without room.
    PoolSize {
        /// The endpoint's name.
        endpoint: String,
        /// Its `min_connections`.
        least: u32,
        /// Its `max_connections`.
        most: u32,
    },
    /// A replica cannot be added to a connection that was made for one server alone, or for one
    /// SQLite file.
    FixedEndpoints,
    /// More endpoints than one topology can hold.
    TooManyEndpoints {
        /// How many were configured.
        count: usize,
    },
    /// The primary did not answer at start.
    PrimaryUnreachable {
        /// Its name.
        endpoint: String,
        /// Where it is.
        address: String,
        /// What happened.
        failure: Failure,
    },
    /// No endpoint accepts writes.
    NoPrimary {
        /// The endpoint configured as the primary.
        endpoint: String,
        /// Where it is.
        address: String,
    },
    /// Two endpoints accept writes on the same timeline.
    PrimaryConflict {
        /// Their names.
        endpoints: String,
    },
    /// The endpoint that takes writes leads to another database than the one configured first.
    OtherDatabase {
        /// The endpoint that accepts writes.
        endpoint: String,
        /// The database that it leads to.
        database: String,
        /// The database of the endpoint configured first.
        ours: String,
    },
    /// Several URLs with one address, of a server which is a primary.
    SamePrimary {
        /// Their names.
        endpoints: String,
    },
    /// A setting is out of its range.
    OutOfRange {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: Duration,
        /// The least that is possible.
        least: Duration,
        /// The most that is possible.
        most: Duration,
    },
    /// A secret for tokens that could be found by trying.
    WeakTokenKey {
        /// Its length.
        bytes: usize,
        /// The least length.
        least: usize,
    },
    /// Fewer replicas can be used than [`Config::require_replicas`](crate::Config::require_replicas)
    /// asks for.
    TooFewReplicas {
        /// How many are required.
        required: usize,
        /// How many can be used.
        found: usize,
        /// What is wrong with the others.
        troubles: String,
    },
    /// Something is wrong with the configuration, or with a server, and
    /// [`Config::strict`](crate::Config::strict) asks for perfection.
    NotAsConfigured {
        /// What is wrong.
        troubles: String,
    },
    /// An environment variable cannot be used.
    Environment {
        /// The variable.
        name: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A configuration file could not be read.
    File {
        /// The file.
        path: PathBuf,
        /// What happened.
        cause: std::io::Error,
    },
    /// A configuration file is not valid.
    Toml {
        /// The file, or `text`.
        path: PathBuf,
        /// What is wrong, and on which line. The line itself is left out: it
        /// may hold a password.
        message: String,
    },
    /// The driver could not open a pool.
    Open {
        /// The endpoint's name.
        endpoint: String,
        /// Where it is.
        address: String,
        /// What the driver said.
        cause: DbErr,
    },
}

impl ConnectError {
    /// Names the endpoint that the driver could not open.
    pub(crate) fn open(endpoint: &Endpoint) -> impl FnOnce(DbErr) -> ConnectError {
        let (endpoint, address) = (endpoint.name().to_owned(), endpoint.address().to_owned());
        move |cause| ConnectError::Open { endpoint, address, cause }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&safe(&text::text(self)))
    }
}

impl fmt::Debug for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for ConnectError {}

impl From<ConnectError> for DbErr {
    /// So that `sealane::connect(..).await?` fits where
    /// `Database::connect(..).await?` stood.
    fn from(error: ConnectError) -> DbErr {
        DbErr::Conn(RuntimeErr::Internal(error.to_string()))
    }
}
