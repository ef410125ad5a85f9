//! Removing what runs left behind.

use clap::Args;

use crate::docker::{self, Owned, docker};
use crate::image::REPOSITORY;
use crate::process;
use crate::progress::Progress;

/// Arguments of `cargo xtask clean`.
#[derive(Args, Debug)]
pub(crate) struct Clean {
    /// Remove the server images too; the next run builds or pulls them again.
    #[arg(long)]
    images: bool,
}

impl Clean {
    pub(crate) fn run(&self, progress: Progress) -> anyhow::Result<()> {
        docker::preflight()?;
        remove_if(progress, |_| true)?;
        if self.images {
            let tags = docker(["image", "ls", "--format", "{{.Repository}}:{{.Tag}}", REPOSITORY])?;
            for tag in tags.lines() {
                docker(["image", "rm", tag])?;
                progress.say(&format!("removed image {tag}"));
            }
        }
        Ok(())
    }
}

/// Removes what belongs to runs that ended without removing it (killed, or the machine was).
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
    !owned.kept && !owned.pid.is_some_and(alive)
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
}
