//! The copy of the workspace in which all mutants are planted, and what is built from it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};

use super::list::{Mutant, root};
use super::weave::{FIRST, last, woven};
use crate::process::{self, Patience, cargo};
use crate::program::{Built, Program, built};

/// Where all of it is, under the workspace.
const DIRECTORY: &str = "target/mutants";
/// Whose tests are asked, beside the simulator.
const PACKAGES: [&str; 5] =
    ["sealane-core", "sealane-monitor", "sealane-sql", "sealane", "sealane-tower"];
/// Those of their integration tests that are quick.
const TESTS: [&str; 10] = [
    "topology",
    "selection",
    "proofs",
    "positions",
    "cases",
    "bounds",
    "session",
    "moving",
    "tracing",
    "names",
];
const SIMULATOR: &str = "sealane-sim";

/// The programs that look for mutants.
pub(super) struct Workshop {
    pub(super) simulator: Program,
    tests: Vec<Built>,
}

impl Workshop {
    /// Copies the workspace, plants the mutants and builds it.
    ///
    /// # Errors
    /// When a mutant does not fit its file, or does not compile.
    pub(super) fn build(mutants: &[Mutant]) -> anyhow::Result<Self> {
        let tree = root().join(DIRECTORY).join("tree");
        copy(&tree, mutants)?;
        let mut command = cargo();
        command.current_dir(&tree).args(["test", "--no-run", "--all-features", "--lib"]);
        // It runs for longer than it builds.
        command.args([
            "--config",
            "profile.dev.opt-level=2",
            "--config",
            "profile.dev.debug=false",
        ]);
        command.args(["--config", "profile.dev.incremental=true", "--target-dir", "../build"]);
        command.args(PACKAGES.iter().flat_map(|package| ["-p", package]));
        command.args(TESTS.iter().flat_map(|test| ["--test", test]));
        // Cargo builds a package's programs with its integration tests.
        command.args(["-p", SIMULATOR, "--test", "worlds"]);
        command.arg("--message-format=json-render-diagnostics");
        let all = built(&process::capture_output(&mut command)?)?;
        let (simulator, tests): (Vec<Built>, Vec<Built>) =
            all.into_iter().partition(|it| it.kind == "bin" && it.name == SIMULATOR);
        let simulator = simulator.into_iter().next().context("cargo built no simulator")?;
        Ok(Workshop { simulator: simulator.program, tests })
    }

    /// The test programs of a package.
    pub(super) fn tests_of(&self, package: &str) -> impl Iterator<Item = &Built> {
        self.tests.iter().filter(move |it| it.is_test() && it.program.is_in(package))
    }

    /// The packages that have tests.
    pub(super) fn packages(&self) -> &'static [&'static str] {
        &PACKAGES
    }

    /// Worlds that have failed once.
    pub(super) fn corpus(&self) -> anyhow::Result<Vec<World>> {
        let path = root().join("crates/sealane-sim/tests/corpus.txt");
        let text = fs::read_to_string(&path).context("cannot read the corpus of seeds")?;
        text.lines().filter(|line| !line.starts_with('#')).map(World::of_corpus).collect()
    }
}

/// A world of the simulator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct World {
    pub(super) seed: u64,
    /// Whether it is a world as the first ones were, which the simulator calls plain.
    pub(super) is_plain: bool,
}

impl World {
    /// A line of the corpus: `plain` or not, the seed, what it found.
    fn of_corpus(line: &str) -> anyhow::Result<Self> {
        let plain = line.strip_prefix("plain ");
        let seed = plain.unwrap_or(line).split_whitespace().next().unwrap_or_default();
        let seed = seed.parse().with_context(|| format!("no seed: {line}"))?;
        Ok(World { seed, is_plain: plain.is_some() })
    }
}

/// Makes `tree` a copy of the workspace with all mutants. Writes only what differs, so that little
/// is built again.
fn copy(tree: &Path, mutants: &[Mutant]) -> anyhow::Result<()> {
    let mut git = Command::new("git");
    git.args(["ls-files", "--cached", "--others", "--exclude-standard"]).current_dir(root());
    let names = process::capture(&mut git, Patience::up_to(Duration::from_secs(60)))?;
    let names: BTreeSet<&str> = names.lines().filter(|name| root().join(name).is_file()).collect();
    let missing = mutants.iter().find(|mutant| !names.contains(mutant.path().as_str()));
    ensure!(missing.is_none(), "{missing:?} is in no file");
    for name in &names {
        let source = root().join(name);
        let bytes = fs::read(&source).with_context(|| format!("cannot read {name}"))?;
        write(&tree.join(name), &planted(name, bytes, mutants)?)?;
    }
    remove_others(tree, tree, &names)
}

/// The content of the file `name` with its mutants.
fn planted(name: &str, bytes: Vec<u8>, mutants: &[Mutant]) -> anyhow::Result<Vec<u8>> {
    let its: Vec<&Mutant> = mutants.iter().filter(|mutant| mutant.path() == name).collect();
    let is_root = mutants.iter().any(|it| name == format!("crates/{}/src/lib.rs", it.package()));
    if its.is_empty() && !is_root {
        return Ok(bytes);
    }
    let source = String::from_utf8(bytes).with_context(|| format!("{name} is not text"))?;
    let source = woven(&source, &its)?;
    Ok(if is_root { format!("{FIRST}{source}{}", last()) } else { source }.into_bytes())
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if fs::read(path).is_ok_and(|known| known == bytes) {
        return Ok(());
    }
    let directory = path.parent().context("a file is in a directory")?;
    fs::create_dir_all(directory)
        .and_then(|()| fs::write(path, bytes))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Removes the files that the workspace does not have any more.
fn remove_others(tree: &Path, directory: &Path, names: &BTreeSet<&str>) -> anyhow::Result<()> {
    for entry in fs::read_dir(directory).context("cannot read the copy")? {
        let path: PathBuf = entry.context("cannot read the copy")?.path();
        if path.is_dir() {
            remove_others(tree, &path, names)?;
        } else if !path.strip_prefix(tree)?.to_str().is_some_and(|name| names.contains(name)) {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_has_plain_worlds_and_others() {
        let world = |line| World::of_corpus(line).unwrap();
        assert_eq!(world("plain 75 a primary"), World { seed: 75, is_plain: true });
        assert_eq!(world("9826 a primary"), World { seed: 9826, is_plain: false });
        assert!(World::of_corpus("seed 7").is_err());
        let text = include_str!("../../../crates/sealane-sim/tests/corpus.txt");
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let worlds: Vec<World> = lines.map(world).collect();
        assert!(worlds.len() >= 8);
    }
}
