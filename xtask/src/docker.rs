//! Runs Docker's command line, and defines the labels of our containers and networks.

use std::ffi::OsStr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::process::{self, Patience};

/// The label on everything we create; its value is the run's id.
pub(crate) const RUN: &str = "sealane.itest.run";
/// The process that created it, so that a later run can distinguish an orphan from a parallel run.
pub(crate) const PID: &str = "sealane.itest.pid";
/// Present if the user asked to keep the cluster.
pub(crate) const KEPT: &str = "sealane.itest.kept";

/// Longer than a short command takes, even on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// One of our containers or networks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Owned {
    pub(crate) id: String,
    pub(crate) pid: Option<u32>,
    pub(crate) kept: bool,
}

/// Runs one `docker` command and returns its output, trimmed.
pub(crate) fn docker<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> anyhow::Result<String> {
    bounded(args, Patience::up_to(LIMIT))
}

/// The same with another limit.
pub(crate) fn bounded<A: AsRef<OsStr>>(
    args: impl IntoIterator<Item = A>,
    patience: Patience,
) -> anyhow::Result<String> {
    let output = process::capture(Command::new("docker").args(args), patience)?;
    Ok(output.trim().to_owned())
}

/// The last lines of a container's output and errors.
pub(crate) fn logs(container: &str, lines: usize) -> anyhow::Result<String> {
    let mut command = Command::new("sh");
    let script = r#"exec docker logs --tail "$2" "$1" 2>&1"#;
    command.args(["-c", script, "sh", container, &lines.to_string()]);
    process::capture(&mut command, uninterruptible())
}

/// Fails if Docker cannot be used, and says what is missing and how to get it.
pub(crate) fn preflight() -> anyhow::Result<()> {
    let Err(error) = docker(["version", "--format", "{{.Server.Version}}"]) else {
        return Ok(());
    };
    let missing = error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound);
    bail!("{}", advice(missing, &format!("{error:#}")));
}

/// All containers with our label, or only those of `run`.
pub(crate) fn containers(run: Option<&str>) -> anyhow::Result<Vec<Owned>> {
    list(&["ps", "--all"], run)
}

/// All networks with our label, or only those of `run`.
pub(crate) fn networks(run: Option<&str>) -> anyhow::Result<Vec<Owned>> {
    list(&["network", "ls"], run)
}

/// Removes containers (with their anonymous volumes), then networks. Ctrl-C does not stop it.
pub(crate) fn remove(containers: &[Owned], networks: &[Owned]) -> anyhow::Result<()> {
    if !containers.is_empty() {
        let ids = containers.iter().map(|owned| owned.id.as_str());
        bounded(["rm", "--force", "--volumes"].into_iter().chain(ids), uninterruptible())
            .context("cannot remove the containers; try `cargo xtask clean`")?;
    }
    if !networks.is_empty() {
        let ids = networks.iter().map(|owned| owned.id.as_str());
        bounded(["network", "rm"].into_iter().chain(ids), uninterruptible())
            .context("cannot remove the networks; try `cargo xtask clean`")?;
    }
    Ok(())
}

fn uninterruptible() -> Patience {
    Patience { limit: LIMIT, interruptible: false }
}

fn list(command: &[&str], run: Option<&str>) -> anyhow::Result<Vec<Owned>> {
    let filter = match run {
        Some(run) => format!("label={RUN}={run}"),
        None => format!("label={RUN}"),
    };
    let format = format!(r#"{{{{.ID}}}} pid={{{{.Label "{PID}"}}}} kept={{{{.Label "{KEPT}"}}}}"#);
    let options = ["--no-trunc", "--filter", &filter, "--format", &format];
    let output = bounded(command.iter().copied().chain(options), uninterruptible())?;
    Ok(output.lines().filter_map(parse).collect())
}

/// One line of the format above; a missing label is an empty value.
fn parse(line: &str) -> Option<Owned> {
    let mut words = line.split(' ');
    let id = words.next().filter(|id| !id.is_empty())?.to_owned();
    let pid = words.next()?.strip_prefix("pid=")?.parse().ok();
    let kept = !words.next()?.strip_prefix("kept=")?.is_empty();
    Some(Owned { id, pid, kept })
}

fn advice(missing: bool, error: &str) -> String {
    let advice = if missing {
        "Docker is not installed: `apt install docker.io`, or https://docs.docker.com/engine/install/"
    } else if error.contains("permission denied") {
        "this user may not talk to Docker: `sudo usermod -aG docker $USER` and log in again, or run as root"
    } else if error.contains("Is the docker daemon running") || error.contains("annot connect") {
        "Docker is installed, but its daemon does not run: `systemctl start docker` (or `dockerd &` in a container)"
    } else {
        "Docker does not answer"
    };
    format!("{advice}\n{error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_from_a_listing() {
        let owned = |pid, kept| Owned { id: "ab12".to_owned(), pid, kept };
        assert_eq!(parse("ab12 pid=77 kept="), Some(owned(Some(77), false)));
        assert_eq!(parse("ab12 pid=77 kept=true"), Some(owned(Some(77), true)));
        assert_eq!(parse("ab12 pid= kept="), Some(owned(None, false)));
        assert_eq!(parse(""), None);
    }

    #[test]
    fn each_problem_with_docker_has_its_advice() {
        assert!(advice(true, "").contains("apt install docker.io"));
        assert!(advice(false, "permission denied while trying").contains("usermod"));
        let down = "Cannot connect to the Docker daemon. Is the docker daemon running?";
        assert!(advice(false, down).contains("systemctl start docker"));
    }
}
