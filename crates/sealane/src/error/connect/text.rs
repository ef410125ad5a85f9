//! The only place where errors of a configuration become text.
//!
//! Every configured value may be a URL with a password: put in the wrong place or cut in the wrong
//! place, as a name, a key in a file, or the path of a file. So most values are never quoted, and
//! the quoted ones pass through [`safe`].

use std::path::Path;

use sea_orm::DbErr;
use sealane_core::{ErrorCode, MAX_ENDPOINTS, printable};

use super::ConnectError;
use crate::error::with_code;

/// The text of `error`, in one line.
pub(super) fn text(error: &ConnectError) -> String {
    use ConnectError as E;
    match error {
        E::InvalidUrl { endpoint, reason } => {
            format!("the URL of {endpoint} is not valid: {reason}")
        }
        E::UnknownScheme { endpoint, scheme } => unknown_scheme(endpoint, *scheme),
        E::DriverMissing { endpoint, feature } => {
            format!("{endpoint} needs sealane's feature `{feature}`, which is not enabled")
        }
        E::MixedEngines { endpoint } => {
            format!("{endpoint} is another kind of database than the primary")
        }
        E::MixedFlavours { mysql, mariadb } => format!(
            "{mysql} runs MySQL and {mariadb} runs MariaDB; their positions do not compare, so all \
             endpoints must run the same"
        ),
        E::SqlitePrimaryReads => {
            "primary_reads does not apply to an SQLite file: its readers and its \
                                  writer are one server, and the writer is left to writes"
                .to_owned()
        }
        E::SqliteReplicas => "an SQLite file has no replicas: it is split by itself into one \
                              writing and several reading connections; configure the file alone"
            .to_owned(),
        E::InvalidName { place, what } => format!(
            "the {what} of the endpoint at place {place} of the configuration is not one: it is \
             empty, is longer than 100 characters, holds control characters, or is a URL"
        ),
        E::DuplicateName { name } => {
            format!("two endpoints are called {name}; names tell them apart in plans and status")
        }
        E::InvalidGroup { endpoint } => format!(
            "{endpoint} is in a group whose name is not one: letters, digits, - and _ are possible"
        ),
        E::PrimaryApart => "the endpoint configured first has a group or a subscription; only \
                            replicas have"
            .to_owned(),
        E::UngroupedSubscriber { endpoint } => format!(
            "{endpoint} is a logical subscriber and in no group; it lacks what is not published, so \
             it must be in one (`Replica::group`, or `group` in the file)"
        ),
        E::NoSubscriptions { endpoint } => {
            format!("{endpoint} has a subscription, and only PostgreSQL has logical subscribers")
        }
        E::PoolSize { endpoint, least, most } => format!(
            "{endpoint} has min_connections {least} and max_connections {most}; it needs at least \
             one, as many as the least, and no more than a server can have"
        ),
        E::TooManyEndpoints { count } => {
            format!("{count} endpoints are configured, {MAX_ENDPOINTS} are possible")
        }
        E::FixedEndpoints => "a replica cannot be added to a connection that was made for one \
                              server alone or for one file; connect with a replica in the \
                              configuration, which may be down"
            .to_owned(),
        E::OutOfRange { name, value, least, most } => {
            format!("{name} is {value:?}; it must be between {least:?} and {most:?}")
        }
        E::WeakTokenKey { bytes, least } => format!(
            "a key for tokens (Config::token_key, DATABASE_TOKEN_KEY, or [tokens] keys in a file) has \
             {bytes} bytes; at least {least} are needed, from a random source"
        ),
        E::Environment { name, reason } => format!("{name} {reason}"),
        E::Rule(error) => error.to_string(),
        E::File { path, cause } => format!("cannot read {}: {cause}", shown(path)),
        E::Toml { path, message } => {
            format!("{} is not a valid configuration: {message}", shown(path))
        }
        of_servers => text_of_servers(of_servers),
    }
}

fn unknown_scheme(endpoint: &str, scheme: Option<&str>) -> String {
    let begins = match scheme {
        Some(scheme) => format!("begins with {scheme}:, which is none"),
        None => "begins with none".to_owned(),
    };
    format!("the URL of {endpoint} {begins} of postgres:, mysql: (for MariaDB, too), sqlite:")
}

/// The texts about what servers answered, or that they did not answer.
fn text_of_servers(error: &ConnectError) -> String {
    use ConnectError as E;
    match error {
        E::PrimaryUnreachable { endpoint, address, failure } => format!(
            "{}, which should take the writes, cannot be used: {failure}",
            located(endpoint, address)
        ),
        E::NoPrimary { endpoint, address } => format!(
            "none of the endpoints is a primary: {} is a replica; check which URL is which, or whether \
             a promotion is under way",
            located(endpoint, address)
        ),
        E::PrimaryReplaced { endpoint, address } => format!(
            "{} takes writes, but seems to have been replaced: replicas have what came after it, or \
             another endpoint has claimed to be the primary as well; fence off the one that is not, and \
             see that the other one's URL is reachable (a server between the primary and a replica must \
             be configured, too)",
            located(endpoint, address)
        ),
        E::PrimaryConflict { endpoints } => format!(
            "more than one endpoint claims to be the primary: {endpoints}; fence one of them off (a \
             replica of MySQL or MariaDB must have read_only on)"
        ),
        E::OtherDatabase { endpoint, database, ours } => format!(
            "{endpoint} takes writes and leads to the database {database}; the URL configured first \
             leads to {ours} (the database stands at a URL's end)"
        ),
        E::SamePrimary { endpoints } => format!(
            "{endpoints} are one server, which takes writes; give the URL of each server once \
             (without replicas, none but the primary's)"
        ),
        E::TooFewReplicas { required, found, troubles } => {
            let because = if troubles.is_empty() { "" } else { ": " };
            format!("{required} replicas are required and {found} can be used{because}{troubles}")
        }
        E::NotAsConfigured { troubles } => {
            format!("not all is as it was configured, and `strict` was asked for: {troubles}")
        }
        E::Open { endpoint, address, cause } => {
            let place = located(endpoint, address);
            format!("cannot open {place}: {}{}", said(cause), hint(address, cause))
        }
        // All other variants are handled above.
        _ => "the configuration is not valid".to_owned(),
    }
}

/// The driver's text. For options that the driver does not understand, it would quote the values.
fn said(cause: &DbErr) -> String {
    #[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
    if let DbErr::Conn(sea_orm::RuntimeErr::SqlxError(error)) = cause
        && let sea_orm::sqlx::Error::Configuration(_) = &**error
    {
        return "the driver does not understand an option of its URL (behind the `?`)".to_owned();
    }
    cause.to_string()
}

/// Advice for the most common failure of a file.
fn hint(address: &str, cause: &DbErr) -> &'static str {
    // SQLITE_CANTOPEN.
    let cannot_open = with_code(cause, |code| code == ErrorCode::Server("14"));
    match cannot_open && !address.is_empty() {
        true => " (its folder must exist; a URL needs ?mode=rwc to create the file)",
        false => "",
    }
}

/// Hides a path that may be a misplaced URL.
fn shown(path: &Path) -> String {
    let path = path.to_string_lossy();
    if looks_like_url(&path) { "a path that is a URL".to_owned() } else { path.into_owned() }
}

/// Whether the text may contain a password.
pub(crate) fn looks_like_url(text: &str) -> bool {
    let has_scheme = ["postgres", "mysql", "mariadb"].iter().any(|it| text.contains(it));
    text.contains("://") || (text.contains('@') && (text.contains(':') || has_scheme))
}

/// An endpoint's name with its address; the name may be the address itself.
pub(crate) fn located(endpoint: &str, address: &str) -> String {
    match address.starts_with(endpoint) {
        true => address.to_owned(),
        false => format!("{endpoint} at {address}"),
    }
}

/// Whether people can read the text and it need not be hidden from them.
pub(crate) fn is_name(name: &str) -> bool {
    let length = name.chars().count();
    (1..=LONGEST_NAME).contains(&length)
        && printable(name).to_string() == name
        && !looks_like_url(name)
}

/// Longer than any name in use.
const LONGEST_NAME: usize = 100;

/// `text` without the passwords of URLs and without terminal control characters. This is the last
/// resort: the text should contain neither.
pub(crate) fn safe(text: &str) -> String {
    let mut rest = text;
    let mut safe = String::with_capacity(text.len());
    while let Some(at) = rest.find("://") {
        let (before, url) = rest.split_at(at + "://".len());
        safe.push_str(before);
        // Up to the last `@`, because a password may contain another one.
        rest = url.rfind('@').map_or(url, |at| &url[at..]);
        if rest.len() < url.len() {
            safe.push('…');
        }
    }
    safe.push_str(rest);
    printable(&safe).to_string()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("no URL at all: a@b", "no URL at all: a@b")]
    #[case("postgres://app:tide@db-1/shop", "postgres://…@db-1/shop")]
    #[case("postgres://app:ti@de@db-1/shop", "postgres://…@db-1/shop")]
    #[case("at postgres://db-1/shop, now", "at postgres://db-1/shop, now")]
    #[case("a://x:tide@y; b://x:ebb@z", "a://…@z")]
    #[case("\u{1b}[2J", "\\u{1b}[2J")]
    fn no_password_of_a_url_gets_through(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(safe(text), expected);
    }
}
