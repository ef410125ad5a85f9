//! A real Chromium without a screen, driven over HTTP as WebDriver says
//! (<https://www.w3.org/TR/webdriver2/>), in a container of its own.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::Server;
use crate::companion::{Companion, Recipe, free_port};
use crate::wait::eventually;

const START_LIMIT: Duration = Duration::from_secs(30);
/// Limit for one command, such as the visit of a page.
const COMMAND_LIMIT: Duration = Duration::from_secs(20);

/// Of the driver only its program: the package wants the browser with windows, which is twice as big.
const RECIPE: Recipe = Recipe {
    name: "chromium",
    lines: "\
USER root
RUN apt-get update && \
    apt-get install --yes --no-install-recommends chromium-headless-shell fonts-dejavu-core && \
    cd /tmp && apt-get download chromium-driver && dpkg-deb -x chromium-driver_*.deb tree && \
    mv tree/usr/bin/chromedriver /usr/bin && rm -rf /tmp/* /var/lib/apt/lists/*
",
};

/// What a page asks for with `prefers-color-scheme`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[allow(missing_docs, reason = "they say it")]
pub enum Scheme {
    Light,
    Dark,
}

/// A browser with one window. It is removed on drop.
#[derive(Debug)]
pub struct Browser {
    companion: Companion,
    session: String,
}

impl Browser {
    /// Opens the browser. `server` lends its image and the labels of the run; it must be
    /// PostgreSQL's.
    ///
    /// # Errors
    /// When the image cannot be made, or the browser does not open within 30 s.
    pub async fn open(server: &Server) -> anyhow::Result<Self> {
        let port = free_port()?;
        let script = format!("HOME=/tmp exec chromedriver --port={port}");
        let companion = Companion::start(server, &RECIPE, &script).await?;
        let driver = format!("http://127.0.0.1:{port}");
        let ready = async || Ok(call(&format!("{driver}/status"), None).await?["ready"] == true);
        eventually(START_LIMIT, "the driver is ready", ready)
            .await
            .with_context(|| companion.logs())?;
        // The sandbox needs rights that containers do not have, and `/dev/shm` is small there.
        let arguments = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"];
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "binary": "/usr/bin/chromium-headless-shell", "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
        }}});
        let opened = call(&format!("{driver}/session"), Some(wanted)).await;
        let opened = opened.with_context(|| companion.logs())?;
        let id = opened["sessionId"].as_str().context("no session")?;
        Ok(Self { session: format!("{driver}/session/{id}"), companion })
    }

    /// Goes to `url` and waits until the page is there.
    ///
    /// # Errors
    /// When the browser cannot reach it, or not within 20 s.
    pub async fn visit(&self, url: &str) -> anyhow::Result<()> {
        self.post("url", json!({ "url": url })).await.map(drop)
    }

    /// Runs the body of a function in the page, and returns what it returns.
    ///
    /// # Errors
    /// When the script throws.
    pub async fn run(&self, script: &str) -> anyhow::Result<Value> {
        let result = self.post("execute/sync", json!({ "script": script, "args": [] })).await;
        result.with_context(|| script.to_owned())
    }

    /// What the console has been told since the last call.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub async fn console(&self) -> anyhow::Result<Vec<String>> {
        let entries = self.post("se/log", json!({ "type": "browser" })).await?;
        let entries = entries.as_array().context("no log")?;
        Ok(entries.iter().map(|entry| entry["message"].to_string()).collect())
    }

    /// Chooses the colours that pages are asked for, at once and for pages to come.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub async fn prefer(&self, scheme: Scheme) -> anyhow::Result<()> {
        let value = if scheme == Scheme::Dark { "dark" } else { "light" };
        let features = json!([{ "name": "prefers-color-scheme", "value": value }]);
        self.tell("Emulation.setEmulatedMedia", json!({ "features": features })).await
    }

    /// Whether pages to come may run scripts. [`Browser::run`] may in any case.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub async fn allow_scripts(&self, is_allowed: bool) -> anyhow::Result<()> {
        self.tell("Emulation.setScriptExecutionDisabled", json!({ "value": !is_allowed })).await
    }

    /// Makes the window `width` pixels wide and `height` pixels high.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub async fn resize(&self, width: u32, height: u32) -> anyhow::Result<()> {
        self.post("window/rect", json!({ "width": width, "height": height })).await.map(drop)
    }

    /// Writes a picture of what the window shows, as PNG.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub async fn photograph(&self, path: &Path) -> anyhow::Result<()> {
        let picture = call(&format!("{}/screenshot", self.session), None).await?;
        let bytes = STANDARD.decode(picture.as_str().context("no picture")?)?;
        let folder = path.parent().context("a file is in a folder")?;
        std::fs::create_dir_all(folder)?;
        std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
    }

    /// A command of the browser's own protocol.
    async fn tell(&self, command: &str, parameters: Value) -> anyhow::Result<()> {
        let command = json!({ "cmd": command, "params": parameters });
        self.post("goog/cdp/execute", command).await.map(drop)
    }

    async fn post(&self, command: &str, body: Value) -> anyhow::Result<Value> {
        let answer = call(&format!("{}/{command}", self.session), Some(body)).await;
        answer.with_context(|| self.companion.logs())
    }
}

/// One command, and its value: a POST with `body`, or a GET without one. An error of WebDriver has its message in the body.
async fn call(url: &str, body: Option<Value>) -> anyhow::Result<Value> {
    let url = url.to_owned();
    let asked = tokio::task::spawn_blocking(move || -> anyhow::Result<Value> {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(COMMAND_LIMIT))
            .http_status_as_error(false)
            .build();
        let agent = ureq::Agent::new_with_config(config);
        let answer = match body {
            Some(body) => agent.post(&url).send_json(body),
            None => agent.get(&url).call(),
        };
        let mut answer = answer.with_context(|| url.clone())?;
        let is_fine = answer.status().is_success();
        let mut told: Value = answer.body_mut().read_json()?;
        ensure!(is_fine, "{url}: {}", told["value"]["message"]);
        Ok(told["value"].take())
    });
    asked.await?
}
