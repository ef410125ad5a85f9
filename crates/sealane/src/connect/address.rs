//! What a URL says about its endpoint: the engine, and the address without credentials.

use percent_encoding::percent_decode_str;
#[cfg(any(feature = "mysql", feature = "postgres"))]
use sealane_core::Endpoint;
use sealane_core::Engine;
use url::Url;

#[cfg(feature = "sqlite")]
use crate::error::looks_like_url;
#[cfg(any(feature = "mysql", feature = "postgres"))]
use crate::{Config, error::is_name};
use crate::{ConnectError, config::Replica};

/// Schemes that may be quoted: those of products that somebody may expect to be supported. Anything
/// else before the first colon may be a user name or a password.
const KNOWN_SCHEMES: &[&str] = &[
    "mariadb",
    "mssql",
    "sqlserver",
    "oracle",
    "mongodb",
    "redis",
    "cockroachdb",
    "libsql",
    "http",
    "https",
    "file",
    "jdbc",
];

/// The engine that a URL names, and its address without credentials.
///
/// # Errors
/// The URL is not one of ours, or some part of it cannot be intended. The error contains none of
/// its text.
pub(super) fn read(endpoint: &Replica) -> Result<(Engine, String), ConnectError> {
    let name = || endpoint.name.clone();
    let text = endpoint.options.get_url();
    let invalid =
        |reason: &str| ConnectError::InvalidUrl { endpoint: name(), reason: reason.to_owned() };
    if text.trim().is_empty() {
        return Err(invalid("it is empty"));
    }
    if text.contains("${") || text.contains("{{") {
        return Err(invalid("it holds a variable in braces, which nobody has expanded"));
    }
    // A path is not a URL: it may contain blanks, colons and brackets.
    #[cfg(feature = "sqlite")]
    if text.starts_with("sqlite:") {
        let path = crate::pool::sqlite::shown(text);
        // In a URL with another scheme, a question mark in the password would end the path too
        // early.
        let whole = text.trim_start_matches("sqlite:").trim_start_matches("//");
        let is_url = looks_like_url(&path) || looks_like_url(whole);
        let path = if is_url { "a path that is a URL".to_owned() } else { path };
        return Ok((Engine::Sqlite, path));
    }
    let url = Url::parse(text).map_err(|error| match error {
        url::ParseError::RelativeUrlWithoutBase => {
            invalid("it must begin with postgres:, mysql: or sqlite:")
        }
        error => invalid(&format!("{error} ({ENCODING})")),
    })?;
    let (engine, feature, enabled, port) = match url.scheme() {
        "postgres" | "postgresql" => {
            (Engine::Postgres, "postgres", cfg!(feature = "postgres"), 5432)
        }
        "mysql" => (Engine::MySql, "mysql", cfg!(feature = "mysql"), 3306),
        "sqlite" => (Engine::Sqlite, "sqlite", cfg!(feature = "sqlite"), 0),
        scheme => {
            let scheme = KNOWN_SCHEMES.iter().copied().find(|known| *known == scheme);
            return Err(ConnectError::UnknownScheme { endpoint: name(), scheme });
        }
    };
    if !enabled {
        return Err(ConnectError::DriverMissing { endpoint: name(), feature });
    }
    match oddity(&url) {
        Some(reason) => Err(invalid(reason)),
        None => Ok((engine, of_server(&url, port))),
    }
}

const ENCODING: &str = "in a password, characters such as # / ? @ must be percent-encoded";

/// Signs that a URL was not split where its author intended. What follows the host may then be part
/// of a password, and servers would show it as the name of a database.
fn oddity(url: &Url) -> Option<&'static str> {
    let (path, query) = (url.path(), url.query().unwrap_or_default());
    let fragment = url.fragment().unwrap_or_default();
    let behind = [path, query, fragment];
    if behind.iter().any(|part| part.contains("://")) {
        return Some(
            "it holds more than one URL; give each by itself (in DATABASE_REPLICA_URLS separated by \
             commas, semicolons or white space)",
        );
    }
    if behind.iter().any(|part| part.contains('@')) {
        return Some(
            "it has an @ behind its host: in a password, characters such as # / ? @ must be \
             percent-encoded, and in a name @ as %40",
        );
    }
    // The parser has already encoded white space and control characters.
    if [",", ";", "%20", "%09", "%0A", "%0D"].iter().any(|it| path.contains(it)) {
        return Some("the name of its database holds a comma, a semicolon or white space");
    }
    if url.host_str().is_some_and(|host| host.contains([',', ';'])) {
        return Some("it names several hosts; give a URL for each");
    }
    let is_secret = |key: &str| ["pass", "pwd", "secret"].iter().any(|it| key.contains(it));
    let is_known = |key: &str| key == "password" && url.scheme() != "mysql";
    let mut keys = url.query_pairs().map(|(key, _)| key);
    if keys.any(|key| is_secret(&key.to_ascii_lowercase()) && !is_known(&key)) {
        return Some(
            "it has an option that looks like a password and that the driver does not know; it \
             would be logged",
        );
    }
    None
}

/// The address of a socket is its path, whether the path is in place of the host or after the `?`.
fn of_server(url: &Url, port: u16) -> String {
    let option = |name: &str| {
        let found = url.query_pairs().filter(|(key, value)| key == name && !value.is_empty());
        found.last().map(|(_, value)| value.into_owned())
    };
    let host = url.host_str().filter(|host| !host.is_empty());
    let host = host.map(|host| percent_decode_str(host).decode_utf8_lossy().into_owned());
    // As in the drivers: PostgreSQL's uses the last one, MySQL's the socket.
    let (named, socket) = match url.scheme() {
        "mysql" => (None, option("socket")),
        _ => (option("hostaddr").or_else(|| option("host")), None),
    };
    let host = socket.or(named).or(host).unwrap_or_else(|| "localhost".to_owned());
    if host.starts_with('/') {
        return host;
    }
    let given = option("port").filter(|_| url.scheme() != "mysql").and_then(|it| it.parse().ok());
    format!("{host}:{}", given.or(url.port()).unwrap_or(port))
}

/// What metrics call the database of `config`: the chosen name, or otherwise the database's name in
/// the primary's URL; the address if the URL has none. It is made of what is known before any server
/// answers, so that it is the same in every process and never changes.
#[cfg(any(feature = "mysql", feature = "postgres"))]
pub(super) fn database(config: &Config, primary: &Endpoint) -> String {
    let named = || {
        let url = Url::parse(config.primary.options.get_url()).ok()?;
        // PostgreSQL's driver takes the last one.
        let options = url.query_pairs().filter(|(key, _)| key == "dbname");
        let option = options.last().filter(|_| url.scheme() != "mysql").map(|(_, it)| it.into());
        let path = percent_decode_str(url.path().trim_start_matches('/'));
        Some(option.unwrap_or_else(|| path.decode_utf8_lossy().into_owned()))
    };
    let name = config.name.clone().or_else(named).filter(|name| is_name(name));
    name.unwrap_or_else(|| primary.address().to_owned())
}

/// The names of the endpoints at `addresses`: the `chosen` name, or otherwise the host; the whole
/// address if another endpoint has the host as its name, too; with a number if even the address
/// occurs twice. Roles move between servers, so a role as a name would be wrong after a failover.
pub(super) fn names<'a>(
    chosen: impl Iterator<Item = Option<&'a str>>,
    addresses: &[String],
) -> Vec<String> {
    let chosen: Vec<_> = chosen.collect();
    let is_taken = |name: &str, index: usize| {
        let others = || (0..addresses.len()).filter(|other| *other != index);
        others().any(|other| match chosen[other] {
            Some(its) => its == name,
            None => host(&addresses[other]) == name || addresses[other] == name,
        })
    };
    let mut names: Vec<String> = Vec::with_capacity(addresses.len());
    for (index, address) in addresses.iter().enumerate() {
        let name = match chosen[index] {
            Some(name) => name.to_owned(),
            None if !is_taken(host(address), index) => host(address).to_owned(),
            None if !is_taken(address, index) => address.clone(),
            None => numbered(address, |name| names.iter().any(|it| it == name)),
        };
        names.push(name);
    }
    names
}

/// The same for one endpoint that is added later, without changing existing names.
pub(super) fn free_name(address: &str, is_taken: impl Fn(&str) -> bool) -> String {
    let free = [host(address), address].into_iter().find(|name| !is_taken(name));
    free.map_or_else(|| numbered(address, is_taken), str::to_owned)
}

fn numbered(address: &str, is_taken: impl Fn(&str) -> bool) -> String {
    let mut names = (1..).map(|number: usize| format!("{address} ({number})"));
    names.find(|name| !is_taken(name)).unwrap_or_default()
}

/// The host of an address without credentials; a path is returned whole.
fn host(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(host, _)| host)
}

#[cfg(all(test, feature = "mysql", feature = "postgres"))]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("postgres://app:tide@db-1/shop", "db-1:5432")]
    #[case("postgres://app:tide@db-1:6432/shop", "db-1:6432")]
    #[case("postgres:///shop?host=/var/run/postgresql", "/var/run/postgresql")]
    #[case("postgres://app:tide@localhost/shop?host=/var/run/postgresql", "/var/run/postgresql")]
    #[case("postgres://app@%2Fvar%2Frun%2Fpostgresql/shop", "/var/run/postgresql")]
    #[case("postgres:///shop?host=db-2&port=6432", "db-2:6432")]
    #[case("postgres://[::1]/shop", "[::1]:5432")]
    #[case("postgres:///shop", "localhost:5432")]
    #[case("mysql://app:tide@db-1/shop", "db-1:3306")]
    #[case("mysql://app@localhost/shop?socket=/run/mysqld/mysqld.sock", "/run/mysqld/mysqld.sock")]
    fn an_address_is_where_the_driver_connects_to(#[case] url: &str, #[case] address: &str) {
        assert_eq!(read(&Replica::new(url).name("primary")).unwrap().1, address);
    }

    #[rstest]
    #[case::path("postgres://app:tide@db-1/shop", "shop")]
    #[case::encoded("mysql://app@db-1/sh%2Fop?socket=/run/it", "sh/op")]
    #[case::option("postgres://app@db-1/shop?dbname=blog", "blog")]
    #[case::another_option("mysql://app@db-1/shop?dbname=blog", "shop")]
    #[case::nothing("postgres://app@db-1", "db-1:5432")]
    #[case::slash("postgres://app@db-1:6432/", "db-1:6432")]
    fn metrics_call_a_database_as_its_url_does(#[case] url: &str, #[case] called: &str) {
        let config = Config::new(url);
        let address = read(&config.primary).unwrap().1;
        let primary = Endpoint::new("db-1", address);
        assert_eq!(database(&config, &primary), called);
        assert_eq!(database(&config.name("shard-7"), &primary), "shard-7");
    }

    #[rstest]
    #[case::hosts(&["db-1:5432", "db-2:5432"], &["db-1", "db-2"])]
    #[case::ports(&["db:5432", "db:5433"], &["db:5432", "db:5433"])]
    #[case::one_of_each(&["db:5432", "db:5433", "near:5432"], &["db:5432", "db:5433", "near"])]
    #[case::one_address(&["db:5432", "db:5432"], &["db:5432 (1)", "db:5432 (2)"])]
    #[case::socket(&["/run/one", "[::1]:5432"], &["/run/one", "[::1]"])]
    fn endpoints_are_called_by_their_hosts(#[case] addresses: &[&str], #[case] called: &[&str]) {
        let addresses: Vec<_> = addresses.iter().map(|it| (*it).to_owned()).collect();
        assert_eq!(names(addresses.iter().map(|_| None), &addresses), called);
    }

    #[test]
    fn a_chosen_name_is_kept_and_nobody_elses() {
        let addresses = ["db-1:5432".to_owned(), "db-2:5432".to_owned()];
        let chosen = [Some("db-2"), None];
        assert_eq!(names(chosen.into_iter(), &addresses), ["db-2", "db-2:5432"]);
    }

    #[rstest]
    #[case::variable("postgres://app:${PASSWORD}@db-1/shop", "nobody has expanded")]
    #[case::empty(" ", "it is empty")]
    #[case::semicolon("postgres://app:a@db-1/s;postgres://app:b@db-2/s", "more than one URL")]
    #[case::slash("postgres://app:12/34@db-1/shop", "an @ behind its host")]
    #[case::question("postgres://app:12?34@db-1/shop", "an @ behind its host")]
    #[case::hash("postgres://app:12#34@db-1/shop", "an @ behind its host")]
    #[case::hosts("postgres://db-1,db-2/shop", "several hosts")]
    #[case::two("postgres://db-1/shop, db-2", "a comma")]
    #[case::unknown_password("postgres://db-1/shop?sslpassword=12", "would be logged")]
    fn a_url_that_cannot_be_meant_is_told_without_its_text(#[case] url: &str, #[case] told: &str) {
        let error = read(&Replica::new(url).name("primary")).unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
        assert!(!error.contains("12") && !error.contains("app"), "{error}");
    }
}
