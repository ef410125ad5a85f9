//! Errors of connecting, and of reading a configuration.

use std::{env::VarError, path::PathBuf, time::Duration};

use sea_orm::{DbErr, RuntimeErr};
use sealane_core::{ErrorCode, Failure, MAX_ENDPOINTS};

use crate::error::with_code;

/// Why [`connect`](crate::connect) or the reading of a configuration failed.
/// No variant carries a URL or a password. Messages contain their causes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// A URL could not be read.
    #[error("the URL of {endpoint} is not valid: {reason}")]
    InvalidUrl {
        /// The endpoint's name.
        endpoint: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The scheme of a URL is of no known database.
    #[error(
        "the URL of {endpoint} begins with {scheme}:, which is none of postgres:, mysql: (for \
         MariaDB, too), sqlite:"
    )]
    UnknownScheme {
        /// The endpoint's name.
        endpoint: String,
        /// The scheme found.
        scheme: String,
    },
    /// The driver of a database was left out at compile time.
    #[error("{endpoint} needs sealane's feature `{feature}`, which is not enabled")]
    DriverMissing {
        /// The endpoint's name.
        endpoint: String,
        /// The feature to enable in `Cargo.toml`.
        feature: &'static str,
    },
    /// Endpoints of different databases in one configuration.
    #[error("{endpoint} is another kind of database than the primary")]
    MixedEngines {
        /// The endpoint's name.
        endpoint: String,
    },
    /// MySQL and MariaDB in one configuration: they do not replicate to each other
    /// in a way that could be compared.
    #[error(
        "{mysql} runs MySQL and {mariadb} runs MariaDB; their positions do not compare, so all \
         endpoints must run the same"
    )]
    MixedFlavours {
        /// The name of an endpoint with MySQL.
        mysql: String,
        /// The name of an endpoint with MariaDB.
        mariadb: String,
    },
    /// Replicas were configured for an SQLite file.
    #[error(
        "an SQLite file has no replicas: it is split by itself into one writing and several \
         reading connections; configure the file alone"
    )]
    SqliteReplicas,
    /// Two endpoints with one name.
    #[error("two endpoints are called {name}; names tell them apart in plans and status")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// A group that no statement could ask for.
    #[error("{endpoint} is in group `{group}`; the name of a group is letters, digits, - and _")]
    InvalidGroup {
        /// The endpoint's name.
        endpoint: String,
        /// The group's name.
        group: String,
    },
    /// A logical subscriber that statements could reach which do not ask for it.
    #[error(
        "{endpoint} is a logical subscriber and in no group; it lacks what is not published, so it \
         must be in one (`in_group`, or `group` in the file)"
    )]
    UngroupedSubscriber {
        /// The endpoint's name.
        endpoint: String,
    },
    /// A subscription of an engine that has none.
    #[error("{endpoint} has a subscription, and only PostgreSQL has logical subscribers")]
    NoSubscriptions {
        /// The endpoint's name.
        endpoint: String,
    },
    /// A pool without room.
    #[error(
        "{endpoint} has min_connections {least} and max_connections {most}; it needs at least one, and as many as the least"
    )]
    PoolSize {
        /// The endpoint's name.
        endpoint: String,
        /// Its `min_connections`.
        least: u32,
        /// Its `max_connections`.
        most: u32,
    },
    /// More endpoints than one topology can hold.
    #[error("{count} endpoints are configured, {MAX_ENDPOINTS} are possible")]
    TooManyEndpoints {
        /// How many were configured.
        count: usize,
    },
    /// The primary did not answer at start.
    #[error("{endpoint} at {address}, which should take the writes, cannot be used: {failure}")]
    PrimaryUnreachable {
        /// Its name.
        endpoint: String,
        /// Where it is.
        address: String,
        /// What happened.
        failure: Failure,
    },
    /// No endpoint accepts writes.
    #[error(
        "none of the endpoints is a primary: {endpoint} at {address} is a replica; check which URL \
         is which, or whether a promotion is under way"
    )]
    NoPrimary {
        /// The endpoint configured as the primary.
        endpoint: String,
        /// Where it is.
        address: String,
    },
    /// Two endpoints accept writes on the same timeline.
    #[error(
        "more than one endpoint claims to be the primary: {endpoints}; fence one of them off (a \
         replica of MySQL or MariaDB must have read_only on)"
    )]
    PrimaryConflict {
        /// Their names.
        endpoints: String,
    },
    /// The endpoint that takes writes leads to another database than the one configured first.
    #[error(
        "{endpoint} takes writes and leads to the database {database}; the URL configured first leads \
         to {ours} (the database stands at a URL's end)"
    )]
    OtherDatabase {
        /// The endpoint that accepts writes.
        endpoint: String,
        /// The database that it leads to.
        database: String,
        /// The database of the endpoint configured first.
        ours: String,
    },
    /// Several URLs with one address, of a server which is a primary.
    #[error(
        "{endpoints} are one server, which takes writes; give the URL of each server once \
         (without replicas, none but the primary's)"
    )]
    SamePrimary {
        /// Their names.
        endpoints: String,
    },
    /// A setting is out of its range.
    #[error("{name} is {value:?}; it must be between {least:?} and {most:?}")]
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
    #[error(
        "a key for tokens (Config::token_key, or [tokens] keys in a file) has {bytes} bytes; at least {least} are needed, from a random source"
    )]
    WeakTokenKey {
        /// Its length.
        bytes: usize,
        /// The least length.
        least: usize,
    },
    /// An environment variable is missing or not text.
    #[error("{name} is not set in the environment, or not readable: {cause}")]
    Environment {
        /// The variable.
        name: &'static str,
        /// What is wrong with it.
        cause: VarError,
    },
    /// A configuration file could not be read.
    #[error("cannot read {path}: {cause}")]
    File {
        /// The file.
        path: PathBuf,
        /// What happened.
        cause: std::io::Error,
    },
    /// A configuration file is not valid.
    #[error("{path} is not a valid configuration: {message}")]
    Toml {
        /// The file, or `text`.
        path: PathBuf,
        /// What is wrong, and on which line. The line itself is left out: it
        /// may hold a password.
        message: String,
    },
    /// The driver could not open a pool.
    #[error("cannot open {endpoint} at {address}: {cause}{}", open_hint(address, cause))]
    Open {
        /// The endpoint's name.
        endpoint: String,
        /// Where it is.
        address: String,
        /// What the driver said.
        cause: DbErr,
    },
}

impl From<ConnectError> for DbErr {
    /// So that `sealane::connect(..).await?` fits where
    /// `Database::connect(..).await?` stood.
    fn from(error: ConnectError) -> DbErr {
        DbErr::Conn(RuntimeErr::Internal(error.to_string()))
    }
}

/// What to do about the commonest failure of a file.
fn open_hint(address: &str, source: &DbErr) -> &'static str {
    // SQLITE_CANTOPEN.
    let cannot_open = with_code(source, |code| code == ErrorCode::Server("14"));
    match cannot_open && !address.is_empty() {
        true => " (its folder must exist; a URL needs ?mode=rwc to create the file)",
        false => "",
    }
}
