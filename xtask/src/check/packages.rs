//! The packages that the product links: their licences, duplicate versions, and the oldest Rust
//! that they need. The source of each is the registry.
//!
//! `cargo deny` asks the same and much more. It takes minutes to build on two cores, for three
//! questions that the output of `cargo metadata` answers. Its database of advisories needs the
//! network; it belongs into a job that runs every day, not into a gate of changes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Deserialize;

use crate::process::{self, Patience, cargo};

/// Licences under which others may link us into anything.
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Packages in more than one version, with the number of versions. All come with SeaORM and sqlx,
/// which are between two generations of `digest` and `rand`, and from which we take the newer one
/// where we have a choice. The list may only shrink.
const DUPLICATES: &[(&str, usize)] = &[
    ("atoi", 2),
    ("base64", 2),
    ("block-buffer", 2),
    ("cpufeatures", 2),
    ("crypto-common", 2),
    ("digest", 2),
    ("getrandom", 3),
    ("hashbrown", 3),
    ("heck", 2),
    ("num-bigint", 2),
    ("r-efi", 2),
    ("rand", 3),
    ("rand_chacha", 2),
    ("rand_core", 3),
    ("sha2", 2),
    ("syn", 2),
    // `ring`, which the command `sealane` has for TLS, is older than the rest.
    ("windows-sys", 2),
];

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Debug, Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
    rust_version: Option<String>,
    /// An empty list: not published.
    publish: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<Kind>,
}

#[derive(Debug, Deserialize)]
struct Kind {
    kind: Option<String>,
}

/// Checks what the published crates link, with all features.
///
/// # Errors
/// When a package breaks a rule, or the lists name what is no longer there.
pub(crate) fn check() -> anyhow::Result<()> {
    let mut command = cargo();
    command.args(["metadata", "--format-version=1", "--all-features", "--locked"]);
    let text = process::capture(&mut command, Patience::up_to(Duration::from_secs(60)))?;
    let metadata = serde_json::from_str(&text).context("the output of `cargo metadata`")?;
    let complaints = judge(&metadata, DUPLICATES)?;
    ensure!(complaints.is_empty(), "{}", complaints.join("\n"));
    Ok(())
}

/// The names of the published crates.
///
/// # Errors
/// When cargo does not tell.
pub(crate) fn published() -> anyhow::Result<Vec<String>> {
    let mut command = cargo();
    command.args(["metadata", "--format-version=1", "--no-deps"]);
    let text = process::capture(&mut command, Patience::up_to(Duration::from_secs(60)))?;
    #[derive(Deserialize)]
    struct Workspace {
        packages: Vec<Package>,
    }
    let workspace: Workspace = serde_json::from_str(&text)?;
    let published = workspace.packages.into_iter().filter(Package::is_published);
    Ok(published.map(|package| package.name).collect())
}

impl Package {
    fn is_published(&self) -> bool {
        self.source.is_none() && self.publish.as_ref().is_none_or(|to| !to.is_empty())
    }

    fn shown(&self) -> String {
        format!("{} {}", self.name, self.version)
    }
}

fn judge(metadata: &Metadata, known: &[(&str, usize)]) -> anyhow::Result<Vec<String>> {
    let linked = linked(metadata);
    let own = linked.iter().filter(|package| package.is_published()).count();
    ensure!(own >= 1 && linked.len() > own, "nothing is linked: the search is broken");
    let ours = metadata.packages.iter().find(|package| package.is_published());
    let ours =
        ours.and_then(|package| package.rust_version.as_deref()).context("our rust-version")?;
    let mut complaints = Vec::new();
    for package in &linked {
        complaints.extend(licence(package));
        complaints.extend(source(package));
        let needs = package.rust_version.as_deref().unwrap_or("1");
        if numbers(needs) > numbers(ours) {
            complaints.push(format!("{} needs Rust {needs}, we promise {ours}", package.shown()));
        }
    }
    complaints.extend(duplicates(&linked, known));
    Ok(complaints)
}

/// What the published crates link, with what they need to build; not what their tests need.
fn linked(metadata: &Metadata) -> Vec<&Package> {
    let nodes: BTreeMap<&str, &Node> =
        metadata.resolve.nodes.iter().map(|node| (node.id.as_str(), node)).collect();
    let published = metadata.packages.iter().filter(|package| package.is_published());
    let mut open: Vec<&str> = published.map(|package| package.id.as_str()).collect();
    let mut seen = BTreeSet::new();
    while let Some(id) = open.pop() {
        if !seen.insert(id) {
            continue;
        }
        let is_linked = |dependency: &&Dependency| {
            dependency.dep_kinds.iter().any(|kind| kind.kind.as_deref() != Some("dev"))
        };
        let dependencies = nodes.get(id).into_iter().flat_map(|node| &node.deps);
        open.extend(dependencies.filter(is_linked).map(|dependency| dependency.pkg.as_str()));
    }
    metadata.packages.iter().filter(|package| seen.contains(package.id.as_str())).collect()
}

/// A licence expression is `AND` of `OR`s at most; of each `OR` one licence must be allowed.
fn licence(package: &Package) -> Option<String> {
    let Some(expression) = &package.license else {
        return Some(format!("{} names no licence", package.shown()));
    };
    let plain = expression.replace(['(', ')'], "").replace('/', " OR ");
    let is_allowed = |all: &str| all.split(" OR ").any(|one| LICENCES.contains(&one.trim()));
    let is_fine = plain.split(" AND ").all(is_allowed);
    (!is_fine).then(|| format!("{}: the licence {expression} is not allowed", package.shown()))
}

fn source(package: &Package) -> Option<String> {
    let source = package.source.as_deref()?;
    let is_registry = source.starts_with("registry+") || source.starts_with("sparse+");
    (!is_registry).then(|| format!("{} comes from {source}, not from a registry", package.shown()))
}

fn duplicates(linked: &[&Package], known: &[(&str, usize)]) -> Vec<String> {
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in linked {
        versions.entry(&package.name).or_default().push(&package.version);
    }
    versions.retain(|_, versions| versions.len() > 1);
    let known: BTreeMap<&str, usize> = known.iter().copied().collect();
    let unknown = versions.iter().filter(|(name, all)| known.get(*name) != Some(&all.len()));
    let mut complaints: Vec<String> = unknown
        .map(|(name, all)| {
            format!("{name} is linked as {}; the list of duplicates says otherwise", all.join(", "))
        })
        .collect();
    let gone = known.keys().filter(|name| !versions.contains_key(**name));
    complaints.extend(gone.map(|name| format!("{name} is no duplicate any more: the list")));
    complaints
}

fn numbers(version: &str) -> Vec<u32> {
    let mut numbers: Vec<u32> = version.split('.').filter_map(|part| part.parse().ok()).collect();
    numbers.resize(3, 0);
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(id: &str, licence: &str) -> String {
        let (name, version) = id.split_once('@').unwrap();
        format!(
            r#"{{"id":"{id}","name":"{name}","version":"{version}","license":"{licence}",
            "source":"registry+index","rust_version":"1.60","publish":null}}"#
        )
    }

    /// Our crate, which links `linked`, and in tests `tested`.
    fn metadata(linked: &[String], tested: &str) -> Metadata {
        let id = |package: &String| package.split('"').nth(3).unwrap().to_owned();
        let dependency =
            |id: &str, kind: &str| format!(r#"{{"pkg":"{id}","dep_kinds":[{{"kind":{kind}}}]}}"#);
        let mut deps: Vec<String> = linked.iter().map(|one| dependency(&id(one), "null")).collect();
        deps.push(dependency(tested, r#""dev""#));
        let us = r#"{"id":"us@1.0.0","name":"us","version":"1.0.0","license":"MIT","source":null,
            "rust_version":"1.90","publish":null}"#;
        let tested = package(tested, "Proprietary");
        let text = format!(
            r#"{{"packages":[{us},{tested},{}],"resolve":{{"nodes":[{{"id":"us@1.0.0","deps":[{}]}}]}}}}"#,
            linked.join(","),
            deps.join(",")
        );
        serde_json::from_str(&text).unwrap()
    }

    fn complaints(linked: &[String], known: &[(&str, usize)]) -> Vec<String> {
        judge(&metadata(linked, "tool@1.0.0"), known).unwrap()
    }

    #[test]
    fn what_only_tests_need_is_not_judged() {
        assert!(complaints(&[package("a@1.0.0", "MIT")], &[]).is_empty());
    }

    #[test]
    fn a_licence_that_is_not_allowed_is_found() {
        for allowed in ["MIT OR GPL-3.0", "(MIT OR GPL-3.0) AND Unicode-3.0", "MIT/Apache-2.0"] {
            assert!(complaints(&[package("a@1.0.0", allowed)], &[]).is_empty(), "{allowed}");
        }
        for planted in ["GPL-3.0", "MIT AND GPL-3.0", "(GPL-3.0 OR AGPL-3.0) AND MIT"] {
            assert_eq!(complaints(&[package("a@1.0.0", planted)], &[]).len(), 1, "{planted}");
        }
    }

    #[test]
    fn a_duplicate_version_is_found_and_the_list_may_only_shrink() {
        let twice = [package("a@1.0.0", "MIT"), package("a@2.0.0", "MIT")];
        assert_eq!(complaints(&twice, &[]).len(), 1);
        assert!(complaints(&twice, &[("a", 2)]).is_empty());
        assert_eq!(complaints(&twice, &[("a", 3)]).len(), 1);
        assert_eq!(complaints(&twice[..1], &[("a", 2)]).len(), 1);
    }

    #[test]
    fn a_package_that_needs_a_newer_rust_is_found() {
        let newer = package("a@1.0.0", "MIT").replace("1.60", "1.90.1");
        assert_eq!(complaints(&[newer], &[]), ["a 1.0.0 needs Rust 1.90.1, we promise 1.90"]);
    }

    #[test]
    fn a_package_from_elsewhere_is_found() {
        let elsewhere =
            package("a@1.0.0", "MIT").replace("registry+index", "git+https://elsewhere");
        assert_eq!(complaints(&[elsewhere], &[]).len(), 1);
    }
}
