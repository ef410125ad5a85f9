//! A real Prometheus that scrapes a process under test, in a container of its own.
//!
//! Its image is the servers' image with Debian's package in addition. It is made when a suite first
//! asks for it, and `cargo xtask clean --images` removes it with the others.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::docker::docker;
use crate::wait::eventually;
use crate::{Engine, Server};

const START_LIMIT: Duration = Duration::from_secs(30);

/// Without what the package depends on: only its program is needed, and that is one file.
const RECIPE: &str = "\
USER root
RUN cd /tmp && apt-get update && apt-get download prometheus && dpkg-deb -x prometheus_*.deb tree && \
    mv tree/usr/bin/prometheus /usr/bin && rm -rf /tmp/* /var/lib/apt/lists/*
";

/// A Prometheus that scrapes and judges every second. It is removed on drop.
#[derive(Debug)]
pub struct Prometheus {
    container: String,
    url: String,
}

impl Prometheus {
    /// Scrapes `/metrics` below `path` on `port` of this machine and evaluates `rules`. `server`
    /// lends its image and the labels of the run; it must be PostgreSQL's, which is always Debian's.
    ///
    /// # Errors
    /// When the image cannot be made, or Prometheus does not answer within 30 s.
    pub async fn start(
        server: &Server,
        port: u16,
        path: &str,
        rules: &str,
    ) -> anyhow::Result<Self> {
        ensure!(
            server.engine == Engine::Postgres,
            "the image of {:?} may not be Debian's",
            server.engine
        );
        let image = image(server).await?;
        let own = free_port()?;
        let config = format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }}\n\
             rule_files: [ /tmp/alerts.yml ]\n\
             scrape_configs: [ {{ job_name: shop, metrics_path: {path}/metrics, \
             static_configs: [ {{ targets: [ '127.0.0.1:{port}' ] }} ] }} ]\n"
        );
        let script = format!(
            "cat > /tmp/alerts.yml <<'RULES'\n{rules}RULES\n\
             cat > /tmp/prometheus.yml <<'CONFIG'\n{config}CONFIG\n\
             exec prometheus --config.file=/tmp/prometheus.yml --storage.tsdb.path=/tmp/data \
             --web.listen-address=127.0.0.1:{own}\n"
        );
        let labels = server.inspect("{{range $k, $v := .Config.Labels}}{{$k}}={{$v}}\n{{end}}");
        let labels = labels.await?;
        let mut args = vec!["run".to_owned(), "--detach".to_owned(), "--network=host".to_owned()];
        // The labels of the run: with them the container is removed even if this process is killed.
        args.extend(labels.lines().filter(|it| !it.is_empty()).map(|it| format!("--label={it}")));
        args.extend(["--user=postgres", "--entrypoint=sh"].map(str::to_owned));
        args.extend([image, "-c".to_owned(), script]);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        // From here on, dropping `prometheus` removes the container.
        let url = format!("http://127.0.0.1:{own}");
        let prometheus = Self { container: docker(&args).await?, url };
        let scraped = async || Ok(!prometheus.query("up == 1").await?.is_empty());
        eventually(START_LIMIT, "Prometheus scrapes", scraped)
            .await
            .with_context(|| prometheus.logs())?;
        Ok(prometheus)
    }

    /// The series that `expression` gives now.
    ///
    /// # Errors
    /// When Prometheus does not answer, or refuses the expression.
    pub async fn query(&self, expression: &str) -> anyhow::Result<Vec<Value>> {
        let expression = expression.to_owned();
        let answer = self.get("query", vec![("query", expression)]).await?;
        Ok(answer["result"].as_array().context("no result")?.clone())
    }

    /// The names of the alerts that fire now, each once.
    ///
    /// # Errors
    /// When Prometheus does not answer.
    pub async fn firing(&self) -> anyhow::Result<Vec<String>> {
        let answer = self.get("alerts", Vec::new()).await?;
        let alerts = answer["alerts"].as_array().context("no alerts")?;
        let firing = alerts.iter().filter(|alert| alert["state"] == "firing");
        let name = |alert: &Value| alert["labels"]["alertname"].as_str().map(str::to_owned);
        let mut names: Vec<_> = firing.filter_map(name).collect();
        names.sort();
        names.dedup();
        Ok(names)
    }

    async fn get(&self, what: &str, query: Vec<(&'static str, String)>) -> anyhow::Result<Value> {
        let url = format!("{}/api/v1/{what}", self.url);
        let asked = tokio::task::spawn_blocking(move || -> anyhow::Result<Value> {
            let limit = Some(Duration::from_secs(5));
            let agent = ureq::Agent::config_builder().timeout_global(limit).build();
            let agent = ureq::Agent::new_with_config(agent);
            Ok(agent.get(url).query_pairs(query).call()?.body_mut().read_json()?)
        });
        let mut answer = asked.await??;
        Ok(answer["data"].take())
    }

    fn logs(&self) -> String {
        let logs = Command::new("docker").args(["logs", "--tail=20", &self.container]).output();
        logs.map_or_else(
            |error| error.to_string(),
            |logs| String::from_utf8_lossy(&logs.stderr).into_owned(),
        )
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let remove = ["rm", "--force", "--volumes", &self.container];
        // If this fails, the container is removed with the run.
        let _ = Command::new("docker").args(remove).stdout(Stdio::null()).status();
    }
}

/// Finds or makes the image.
async fn image(server: &Server) -> anyhow::Result<String> {
    let base = server.inspect("{{.Config.Image}}").await?;
    let tag = base.replace("/postgres:", "/prometheus:");
    ensure!(tag != base, "{base} has an unexpected name");
    if docker(&["image", "inspect", "--format", "{{.Id}}", &tag]).await.is_ok() {
        return Ok(tag);
    }
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("Dockerfile"), format!("FROM {base}\n{RECIPE}"))?;
    let folder = folder.path().display().to_string();
    // The network of this machine, where the mirror can be reached.
    let args = ["build", "--quiet", "--network=host", "--tag", &tag, &folder];
    let build = tokio::process::Command::new("docker").args(args).kill_on_drop(true).output();
    let built = tokio::time::timeout(Duration::from_secs(300), build).await??;
    ensure!(built.status.success(), "{tag}: {}", String::from_utf8_lossy(&built.stderr));
    Ok(tag)
}

/// A port that nobody listens on now.
fn free_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
