//! Removes what earlier runs left behind.

use clap::Args;

use crate::docker::{self, Owned, docker};
use crate::image::PREFIX;
use crate::process;
use crate::progress::Progress;

/// Arguments of `cargo xtask clean`.
#[derive(Args, Debug)]
pub(crate) struct Clean {
    /// Also remove the clusters of runs that are still running.
    #[arg(long)]
    all: bool,
    /// Remove the server images too; the next run builds or pulls them again.
    #[arg(long)]
    images: bool,
}

impl Clean {
    pub(crate) fn run(&self, progress: Progress) -> anyhow::Result<()> {
        docker::preflight()?;
        remove_if(progress, |owned| self.all || is_over(owned, process::alive))?;
        if self.images {
            remove_images(progress)?;
        }
        Ok(())
    }
}

fn remove_images(progress: Progress) -> anyhow::Result<()> {
    let reference = format!("reference={PREFIX}*");
    let format = "{{.Repository}}:{{.Tag}}";
    let tags = docker(["image", "ls", "--filter", &reference, "--format", format])?;
    for tag in tags.lines() {
        match docker(["image", "rm", tag]) {
            Ok(_) => progress.say(&format!("removed image {tag}")),
            // Another run uses the image.
            Err(error) if format!("{error:#}").contains("is being used") => {
                progress.say(&format!("image {tag} is in use and stays"));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Removes what belongs to runs that ended without cleaning up (the process or the machine was
/// killed).
pub(crate) fn orphans(progress: Progress) -> anyhow::Result<()> {
    remove_if(progress, |owned| is_orphan(owned, process::alive))
}

fn remove_if(progress: Progress, doomed: impl Fn(&Owned) -> bool) -> anyhow::Result<()> {
    let chosen = |mut all: Vec<Owned>| {
        all.retain(&doomed);
        all
    };
    let containers = chosen(docker::containers(None)?);
    let networks = chosen(docker::networks(None)?);
    docker::remove(&containers, &networks)?;
    if !containers.is_empty() || !networks.is_empty() {
        let (containers, networks) = (containers.len(), networks.len());
        progress.say(&format!(
            "removed {containers} containers and {networks} networks of earlier runs"
        ));
    }
    Ok(())
}

fn is_orphan(owned: &Owned, alive: impl Fn(u32) -> bool) -> bool {
    !owned.kept && is_over(owned, alive)
}

/// Whether the run that made it has ended.
fn is_over(owned: &Owned, alive: impl Fn(u32) -> bool) -> bool {
    !owned.pid.is_some_and(alive)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(pid: Option<u32>, kept: bool) -> Owned {
        Owned { id: "x".to_owned(), pid, kept }
    }

    #[test]
    fn only_unkept_things_of_dead_runs_are_orphans() {
        let alive = |pid| pid == 1;
        assert!(!is_orphan(&owned(Some(1), false), alive));
        assert!(is_orphan(&owned(Some(2), false), alive));
        assert!(!is_orphan(&owned(Some(2), true), alive));
        assert!(is_orphan(&owned(None, false), alive));
    }

    #[test]
    fn a_run_that_goes_on_is_not_over_whether_kept_or_not() {
        let alive = |pid| pid == 1;
        assert!(!is_over(&owned(Some(1), true), alive));
        assert!(!is_over(&owned(Some(1), false), alive));
        assert!(is_over(&owned(Some(2), true), alive));
    }
}
