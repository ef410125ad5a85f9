//! A configuration from the environment.

use std::env::VarError;

use super::{Config, Warning};
use crate::ConnectError;

/// The primary's URL.
const PRIMARY_VARIABLE: &str = "DATABASE_URL";
/// The replicas' URLs.
const REPLICAS_VARIABLE: &str = "DATABASE_REPLICA_URLS";
/// A common mistake for the name of the variable.
const SINGULAR_VARIABLE: &str = "DATABASE_REPLICA_URL";
/// The zone of this process.
const ZONE_VARIABLE: &str = "DATABASE_ZONE";
/// The secret for tokens.
const TOKEN_KEY_VARIABLE: &str = "DATABASE_TOKEN_KEY";

/// The value that a process finds under a name.
type Variable<'a> = &'a dyn Fn(&str) -> Result<String, VarError>;

fn read(variable: Variable<'_>, name: &'static str) -> Result<Option<String>, ConnectError> {
    match variable(name) {
        Ok(text) => Ok(Some(text)),
        Err(VarError::NotPresent) => Ok(None),
        // The standard library's error would show the variable's value.
        Err(VarError::NotUnicode(_)) => {
            let reason = "holds bytes that are not UTF-8; percent-encode those of a password";
            Err(ConnectError::Environment { name, reason })
        }
    }
}

fn wrong<T>(name: &'static str, reason: &'static str) -> Result<T, ConnectError> {
    Err(ConnectError::Environment { name, reason })
}

/// Reads the configuration from the values that `variable` returns for each name.
pub(super) fn parse(variable: Variable<'_>) -> Result<Config, ConnectError> {
    let primary = match read(variable, PRIMARY_VARIABLE)? {
        None => return wrong(PRIMARY_VARIABLE, "is not set in the environment"),
        Some(text) if text.trim().is_empty() => return wrong(PRIMARY_VARIABLE, "is empty"),
        Some(text) => text,
    };
    match &urls(&primary)[..] {
        [only] => with_replicas(with_settings(Config::new(*only), variable)?, variable),
        _ => {
            let reason =
                "holds more than one URL; those of replicas belong in DATABASE_REPLICA_URLS";
            wrong(PRIMARY_VARIABLE, reason)
        }
    }
}

/// The configuration of a primary that the application names. The replicas of the environment belong to
/// the primary of the environment, if that names one.
pub(super) fn around(url: String, variable: Variable<'_>) -> Result<Config, ConnectError> {
    let named = read(variable, PRIMARY_VARIABLE)?.filter(|named| !named.trim().is_empty());
    let is_other = named.is_some_and(|named| urls(&named) != [url.trim()]);
    let mut config = with_settings(Config::new(url), variable)?;
    if !is_other {
        return with_replicas(config, variable);
    }
    if read(variable, REPLICAS_VARIABLE)?.is_some_and(|replicas| !urls(&replicas).is_empty()) {
        config.warnings.push(Warning::OtherPrimary);
    }
    Ok(config)
}

fn with_settings(mut config: Config, variable: Variable<'_>) -> Result<Config, ConnectError> {
    if let Some(zone) = read(variable, ZONE_VARIABLE)?.filter(|zone| !zone.trim().is_empty()) {
        config = config.zone(zone.trim());
    }
    match read(variable, TOKEN_KEY_VARIABLE)? {
        Some(key) if key.trim().is_empty() => return wrong(TOKEN_KEY_VARIABLE, "is empty"),
        Some(key) => config = config.token_key(key.trim()),
        None => {}
    }
    Ok(config)
}

fn with_replicas(mut config: Config, variable: Variable<'_>) -> Result<Config, ConnectError> {
    let replicas = read(variable, REPLICAS_VARIABLE)?;
    match &replicas {
        None if read(variable, SINGULAR_VARIABLE)?.is_some() => {
            let reason = "is set, and not read: the variable is called DATABASE_REPLICA_URLS";
            return wrong(SINGULAR_VARIABLE, reason);
        }
        Some(text) if text.trim().is_empty() => config.warnings.push(Warning::NoReplicaUrls),
        None | Some(_) => {}
    }
    Ok(urls(&replicas.unwrap_or_default()).into_iter().fold(config, Config::replica))
}

/// The URLs in a text, separated by commas, semicolons or white space. Such a character separates
/// only if the scheme of another URL follows, or at the end of the text: elsewhere it may be part
/// of a password. Text that cannot be split with certainty stays together and is refused later.
fn urls(text: &str) -> Vec<&str> {
    let is_separator = |c: char| c == ',' || c == ';' || c.is_whitespace();
    let begins = |at: usize| {
        let (before, here) = text.split_at(at);
        let scheme = here.split_once("://").map_or("", |(scheme, _)| scheme);
        let is_scheme = !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphabetic());
        (before.is_empty() || before.ends_with(is_separator))
            && (is_scheme || here.starts_with("sqlite:"))
    };
    let mut urls = Vec::new();
    let mut rest = 0;
    for (at, _) in text.char_indices().filter(|(at, _)| *at > 0 && begins(*at)) {
        urls.push(&text[rest..at]);
        rest = at;
    }
    urls.push(&text[rest..]);
    urls.into_iter().map(|url| url.trim_matches(is_separator)).filter(|it| !it.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::commas(" postgres://a,\n postgres://b postgres://c ,", &["postgres://a", "postgres://b", "postgres://c"])]
    #[case::semicolons("postgres://a; postgres://b;", &["postgres://a", "postgres://b"])]
    #[case::comma_in_a_password("postgres://app:ti,de@a/s,postgres://b", &["postgres://app:ti,de@a/s", "postgres://b"])]
    #[case::of_the_file("sqlite:a.db;sqlite://b.db", &["sqlite:a.db", "sqlite://b.db"])]
    #[case::none(" , ; ", &[])]
    #[case::rest_without_a_scheme("postgres://a,b:5432", &["postgres://a,b:5432"])]
    fn urls_are_separated(#[case] text: &str, #[case] expected: &[&str]) {
        assert_eq!(urls(text), expected);
    }

    fn parse_with(variables: &[(&str, &str)]) -> Result<Config, ConnectError> {
        parse(&|name| variable(variables, name))
    }

    fn variable(variables: &[(&str, &str)], name: &str) -> Result<String, VarError> {
        let mut found = variables.iter().filter(|(its, _)| *its == name);
        found.next().map(|(_, text)| (*text).to_owned()).ok_or(VarError::NotPresent)
    }

    #[rstest]
    #[case::the_same(Some("postgres://a, "), 1, &[])]
    #[case::no_other(None, 1, &[])]
    #[case::empty(Some(" "), 1, &[])]
    #[case::another(Some("postgres://c"), 0, &[Warning::OtherPrimary])]
    fn replicas_belong_to_the_primary_of_the_environment(
        #[case] primary: Option<&str>,
        #[case] replicas: usize,
        #[case] warnings: &[Warning],
    ) {
        let mut variables = vec![("DATABASE_REPLICA_URLS", "postgres://b")];
        variables.extend(primary.map(|url| ("DATABASE_URL", url)));
        let config = around("postgres://a".to_owned(), &|name| variable(&variables, name)).unwrap();
        assert_eq!(config.replicas.len(), replicas);
        assert_eq!(config.warnings, warnings);
    }

    #[rstest]
    #[case::unset(&[], "DATABASE_URL is not set")]
    #[case::empty(&[("DATABASE_URL", " ")], "DATABASE_URL is empty")]
    #[case::two(&[("DATABASE_URL", "postgres://a:tide@b;postgres://c")], "DATABASE_URL holds more than one URL")]
    #[case::empty_key(
        &[("DATABASE_URL", "postgres://a"), ("DATABASE_TOKEN_KEY", "")],
        "DATABASE_TOKEN_KEY is empty"
    )]
    #[case::singular(
        &[("DATABASE_URL", "postgres://a"), ("DATABASE_REPLICA_URL", "postgres://b:tide@c")],
        "DATABASE_REPLICA_URL is set, and not read: the variable is called DATABASE_REPLICA_URLS"
    )]
    fn a_wrong_variable_is_told_by_its_name(
        #[case] variables: &[(&str, &str)],
        #[case] told: &str,
    ) {
        let error = parse_with(variables).unwrap_err().to_string();
        assert!(error.contains(told) && !error.contains("tide"), "{error}");
    }

    #[test]
    fn no_replicas_in_a_variable_for_them_are_worth_a_warning() {
        let variables = [("DATABASE_URL", "postgres://a"), ("DATABASE_REPLICA_URLS", "")];
        assert_eq!(parse_with(&variables).unwrap().warnings, [Warning::NoReplicaUrls]);
        assert_eq!(parse_with(&variables[..1]).unwrap().warnings, []);
    }

    #[test]
    fn the_zone_may_be_given() {
        let variables = [("DATABASE_URL", "postgres://a"), ("DATABASE_ZONE", " eu-1 ")];
        assert_eq!(parse_with(&variables).unwrap().zone.as_deref(), Some("eu-1"));
        assert_eq!(parse_with(&variables[..1]).unwrap().zone, None);
    }

    #[test]
    fn a_token_key_may_be_given_and_is_not_shown() {
        let key = "k".repeat(32);
        let variables = [("DATABASE_URL", "postgres://a"), ("DATABASE_TOKEN_KEY", &*key)];
        let config = parse_with(&variables).unwrap();
        assert!(config.signer.max_age().is_some() && !format!("{config:?}").contains(&key));
        assert!(parse_with(&variables[..1]).unwrap().signer.max_age().is_none());
    }

    #[cfg(unix)]
    #[test]
    fn what_is_not_text_is_not_shown() {
        use std::os::unix::ffi::OsStringExt;

        let url = || OsString::from_vec(b"postgres://app:tide\xff@db-1/shop".to_vec());
        let error = parse(&|_| Err(VarError::NotUnicode(url()))).unwrap_err();
        assert!(error.to_string().contains("DATABASE_URL holds bytes that are not UTF-8"));
        assert!(!format!("{error} {error:?}").contains("tide"), "{error}");
    }
}
