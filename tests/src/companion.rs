//! A program of Debian's that a suite needs beside the cluster, in a container of its own.
//!
//! Its image is the servers' image with the package in addition. It is made when a suite first asks
//! for it; afterwards Docker finds every step of the recipe in its cache. `cargo xtask clean
//! --images` removes it with the others.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::docker::docker;
use crate::{Engine, Server};

/// A browser and what it depends on are about a hundred packages.
const BUILD_LIMIT: Duration = Duration::from_secs(600);

/// What makes the image of a program.
#[derive(Debug)]
pub(crate) struct Recipe {
    /// The name in place of the engine's, in the name of the image.
    pub(crate) name: &'static str,
    /// The lines of the Dockerfile after `FROM`.
    pub(crate) lines: &'static str,
}

/// A running program on the network of this machine. Its container is removed on drop.
#[derive(Debug)]
pub(crate) struct Companion {
    container: String,
}

impl Companion {
    /// Runs the shell script `script`, as the user `postgres`. `server` lends its image and the
    /// labels of the run; it must be PostgreSQL's, which is always Debian's.
    ///
    /// # Errors
    /// When the image cannot be made, or the container does not start.
    pub(crate) async fn start(
        server: &Server,
        recipe: &Recipe,
        script: &str,
    ) -> anyhow::Result<Self> {
        ensure!(
            server.engine == Engine::Postgres,
            "the image of {:?} may not be Debian's",
            server.engine
        );
        let image = image(server, recipe).await?;
        let labels = server.inspect("{{range $k, $v := .Config.Labels}}{{$k}}={{$v}}\n{{end}}");
        let labels = labels.await?;
        let mut args = vec!["run".to_owned(), "--detach".to_owned(), "--network=host".to_owned()];
        // The labels of the run: with them the container is removed even if this process is killed.
        args.extend(labels.lines().filter(|it| !it.is_empty()).map(|it| format!("--label={it}")));
        args.extend(["--init", "--user=postgres", "--entrypoint=sh"].map(str::to_owned));
        args.extend([image, "-c".to_owned(), script.to_owned()]);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        Ok(Self { container: docker(&args).await? })
    }

    /// Runs another shell script beside the first one, to its end or in the background.
    ///
    /// # Errors
    /// When it fails, or the container has gone.
    pub(crate) async fn run(&self, script: &str, in_background: bool) -> anyhow::Result<()> {
        let how: &[&str] = if in_background { &["exec", "--detach"] } else { &["exec"] };
        let what = [&*self.container, "sh", "-c", script];
        docker(&[how, &what].concat()).await.map(drop)
    }

    /// The last lines that the program wrote.
    pub(crate) fn logs(&self) -> String {
        let logs = Command::new("docker").args(["logs", "--tail=20", &self.container]).output();
        logs.map_or_else(
            |error| error.to_string(),
            |logs| String::from_utf8_lossy(&[logs.stdout, logs.stderr].concat()).into_owned(),
        )
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        let remove = ["rm", "--force", "--volumes", &self.container];
        // If this fails, the container is removed with the run.
        let _ = Command::new("docker").args(remove).stdout(Stdio::null()).status();
    }
}

/// Finds or makes the image.
#[allow(clippy::print_stdout, reason = "the figures of a suite are a part of its result")]
async fn image(server: &Server, recipe: &Recipe) -> anyhow::Result<String> {
    let base = server.image().await?;
    let tag = base.replace("/postgres:", &format!("/{}:", recipe.name));
    ensure!(tag != base, "{base} has an unexpected name");
    let folder = tempfile::tempdir()?;
    let lines = format!("FROM {base}\n{}", recipe.lines);
    std::fs::write(folder.path().join("Dockerfile"), lines)?;
    let folder = folder.path().display().to_string();
    // The network of this machine, where the mirror can be reached.
    let args = ["build", "--quiet", "--network=host", "--tag", &tag, &folder];
    let began = Instant::now();
    let build = tokio::process::Command::new("docker").args(args).kill_on_drop(true).output();
    let built = tokio::time::timeout(BUILD_LIMIT, build).await??;
    ensure!(built.status.success(), "{tag}: {}", String::from_utf8_lossy(&built.stderr));
    println!("the image {tag} took {:.1} s", began.elapsed().as_secs_f64());
    Ok(tag)
}

/// A port that nobody listens on now.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
