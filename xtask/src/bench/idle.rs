//! What a monitor costs that has nothing to do, on a real cluster.

use std::process::Command;

use anyhow::Context;

use crate::cluster::{Cluster, ENVIRONMENT};
use crate::image::Image;
use crate::progress::Progress;
use crate::release::Choice;
use crate::{clean, docker, process};

/// So that it shows what each more of them costs.
const REPLICAS: u8 = 5;

/// Lets the program `idle_monitor` do nothing for `seconds`, and print what that cost.
///
/// # Errors
/// When there is no cluster to be had, or the costs are above their limits.
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
            // The error names what is too much; a backtrace only buries it.
            .env("RUST_LIB_BACKTRACE", "0");
        process::show(&mut command)
    })
}
