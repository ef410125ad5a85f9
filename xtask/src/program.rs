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
use crate::suite::PACKAGE;

/// The program of every suite, and the program of the library's unit tests.
#[derive(Debug)]
pub(crate) struct Programs {
    suites: BTreeMap<String, Program>,
    pub(crate) library: Program,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Program {
    path: PathBuf,
    /// The folder where cargo would run it.
    directory: PathBuf,
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
    /// Builds the programs and shows the compiler's messages.
    ///
    /// # Errors
    /// When they do not compile.
    pub(crate) fn build() -> anyhow::Result<Self> {
        let mut command = cargo();
        command.args(["test", "--package", PACKAGE, "--features=itest", "--no-run"]);
        command.arg("--message-format=json-render-diagnostics");
        read(&process::capture_output(&mut command)?)
    }

    /// # Errors
    /// When no suite has this name.
    pub(crate) fn of(&self, suite: &str) -> anyhow::Result<&Program> {
        self.suites.get(suite).with_context(|| format!("cargo built no program for {suite}"))
    }
}

impl Program {
    /// The folder with cargo's output.
    ///
    /// # Errors
    /// When the program is not where cargo puts programs.
    pub(crate) fn target(&self) -> anyhow::Result<&Path> {
        // target/debug/deps/program
        self.path.ancestors().nth(3).context("cargo's directories have changed")
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

fn read(messages: &str) -> anyhow::Result<Programs> {
    let (mut suites, mut library) = (BTreeMap::new(), None);
    for line in messages.lines() {
        let message: Message = serde_json::from_str(line).context("cannot read cargo's message")?;
        // Only programs have an executable; their dependencies do not.
        let (Some(manifest), Some(target), Some(path)) =
            (message.manifest_path, message.target, message.executable)
        else {
            continue;
        };
        let directory = manifest.parent().context("a manifest is in a directory")?.to_owned();
        let program = Program { path, directory };
        match target.kind.first().map(String::as_str) {
            Some("test") => drop(suites.insert(target.name, program)),
            Some("lib") => library = Some(program),
            // A program that a suite starts; the suite knows its path.
            _ => {}
        }
    }
    let library = library.context("cargo built no unit tests of the suites' library")?;
    Ok(Programs { suites, library })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_read_from_cargos_messages() {
        let target = |kind, name| format!(r#""target":{{"kind":["{kind}"],"name":"{name}"}}"#);
        let manifest = r#""manifest_path":"/r/tests/Cargo.toml""#;
        let messages = [
            format!(r#"{{{manifest},{},"executable":null}}"#, target("lib", "serde")),
            format!(r#"{{{manifest},{},"executable":"/t/lib-1"}}"#, target("lib", "library")),
            format!(r#"{{{manifest},{},"executable":"/t/smoke-1"}}"#, target("test", "smoke")),
            format!(r#"{{{manifest},{},"executable":"/t/web"}}"#, target("bin", "web")),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
        ];
        let programs = read(&messages.join("\n")).unwrap();
        assert_eq!(programs.library.path, PathBuf::from("/t/lib-1"));
        let program = Program { path: "/r/target/debug/deps/a-1".into(), directory: "/r".into() };
        assert_eq!(program.target().unwrap(), Path::new("/r/target"));
        let smoke = programs.of("smoke").unwrap();
        assert_eq!(smoke.path, PathBuf::from("/t/smoke-1"));
        assert_eq!(smoke.directory, PathBuf::from("/r/tests"));
        assert!(programs.of("web").is_err() && programs.of("gone").is_err());
    }
}
