//! Runs Docker and other programs asynchronously.

use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::process::Command;
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(30);

/// Runs one `docker` command and returns its output, trimmed.
///
/// # Errors
/// When Docker refuses, or does not end within 30 s.
pub async fn docker(args: &[&str]) -> anyhow::Result<String> {
    run("docker", args).await
}

/// Runs one command and returns its output, trimmed.
pub(crate) async fn run(program: &str, args: &[&str]) -> anyhow::Result<String> {
    let what = format!("{program} {}", args.join(" "));
    let output = Command::new(program).args(args).kill_on_drop(true).output();
    let output = timeout(LIMIT, output)
        .await
        .with_context(|| format!("still running after {LIMIT:?}: {what}"))?
        .with_context(|| format!("cannot run {what}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{what}: {}", errors.trim());
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
