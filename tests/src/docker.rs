//! Docker's command line, asynchronously.

use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::process::Command;
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(30);

/// Runs one `docker` command and returns its output, trimmed.
pub(crate) async fn docker(args: &[&str]) -> anyhow::Result<String> {
    let what = args.join(" ");
    let output = Command::new("docker").args(args).kill_on_drop(true).output();
    let output = timeout(LIMIT, output)
        .await
        .with_context(|| format!("no end after {LIMIT:?}: docker {what}"))?
        .with_context(|| format!("cannot run docker {what}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "docker {what}: {}", errors.trim());
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
