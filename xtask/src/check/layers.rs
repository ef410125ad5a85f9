//! The layering of the crates.
//!
//! Layering is read from `cargo tree`, that is from what the compiler links, and not from
//! manifests: a dependency that brings in tokio breaks a pure crate as well.

use std::process::Command;
use std::time::Duration;

use anyhow::ensure;

use crate::process::{self, Patience, cargo};

/// Crates, each with the packages that must not be among its dependencies. A package stands for its
/// family: `sqlx` also means `sqlx-core`.
pub(crate) const LAYERS: [(&str, &[&str]); 5] = [
    ("sealane-core", &["tokio", "sqlx", "sea-orm"]),
    ("sealane-sql", &["tokio", "sqlx", "sea-orm"]),
    ("sealane-monitor", &["sea-orm"]),
    // These crates work with all frameworks and exporters, so they depend on none.
    ("sealane-tower", &["axum", "hyper", "tonic"]),
    ("sealane-status", &["axum", "hyper", "tonic", "metrics-exporter-prometheus"]),
];

/// Checks that none of `banned` is among the dependencies of `package`.
///
/// # Errors
/// When one is, or `cargo tree` shows nothing.
pub(crate) fn check(package: &str, banned: &[&str]) -> anyhow::Result<()> {
    let tree = tree(&["--package", package, "--all-features", "--prefix=none", "--format={p}"])?;
    ensure!(!tree.trim().is_empty(), "`cargo tree` shows nothing of {package}");
    let offenders = offenders(&tree, banned);
    ensure!(
        offenders.is_empty(),
        "{package} must not depend on {0}; `cargo tree -p {package} -e normal -i {1}` shows the way",
        offenders.join(", "),
        offenders.first().map_or("", String::as_str),
    );
    Ok(())
}

fn tree(args: &[&str]) -> anyhow::Result<String> {
    let mut command: Command = cargo();
    command.args(["tree", "--edges=normal"]).args(args);
    process::capture(&mut command, Patience::up_to(Duration::from_secs(120)))
}

/// The banned packages in a tree that has one package per line, name first.
fn offenders(tree: &str, banned: &[&str]) -> Vec<String> {
    let in_family = |name: &str, family: &str| {
        name.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    let names = tree.lines().filter_map(|line| line.split_whitespace().next());
    let mut found: Vec<String> = names
        .filter(|name| banned.iter().any(|family| in_family(name, family)))
        .map(str::to_owned)
        .collect();
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str =
        "sealane-core v0.1.0 (/src)\nserde v1.0.0\nsqlx-core v0.9.0\nsqlx v0.9.0\nsqlx v0.9.0 (*)";

    #[test]
    fn a_banned_family_is_found_once_each() {
        assert_eq!(offenders(TREE, &["sqlx", "tokio"]), ["sqlx", "sqlx-core"]);
    }

    #[test]
    fn a_similar_name_is_not_a_family_member() {
        assert!(offenders("sqlparser v0.63.0\ntokio2 v1.0.0", &["sql", "tokio"]).is_empty());
    }
}
