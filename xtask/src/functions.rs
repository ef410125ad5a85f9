//! `cargo xtask functions`: generates the lists of PostgreSQL's functions from live servers.
//!
//! One file decides what is pure: `postgres.sql` beside the lists. This task only runs it on every
//! version that has an image. If a version lacks a name, this says nothing about the name. If any
//! version calls a name impure, the name is not listed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::Args;

use crate::clean;
use crate::cluster::Cluster;
use crate::docker::{self, docker};
use crate::engine::POSTGRES;
use crate::image::Image;
use crate::progress::Progress;
use crate::release::{self, Release};

const DIRECTORY: &str = "crates/sealane-sql/src/functions";
const QUERY: &str = include_str!("../../crates/sealane-sql/src/functions/postgres.sql");
const MADE: &str = "\
#
# Made by `cargo xtask functions` from PostgreSQL VERSIONS; do not edit. What is left
# out, what is added, and why, is said in postgres.sql.
";

/// A generated list: its file, its first line, and which names it contains.
struct List {
    file: &'static str,
    title: &'static str,
    has: fn(&Knowledge) -> bool,
}

const LISTS: [List; 2] = [
    List {
        file: "postgres.txt",
        title: "# PostgreSQL functions that a proved read may call, one lower-case name a line.\n",
        has: |known| known.is_pure == Some(true),
    },
    List {
        file: "postgres_attributes.txt",
        title: "# PostgreSQL functions that a proved read must not call, like a column or otherwise.\n",
        has: |known| known.is_attribute && known.is_pure != Some(true),
    },
];

/// Arguments of `cargo xtask functions`.
#[derive(Args, Debug)]
pub(crate) struct Functions {
    /// Only compare, and fail if the lists differ.
    #[arg(long)]
    check: bool,
}

/// What servers say about a name.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Knowledge {
    /// Whether the function is pure in every version that has it.
    is_pure: Option<bool>,
    /// Whether `(value).name` calls it in at least one version.
    is_attribute: bool,
}

type Verdicts = BTreeMap<String, Knowledge>;

impl Functions {
    pub(crate) fn run(&self, progress: Progress) -> anyhow::Result<()> {
        docker::preflight()?;
        clean::orphans(progress)?;
        let mut all = Verdicts::new();
        let releases = release::of(&POSTGRES);
        for release in &releases {
            let answer = ask(release, progress)?;
            let verdicts =
                parse(&answer).with_context(|| format!("{release} gives an unexpected answer"))?;
            progress.say(&format!("{release} knows {} names", verdicts.len()));
            merge(&mut all, verdicts);
        }
        LISTS.iter().try_for_each(|list| self.update(list, &all, &releases, progress))
    }

    fn update(
        &self,
        list: &List,
        all: &Verdicts,
        releases: &[&Release],
        progress: Progress,
    ) -> anyhow::Result<()> {
        let made = list.render(all, releases);
        let path = list.path();
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        let difference = difference(&kept, &made);
        if !difference.is_empty() {
            progress.say(&format!("{}: added (+) and removed (-) names:", list.file));
            progress.say(&difference.join("\n"));
        }
        if self.check {
            let file = list.file;
            ensure!(kept == made, "{file} differs from the servers; run `cargo xtask functions`");
            progress.say(&format!("{file} agrees with the servers"));
            return Ok(());
        }
        std::fs::write(&path, made).with_context(|| format!("cannot write {}", path.display()))?;
        progress.say(&format!("{} is written", list.file));
        Ok(())
    }
}

impl List {
    fn path(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(DIRECTORY).join(self.file)
    }

    fn render(&self, verdicts: &Verdicts, releases: &[&Release]) -> String {
        let mut versions: Vec<&str> = releases.iter().map(|release| release.version).collect();
        versions.sort_unstable();
        let head = self.title.to_owned() + &MADE.replace("VERSIONS", &versions.join(", "));
        let names = verdicts.iter().filter(|(_, known)| (self.has)(known));
        names.fold(head, |text, (name, _)| text + name + "\n")
    }
}

/// Runs the query on a server of `release` that exists only during this call.
fn ask(release: &'static Release, progress: Progress) -> anyhow::Result<String> {
    let image = Image::ensure(release, progress)?;
    let cluster = Cluster::start(&image, 0, false, progress)?;
    let server = cluster.servers().first().context("a cluster has a primary")?;
    let psql = ["psql", "--no-psqlrc", "--host=/tmp", "--username=sealane", "--dbname=sealane"];
    let query = ["--no-align", "--tuples-only", "--field-separator= ", "--command", QUERY];
    docker(["exec", server.container.as_str()].into_iter().chain(psql).chain(query))
        .with_context(|| format!("{release} cannot run postgres.sql"))
}

/// Parses lines with a name and a verdict.
fn parse(answer: &str) -> anyhow::Result<Verdicts> {
    let mut verdicts = Verdicts::new();
    for line in answer.lines() {
        let (name, verdict) = line.split_once(' ').with_context(|| line.to_owned())?;
        let known = verdicts.entry(name.to_owned()).or_default();
        match verdict {
            "pure" => known.is_pure = Some(true),
            "impure" => known.is_pure = Some(false),
            "attribute" => known.is_attribute = true,
            _ => bail!("{line}"),
        }
    }
    ensure!(!verdicts.is_empty(), "no names at all");
    Ok(verdicts)
}

/// A name is pure if it is pure in every version that has it.
fn merge(all: &mut Verdicts, more: Verdicts) {
    for (name, more) in more {
        let known = all.entry(name).or_default();
        known.is_attribute |= more.is_attribute;
        known.is_pure = match (known.is_pure, more.is_pure) {
            (Some(one), Some(other)) => Some(one && other),
            (one, other) => one.or(other),
        };
    }
}

/// The added names, each with a `+`, and the removed names, each with a `-`.
fn difference(kept: &str, made: &str) -> Vec<String> {
    let (kept, made) = (names(kept), names(made));
    let come = made.difference(&kept).map(|name| format!("+{name}"));
    let go = kept.difference(&made).map(|name| format!("-{name}"));
    come.chain(go).collect()
}

fn names(list: &str) -> BTreeSet<&str> {
    list.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(answers: &[&str]) -> Verdicts {
        let mut all = Verdicts::new();
        for answer in answers {
            merge(&mut all, parse(answer).unwrap());
        }
        all
    }

    #[test]
    fn a_name_is_listed_if_each_version_that_has_it_calls_it_pure() {
        let all = merged(&[
            "abs pure\nold pure\nonce pure\nonce attribute\nabs attribute",
            "abs pure\nonce impure\nhidden attribute",
            "abs pure\nnew pure\nonce pure",
        ]);
        let [pure, attributes] = LISTS.map(|list| list.render(&all, &release::of(&POSTGRES)));
        assert!(pure.ends_with(".sql.\nabs\nnew\nold\n"), "{pure}");
        assert!(pure.contains("PostgreSQL 15, 17, 18;"), "{pure}");
        assert!(attributes.ends_with(".sql.\nhidden\nonce\n"), "{attributes}");
    }

    #[test]
    fn an_unexpected_answer_is_an_error() {
        for odd in ["", "abs", "abs true", "ERROR: no"] {
            assert!(parse(odd).is_err(), "{odd:?}");
        }
    }

    #[test]
    fn the_difference_lists_added_and_removed_names() {
        assert_eq!(difference("# a\na\nb\n", "# b\n\nb\nc\n"), ["+c", "-a"]);
        assert!(difference("a\n", "# head\na\n").is_empty());
    }

    #[test]
    fn the_lists_are_where_the_crate_reads_them() {
        assert!(LISTS.iter().all(|list| list.path().is_file()));
    }
}
