//! Errors of connecting, and of reading a configuration.

mod text;

use std::{fmt, path::PathBuf, time::Duration};

use sea_orm::{DbErr, RuntimeErr};
use sealane_core::{Endpoint, Failure, RuleError};

#[cfg(feature = "sqlite")]
pub(crate) use text::looks_like_url;
pub(crate) use text::{is_name, safe};

/// Why [`connect`](crate::connect) failed, or why a configuration could not be read.
///
/// The error's text is one line and includes its causes. Its debug form is the same text, for
/// programs that exit with the error. Neither contains a password. The fields may contain
/// configured values, so print the error and not its fields.
#[non_exhaustive]
pub enum ConnectError {
    /// A URL could not be read.
    InvalidUrl {
        /// The endpoint's name.
        endpoint: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The scheme of a URL belongs to no known database.
    UnknownScheme {
        /// The endpoint's name.
        endpoint: String,
        /// The scheme found, if it belongs to a known product.
        scheme: Option<&'static str>,
    },
    /// The database's driver was left out at compile time.
    DriverMissing {
        /// The endpoint's name.
        endpoint: String,
        /// The feature to enable in `Cargo.toml`.
        feature: &'static str,
    },
    /// One configuration contains endpoints of different databases.
    MixedEngines {
        /// The endpoint's name.
        endpoint: String,
    },
    /// One configuration contains MySQL and MariaDB. They do not replicate to each other in a way
    /// that allows comparing positions.
    MixedFlavours {
        /// The name of an endpoint with MySQL.
        mysql: String,
        /// The name of an endpoint with MariaDB.
        mariadb: String,
    },
    /// Replicas were configured for an SQLite file.
    SqliteReplicas,
    /// [`primary_reads`](crate::Config::primary_reads) was set for an SQLite file.
    SqlitePrimaryReads,
    /// A name that is unsuitable for texts that people read.
    InvalidName {
        /// The endpoint's place in the configuration; the primary's is 1.
        place: usize,
        /// What should be a name: `name`, `group`, `subscription`.
        what: &'static str,
    },
    /// Two endpoints have the same name.
    DuplicateName {
        /// The name.
        name: String,
    },
    /// A group that no statement could ask for, because of its characters.
    InvalidGroup {
        /// The endpoint's name.
        endpoint: String,
    },
    /// The endpoint configured first has a group or a subscription; only replicas may have one.
    PrimaryApart,
    /// A logical subscriber without a group: statements that do not ask for it could reach it.
    UngroupedSubscriber {
        /// The endpoint's name.
        endpoint: String,
    },
    /// A subscription of an engine that has no subscriptions.
    NoSubscriptions {
        /// The endpoint's name.
        endpoint: String,
    },
    /// A pool with impossible sizes.
    PoolSize {
        /// The endpoint's name.
        endpoint: String,
        /// Its `min_connections`.
        least: u32,
        /// Its `max_connections`.
        most: u32,
    },
    /// The connection was made for a single server or for one SQLite file, so no replica can be
    /// added.
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
    /// The only endpoint that accepts writes seems to have been replaced: the replicas follow another
    /// server, to which no endpoint that answers leads; or another endpoint has claimed to be the
    /// primary, and does not answer now.
    PrimaryReplaced {
        /// Its name.
        endpoint: String,
        /// Where it is.
        address: String,
    },
    /// Two endpoints accept writes on the same timeline.
    PrimaryConflict {
        /// Their names.
        endpoints: String,
    },
    /// The endpoint that accepts writes leads to another database than the endpoint configured
    /// first.
    OtherDatabase {
        /// The endpoint that accepts writes.
        endpoint: String,
        /// The database that it leads to.
        database: String,
        /// The database of the endpoint configured first.
        ours: String,
    },
    /// Several URLs have the same address, which is that of a primary.
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
    /// A secret for tokens that is short enough to be guessed.
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
    /// Something is wrong with the configuration or with a server, and
    /// [`Config::strict`](crate::Config::strict) makes this an error.
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
    /// A routing rule cannot be used.
    Rule(RuleError),
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
        /// What is wrong, and on which line. The line itself is left out, because it may contain a
        /// password.
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
    /// Allows `sealane::connect(..).await?` where `Database::connect(..).await?` was used.
    fn from(error: ConnectError) -> DbErr {
        DbErr::Conn(RuntimeErr::Internal(error.to_string()))
    }
}
