//! The mutants: what is wrong, and where.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde::Deserialize;

/// Where the lists are.
pub(super) const DIRECTORY: &str = "crates/sealane-sim/mutants";
const LISTS: [&str; 4] = ["core.toml", "monitor.toml", "sealane.toml", "sql.toml"];

/// A fault that can be planted. `crates/sealane-sim/mutants/README.md` says what the keys mean.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mutant {
    pub(super) name: String,
    pub(super) says: String,
    file: String,
    #[serde(default)]
    after: String,
    pub(super) text: String,
    pub(super) becomes: String,
    #[serde(default)]
    pub(super) once: bool,
    pub(super) survives: Option<String>,
    /// What chooses it in the build: its place among all, from 1 on.
    #[serde(skip)]
    pub(super) number: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    mutant: Vec<Mutant>,
}

/// All mutants, in the order of the lists.
///
/// # Errors
/// When a list cannot be read, or two mutants have the same name.
pub(super) fn all() -> anyhow::Result<Vec<Mutant>> {
    let mut all: Vec<Mutant> = Vec::new();
    for list in LISTS {
        let path = root().join(DIRECTORY).join(list);
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let list: List = toml::from_str(&text).with_context(|| format!("in {}", path.display()))?;
        all.extend(list.mutant);
    }
    for (number, mutant) in (1..).zip(&mut all) {
        mutant.number = number;
    }
    let mut names: Vec<&str> = all.iter().map(|mutant| mutant.name.as_str()).collect();
    names.sort_unstable();
    let twice = names.windows(2).find(|pair| pair[0] == pair[1]);
    ensure!(twice.is_none(), "there are two mutants of one name: {twice:?}");
    Ok(all)
}

/// The workspace.
pub(super) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

impl Mutant {
    /// The file that it changes, relative to the workspace.
    pub(super) fn path(&self) -> String {
        format!("crates/{}", self.file)
    }

    /// The crate that it is in.
    pub(super) fn package(&self) -> &str {
        self.file.split('/').next().unwrap_or_default()
    }

    /// Where in `source` its text begins: the only place, or the first one behind `after`, which
    /// stands in one place only.
    ///
    /// # Errors
    /// When the text does not stand there.
    pub(super) fn place(&self, source: &str) -> anyhow::Result<usize> {
        let from = match self.after.as_str() {
            "" => {
                let count = source.matches(self.text.as_str()).count();
                ensure!(count == 1, "its text stands in {count} places of {}", self.file);
                0
            }
            after => {
                let count = source.matches(after).count();
                ensure!(count == 1, "its `after` stands in {count} places of {}", self.file);
                source.find(after).map_or(0, |at| at + after.len())
            }
        };
        let at = source[from..].find(self.text.as_str());
        Ok(from + at.with_context(|| format!("its text is not in {}", self.file))?)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::mutants::{record::Record, weave::woven};

    #[test]
    fn every_mutant_fits_its_file() {
        let all = all().unwrap();
        let files: BTreeSet<String> = all.iter().map(Mutant::path).collect();
        for path in files {
            let source = fs::read_to_string(root().join(&path)).unwrap();
            let its: Vec<&Mutant> = all.iter().filter(|mutant| mutant.path() == path).collect();
            let woven = woven(&source, &its).unwrap();
            syn::parse_file(&woven).unwrap_or_else(|error| panic!("{path}: {error}"));
        }
    }

    #[test]
    fn there_are_many_mutants_over_all_crates() {
        let all = all().unwrap();
        let packages: BTreeSet<&str> = all.iter().map(Mutant::package).collect();
        let once = all.iter().filter(|mutant| mutant.once).count();
        assert!(all.len() >= 100 && once >= 60, "{} mutants, {once} of them real", all.len());
        for package in ["sealane-core", "sealane-monitor", "sealane", "sealane-sql"] {
            assert!(packages.contains(package), "none in {package}");
        }
    }

    #[test]
    fn the_record_tells_of_nothing_that_survives_for_a_reason() {
        let record = Record::read().unwrap();
        for mutant in all().unwrap().iter().filter(|it| it.survives.is_some()) {
            assert!(!record.finds(mutant), "{} is found: take `survives` away", mutant.name);
        }
    }

    #[test]
    fn a_text_is_found_behind_what_comes_before() {
        let mutant = Mutant {
            name: "m".to_owned(),
            says: String::new(),
            file: "f".to_owned(),
            after: "fn b".to_owned(),
            text: "x".to_owned(),
            becomes: "y".to_owned(),
            once: false,
            survives: None,
            number: 1,
        };
        assert_eq!(mutant.place("fn a { x } fn b { x }").unwrap(), 18);
        assert!(mutant.place("fn a { x }").is_err(), "`after` is missing");
        let alone = Mutant { after: String::new(), ..mutant };
        assert!(alone.place("x x").is_err(), "two places");
        assert!(alone.place("y").is_err(), "no place");
        assert_eq!(alone.place("f(x)").unwrap(), 2);
    }
}
