//! `cargo xtask demo`: the command's own demonstration on a cluster, with an image that is pulled or
//! made from Debian's packages.

use std::os::unix::process::CommandExt;

use anyhow::Context;
use clap::Args;

use crate::docker;
use crate::image::Image;
use crate::process::cargo;
use crate::progress::Progress;
use crate::release::Choice;

/// Arguments of `cargo xtask demo`.
#[derive(Args, Debug)]
pub(crate) struct Demo {
    /// Further arguments of `sealane demo`, such as `--for 30s`.
    #[arg(last = true)]
    arguments: Vec<String>,
}

impl Demo {
    /// Becomes the demonstration, which has the terminal then and removes its cluster itself.
    pub(crate) fn run(&self, progress: Progress) -> anyhow::Result<()> {
        docker::preflight()?;
        let choice = Choice::default();
        let release = choice.releases().next().context("no release")?;
        let image = Image::ensure(release, progress)?;
        let mut command = cargo();
        command.args(["run", "--quiet", "--release", "--package=sealane-cli", "--"]);
        command.args(["demo", "--docker", "--image", &image.tag]).args(&self.arguments);
        Err(command.exec()).context("cannot run the demonstration")
    }
}
