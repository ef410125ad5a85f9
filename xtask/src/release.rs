//! The engines' releases for clusters, and how the command line chooses them.

use std::fmt;
use std::str::FromStr;

use crate::engine::{Engine, MARIADB, MYSQL, POSTGRES};

/// One version of one engine, and the Debian packages that have it.
#[derive(Debug)]
pub(crate) struct Release {
    pub(crate) engine: &'static Engine,
    /// The tag of the official image, which names a series: `17`, `11.8`.
    pub(crate) version: &'static str,
    /// The Debian suite whose packages belong to this series.
    pub(crate) suite: &'static str,
    /// The server's packages. For the rest of the image see [`Engine::tools`].
    pub(crate) packages: &'static [&'static str],
}

/// `galera-4` is in the official image, and 2 MB: one suite makes servers members of a cluster.
const MARIADB_PACKAGES: &[&str] = &["mariadb-server-core", "mariadb-client-core", "galera-4"];

/// The default of each engine comes first.
const RELEASES: [Release; 6] = [
    release(&POSTGRES, "17", "trixie", &["postgresql-17"]),
    release(&POSTGRES, "15", "bookworm", &["postgresql-15"]),
    release(&POSTGRES, "18", "sid", &["postgresql-18"]),
    release(&MARIADB, "11.8", "trixie", MARIADB_PACKAGES),
    release(&MARIADB, "10.11", "bookworm", MARIADB_PACKAGES),
    release(&MYSQL, "9", "sid", &["mysql-server-core", "mysql-client-core"]),
];

const fn release(
    engine: &'static Engine,
    version: &'static str,
    suite: &'static str,
    packages: &'static [&'static str],
) -> Release {
    Release { engine, version, suite, packages }
}

impl Release {
    /// The official image.
    pub(crate) fn official(&self) -> String {
        format!("{}:{}", self.engine, self.version)
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.engine, self.version)
    }
}

/// The releases of one engine.
pub(crate) fn of(engine: &Engine) -> Vec<&'static Release> {
    RELEASES.iter().filter(|release| release.engine.name == engine.name).collect()
}

/// The releases that one word on the command line chooses: `postgres`, `postgres:15`, `all`.
#[derive(Clone, Debug)]
pub(crate) struct Choice(Vec<&'static Release>);

impl Choice {
    pub(crate) fn releases(&self) -> impl Iterator<Item = &'static Release> {
        self.0.iter().copied()
    }
}

impl Default for Choice {
    fn default() -> Self {
        Self(vec![&RELEASES[0]])
    }
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Self(RELEASES.iter().collect()));
        }
        let (engine, version) = text.split_once(':').map_or((text, None), |(e, v)| (e, Some(v)));
        let fits = |release: &&Release| {
            release.engine.name == engine
                && version.is_none_or(|version| version == release.version)
        };
        let chosen = RELEASES.iter().find(fits);
        chosen.map(|release| Self(vec![release])).ok_or_else(|| {
            let known: Vec<String> = RELEASES.iter().map(Release::official).collect();
            format!(
                "choose `all` or one of {}; without a version, the first one of the engine is used",
                known.join(", ")
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(text: &str) -> Vec<String> {
        let choice: Choice = text.parse().unwrap();
        choice.releases().map(Release::official).collect()
    }

    #[test]
    fn an_engine_alone_means_its_first_release() {
        assert_eq!(chosen("postgres"), ["postgres:17"]);
        assert_eq!(chosen("mariadb"), ["mariadb:11.8"]);
        assert_eq!(chosen("mysql"), ["mysql:9"]);
        assert_eq!(
            Choice::default().releases().map(Release::official).collect::<Vec<_>>(),
            ["postgres:17"]
        );
    }

    #[test]
    fn a_version_is_chosen_behind_a_colon() {
        assert_eq!(chosen("postgres:15"), ["postgres:15"]);
        assert_eq!(chosen("mariadb:10.11"), ["mariadb:10.11"]);
    }

    #[test]
    fn all_is_every_release() {
        assert_eq!(chosen("all").len(), RELEASES.len());
    }

    #[test]
    fn an_unknown_release_names_the_known_ones() {
        for text in ["postgres:9", "oracle", "postgres:", ""] {
            let error = text.parse::<Choice>().unwrap_err();
            assert!(
                error.contains("postgres:17, postgres:15, postgres:18, mariadb:11.8"),
                "{error}"
            );
        }
    }
}
