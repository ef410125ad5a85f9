//! Runs other programs so that they end when they should.
//!
//! Every program gets its own process group, and waiting for it means polling. So a Ctrl-C in the
//! terminal reaches only this task, which then ends the whole group (cargo *and* the test binary
//! under it) and cleans up. A SIGTERM to this task alone works the same way. A second Ctrl-C does
//! not reach the programs of the clean-up.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use crate::interrupt;

/// How often to check a running program and the interrupt flag.
const POLL: Duration = Duration::from_millis(20);
/// How often to report the progress of a long program.
const TICK: Duration = Duration::from_secs(10);
/// How long a program may take to end after SIGINT before it is killed.
const GRACE: Duration = Duration::from_secs(5);

/// What may end the wait for a program before the program does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// The longest time that the program may run.
    pub(crate) limit: Duration,
    /// Whether Ctrl-C ends the program; false during clean-up.
    pub(crate) interruptible: bool,
}

impl Patience {
    /// A limit for work that may be abandoned.
    pub(crate) fn up_to(limit: Duration) -> Self {
        Self { limit, interruptible: true }
    }
}

/// The cargo that runs this task.
///
/// It does not get what that cargo told this task about the task's own package. Build scripts watch
/// these variables (that of `ring` does), so TLS and all above it would be built once more whenever
/// somebody calls cargo now with xtask, now without.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let ours = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_NAME", "CARGO_CRATE_NAME"];
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| ours.iter().any(|prefix| name.starts_with(prefix))) {
            command.env_remove(name);
        }
    }
    command
}

/// Runs `command` to its end and returns what it wrote to standard output.
///
/// # Errors
/// When it cannot start, fails (with the last lines it wrote), or `patience` ends.
pub(crate) fn capture(command: &mut Command, patience: Patience) -> anyhow::Result<String> {
    let what = describe(command);
    // Files instead of pipes: nothing has to read them while waiting.
    let mut out = tempfile::tempfile().context("cannot make a temporary file")?;
    let mut err = tempfile::tempfile().context("cannot make a temporary file")?;
    command.stdout(out.try_clone()?).stderr(err.try_clone()?);
    let status = spawn(command).and_then(|child| wait(child, patience))?;
    let text = read_all(&mut out)?;
    if status.success() {
        return Ok(text);
    }
    let errors = read_all(&mut err)?;
    bail!("{what}: {status}\n{}", tail(&format!("{text}{errors}"), 15));
}

/// Runs `command` to its end and returns its standard output. Its standard error goes where this
/// task's errors go.
///
/// # Errors
/// When it cannot start or fails, or on Ctrl-C.
pub(crate) fn capture_output(command: &mut Command) -> anyhow::Result<String> {
    let mut out = tempfile::tempfile().context("cannot make a temporary file")?;
    command.stdout(out.try_clone()?);
    show(command)?;
    read_all(&mut out)
}

/// Runs `command`; its output goes where this task's output goes.
///
/// # Errors
/// When it cannot start or fails, or on Ctrl-C.
pub(crate) fn show(command: &mut Command) -> anyhow::Result<()> {
    let what = describe(command);
    let forever = Patience::up_to(Duration::MAX);
    let status = spawn(command)
        .and_then(|child| wait(child, forever))
        // The program may have ended in the middle of a line.
        .inspect_err(|_| eprintln!())?;
    ensure!(status.success(), "{what}: {status}");
    Ok(())
}

/// Runs `command` to its end or for `limit`. Returns all its output, and whether it ended well;
/// `None` if it did not end in time.
///
/// # Errors
/// When it cannot start, or on Ctrl-C.
pub(crate) fn observe(
    command: &mut Command,
    limit: Duration,
) -> anyhow::Result<(String, Option<bool>)> {
    let mut out = tempfile::tempfile().context("cannot make a temporary file")?;
    command.stdout(out.try_clone()?).stderr(out.try_clone()?);
    let status = match wait(spawn(command)?, Patience::up_to(limit)) {
        Err(error) if interrupt::requested() => return Err(error),
        status => status.ok(),
    };
    Ok((read_all(&mut out)?, status.map(|status| status.success())))
}

/// Runs `command` to its end with all its output in `log`, and calls `tick` now and then.
///
/// # Errors
/// When it cannot start or fails, or on Ctrl-C.
pub(crate) fn log(command: &mut Command, log: &File, tick: impl FnMut()) -> anyhow::Result<()> {
    command.stdout(log.try_clone()?).stderr(log.try_clone()?);
    follow(command, Patience::up_to(Duration::MAX), tick)
}

/// Runs `command`, whose output the caller has sent elsewhere, and calls `tick` now and then.
///
/// # Errors
/// When it cannot start, fails, or `patience` ends.
pub(crate) fn follow(
    command: &mut Command,
    patience: Patience,
    tick: impl FnMut(),
) -> anyhow::Result<()> {
    let child = spawn(command)?;
    let status = wait_with(child, patience, tick)?;
    ensure!(status.success(), "{status}");
    Ok(())
}

/// The last `count` lines of `text`.
pub(crate) fn tail(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// Whether the process exists.
pub(crate) fn alive(pid: u32) -> bool {
    signal("0", &pid.to_string())
}

fn spawn(command: &mut Command) -> anyhow::Result<Child> {
    let what = describe(command);
    command
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start `{what}`"))
}

fn wait(child: Child, patience: Patience) -> anyhow::Result<ExitStatus> {
    wait_with(child, patience, || {})
}

fn wait_with(
    mut child: Child,
    patience: Patience,
    mut tick: impl FnMut(),
) -> anyhow::Result<ExitStatus> {
    let began = Instant::now();
    let mut ticked = began;
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for a program")? {
            return Ok(status);
        }
        if patience.interruptible && interrupt::requested() {
            end(&mut child)?;
            bail!("interrupted");
        }
        if began.elapsed() > patience.limit {
            end(&mut child)?;
            bail!("still running after {:?}", patience.limit);
        }
        if ticked.elapsed() > TICK {
            ticked = Instant::now();
            tick();
        }
        thread::sleep(POLL);
    }
}

/// Ends the program and everything it started.
fn end(child: &mut Child) -> anyhow::Result<()> {
    let group = format!("-{}", child.id());
    signal("INT", &group);
    let began = Instant::now();
    while began.elapsed() < GRACE {
        if child.try_wait()?.is_some() {
            return Ok(());
        }
        thread::sleep(POLL);
    }
    signal("KILL", &group);
    child.wait().context("cannot wait for a killed program")?;
    Ok(())
}

/// Sends a signal with the shell's `kill`: std has no signals, and this crate has no unsafe code.
fn signal(name: &str, target: &str) -> bool {
    Command::new("sh")
        .args(["-c", r#"kill -s "$1" -- "$2""#, "sh", name, target])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn read_all(file: &mut File) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))
        .and_then(|_| file.read_to_end(&mut bytes))
        .context("cannot read a program's output")?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The program and its first arguments, without whole scripts.
fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .take(8)
        .filter(|word| !word.contains('\n'));
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn output_is_captured() {
        let patience = Patience::up_to(Duration::from_secs(10));
        let out = capture(&mut shell("echo out; echo err >&2"), patience).unwrap();
        assert_eq!(out, "out\n");
    }

    #[test]
    fn output_is_captured_while_errors_are_shown() {
        assert_eq!(capture_output(&mut shell("echo out; echo err >&2")).unwrap(), "out\n");
        assert!(capture_output(&mut shell("exit 3")).is_err());
    }

    #[test]
    fn a_failure_contains_the_programs_output() {
        let patience = Patience::up_to(Duration::from_secs(10));
        let error = capture(&mut shell("echo because >&2; exit 3"), patience).unwrap_err();
        assert!(error.to_string().contains("because"), "{error}");
    }

    #[test]
    fn a_program_past_its_limit_is_ended() {
        let patience = Patience::up_to(Duration::from_millis(50));
        let began = Instant::now();
        assert!(capture(&mut shell("sleep 60"), patience).is_err());
        assert!(began.elapsed() < GRACE + Duration::from_secs(5));
    }

    #[test]
    fn own_process_is_alive() {
        assert!(alive(std::process::id()));
        assert!(!alive(u32::MAX / 2));
    }

    #[test]
    fn tail_keeps_the_last_lines() {
        assert_eq!(tail("a\nb\nc\n", 2), "b\nc");
        assert_eq!(tail("a", 2), "a");
    }
}
