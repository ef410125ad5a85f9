//! The suites under `tests/`, and the engines that each of them is for.
//!
//! Both are read from the manifest of the tests, where who adds a suite has to say it: a list
//! here would be forgotten, and the suite would not run, or fail where it cannot work.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Deserialize;

use crate::engine::{ENGINES, Engine};
use crate::process::cargo;
use crate::process::{self, Patience};

/// The package of the suites.
pub(crate) const PACKAGE: &str = "sealane-tests";

/// One test program.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Suite {
    pub(crate) name: String,
    engines: Vec<String>,
}

/// The part of `cargo metadata` that is read here.
#[derive(Debug, Deserialize)]
struct Workspace {
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    targets: Vec<Target>,
    metadata: Option<Metadata>,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    #[serde(default)]
    suites: BTreeMap<String, Vec<String>>,
}

impl Suite {
    /// All of them, in the manifest's order.
    ///
    /// # Errors
    /// When the manifest does not say of each what it is for.
    pub(crate) fn all() -> anyhow::Result<Vec<Self>> {
        let mut command: Command = cargo();
        command.args(["metadata", "--no-deps", "--format-version=1"]);
        read(&process::capture(&mut command, Patience::up_to(Duration::from_secs(60)))?)
    }

    pub(crate) fn is_for(&self, engine: &Engine) -> bool {
        self.engines.iter().any(|name| name == engine.name)
    }
}

fn read(json: &str) -> anyhow::Result<Vec<Suite>> {
    let workspace: Workspace =
        serde_json::from_str(json).context("cannot read `cargo metadata`")?;
    let package = workspace.packages.into_iter().find(|package| package.name == PACKAGE);
    let package = package.with_context(|| format!("the workspace has no package {PACKAGE}"))?;
    let mut listed = package.metadata.map_or_else(BTreeMap::new, |metadata| metadata.suites);
    let mut suites = Vec::new();
    for Target { name, kind } in package.targets {
        if kind != ["test"] {
            continue;
        }
        let engines = listed.remove(&name).with_context(|| {
            format!("[package.metadata.suites] in tests/Cargo.toml does not list `{name}`")
        })?;
        for engine in &engines {
            ensure!(
                ENGINES.iter().any(|known| known.name == engine),
                "[package.metadata.suites] in tests/Cargo.toml: `{name}` is for an unknown engine `{engine}`"
            );
        }
        suites.push(Suite { name, engines });
    }
    ensure!(
        listed.is_empty(),
        "[package.metadata.suites] in tests/Cargo.toml lists what is no suite: {}",
        listed.into_keys().collect::<Vec<_>>().join(", ")
    );
    Ok(suites)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine;

    fn workspace(suites: &str) -> String {
        format!(
            r#"{{"packages":[{{"name":"other","targets":[],"metadata":{{"docs":{{}}}}}},
            {{"name":"{PACKAGE}","metadata":{{"suites":{suites}}},"targets":[
                {{"name":"lib","kind":["lib"]}},
                {{"name":"smoke","kind":["test"]}}, {{"name":"faults","kind":["test"]}}]}}]}}"#
        )
    }

    #[test]
    fn a_suite_is_for_the_engines_that_the_manifest_names() {
        let json = workspace(r#"{"smoke":["postgres","mysql"],"faults":["postgres"]}"#);
        let suites = read(&json).unwrap();
        let names: Vec<&str> = suites.iter().map(|suite| suite.name.as_str()).collect();
        assert_eq!(names, ["smoke", "faults"]);
        assert!(suites[0].is_for(&engine::MYSQL) && suites[1].is_for(&engine::POSTGRES));
        assert!(!suites[0].is_for(&engine::MARIADB) && !suites[1].is_for(&engine::MYSQL));
    }

    #[test]
    fn a_suite_that_nobody_listed_is_an_error_and_so_is_a_listed_one_that_is_none() {
        let forgotten = read(&workspace(r#"{"smoke":["postgres"]}"#)).unwrap_err();
        assert!(forgotten.to_string().contains("does not list `faults`"), "{forgotten}");
        let all = r#"{"smoke":[],"faults":[],"gone":[]}"#;
        assert!(read(&workspace(all)).unwrap_err().to_string().contains("gone"));
        let unknown = r#"{"smoke":["oracle"],"faults":[]}"#;
        assert!(read(&workspace(unknown)).unwrap_err().to_string().contains("oracle"));
    }

    #[test]
    fn the_repositorys_own_manifest_is_in_order() {
        let suites = Suite::all().unwrap();
        assert!(suites.iter().all(|suite| !suite.engines.is_empty()));
    }
}
