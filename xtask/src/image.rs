//! The server image: the one already present, else the official one with an additional library,
//! else one built from packages.
//!
//! The tag contains a hash of the recipe, so that a changed recipe makes a new image. The old image
//! stays until `cargo xtask clean --images`, because another checkout may be about to start it. Our
//! start scripts (`server/`) need only these things in an image: the user that runs the server,
//! this user's home, and the programs where both the official image and Debian's packages put them
//! (for PostgreSQL `/usr/lib/postgresql/<version>/bin`, for the others the path).

use std::fs::File;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::docker::{bounded, docker};
use crate::process::{self, Patience};
use crate::progress::Progress;
use crate::release::Release;

/// The prefix of all our image names; the engine follows.
pub(crate) const PREFIX: &str = "sealane-itest/";

const RECIPE: &str = include_str!("image.sh");
/// Adds to an official image what it lacks.
const EXTENSION: &str = include_str!("image.dockerfile");
/// An unreachable registry often does not answer at all.
const PULL_LIMIT: Duration = Duration::from_secs(60);
/// A build takes about a minute with a near mirror.
const BUILD_LIMIT: Duration = Duration::from_secs(15 * 60);

/// An image with the server of a release.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    /// The name to give to `docker run`.
    pub(crate) tag: String,
    pub(crate) release: &'static Release,
}

impl Image {
    /// Finds, fetches or builds the image.
    ///
    /// # Errors
    /// When none of the three ways works. The error says what to do.
    pub(crate) fn ensure(release: &'static Release, progress: Progress) -> anyhow::Result<Self> {
        let image = Self { tag: tag(release, &[RECIPE, EXTENSION].concat()), release };
        if present(&image.tag) {
            progress.say(&format!("image {} is present", image.tag));
            return Ok(image);
        }
        let official = release.official();
        let is_here = present(&official) || pull(&official, progress);
        if is_here && extend(&official, &image, progress)? {
            return Ok(image);
        }
        build(&image, progress)?;
        Ok(image)
    }
}

fn tag(release: &Release, recipe: &str) -> String {
    let Release { engine, version, suite, packages } = release;
    let packages = [packages, engine.tools].concat().join(" ");
    let hash = fnv1a(format!("{version} {suite} {packages}\n{recipe}").as_bytes());
    format!("{PREFIX}{engine}:{version}-{hash:016x}")
}

/// FNV-1a, 64 bits: the standard library's hashes may change with the compiler.
/// <https://datatracker.ietf.org/doc/html/draft-eastlake-fnv>
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn present(tag: &str) -> bool {
    docker(["image", "inspect", "--format", "{{.Id}}", tag]).is_ok()
}

fn pull(official: &str, progress: Progress) -> bool {
    progress.say(&format!("pulling {official}"));
    let pulled = bounded(["pull", "--quiet", official], Patience::up_to(PULL_LIMIT));
    if let Err(error) = &pulled {
        let reason = process::tail(&format!("{error:#}"), 1);
        progress.say(&format!("no registry gives us {official} ({reason})"));
    }
    pulled.is_ok()
}

/// Adds to the official image what it lacks. Returns whether this worked.
fn extend(official: &str, image: &Image, progress: Progress) -> anyhow::Result<bool> {
    let directory = tempfile::tempdir().context("cannot make a temporary directory")?;
    let recipe = directory.path().join("Dockerfile");
    std::fs::write(&recipe, EXTENSION)
        .with_context(|| format!("cannot write {}", recipe.display()))?;
    let official = format!("OFFICIAL={official}");
    let path = directory.path().to_string_lossy();
    let tools = format!("TOOLS={}", image.release.engine.tools.join(" "));
    let args = ["build", "--quiet", "--tag", &image.tag, "--build-arg", &official];
    let args = args.into_iter().chain(["--build-arg", &tools, &path]);
    let built = bounded(args, Patience::up_to(BUILD_LIMIT));
    if let Err(error) = &built {
        let reason = process::tail(&format!("{error:#}"), 1);
        progress.say(&format!("the official image cannot be extended ({reason})"));
    }
    Ok(built.is_ok())
}

fn build(image: &Image, progress: Progress) -> anyhow::Result<()> {
    crate::interrupt::check()?;
    let Image { tag, release } = image;
    let user =
        process::capture(Command::new("id").arg("-u"), Patience::up_to(Duration::from_secs(10)))?;
    let otherwise = format!("or give Docker the image {}", release.official());
    ensure!(
        user.trim() == "0",
        "debootstrap needs root to build {tag}: run this once with sudo, {otherwise}"
    );
    ensure!(
        Command::new("debootstrap").arg("--version").output().is_ok(),
        "debootstrap is missing: `apt install debootstrap`, {otherwise}"
    );
    progress.say(&format!("building {tag} from Debian {}; about a minute, once", release.suite));
    let directory = tempfile::tempdir().context("cannot make a temporary directory")?;
    let log = directory.path().join("log");
    let file = File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "bash", "-c", RECIPE, "image.sh"])
        .arg(directory.path())
        .args([release.suite, tag, release.engine.user, release.engine.home])
        .args(release.packages)
        .args(release.engine.tools)
        .stdout(file.try_clone()?)
        .stderr(file);
    let last_line = || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        progress.say(&format!("  {}", process::tail(&text, 1)));
    };
    let built = process::follow(&mut command, Patience::up_to(BUILD_LIMIT), last_line);
    built.with_context(|| {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        format!("the image cannot be built:\n{}", process::tail(&text, 20))
    })?;
    progress.say(&format!("image {tag} is built, {} MB", megabytes(tag)?));
    Ok(())
}

fn megabytes(tag: &str) -> anyhow::Result<u64> {
    let bytes = docker(["image", "inspect", "--format", "{{.Size}}", tag])?;
    Ok(bytes.parse::<u64>().with_context(|| format!("not a size: {bytes}"))? / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::POSTGRES;

    #[test]
    fn the_hash_is_the_published_one() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn a_changed_recipe_changes_the_tag() {
        let release =
            |suite, packages| Release { engine: &POSTGRES, version: "17", suite, packages };
        let now = tag(&release("trixie", &["a"]), "recipe");
        assert!(now.starts_with("sealane-itest/postgres:17-"));
        assert_ne!(now, tag(&release("trixie", &["a"]), "another"));
        assert_ne!(now, tag(&release("sid", &["a"]), "recipe"));
        assert_ne!(now, tag(&release("trixie", &["b"]), "recipe"));
        assert_eq!(now, tag(&release("trixie", &["a"]), "recipe"));
    }
}
