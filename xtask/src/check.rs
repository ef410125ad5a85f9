//! `cargo xtask check`: everything that a change must keep besides its tests.
//!
//! What can be read is read first, because it takes seconds: the house rules ([`length`],
//! [`circle`], [`skip`]), the packages that are linked, the layering. What needs a compiler comes
//! afterwards. The promise about the oldest Rust is checked without that Rust: clippy denies
//! what the standard library got later (`incompatible_msrv`, which reads `rust-version`), and
//! [`packages`] what dependencies say of themselves. New *syntax* is not seen by either.

mod circle;
mod layers;
mod length;
mod packages;
mod skip;
mod source;

use std::{panic, thread};

use anyhow::{bail, ensure};
use clap::Args;

use crate::bench::Bench;
use crate::process::{self, cargo};
use crate::progress::Progress;

/// Arguments of `cargo xtask check`.
#[derive(Args, Debug)]
pub(crate) struct Check {
    /// Only what can be read from the sources, without a compiler.
    #[arg(long)]
    quick: bool,
}

/// A crate and the features that must compile without its others: each alone, and the drivers in
/// pairs. All together are what the lints see.
const FEATURES: [(&str, &[&str]); 2] = [
    ("sealane-monitor", &["", "metrics", "mysql", "postgres"]),
    (
        "sealane",
        &[
            "",
            "metrics",
            "entity-registry",
            "rbac",
            "schema-sync",
            "mysql",
            "postgres",
            "sqlite",
            "mysql,postgres",
            "mysql,sqlite",
            "postgres,sqlite",
            "schema-sync,mysql",
            "assembly",
        ],
    ),
];

impl Check {
    pub(crate) fn run(&self, progress: Progress) -> anyhow::Result<()> {
        read(progress)?;
        if self.quick {
            return Ok(());
        }
        thread::scope(|scope| {
            // An optimised build has a directory of its own, and counts do not depend on what else
            // runs: together they keep the second core busy.
            let counts = scope.spawn(|| Bench::counts().run(progress));
            let compiled = compile(progress);
            let counted = counts.join().unwrap_or_else(|panic| panic::resume_unwind(panic));
            match (compiled, counted) {
                (Err(one), Err(other)) => bail!("{one:#}\n{other:#}"),
                (compiled, counted) => compiled.and(counted),
            }
        })
    }
}

/// Everything that needs a compiler, but the counts of instructions.
fn compile(progress: Progress) -> anyhow::Result<()> {
    // `--all-targets` means those that `cargo test` runs; the suites are not among them.
    for targets in ["--all-targets", "--test=*"] {
        progress.step(&format!("lints: {targets}"), || {
            let lint = ["clippy", "--workspace", "--all-features", targets];
            process::show(cargo().args(lint).args(["--", "--deny=warnings"]))
        })?;
    }
    progress.step("documentation", documentation)?;
    progress.step("publishing, as far as possible without doing it", publish)?;
    for (package, sets) in FEATURES {
        for features in sets {
            progress.step(&format!("lints: {package} with features {features:?}"), || {
                let lint = ["clippy", "--package", package, "--features", features];
                process::show(cargo().args(lint).args(["--", "--deny=warnings"]))
            })?;
        }
    }
    Ok(())
}

/// Everything that needs no compiler. All of it is checked before anything fails.
fn read(progress: Progress) -> anyhow::Result<()> {
    let mut failed = Vec::new();
    let mut step = |name: &str, work: &dyn Fn() -> anyhow::Result<()>| {
        failed.extend(progress.step(name, work).err().map(|error| format!("{name}: {error:#}")));
    };
    step("formatting", &|| process::show(cargo().args(["fmt", "--all", "--check"])));
    step("length of files and functions", &length::check);
    step("circles of imports", &circle::check);
    step("tests that may pass without having tested", &skip::check);
    step("licences, duplicates and Rust versions of what is linked", &packages::check);
    for (package, banned) in layers::LAYERS {
        let name = format!("layering: {package} without {}", banned.join(", "));
        step(&name, &|| layers::check(package, banned));
    }
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}

/// Builds what docs.rs would show: broken links and unclosed tags are errors. Programs are not among it.
/// With the examples, dependencies have the features that the lints saw them with, and are not compiled
/// once more.
fn documentation() -> anyhow::Result<()> {
    let document = ["doc", "--workspace", "--no-deps", "--all-features", "--lib", "--examples"];
    process::show(cargo().args(document).env("RUSTDOCFLAGS", "--deny=warnings"))
}

/// Publishes the crates in their order, all but the last step: the registry is asked what it has,
/// and gets nothing. They are not built once more from the packages. That takes as long as all
/// other steps, and finds only a file that a package lacks; no manifest leaves files out.
fn publish() -> anyhow::Result<()> {
    let published = packages::published()?;
    ensure!(published.len() >= 5, "only {published:?} would be published");
    let mut command = cargo();
    command.args(["publish", "--dry-run", "--no-verify", "--allow-dirty", "--quiet"]);
    command.args(published.iter().flat_map(|name| ["--package", name]));
    process::show(&mut command)
}
