//! Who has found which mutant, as it was seen last.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use serde::Deserialize;

use super::hunt::Finding;
use super::list::{DIRECTORY, Mutant, root};

/// The file `record.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    /// Who found a mutant, by its name.
    #[serde(default)]
    found: BTreeMap<String, String>,
    /// In how many worlds a mutant was not found, nor by tests. One that is in neither table was not
    /// looked for yet.
    #[serde(default)]
    survived: BTreeMap<String, u64>,
}

impl Record {
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn read() -> anyhow::Result<Self> {
        let text = fs::read_to_string(path()).context("cannot read the record of the mutants")?;
        toml::from_str(&text).context("in the record of the mutants")
    }

    /// Notes what became of a mutant that was looked for in so many worlds.
    pub(super) fn note(&mut self, mutant: &Mutant, finding: &Finding, worlds: u64) {
        let name = &mutant.name;
        self.found.remove(name);
        self.survived.remove(name);
        match finding.is_found() {
            true => drop(self.found.insert(name.clone(), finding.to_string())),
            false => drop(self.survived.insert(name.clone(), worlds)),
        }
    }

    /// Forgets mutants that are not in the list any more.
    pub(super) fn keep(&mut self, all: &[Mutant]) {
        let is_listed = |name: &String| all.iter().any(|mutant| mutant.name == *name);
        self.found.retain(|name, _| is_listed(name));
        self.survived.retain(|name, _| is_listed(name));
    }

    #[cfg(test)]
    pub(super) fn finds(&self, mutant: &Mutant) -> bool {
        self.found.contains_key(&mutant.name)
    }

    /// # Errors
    /// When the file cannot be written.
    pub(super) fn write(&self) -> anyhow::Result<()> {
        let mut text =
            "# Who finds which mutant, written by `cargo xtask mutants`; do not edit. One \
                        that is not here was not looked for.\n\n[found]\n"
                .to_owned();
        for (name, by) in &self.found {
            let _ = writeln!(text, "{name} = {by:?}");
        }
        text.push_str("\n# By nobody, in so many worlds.\n[survived]\n");
        for (name, worlds) in &self.survived {
            let _ = writeln!(text, "{name} = {worlds}");
        }
        fs::write(path(), text).context("cannot write the record of the mutants")
    }

    /// What there is to know of all mutants, by crate.
    pub(super) fn table(&self, all: &[Mutant]) -> String {
        let width = all.iter().map(|mutant| mutant.name.len()).max().unwrap_or(0);
        let (mut table, mut package) = (String::new(), "");
        for mutant in all {
            if mutant.package() != package {
                package = mutant.package();
                let _ = writeln!(table, "\n{package}: {}", self.sum(all, package));
            }
            let by = self.found.get(&mutant.name).map(String::as_str);
            let survived = || match (self.survived.get(&mutant.name), &mutant.survives) {
                (Some(_), Some(_)) => "survives, see the list".to_owned(),
                (Some(worlds), None) => format!("SURVIVES {worlds} worlds"),
                (None, _) => "not looked for".to_owned(),
            };
            let by = by.map_or_else(survived, str::to_owned);
            let once = if mutant.once { '*' } else { ' ' };
            let _ = writeln!(table, "{once} {:width$}  {by}", mutant.name);
        }
        table.push_str("\n*: the product once had it\n");
        table
    }

    /// How many of a package's mutants were found by whom.
    fn sum(&self, all: &[Mutant], package: &str) -> String {
        let its: Vec<&Mutant> = all.iter().filter(|it| it.package() == package).collect();
        let by = |whom: &str| {
            let found = its.iter().filter_map(|it| self.found.get(&it.name));
            found.filter(|it| it.starts_with(whom)).count()
        };
        let (worlds, kept, tests) = (by("seed "), by("kept seed "), by("test "));
        let nobody = its.iter().filter(|it| self.survived.contains_key(&it.name)).count();
        let rest = its.len() - worlds - kept - tests - nobody;
        format!(
            "{} mutants; {worlds} found in worlds, {kept} in kept ones, {tests} by tests, \
             {nobody} by nobody; {rest} not looked for",
            its.len()
        )
    }
}

fn path() -> PathBuf {
    root().join(DIRECTORY).join("record.toml")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_kept_until_the_mutant_survives() {
        let toml = "name = 'a'\nsays = ''\nfile = 'sealane/b'\ntext = ''\nbecomes = ''";
        let mutant: Mutant = toml::from_str(toml).unwrap();
        let mut record = Record::default();
        assert!(
            record.table(std::slice::from_ref(&mutant)).contains("0 by nobody; 1 not looked for")
        );
        record.note(&mutant, &Finding::World { seed: 7, what: "lost".to_owned() }, 9);
        assert!(record.finds(&mutant));
        let all = [mutant];
        assert!(record.table(&all).contains("1 found in worlds"), "{}", record.table(&all));
        record.note(&all[0], &Finding::Survives, 9);
        assert!(!record.finds(&all[0]));
        assert!(record.table(&all).contains("SURVIVES 9 worlds"), "{}", record.table(&all));
    }
}
