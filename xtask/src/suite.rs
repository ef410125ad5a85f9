//! The suites under `tests/`, and the engines that each of them runs on.
//!
//! Both come from the manifest of the tests, where the author of a new suite must add it anyway. A
//! list here would be forgotten: then the suite would not run, or it would fail on an engine where
//! it cannot work.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Deserialize;

use crate::engine::{ENGINES, Engine};
use crate::process::cargo;
use crate::process::{self, Patience};

/// The package of the suites.
const PACKAGE: &str = "sealane-tests";

/// One test program.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Suite {
    pub(crate) name: String,
    engines: Vec<String>,
    /// Those of them on which `cargo xtask test` runs it, if not on all.
    usual: Option<Vec<String>>,
    /// The suite measures times that a busy machine would spoil, so no other suite runs beside it.
    pub(crate) is_alone: bool,
    /// The suite is one of the few that `--quick` runs.
    pub(crate) is_quick: bool,
    /// At least so many replicas; more than the run has means a cluster of its own.
    pub(crate) replicas: u8,
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
    /// Whether `cargo test` runs it, which has no cluster.
    test: bool,
}

#[derive(Debug, Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    suites: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    usual: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    alone: BTreeSet<String>,
    #[serde(default)]
    quick: BTreeSet<String>,
    #[serde(default)]
    replicas: BTreeMap<String, u8>,
}

impl Suite {
    /// All suites, in the manifest's order.
    ///
    /// # Errors
    /// When the manifest does not name the engines of each suite.
    pub(crate) fn all() -> anyhow::Result<Vec<Self>> {
        let mut command: Command = cargo();
        command.args(["metadata", "--no-deps", "--format-version=1"]);
        read(&process::capture(&mut command, Patience::up_to(Duration::from_secs(60)))?)
    }

    /// A suite with this name for no engine.
    #[cfg(test)]
    pub(crate) fn for_tests(name: &str) -> Self {
        let (name, engines) = (name.to_owned(), Vec::new());
        Self { name, engines, usual: None, is_alone: false, is_quick: false, replicas: 0 }
    }

    pub(crate) fn is_for(&self, engine: &Engine) -> bool {
        self.engines.iter().any(|name| name == engine.name)
    }

    /// Whether `cargo xtask test` runs it on `engine`.
    pub(crate) fn is_usual_for(&self, engine: &Engine) -> bool {
        let usual = self.usual.as_ref().unwrap_or(&self.engines);
        usual.iter().any(|name| name == engine.name)
    }
}

fn read(json: &str) -> anyhow::Result<Vec<Suite>> {
    let workspace: Workspace =
        serde_json::from_str(json).context("cannot read `cargo metadata`")?;
    let package = workspace.packages.into_iter().find(|package| package.name == PACKAGE);
    let package = package.with_context(|| format!("the workspace has no package {PACKAGE}"))?;
    let Metadata { suites: mut listed, mut usual, mut alone, mut quick, mut replicas } =
        package.metadata.unwrap_or_default();
    let mut suites = Vec::new();
    for Target { name, kind, test } in package.targets {
        if kind != ["test"] {
            continue;
        }
        ensure!(!test, "tests/Cargo.toml: [[test]] `{name}` needs `test = false`");
        let engines = listed.remove(&name).with_context(|| {
            format!("[package.metadata.suites] in tests/Cargo.toml does not list `{name}`")
        })?;
        for engine in &engines {
            ensure!(
                ENGINES.iter().any(|known| known.name == engine),
                "[package.metadata.suites] in tests/Cargo.toml: `{name}` is for an unknown engine `{engine}`"
            );
        }
        let usual = usual.remove(&name);
        for engine in usual.iter().flatten() {
            ensure!(
                engines.contains(engine),
                "[package.metadata.usual] in tests/Cargo.toml: `{name}` is not for `{engine}`"
            );
        }
        let (is_alone, is_quick) = (alone.remove(&name), quick.remove(&name));
        let replicas = replicas.remove(&name).unwrap_or_default();
        suites.push(Suite { name, engines, usual, is_alone, is_quick, replicas });
    }
    let sets = alone.into_iter().chain(quick).chain(usual.into_keys());
    let unknown: Vec<String> = listed.into_keys().chain(sets).chain(replicas.into_keys()).collect();
    ensure!(
        unknown.is_empty(),
        "[package.metadata] in tests/Cargo.toml lists unknown suites: {}",
        unknown.join(", ")
    );
    Ok(suites)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine;

    fn workspace(metadata: &str) -> String {
        format!(
            r#"{{"packages":[{{"name":"other","targets":[],"metadata":{{"docs":{{}}}}}},
            {{"name":"{PACKAGE}","metadata":{metadata},"targets":[
                {{"name":"lib","kind":["lib"],"test":true}},
                {{"name":"smoke","kind":["test"],"test":false}},
                {{"name":"faults","kind":["test"],"test":false}}]}}]}}"#
        )
    }

    #[test]
    fn a_suite_is_for_the_engines_that_the_manifest_names() {
        let json = workspace(
            r#"{"suites":{"smoke":["postgres","mysql"],"faults":["postgres"]},
                "usual":{"smoke":["mysql"]},"alone":["faults"],"quick":["smoke"],"replicas":{"faults":3}}"#,
        );
        let suites = read(&json).unwrap();
        let names: Vec<&str> = suites.iter().map(|suite| suite.name.as_str()).collect();
        assert_eq!(names, ["smoke", "faults"]);
        assert!(suites[0].is_for(&engine::MYSQL) && suites[1].is_for(&engine::POSTGRES));
        assert!(!suites[0].is_for(&engine::MARIADB) && !suites[1].is_for(&engine::MYSQL));
        assert!(!suites[0].is_usual_for(&engine::POSTGRES));
        assert!(
            suites[0].is_usual_for(&engine::MYSQL) && suites[1].is_usual_for(&engine::POSTGRES)
        );
        assert!(!suites[0].is_alone && suites[1].is_alone);
        assert!(suites[0].is_quick && !suites[1].is_quick);
        assert_eq!((suites[0].replicas, suites[1].replicas), (0, 3));
    }

    #[test]
    fn an_unlisted_suite_and_a_listed_unknown_suite_are_errors() {
        let forgotten = read(&workspace(r#"{"suites":{"smoke":["postgres"]}}"#)).unwrap_err();
        assert!(forgotten.to_string().contains("does not list `faults`"), "{forgotten}");
        let all = r#"{"suites":{"smoke":[],"faults":[],"gone":[]}}"#;
        assert!(read(&workspace(all)).unwrap_err().to_string().contains("gone"));
        let alone = r#"{"suites":{"smoke":[],"faults":[]},"alone":["left"],"quick":["off"],
            "replicas":{"lost":3},"usual":{"rare":[]}}"#;
        let error = read(&workspace(alone)).unwrap_err().to_string();
        assert!(error.ends_with("left, off, rare, lost"), "{error}");
        let unknown = r#"{"suites":{"smoke":["oracle"],"faults":[]}}"#;
        assert!(read(&workspace(unknown)).unwrap_err().to_string().contains("oracle"));
        let elsewhere =
            r#"{"suites":{"smoke":["mysql"],"faults":[]},"usual":{"smoke":["postgres"]}}"#;
        assert!(
            read(&workspace(elsewhere)).unwrap_err().to_string().contains("not for `postgres`")
        );
    }

    #[test]
    fn a_suite_that_cargo_test_would_run_is_an_error() {
        let json = workspace(r#"{"suites":{"smoke":["postgres"],"faults":["postgres"]}}"#);
        let json = json.replacen(r#""test":false"#, r#""test":true"#, 1);
        assert!(read(&json).unwrap_err().to_string().contains("`smoke` needs `test = false`"));
    }

    #[test]
    fn the_repositorys_own_manifest_is_in_order() {
        let suites = Suite::all().unwrap();
        assert!(suites.iter().all(|suite| !suite.engines.is_empty()));
        assert!(suites.iter().all(|suite| suite.usual.as_ref().is_none_or(|it| !it.is_empty())));
    }
}
