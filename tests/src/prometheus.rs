//! A real Prometheus that scrapes a process under test, in a container of its own.

use std::time::Duration;

use anyhow::Context;
use serde_json::Value;

use crate::Server;
use crate::companion::{Companion, Recipe, free_port};
use crate::wait::eventually;

const START_LIMIT: Duration = Duration::from_secs(30);

/// Without what the package depends on: only its program is needed, and that is one file.
const RECIPE: Recipe = Recipe {
    name: "prometheus",
    lines: "\
USER root
RUN cd /tmp && apt-get update && apt-get download prometheus && dpkg-deb -x prometheus_*.deb tree && \
    mv tree/usr/bin/prometheus /usr/bin && rm -rf /tmp/* /var/lib/apt/lists/*
",
};

/// A Prometheus that scrapes and judges every second. It is removed on drop.
#[derive(Debug)]
pub struct Prometheus {
    companion: Companion,
    url: String,
}

impl Prometheus {
    /// Scrapes `/metrics` below `path` on `port` of this machine and evaluates `rules`. `server`
    /// lends its image and the labels of the run; it must be PostgreSQL's.
    ///
    /// # Errors
    /// When the image cannot be made, or Prometheus does not answer within 30 s.
    pub async fn start(
        server: &Server,
        port: u16,
        path: &str,
        rules: &str,
    ) -> anyhow::Result<Self> {
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
        let companion = Companion::start(server, &RECIPE, &script).await?;
        let prometheus = Self { companion, url: format!("http://127.0.0.1:{own}") };
        let scraped = async || Ok(!prometheus.query("up == 1").await?.is_empty());
        eventually(START_LIMIT, "Prometheus scrapes", scraped)
            .await
            .with_context(|| prometheus.companion.logs())?;
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
}
