//! The server image: the one already here, else the official one, else one made of packages.
//!
//! The tag carries a hash of the recipe, so that a changed recipe makes a new image and the
//! old one is dropped. Our start script (`server.sh`) asks of an image only a user
//! `postgres` and the programs under `/usr/lib/postgresql/<version>/bin`, which the official
//! image and Debian's packages both have.

use std::fs::File;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use crate::docker::{bounded, docker};
use crate::process::{self, Patience};
use crate::progress::Progress;

/// The repository part of our images' names.
pub(crate) const REPOSITORY: &str = "sealane-itest/postgres";

const RECIPE: &str = include_str!("image.sh");
/// A registry that cannot be reached often answers with silence.
const PULL_LIMIT: Duration = Duration::from_secs(60);
/// Building takes about a minute where the mirror is near.
const BUILD_LIMIT: Duration = Duration::from_secs(15 * 60);

/// An image that holds a PostgreSQL server.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    /// The name to give to `docker run`.
    pub(crate) tag: String,
    /// PostgreSQL's major version.
    pub(crate) version: u16,
}

impl Image {
    /// Finds, fetches or builds the image.
    ///
    /// # Errors
    /// When none of the three works, with what to do about it.
    pub(crate) fn ensure(version: u16, progress: Progress) -> anyhow::Result<Self> {
        let suite = suite(version)?;
        let tag = tag(version, suite, RECIPE);
        let image = Self { tag, version };
        if present(&image.tag) {
            progress.say(&format!("image {} is here", image.tag));
            return Ok(image);
        }
        drop_outdated(version)?;
        let official = format!("postgres:{version}");
        if present(&official) || pull(&official, progress) {
            docker(["tag", &official, &image.tag])?;
            return Ok(image);
        }
        build(suite, &image, progress)?;
        Ok(image)
    }
}

/// The Debian suite whose own packages have that version.
fn suite(version: u16) -> anyhow::Result<&'static str> {
    match version {
        15 => Ok("bookworm"),
        17 => Ok("trixie"),
        18 => Ok("sid"),
        other => bail!("no recipe for PostgreSQL {other}; there is one for 15, 17 and 18"),
    }
}

fn tag(version: u16, suite: &str, recipe: &str) -> String {
    let hash = fnv1a(format!("{version} {suite}\n{recipe}").as_bytes());
    format!("{REPOSITORY}:{version}-{hash:016x}")
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

/// Images of earlier recipes for the same version.
fn drop_outdated(version: u16) -> anyhow::Result<()> {
    let reference = format!("reference={REPOSITORY}:{version}-*");
    let format = "{{.Repository}}:{{.Tag}}";
    let tags = docker(["image", "ls", "--filter", &reference, "--format", format])?;
    for tag in tags.lines() {
        // Still used by a kept cluster: it stays, and does no harm.
        docker(["image", "rm", tag]).ok();
    }
    Ok(())
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

fn build(suite: &str, image: &Image, progress: Progress) -> anyhow::Result<()> {
    crate::interrupt::check()?;
    let version = image.version;
    let user =
        process::capture(Command::new("id").arg("-u"), Patience::up_to(Duration::from_secs(10)))?;
    ensure!(
        user.trim() == "0",
        "debootstrap needs root to build {}: run this once with sudo, or give Docker the image postgres:{version}",
        image.tag
    );
    ensure!(
        Command::new("debootstrap").arg("--version").output().is_ok(),
        "debootstrap is missing: `apt install debootstrap`, or give Docker the image postgres:{version}"
    );
    progress.say(&format!("building {} from Debian {suite}; about a minute, once", image.tag));
    let directory = tempfile::tempdir().context("cannot make a temporary directory")?;
    let log = directory.path().join("log");
    let file = File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "bash", "-c", RECIPE, "image.sh"])
        .arg(directory.path())
        .args([suite, &version.to_string(), &image.tag])
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
    progress.say(&format!("image {} is built", image.tag));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_published_one() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn a_changed_recipe_changes_the_tag() {
        let tag_now = tag(17, "trixie", "a");
        assert!(tag_now.starts_with("sealane-itest/postgres:17-"));
        assert_ne!(tag_now, tag(17, "trixie", "b"));
        assert_ne!(tag_now, tag(17, "sid", "a"));
        assert_eq!(tag_now, tag(17, "trixie", "a"));
    }

    #[test]
    fn an_unknown_version_names_the_known_ones() {
        assert_eq!(suite(17).unwrap(), "trixie");
        assert!(suite(9).unwrap_err().to_string().contains("15, 17 and 18"));
    }
}
