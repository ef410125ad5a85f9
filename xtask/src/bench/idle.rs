//! Measures the cost of an idle monitor on a real cluster.

use std::process::Command;

use anyhow::Context;

use crate::cluster::{Cluster, ENVIRONMENT};
use crate::image::Image;
use crate::progress::Progress;
use crate::release::Choice;
use crate::{clean, docker, process};

/// Enough replicas to show the cost of each additional one.
const REPLICAS: u8 = 5;

/// Runs the program `idle_monitor`, which is idle for `seconds` and prints what this cost.
///
/// # Errors
/// When no cluster can be started, or the costs are above their limits.
pub(super) fn measure(seconds: u32, progress: Progress) -> anyhow::Result<()> {
    docker::preflight()?;
    clean::orphans(progress)?;
    progress.say("building the program");
    let program = super::build("idle_monitor", &["monitor"])?;
    let release = Choice::default().releases().next().context("there is no release to run")?;
    let image = Image::ensure(release, progress)?;
    let cluster = Cluster::start(&image, REPLICAS, false, progress)?;
    progress.step("costs of an idle monitor", || {
        let mut command = Command::new(&program);
        command
            .arg(seconds.to_string())
            .env(ENVIRONMENT, cluster.to_json()?)
            // The error names the exceeded limit; a backtrace would only hide this.
            .env("RUST_LIB_BACKTRACE", "0");
        process::show(&mut command)
    })
}
