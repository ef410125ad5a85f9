//! One primary and its replicas, in containers on a separate network.
//!
//! The value owns the containers: dropping it, in whatever way, removes everything with its run's
//! label. The environment variable [`ENVIRONMENT`] passes the description of the cluster to the
//! suites as JSON; `tests/src/lib.rs` reads it.

use std::net::SocketAddrV4;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use serde::Serialize;

use crate::docker::{self, KEPT, PID, RUN, docker};
use crate::engine::Engine;
use crate::image::Image;
use crate::progress::Progress;
use crate::{interrupt, port};

/// The variable that tells the suites which cluster to use.
pub(crate) const ENVIRONMENT: &str = "SEALANE_ITEST";

const PRIMARY: &str = "primary";
/// A start takes 3 to 10 s, depending on the engine; a loaded machine may take longer.
const START_LIMIT: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(100);

/// A running cluster. It is removed on drop, unless it is kept.
#[derive(Debug, Serialize)]
pub(crate) struct Cluster {
    engine: &'static str,
    version: &'static str,
    run: String,
    network: String,
    servers: Vec<Server>,
    #[serde(skip)]
    keep: bool,
    #[serde(skip)]
    progress: Progress,
}

/// One server of the cluster.
#[derive(Debug, Serialize)]
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) container: String,
    pub(crate) url: String,
    admin_url: String,
    /// Where it is published.
    #[serde(skip)]
    address: SocketAddrV4,
}

impl Cluster {
    /// Starts a primary and `replicas` replicas, and waits until all of them replicate.
    ///
    /// # Errors
    /// When a container cannot start, ends, or is not ready in time. Nothing is left behind.
    pub(crate) fn start(
        image: &Image,
        replicas: u8,
        keep: bool,
        progress: Progress,
    ) -> anyhow::Result<Self> {
        let engine = image.release.engine;
        let run = run_id();
        let network = format!("sealane-itest-{run}");
        let names = (1..=replicas).map(|number| format!("replica-{number}"));
        let names: Vec<String> = std::iter::once(PRIMARY.to_owned()).chain(names).collect();
        let (engine_name, version) = (engine.name, image.release.version);
        let servers = Vec::new();
        // From here on, dropping `cluster` cleans up what the next lines have created so far.
        let mut cluster =
            Self { engine: engine_name, version, run, network, servers, keep, progress };
        let create = ["network", "create"].map(str::to_owned).into_iter();
        let named = std::iter::once(cluster.network.clone());
        docker(create.chain(cluster.labels()).chain(named))?;
        let addresses = port::free(port::host(&cluster.network)?, names.len())?;
        let servers = names.into_iter().zip(addresses).map(|(name, address)| Server {
            container: format!("{}-{name}", cluster.network),
            url: engine.url(address),
            admin_url: engine.admin_url(address),
            name,
            address,
        });
        cluster.servers = servers.collect();
        for (index, server) in cluster.servers.iter().enumerate() {
            docker(cluster.run_args(index, image))
                .with_context(|| format!("cannot start {}", server.name))?;
        }
        progress
            .say(&format!("{} containers started, waiting for replication", cluster.servers.len()));
        cluster.await_ready(engine).inspect_err(|_| cluster.show_logs())?;
        Ok(cluster)
    }

    /// The value of [`ENVIRONMENT`].
    pub(crate) fn to_json(&self) -> anyhow::Result<String> {
        serde_json::to_string(self).context("cannot describe the cluster")
    }

    /// The servers' engine and version as a word: `postgres-17`.
    pub(crate) fn release(&self) -> String {
        format!("{}-{}", self.engine, self.version)
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

    fn run_args(&self, index: usize, image: &Image) -> Vec<String> {
        let server = &self.servers[index];
        let engine = image.release.engine;
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
            format!("--publish={}:{}", server.address, engine.port),
            // Only needed for PostgreSQL, whose programs are not on the path.
            format!("--env=BIN=/usr/lib/postgresql/{}/bin", image.release.version),
            format!("--env=NAME={}", server.name),
            format!("--env=ID={}", index + 1),
            format!("--env=PRIMARY={primary}"),
            format!("--env=REPLICAS={}", replicas.join(" ")),
            "--env=LANG=C.UTF-8".to_owned(),
            // The data is on the machine's own file system, where a write costs less than in the
            // container's.
            format!("--volume={}", engine.home),
            // A small disk for tests in which a disk is full. It takes memory only for what is
            // written. `/var/tmp` is chosen because in every image every user may write there:
            // Docker forgets the mode of a mount when a container starts again.
            "--tmpfs=/var/tmp:size=256m,mode=1777".to_owned(),
            format!("--user={}", engine.user),
            format!("--stop-signal={}", engine.stop_signal),
            "--shm-size=256m".to_owned(),
            "--entrypoint=sh".to_owned(),
            image.tag.clone(),
            "-c".to_owned(),
            engine.start_script.to_owned(),
        ]);
        args
    }

    /// Waits until every server reports that it is ready.
    fn await_ready(&self, engine: &Engine) -> anyhow::Result<()> {
        let began = Instant::now();
        for server in &self.servers {
            while let Err(reason) = server.ready(engine) {
                interrupt::check()?;
                self.check_running()?;
                if began.elapsed() > START_LIMIT {
                    bail!("{} is not ready after {START_LIMIT:?}: {reason:#}", server.name);
                }
                thread::sleep(POLL);
            }
        }
        Ok(())
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

impl Server {
    fn ready(&self, engine: &Engine) -> anyhow::Result<()> {
        docker(["exec", &self.container, "sh", "-c", engine.ready_script]).map(drop)
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

/// Unique on this machine: two runs may share a process id, but not at the same time.
fn run_id() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let millis = since.map_or(0, |since| since.as_millis());
    format!("{}-{:x}", std::process::id(), millis & 0xffff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::MYSQL;
    use crate::release::Choice;

    /// The cluster is marked as kept, so that its drop does not call Docker.
    fn cluster() -> Cluster {
        let server = |name: &str, port| {
            let address = SocketAddrV4::new([10, 0, 0, 1].into(), port);
            Server {
                name: name.to_owned(),
                container: format!("net-{name}"),
                url: MYSQL.url(address),
                admin_url: MYSQL.admin_url(address),
                address,
            }
        };
        Cluster {
            engine: MYSQL.name,
            version: "9",
            run: "1-a".to_owned(),
            network: "net".to_owned(),
            servers: vec![server("primary", 20_001), server("replica-1", 20_002)],
            keep: true,
            progress: Progress::start(),
        }
    }

    fn image() -> Image {
        let choice: Choice = "mysql".parse().unwrap();
        Image { tag: "image".to_owned(), release: choice.releases().next().unwrap() }
    }

    #[test]
    fn only_a_replica_gets_the_name_of_its_primary() {
        let cluster = cluster();
        let primary = cluster.run_args(0, &image());
        let replica = cluster.run_args(1, &image());
        assert!(primary.contains(&"--env=PRIMARY=".to_owned()));
        assert!(replica.contains(&"--env=PRIMARY=primary".to_owned()));
        assert!(replica.contains(&"--env=ID=2".to_owned()));
        assert!(replica.contains(&"--publish=10.0.0.1:20002:3306".to_owned()));
        assert!(primary.contains(&"--env=REPLICAS=replica-1".to_owned()));
        assert_eq!(replica.last().map(String::as_str), Some(MYSQL.start_script));
    }

    #[test]
    fn everything_is_labelled() {
        let cluster = cluster();
        let args = cluster.run_args(0, &image());
        for label in cluster.labels() {
            assert!(args.contains(&label), "{label}");
        }
        assert!(cluster.labels().contains(&"--label=sealane.itest.run=1-a".to_owned()));
    }

    #[test]
    fn suites_get_names_containers_and_urls() {
        let json = cluster().to_json().unwrap();
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["engine"], "mysql");
        assert_eq!(value["network"], "net");
        assert_eq!(value["servers"][1]["name"], "replica-1");
        assert_eq!(value["servers"][1]["container"], "net-replica-1");
        let admin = "mysql://sealane_admin:sealane_admin@10.0.0.1:20002/sealane";
        assert_eq!(value["servers"][1]["admin_url"], admin);
        assert!(value.get("keep").is_none());
    }
}
