//! What Docker and the kernel say about a server's container, without starting a program in it.
//!
//! Each test begins with these questions, so they are cheap: one call of Docker for all of them, and
//! files of the kernel. Only root may read those of other users' processes; where they cannot be read,
//! the answer is unknown, and whoever asks looks in the container, or does what undoes the fault.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;

use crate::Server;

const FORMAT: &str = "{{.State.Paused}} {{.State.Running}} {{len .NetworkSettings.Networks}} \
     {{.HostConfig.CpuQuota}} {{.State.Pid}}";

/// The state of a container.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Container {
    pub(crate) is_paused: bool,
    pub(crate) is_running: bool,
    pub(crate) has_network: bool,
    pub(crate) is_slowed: bool,
    /// The first process; 0 for none.
    process: u32,
}

impl Container {
    /// # Errors
    /// When Docker refuses.
    pub(crate) async fn of(server: &Server) -> anyhow::Result<Self> {
        let told = server.inspect(FORMAT).await?;
        Self::read(&told).with_context(|| format!("Docker says of {}: {told}", server.name))
    }

    fn read(told: &str) -> Option<Self> {
        let mut words = told.split(' ');
        let mut next = || words.next();
        Some(Self {
            is_paused: next()? == "true",
            is_running: next()? == "true",
            has_network: next()? != "0",
            is_slowed: next()?.parse::<i64>().ok()? > 0,
            process: next()?.parse().ok()?,
        })
    }

    /// Whether nothing is on the small disk; `None` if unknown.
    pub(crate) fn has_empty_disk(&self) -> Option<bool> {
        let mut entries = fs::read_dir(self.root().join("var/tmp")).ok()?;
        Some(entries.next().is_none())
    }

    /// Whether one of its processes is stopped; `None` if unknown.
    pub(crate) fn has_stopped_process(&self) -> Option<bool> {
        let mut any = None;
        for process in fs::read_dir(self.root().join("proc")).ok()?.flatten() {
            // Other files, and processes that have ended meanwhile, have no such file.
            let Ok(told) = fs::read_to_string(process.path().join("stat")) else { continue };
            let state = told.rsplit_once(") ").map(|(_, rest)| rest.starts_with('T'));
            any = any.max(state);
        }
        any
    }

    /// The container's file system.
    fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.process))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_words_are_read() {
        let container = Container::read("false true 1 0 77").unwrap();
        let well = Container {
            is_paused: false,
            is_running: true,
            has_network: true,
            is_slowed: false,
            process: 77,
        };
        assert_eq!(container, well);
        let container = Container::read("true true 0 10000 77").unwrap();
        assert!(container.is_paused && !container.has_network && container.is_slowed);
        assert_eq!(Container::read("true true 0"), None);
    }

    #[test]
    fn what_cannot_be_read_is_unknown() {
        let container = Container::read("false true 1 0 0").unwrap();
        assert_eq!((container.has_empty_disk(), container.has_stopped_process()), (None, None));
    }
}
