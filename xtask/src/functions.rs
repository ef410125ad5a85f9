//! `cargo xtask functions`: the list of PostgreSQL's pure functions, from live servers.
//!
//! What is pure is said in one place, `postgres.sql` beside the list; here it is only asked
//! of every version that there is an image of. A name that one version lacks says nothing
//! about it; a name that any version calls impure is not listed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
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
const HEAD: &str = "\
# PostgreSQL functions that a proved read may call, one lower-case name a line.
#
# Made by `cargo xtask functions` from PostgreSQL VERSIONS; do not edit. What is left
# out, what is added, and why, is said in postgres.sql.
";

/// Arguments of `cargo xtask functions`.
#[derive(Args, Debug)]
pub(crate) struct Functions {
    /// Only compare, and fail with the difference.
    #[arg(long)]
    check: bool,
}

/// Names, and whether they are pure.
type Verdicts = BTreeMap<String, bool>;

impl Functions {
    pub(crate) fn run(&self, progress: Progress) -> anyhow::Result<()> {
        docker::preflight()?;
        clean::orphans(progress)?;
        let mut all = Verdicts::new();
        let releases = release::of(&POSTGRES);
        for release in &releases {
            let answer = ask(release, progress)?;
            let verdicts = parse(&answer).with_context(|| format!("{release} answers oddly"))?;
            progress.say(&format!("{release} knows {} names", verdicts.len()));
            merge(&mut all, verdicts);
        }
        let made = render(&all, &releases);
        let path = list();
        let kept = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let difference = difference(&kept, &made);
        if !difference.is_empty() {
            progress.say(&format!("names that come (+) and go (-):\n{}", difference.join("\n")));
        }
        if self.check {
            ensure!(kept == made, "the list is not the servers'; run `cargo xtask functions`");
            progress.say("the list is the servers'");
            return Ok(());
        }
        std::fs::write(&path, made).with_context(|| format!("cannot write {}", path.display()))?;
        progress.say("the list is written");
        Ok(())
    }
}

/// Runs the query on a server of `release`, which lives no longer than this call.
fn ask(release: &'static Release, progress: Progress) -> anyhow::Result<String> {
    let image = Image::ensure(release, progress)?;
    let cluster = Cluster::start(&image, 0, false, progress)?;
    let server = cluster.servers().first().context("a cluster has a primary")?;
    let psql = ["psql", "--no-psqlrc", "--host=/tmp", "--username=sealane", "--dbname=sealane"];
    let query = ["--no-align", "--tuples-only", "--field-separator= ", "--command", QUERY];
    docker(["exec", server.container.as_str()].into_iter().chain(psql).chain(query))
        .with_context(|| format!("{release} cannot run postgres.sql"))
}

/// Lines of a name and `t` or `f`.
fn parse(answer: &str) -> anyhow::Result<Verdicts> {
    let verdicts: Verdicts = answer
        .lines()
        .map(|line| {
            let (name, verdict) = line.split_once(' ').with_context(|| line.to_owned())?;
            ensure!(matches!(verdict, "t" | "f"), "{line}");
            Ok((name.to_owned(), verdict == "t"))
        })
        .collect::<anyhow::Result<_>>()?;
    ensure!(!verdicts.is_empty(), "no names at all");
    Ok(verdicts)
}

/// Pure is what is pure in each version that has it.
fn merge(all: &mut Verdicts, more: Verdicts) {
    for (name, is_pure) in more {
        *all.entry(name).or_insert(true) &= is_pure;
    }
}

fn render(verdicts: &Verdicts, releases: &[&Release]) -> String {
    let mut versions: Vec<&str> = releases.iter().map(|release| release.version).collect();
    versions.sort_unstable();
    let head = HEAD.replace("VERSIONS", &versions.join(", "));
    let pure = verdicts.iter().filter(|(_, is_pure)| **is_pure);
    pure.fold(head, |text, (name, _)| text + name + "\n")
}

/// The names that come, each after a `+`, and those that go, each after a `-`.
fn difference(kept: &str, made: &str) -> Vec<String> {
    let (kept, made) = (names(kept), names(made));
    let come = made.difference(&kept).map(|name| format!("+{name}"));
    let go = kept.difference(&made).map(|name| format!("-{name}"));
    come.chain(go).collect()
}

fn names(list: &str) -> BTreeSet<&str> {
    list.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

fn list() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(DIRECTORY).join("postgres.txt")
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
        let all = merged(&["abs t\nold t\nonce t", "abs t\nonce f", "abs t\nnew t\nonce t"]);
        let list = render(&all, &release::of(&POSTGRES));
        assert!(list.ends_with(".sql.\nabs\nnew\nold\n"), "{list}");
        assert!(list.contains("PostgreSQL 15, 17, 18;"), "{list}");
    }

    #[test]
    fn an_odd_answer_is_an_error() {
        for odd in ["", "abs", "abs true", "ERROR: no"] {
            assert!(parse(odd).is_err(), "{odd:?}");
        }
    }

    #[test]
    fn the_difference_names_what_comes_and_what_goes() {
        assert_eq!(difference("# a\na\nb\n", "# b\n\nb\nc\n"), ["+c", "-a"]);
        assert!(difference("a\n", "# head\na\n").is_empty());
    }

    #[test]
    fn the_list_is_where_the_crate_reads_it() {
        assert!(list().is_file());
    }
}
