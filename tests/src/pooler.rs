//! Poolers and balancers between applications and the cluster's servers. Each runs in a separate
//! container from the servers' image.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};

use crate::docker::docker;
use crate::wait::eventually;
use crate::{Cluster, Server};

const START_LIMIT: Duration = Duration::from_secs(30);
/// The port of the first address inside the container; the others follow.
const FIRST_PORT: u16 = 6000;

/// How PgBouncer assigns its connections, and what it does with startup parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PgBouncer {
    /// The `pool_mode`: `session` or `transaction`.
    pub mode: &'static str,
    /// Further lines of the configuration.
    pub settings: &'static str,
    /// The startup parameters that PgBouncer ignores. The driver sends `extra_float_digits`.
    pub ignores: &'static str,
}

/// A container between applications and servers. It is removed on drop, also if a test fails.
#[derive(Debug)]
pub struct Pooler {
    container: String,
    /// The URLs through which applications reach the servers, in the order in which the servers
    /// were given.
    pub urls: Vec<String>,
}

impl Pooler {
    /// One PgBouncer in front of each of `servers`.
    ///
    /// # Errors
    /// When the servers cannot be reached through it within 30 s.
    pub async fn pgbouncer(servers: &[Server], how: PgBouncer) -> anyhow::Result<Self> {
        let mut script = "cd /tmp\necho '\"sealane\" \"sealane\"' > users\n".to_owned();
        for (port, server) in (FIRST_PORT..).zip(servers) {
            let PgBouncer { mode, settings, ignores } = how;
            script += &format!(
                "cat > {port}.ini <<'INI'\n[databases]\nsealane = host={} port=5432\n[pgbouncer]\n\
                 listen_addr = 0.0.0.0\nlisten_port = {port}\nunix_socket_dir =\n\
                 auth_type = trust\nauth_file = users\npool_mode = {mode}\nmax_client_conn = 500\n\
                 default_pool_size = 20\nserver_login_retry = 1\n\
                 ignore_startup_parameters = {ignores}\n{settings}\nINI\npgbouncer {port}.ini &\n",
                server.name
            );
        }
        script += "wait\n";
        Self::start(servers, servers.len(), &script).await
    }

    /// HAProxy with an address for each list of servers: connections go to the first server of the
    /// list that answers.
    ///
    /// # Errors
    /// As [`Pooler::pgbouncer`].
    pub async fn haproxy(lists: &[&[&Server]]) -> anyhow::Result<Self> {
        let mut config = "defaults\n mode tcp\n timeout connect 1s\n timeout client 1h\n \
             timeout server 1h\n default-server inter 200ms fall 2 rise 2\n"
            .to_owned();
        for (port, servers) in (FIRST_PORT..).zip(lists) {
            config += &format!("listen at{port}\n bind :{port}\n");
            for (place, server) in servers.iter().enumerate() {
                let backup = if place == 0 { "" } else { " backup" };
                config += &format!(" server {0} {0}:5432 check{backup}\n", server.name);
            }
        }
        let script = format!(
            "cat > /tmp/haproxy.cfg <<'CFG'\n{config}CFG\nexec haproxy -f /tmp/haproxy.cfg"
        );
        let first = lists.first().and_then(|servers| servers.first()).context("no servers")?;
        Self::start(std::slice::from_ref(*first), lists.len(), &script).await
    }

    async fn start(servers: &[Server], addresses: usize, script: &str) -> anyhow::Result<Self> {
        let server = servers.first().context("no servers")?;
        let ports = FIRST_PORT..FIRST_PORT + u16::try_from(addresses)?;
        let labels = server.inspect("{{range $k, $v := .Config.Labels}}{{$k}}={{$v}}\n{{end}}");
        let labels = labels.await?;
        let image = server.inspect("{{.Config.Image}}").await?;
        let mut args = vec!["run".to_owned(), "--detach".to_owned()];
        // The labels of the run: with them the container is removed even if this process is killed.
        args.extend(labels.lines().filter(|it| !it.is_empty()).map(|it| format!("--label={it}")));
        args.push(format!("--network={}", server.network));
        args.extend(ports.clone().map(|port| format!("--publish=127.0.0.1::{port}")));
        args.extend(["--user=postgres", "--entrypoint=sh"].map(str::to_owned));
        args.extend([image, "-c".to_owned(), script.to_owned()]);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        // From here on, dropping `pooler` removes the container.
        let mut pooler = Self { container: docker(&args).await?, urls: Vec::new() };
        for port in ports {
            let published = docker(&["port", &pooler.container, &port.to_string()]).await?;
            let published = published.lines().next().context("no address")?;
            pooler.urls.push(format!("postgres://sealane:sealane@{published}/sealane"));
        }
        eventually(START_LIMIT, "the pooler leads to the servers", async || pooler.answers().await)
            .await
            .with_context(|| pooler.logs())?;
        Ok(pooler)
    }

    async fn answers(&self) -> anyhow::Result<bool> {
        for url in &self.urls {
            let options: PgConnectOptions = url.parse()?;
            let mut connection = PgConnection::connect_with(&options).await?;
            sqlx::raw_sql("SELECT 1").execute(&mut connection).await?;
            connection.close().await?;
        }
        Ok(true)
    }

    /// PgBouncer's version, such as `[1, 24]`.
    ///
    /// # Errors
    /// When the version cannot be read.
    pub async fn pgbouncer_version(server: &Server) -> anyhow::Result<[u32; 2]> {
        let told = docker(&["exec", &server.container, "pgbouncer", "--version"]).await?;
        let number = told.split_whitespace().nth(1).context("no version")?;
        let mut parts = number.split('.').map(str::parse::<u32>);
        let mut part = || anyhow::Ok(parts.next().context("half a version")??);
        Ok([part()?, part()?])
    }

    /// The last lines of the container's log.
    #[must_use]
    pub fn logs(&self) -> String {
        let logs = Command::new("docker").args(["logs", "--tail=30", &self.container]).output();
        logs.map_or_else(
            |error| error.to_string(),
            |logs| {
                let (out, err) = (&logs.stdout, &logs.stderr);
                [String::from_utf8_lossy(out), String::from_utf8_lossy(err)].concat()
            },
        )
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let remove = ["rm", "--force", "--volumes", &self.container];
        // If this fails, the container is removed with the run.
        let _ = Command::new("docker").args(remove).stdout(Stdio::null()).status();
    }
}

/// The cluster's first three servers.
///
/// # Errors
/// When the cluster has fewer than three servers.
pub fn three(cluster: &Cluster) -> anyhow::Result<[&Server; 3]> {
    let servers: Vec<&Server> = cluster.servers().iter().take(3).collect();
    ensure!(servers.len() == 3, "a primary and two replicas are needed");
    servers.try_into().ok().context("three servers")
}
