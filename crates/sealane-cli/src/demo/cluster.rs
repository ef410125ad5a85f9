//! A PostgreSQL primary with three replicas in containers, through Docker's command line.
//!
//! Whoever drops the cluster removes it. Every command of Docker runs to its end on a thread of its
//! own, even if nobody waits for it any more, and the removal waits for the one that runs: a
//! container that is being created is removed, too.

use std::{
    net::{Ipv4Addr, TcpListener},
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sealane::{Condition, Config, Replica, RoutedConnection};
use tokio::time::{Instant, sleep};

use crate::CommandError;

/// So many replicas.
pub(super) const REPLICAS: usize = 3;
const SCRIPT: &str = include_str!("cluster.sh");
/// Four servers make their data, maybe on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(100);

/// The running containers. Dropping it removes them.
#[derive(Debug)]
pub(super) struct Cluster {
    docker: Docker,
    network: String,
    ports: Vec<u16>,
}

impl Cluster {
    /// Starts the containers, and waits until all replicas serve.
    ///
    /// # Errors
    /// Docker does not do what it should, or a server does not start within two minutes.
    pub(super) async fn start(image: &str) -> Result<Self, CommandError> {
        let docker = Docker::default();
        let ports = free_ports()?;
        // The port is free, so that no other demonstration has this name.
        let network = format!("sealane-demo-{}", ports[0]);
        if docker.run(&["image", "inspect", image]).await.is_err() {
            docker.run(&["pull", "--quiet", image]).await?;
        }
        // From here on, every way out removes what there is.
        let cluster = Cluster { docker, network, ports };
        cluster.docker.run(&["network", "create", &cluster.network]).await?;
        for number in 0..=REPLICAS {
            cluster.launch(number, image).await?;
        }
        let ready = cluster.ready().await;
        if ready.is_err() {
            cluster.check_running().await?;
        }
        ready.map(|()| cluster)
    }

    /// The primary with the first `replicas` replicas.
    pub(super) fn config(&self, replicas: usize) -> Config {
        let server = |number: usize| {
            let port = self.ports[number];
            let url = format!("postgres://sealane:sealane@127.0.0.1:{port}/sealane");
            Replica::from(url).name(name(number))
        };
        (1..=replicas).fold(Config::new(server(0)), |config, it| config.replica(server(it)))
    }

    /// Gives each server only this part of a processor: all of them share one machine.
    ///
    /// # Errors
    /// Docker refuses.
    pub(super) async fn limit(&self, processors: &str) -> Result<(), CommandError> {
        let containers: Vec<_> = (0..=REPLICAS).map(|it| self.container(it)).collect();
        let mut arguments = vec!["update", "--cpus", processors];
        arguments.extend(containers.iter().map(String::as_str));
        self.docker.run(&arguments).await
    }

    /// Ends the server with this number without a warning.
    ///
    /// # Errors
    /// Docker refuses.
    pub(super) async fn kill(&self, number: usize) -> Result<(), CommandError> {
        self.docker.run(&["kill", &self.container(number)]).await
    }

    /// Kills a running server, and starts one that was killed. Does not wait for it.
    pub(super) fn toggle(&self, number: usize) {
        let (docker, container) = (self.docker.clone(), self.container(number));
        tokio::spawn(async move {
            if docker.run(&["kill", &container]).await.is_err() {
                // What fails now is seen in the picture.
                let _ = docker.run(&["start", &container]).await;
            }
        });
    }

    fn container(&self, number: usize) -> String {
        format!("{}-{}", self.network, name(number))
    }

    async fn launch(&self, number: usize, image: &str) -> Result<(), CommandError> {
        let primary = if number == 0 { String::new() } else { name(0) };
        let arguments = [
            "run".to_owned(),
            "--detach".to_owned(),
            format!("--name={}", self.container(number)),
            format!("--network={}", self.network),
            format!("--network-alias={}", name(number)),
            format!("--publish=127.0.0.1:{}:5432", self.ports[number]),
            format!("--env=PRIMARY={primary}"),
            "--user=postgres".to_owned(),
            "--entrypoint=sh".to_owned(),
            image.to_owned(),
            "-c".to_owned(),
            SCRIPT.to_owned(),
        ];
        self.docker.run(&arguments.each_ref().map(String::as_str)).await
    }

    async fn ready(&self) -> Result<(), CommandError> {
        let until = Instant::now() + START_LIMIT;
        let db = loop {
            match sealane::connect(self.config(REPLICAS)).await {
                Ok(db) => break db,
                Err(error) if Instant::now() > until => return Err(CommandError::Connect(error)),
                Err(_) => sleep(LOOK).await,
            }
        };
        let ready = serving(&db, until).await;
        crate::status::close(db).await;
        ready
    }

    /// # Errors
    /// A container has ended; with the last lines of its log.
    async fn check_running(&self) -> Result<(), CommandError> {
        for number in 0..=REPLICAS {
            let container = self.container(number);
            // Fails for a container that has ended.
            if self.docker.run(&["exec", &container, "true"]).await.is_err() {
                let log = self.docker.told(&["logs", "--tail=3", &container]).await;
                let log = log.unwrap_or_default().replace('\n', "; ");
                return Err(CommandError::Docker(format!("{} has ended: {log}", name(number))));
            }
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let containers: Vec<_> = (0..=REPLICAS).map(|it| self.container(it)).collect();
        let mut remove = vec!["rm", "--force", "--volumes"];
        remove.extend(containers.iter().map(String::as_str));
        // Nothing can be done about what fails here.
        let _ = self.docker.blocking(&remove);
        let _ = self.docker.blocking(&["network", "rm", &self.network]);
    }
}

/// Waits until all replicas of `db` serve.
///
/// # Errors
/// They do not until then.
pub(super) async fn serving(db: &RoutedConnection, until: Instant) -> Result<(), CommandError> {
    loop {
        let status = db.status();
        // A server without replicas is not probed.
        let is_alone = status.endpoints.len() < 2;
        if is_alone || status.endpoints.iter().all(|it| it.condition == Condition::Serving) {
            return Ok(());
        }
        if Instant::now() > until {
            let text = "the replicas do not serve in time; `docker logs` may tell why";
            return Err(CommandError::Docker(text.to_owned()));
        }
        sleep(LOOK).await;
    }
}

/// One command of Docker at a time.
#[derive(Debug, Clone, Default)]
struct Docker(Arc<Mutex<()>>);

impl Docker {
    async fn run(&self, arguments: &[&str]) -> Result<(), CommandError> {
        self.told(arguments).await.map(drop)
    }

    /// What it prints, with its errors.
    async fn told(&self, arguments: &[&str]) -> Result<String, CommandError> {
        let docker = self.clone();
        let arguments: Vec<_> = arguments.iter().map(|it| (*it).to_owned()).collect();
        let told = tokio::task::spawn_blocking(move || {
            docker.blocking(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
        });
        told.await.unwrap_or_else(|panic| Err(CommandError::Docker(panic.to_string())))
    }

    fn blocking(&self, arguments: &[&str]) -> Result<String, CommandError> {
        let _one = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut command = Command::new("docker");
        command.args(arguments).stdin(Stdio::null());
        // Ctrl-C is for us.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let failed = |text: &str| CommandError::Docker(format!("docker {}: {text}", arguments[0]));
        let output = command.output().map_err(|error| failed(&error.to_string()))?;
        let errors = String::from_utf8_lossy(&output.stderr);
        match output.status.success() {
            true => Ok(format!("{}{errors}", String::from_utf8_lossy(&output.stdout))),
            false => Err(failed(errors.trim())),
        }
    }
}

fn name(number: usize) -> String {
    match number {
        0 => "primary".to_owned(),
        _ => format!("replica-{number}"),
    }
}

/// Ports that nobody listens on now. A container keeps its port when it starts again.
fn free_ports() -> Result<Vec<u16>, CommandError> {
    let listen = |_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    // All at once, so that they differ.
    let listeners = (0..=REPLICAS).map(listen).collect::<Result<Vec<_>, _>>()?;
    Ok(listeners
        .iter()
        .map(|it| Ok(it.local_addr()?.port()))
        .collect::<Result<_, std::io::Error>>()?)
}
