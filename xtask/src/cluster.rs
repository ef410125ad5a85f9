//! One PostgreSQL primary and its streaming replicas, in containers on a network of their own.
//!
//! The value owns them: dropping it, on whatever way, removes everything that carries its
//! run's label. What a suite may know of it travels as JSON in the environment variable
//! [`ENVIRONMENT`]; `tests/src/lib.rs` reads it.

use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use serde::Serialize;

use crate::docker::{self, KEPT, PID, RUN, docker};
use crate::image::Image;
use crate::progress::Progress;
use crate::{interrupt, port};

/// The variable that tells the suites which cluster to use.
pub(crate) const ENVIRONMENT: &str = "SEALANE_ITEST";

const START_SCRIPT: &str = include_str!("server.sh");
const PRIMARY: &str = "primary";
/// Copying the primary takes a second or two; a loaded machine may take long.
const START_LIMIT: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(100);

/// A running cluster; gone when dropped, unless kept.
#[derive(Debug, Serialize)]
pub(crate) struct Cluster {
    engine: &'static str,
    run: String,
    network: String,
    servers: Vec<Server>,
    #[serde(skip)]
    keep: bool,
    #[serde(skip)]
    progress: Progress,
}

/// One server of it.
#[derive(Debug, Serialize)]
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) container: String,
    pub(crate) url: String,
    #[serde(skip)]
    port: u16,
}

impl Cluster {
    /// Starts a primary and `replicas` replicas, and waits until all of them stream.
    ///
    /// # Errors
    /// When a container cannot start, ends, or is not ready in time. Nothing is left behind.
    pub(crate) fn start(
        image: &Image,
        replicas: u8,
        keep: bool,
        progress: Progress,
    ) -> anyhow::Result<Self> {
        let run = run_id();
        let network = format!("sealane-itest-{run}");
        let names = (1..=replicas).map(|number| format!("replica-{number}"));
        let names: Vec<String> = std::iter::once(PRIMARY.to_owned()).chain(names).collect();
        let ports = port::free(names.len())?;
        let servers = names
            .into_iter()
            .zip(ports)
            .map(|(name, port)| Server {
                container: format!("{network}-{name}"),
                url: format!("postgres://sealane:sealane@127.0.0.1:{port}/sealane"),
                name,
                port,
            })
            .collect();
        // From here on dropping it cleans up what the next lines have made so far.
        let cluster = Self { engine: "postgres", run, network, servers, keep, progress };
        let create = ["network", "create"].map(str::to_owned).into_iter();
        let named = std::iter::once(cluster.network.clone());
        docker(create.chain(cluster.labels()).chain(named))?;
        for server in &cluster.servers {
            docker(cluster.run_args(server, image))
                .with_context(|| format!("cannot start {}", server.name))?;
        }
        progress
            .say(&format!("{} containers started, waiting for replication", cluster.servers.len()));
        cluster.await_streaming().inspect_err(|_| cluster.show_logs())?;
        Ok(cluster)
    }

    /// The value of [`ENVIRONMENT`].
    pub(crate) fn to_json(&self) -> anyhow::Result<String> {
        serde_json::to_string(self).context("cannot describe the cluster")
    }

    /// The servers, the primary first.
    pub(crate) fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// Prints the end of every server's log.
    pub(crate) fn show_logs(&self) {
        for server in &self.servers {
            let text = docker::logs(&server.container, 30)
                .unwrap_or_else(|error| format!("no log: {error:#}"));
            eprintln!("\n--- last log lines of {}\n{}", server.name, text.trim_end());
        }
        eprintln!();
    }

    fn labels(&self) -> Vec<String> {
        let mut labels = vec![
            format!("--label={RUN}={}", self.run),
            format!("--label={PID}={}", std::process::id()),
        ];
        if self.keep {
            labels.push(format!("--label={KEPT}=true"));
        }
        labels
    }

    fn run_args(&self, server: &Server, image: &Image) -> Vec<String> {
        let replicas = self.servers.iter().map(|server| server.name.as_str());
        let replicas: Vec<&str> = replicas.filter(|name| *name != PRIMARY).collect();
        let primary = if server.name == PRIMARY { "" } else { PRIMARY };
        let mut args = vec!["run".to_owned(), "--detach".to_owned()];
        args.extend(self.labels());
        args.extend([
            format!("--name={}", server.container),
            format!("--hostname={}", server.name),
            format!("--network={}", self.network),
            format!("--network-alias={}", server.name),
            format!("--publish=127.0.0.1:{}:5432", server.port),
            format!("--env=BIN=/usr/lib/postgresql/{}/bin", image.version),
            format!("--env=NAME={}", server.name),
            format!("--env=PRIMARY={primary}"),
            format!("--env=REPLICAS={}", replicas.join(" ")),
            "--env=LANG=C.UTF-8".to_owned(),
            "--user=postgres".to_owned(),
            // PostgreSQL's fast shutdown; SIGTERM would wait for every client to leave.
            "--stop-signal=SIGINT".to_owned(),
            "--shm-size=256m".to_owned(),
            "--entrypoint=sh".to_owned(),
            image.tag.clone(),
            "-c".to_owned(),
            START_SCRIPT.to_owned(),
        ]);
        args
    }

    fn await_streaming(&self) -> anyhow::Result<()> {
        let wanted = (self.servers.len() - 1).to_string();
        let began = Instant::now();
        loop {
            interrupt::check()?;
            let streaming = self.streaming();
            if streaming.as_deref().is_ok_and(|count| count == wanted) {
                return Ok(());
            }
            self.check_running()?;
            if began.elapsed() > START_LIMIT {
                bail!("replication is not up after {START_LIMIT:?}: {streaming:?} of {wanted}");
            }
            thread::sleep(POLL);
        }
    }

    /// How many replicas stream, as the primary sees it.
    fn streaming(&self) -> anyhow::Result<String> {
        let primary = self.servers.first().context("a cluster has a primary")?;
        let sql = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";
        let psql = ["psql", "--host=/tmp", "--username=sealane", "--no-align"];
        let query = ["--tuples-only", "--dbname=sealane", "--command", sql];
        let exec = ["exec", primary.container.as_str()];
        docker(exec.into_iter().chain(psql).chain(query))
    }

    fn check_running(&self) -> anyhow::Result<()> {
        for server in &self.servers {
            let format = "{{.State.Status}}";
            let status = docker(["inspect", "--format", format, &server.container])?;
            anyhow::ensure!(status == "running", "{} is {status}", server.name);
        }
        Ok(())
    }

    fn remove(&self) -> anyhow::Result<()> {
        let containers = docker::containers(Some(&self.run))?;
        let networks = docker::networks(Some(&self.run))?;
        docker::remove(&containers, &networks)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.keep && !interrupt::requested() && !thread::panicking() {
            return;
        }
        match self.remove() {
            Ok(()) => self.progress.say("cluster removed"),
            Err(error) => self.progress.say(&format!("{error:#}")),
        }
    }
}

/// Unique on this machine: two runs may share a process id, though not at one time.
fn run_id() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let millis = since.map_or(0, |since| since.as_millis());
    format!("{}-{:x}", std::process::id(), millis & 0xffff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kept, so that dropping it asks nothing of Docker.
    fn cluster() -> Cluster {
        let server = |name: &str, port| Server {
            name: name.to_owned(),
            container: format!("net-{name}"),
            url: "postgres://localhost/".to_owned(),
            port,
        };
        Cluster {
            engine: "postgres",
            run: "1-a".to_owned(),
            network: "net".to_owned(),
            servers: vec![server("primary", 20_001), server("replica-1", 20_002)],
            keep: true,
            progress: Progress::start(),
        }
    }

    #[test]
    fn a_replica_is_told_whom_to_follow_and_a_primary_is_not() {
        let cluster = cluster();
        let image = Image { tag: "image".to_owned(), version: 17 };
        let primary = cluster.run_args(&cluster.servers[0], &image);
        let replica = cluster.run_args(&cluster.servers[1], &image);
        assert!(primary.contains(&"--env=PRIMARY=".to_owned()));
        assert!(replica.contains(&"--env=PRIMARY=primary".to_owned()));
        assert!(replica.contains(&"--publish=127.0.0.1:20002:5432".to_owned()));
        assert!(primary.contains(&"--env=REPLICAS=replica-1".to_owned()));
        assert_eq!(replica.last().map(String::as_str), Some(START_SCRIPT));
    }

    #[test]
    fn everything_is_labelled() {
        let image = Image { tag: "image".to_owned(), version: 17 };
        let cluster = cluster();
        let args = cluster.run_args(&cluster.servers[0], &image);
        for label in cluster.labels() {
            assert!(args.contains(&label), "{label}");
        }
        assert!(cluster.labels().contains(&"--label=sealane.itest.run=1-a".to_owned()));
    }

    #[test]
    fn suites_get_names_containers_and_urls() {
        let json = cluster().to_json().unwrap();
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["network"], "net");
        assert_eq!(value["servers"][1]["name"], "replica-1");
        assert_eq!(value["servers"][1]["container"], "net-replica-1");
        assert!(value.get("keep").is_none());
    }
}
