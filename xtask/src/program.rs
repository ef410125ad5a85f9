//! The built test programs.
//!
//! They are built once and run by path, instead of with `cargo test` each time. A run on several
//! engines takes minutes, and an edit of the sources in this time must not change the program for
//! the next engine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use serde::Deserialize;

use crate::process::cargo;
use crate::process::{self, Patience};
use crate::suite::Suite;

/// The folder of the package that has the suites.
const FOLDER: &str = "tests";

/// The program of every suite.
#[derive(Debug)]
pub(crate) struct Programs(BTreeMap<String, Program>);

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Program {
    path: PathBuf,
    /// The folder where cargo would run it.
    directory: PathBuf,
}

/// A program that cargo has built.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) name: String,
    /// What cargo calls its kind: `lib` (its unit tests), `test` or `bin`.
    pub(crate) kind: String,
    pub(crate) program: Program,
}

/// The part of cargo's messages that is read here.
#[derive(Debug, Deserialize)]
struct Message {
    manifest_path: Option<PathBuf>,
    target: Option<Target>,
    executable: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

impl Programs {
    /// Builds the programs of `suites` and shows the compiler's messages.
    ///
    /// All packages and features are selected, as in [`crate::test`], although one package would do:
    /// cargo builds each dependency with the features that the selected packages ask for, and would
    /// build sqlx and SeaORM a second time for other features.
    ///
    /// # Errors
    /// When they do not compile.
    pub(crate) fn build(suites: &[Suite]) -> anyhow::Result<Self> {
        let mut command = cargo();
        command.args(["test", "--workspace", "--all-features", "--no-run"]);
        command.args(suites.iter().map(|suite| format!("--test={}", suite.name)));
        command.arg("--message-format=json-render-diagnostics");
        Ok(Self(read(&process::capture_output(&mut command)?)?))
    }

    /// The folder with cargo's output.
    ///
    /// # Errors
    /// When there is no program, or it is not where cargo puts programs.
    pub(crate) fn target(&self) -> anyhow::Result<&Path> {
        let program = self.0.values().next().context("cargo built no suite")?;
        // target/debug/deps/program
        program.path.ancestors().nth(3).context("cargo's directories have changed")
    }

    /// # Errors
    /// When no suite has this name.
    pub(crate) fn of(&self, suite: &str) -> anyhow::Result<&Program> {
        self.0.get(suite).with_context(|| format!("cargo built no program for {suite}"))
    }
}

impl Built {
    /// Whether it runs tests.
    pub(crate) fn is_test(&self) -> bool {
        matches!(self.kind.as_str(), "lib" | "test")
    }
}

impl Program {
    /// Whether it belongs to the package in a folder of this name.
    pub(crate) fn is_in(&self, folder: &str) -> bool {
        self.directory.ends_with(folder)
    }

    /// How many of the program's tests have `filter` in their names.
    ///
    /// # Errors
    /// When the program cannot be run.
    pub(crate) fn count(&self, filter: Option<&str>) -> anyhow::Result<usize> {
        let mut command = self.command();
        command.args(filter).args(["--list", "--format=terse"]);
        let list = process::capture(&mut command, Patience::up_to(Duration::from_secs(30)))?;
        Ok(list.lines().filter(|line| line.ends_with(": test")).count())
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.current_dir(&self.directory);
        command
    }
}

fn read(messages: &str) -> anyhow::Result<BTreeMap<String, Program>> {
    // Other kinds are programs that a suite starts; the suite knows their paths. Other packages may
    // have a test of the same name.
    let is_suite = |built: &Built| built.kind == "test" && built.program.is_in(FOLDER);
    let suites = built(messages)?.into_iter().filter(is_suite);
    Ok(suites.map(|suite| (suite.name, suite.program)).collect())
}

/// The programs that cargo tells of in its messages.
///
/// # Errors
/// When a message cannot be read.
pub(crate) fn built(messages: &str) -> anyhow::Result<Vec<Built>> {
    let mut all = Vec::new();
    for line in messages.lines() {
        let message: Message = serde_json::from_str(line).context("cannot read cargo's message")?;
        // Only programs have an executable; their dependencies do not.
        let (Some(manifest), Some(target), Some(path)) =
            (message.manifest_path, message.target, message.executable)
        else {
            continue;
        };
        let directory = manifest.parent().context("a manifest is in a directory")?.to_owned();
        let kind = target.kind.into_iter().next().unwrap_or_default();
        all.push(Built { name: target.name, kind, program: Program { path, directory } });
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_read_from_cargos_messages() {
        let target = |kind, name| format!(r#""target":{{"kind":["{kind}"],"name":"{name}"}}"#);
        let manifest = r#""manifest_path":"/r/tests/Cargo.toml""#;
        let other = r#""manifest_path":"/r/crates/other/Cargo.toml""#;
        let messages = [
            format!(r#"{{{manifest},{},"executable":null}}"#, target("lib", "serde")),
            format!(
                r#"{{{manifest},{},"executable":"/r/target/debug/deps/smoke-1"}}"#,
                target("test", "smoke")
            ),
            format!(r#"{{{manifest},{},"executable":"/t/web"}}"#, target("bin", "web")),
            format!(r#"{{{other},{},"executable":"/t/smoke-2"}}"#, target("test", "smoke")),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
        ];
        let programs = Programs(read(&messages.join("\n")).unwrap());
        let smoke = programs.of("smoke").unwrap();
        assert_eq!(smoke.path, PathBuf::from("/r/target/debug/deps/smoke-1"));
        assert_eq!(smoke.directory, PathBuf::from("/r/tests"));
        assert_eq!(programs.target().unwrap(), Path::new("/r/target"));
        assert!(programs.of("web").is_err() && programs.of("gone").is_err());
    }
}
