//! Looks for one mutant: in the simulator's worlds, and with the tests of its crate.

use std::fmt;
use std::process::Command;
use std::time::Duration;

use anyhow::ensure;

use super::list::Mutant;
use super::weave::CHOICE;
use super::workshop::{Workshop, World};
use crate::process;
use crate::program::Built;

/// How long the simulator looks at most. It needs some seconds where nothing else runs; a mutant whose
/// worlds were not all looked at would seem to survive.
const WORLDS_LIMIT: Duration = Duration::from_secs(900);
/// How long it may go on after that. A mutant may make a world that does not end.
const WORLD_LIMIT: Duration = Duration::from_secs(60);
/// How long a test program may run.
const TESTS_LIMIT: Duration = Duration::from_secs(180);
/// What a program says that does not end in time.
const ENDLESS: &str = "does not end";

/// Where mutants are looked for.
pub(super) struct Hunt<'a> {
    pub(super) workshop: &'a Workshop,
    pub(super) seeds: u64,
}

/// Who has found a mutant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// The world of a seed.
    World { seed: u64, what: String },
    /// A world that is kept because it has found a defect once.
    Kept { seed: u64, what: String },
    /// A test.
    Test { what: String },
    /// Nobody.
    Survives,
}

impl Finding {
    pub(super) fn is_found(&self) -> bool {
        *self != Finding::Survives
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::World { seed, what } => write!(f, "seed {seed}: {what}"),
            Finding::Kept { seed, what } => write!(f, "kept seed {seed}: {what}"),
            Finding::Test { what } => write!(f, "test {what}"),
            Finding::Survives => f.write_str("survives"),
        }
    }
}

impl Hunt<'_> {
    /// Shows that nothing is found where nothing is planted.
    ///
    /// # Errors
    /// When something is found.
    pub(super) fn without(&self) -> anyhow::Result<()> {
        let found = match self.worlds(0)? {
            None => self.kept(0)?,
            found => found,
        };
        ensure!(found.is_none(), "{}", found.unwrap_or(Finding::Survives));
        for package in self.workshop.packages() {
            let found = self.tests(0, package)?;
            ensure!(found.is_none(), "{package}: {}", found.unwrap_or(Finding::Survives));
        }
        Ok(())
    }

    /// Looks for a mutant until it is found.
    ///
    /// # Errors
    /// When a program cannot be started, or on Ctrl-C.
    pub(super) fn find(&self, mutant: &Mutant) -> anyhow::Result<Finding> {
        let number = mutant.number;
        // The simulator's users know few statements.
        let tests_first = mutant.package() == "sealane-sql";
        if tests_first && let Some(found) = self.tests(number, mutant.package())? {
            return Ok(found);
        }
        if let Some(found) = self.worlds(number)? {
            return Ok(found);
        }
        if let Some(found) = self.kept(number)? {
            return Ok(found);
        }
        let found = if tests_first { None } else { self.tests(number, mutant.package())? };
        Ok(found.unwrap_or(Finding::Survives))
    }

    fn kept(&self, number: u32) -> anyhow::Result<Option<Finding>> {
        for World { seed, is_plain } in self.workshop.corpus()? {
            if let Some((_, what)) = self.simulate(number, &seed.to_string(), is_plain)? {
                return Ok(Some(Finding::Kept { seed, what }));
            }
        }
        Ok(None)
    }

    fn worlds(&self, number: u32) -> anyhow::Result<Option<Finding>> {
        let found = self.simulate(number, &format!("0..{}", self.seeds), false)?;
        Ok(found.map(|(seed, what)| Finding::World { seed, what }))
    }

    /// The first seed that fails, and what it says.
    fn simulate(
        &self,
        number: u32,
        seeds: &str,
        is_plain: bool,
    ) -> anyhow::Result<Option<(u64, String)>> {
        let mut command = self.workshop.simulator.command();
        let seconds = WORLDS_LIMIT.as_secs().to_string();
        command.args(["--seeds", seeds, "--seconds", &seconds, "--jobs", "1", "--whole"]);
        command.args(is_plain.then_some("--plain"));
        let (text, is_well) = run(&mut command, number, WORLDS_LIMIT + WORLD_LIMIT)?;
        let told = text.lines().find_map(|line| line.strip_prefix("seed ")?.split_once(": "));
        let told = told.and_then(|(seed, what)| Some((seed.parse().ok()?, what)));
        let told = told.map(|(seed, what)| {
            let what = what.rsplit_once(", after ").map_or(what, |(what, _)| what);
            (seed, what.to_owned())
        });
        let first = seeds.split('.').next().and_then(|seed| seed.parse().ok()).unwrap_or(0);
        Ok(match (told, is_well) {
            (Some(told), _) => Some(told),
            (None, Some(true)) => None,
            (None, Some(false)) => Some((first, "the simulator fails".to_owned())),
            (None, None) => Some((first, format!("a world {ENDLESS}"))),
        })
    }

    /// The first test of a package that fails.
    fn tests(&self, number: u32, package: &str) -> anyhow::Result<Option<Finding>> {
        for Built { name, program, .. } in self.workshop.tests_of(package) {
            let (mut text, mut is_well) = run(&mut program.command(), number, TESTS_LIMIT)?;
            if is_well.is_none() {
                // Something else may have kept the machine busy.
                (text, is_well) = run(&mut program.command(), number, TESTS_LIMIT * 2)?;
            }
            let failed = |line: &str| {
                let (test, _) = line.strip_prefix("test ")?.split_once(" ... FAILED")?;
                Some(format!("{name}: {test}"))
            };
            let what = match is_well {
                Some(true) => continue,
                Some(false) => text.lines().find_map(failed).unwrap_or_else(|| name.clone()),
                None => format!("{name} {ENDLESS}"),
            };
            return Ok(Some(Finding::Test { what }));
        }
        Ok(None)
    }
}

/// What a program wrote, and whether it ended well; `None` if it did not end.
fn run(
    command: &mut Command,
    number: u32,
    limit: Duration,
) -> anyhow::Result<(String, Option<bool>)> {
    command.env(CHOICE, number.to_string());
    process::observe(command, limit)
}
