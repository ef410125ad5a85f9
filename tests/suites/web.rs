//! A web service in two processes over replicas that lag: a user writes on one instance and
//! reads on the other. The processes are the example `web`, the users plain HTTP clients.

use std::{cell::Cell, collections::HashSet, process::Stdio, time::Duration};

use anyhow::{Context, ensure};
use sealane_tests::{BROKEN_PROMISE, Cluster, eventually, fleet};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    task::JoinSet,
    time::timeout,
};

/// Behind enough for a stale read whenever nobody prevents it. MySQL and MariaDB make it a
/// whole second.
const DELAY: Duration = Duration::from_millis(300);
const COOKIE: &str = "sealane";
const TOKEN_KEY: &str = "a key of the tests, and nobody else's";
const TABLE: &str = "sealane_example_boat";

/// A process that serves the example; it ends with this value, also when a test fails.
struct Instance {
    url: String,
    _process: Child,
    /// With its configuration, if it has a file.
    _folder: Option<TempDir>,
}

impl Instance {
    async fn start(cluster: &Cluster) -> anyhow::Result<Self> {
        let replicas: Vec<_> = cluster.replicas().iter().map(|it| it.url.as_str()).collect();
        let mut command = Command::new(env!("CARGO_BIN_EXE_web"));
        command
            .env("DATABASE_URL", &cluster.primary().url)
            .env("DATABASE_REPLICA_URLS", replicas.join(","))
            .env("TOKEN_KEY", TOKEN_KEY);
        Instance::serving(command).await
    }

    /// One with this section `[routing]`.
    async fn routing(cluster: &Cluster, routing: &str) -> anyhow::Result<Self> {
        let (primary, folder) = (&cluster.primary().url, tempfile::tempdir()?);
        let mut text = format!("[routing]\n{routing}\n[primary]\nurl = '{primary}'\n");
        for replica in cluster.replicas() {
            text.push_str(&format!(
                "[[replicas]]\nname = '{}'\nurl = '{}'\n",
                replica.name, replica.url
            ));
        }
        text.push_str(&format!("[tokens]\nkeys = [\"{TOKEN_KEY}\"]\n"));
        let file = folder.path().join("sealane.toml");
        std::fs::write(&file, text)?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_web"));
        command.env("CONFIG", &file);
        let instance = Instance::serving(command).await?;
        Ok(Instance { _folder: Some(folder), ..instance })
    }

    async fn serving(mut command: Command) -> anyhow::Result<Self> {
        let mut process = command
            .arg("127.0.0.1:0")
            .env("RUST_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        // All else it says on its other output, which is ours.
        let mut lines = BufReader::new(process.stdout.take().context("no output")?).lines();
        let first = timeout(Duration::from_secs(30), lines.next_line()).await??;
        let first = first.context("it ended at once")?;
        let url = first.strip_prefix("listening on ").context(first.clone())?.to_owned();
        Ok(Instance { url, _process: process, _folder: None })
    }

    /// Reads so far, on the primary and on replicas.
    fn reads(&self) -> anyhow::Result<[u64; 2]> {
        let status = self.status()?;
        let (primary, replicas) = status.endpoints.split_first().context("no endpoints")?;
        Ok([primary.reads, replicas.iter().map(|endpoint| endpoint.reads).sum()])
    }

    fn status(&self) -> anyhow::Result<Status> {
        let agent = Browser::default().agent;
        Ok(agent.get(self.at("ops/status.json")).call()?.body_mut().read_json()?)
    }

    /// What shadow mode has recorded.
    fn shadow(&self) -> anyhow::Result<Shadow> {
        self.status()?.shadow.context("no shadow mode")
    }

    fn at(&self, path: &str) -> String {
        format!("{}/{path}", self.url)
    }
}

#[derive(Deserialize)]
struct Status {
    endpoints: Vec<Endpoint>,
    shadow: Option<Shadow>,
}

#[derive(Debug, Deserialize)]
struct Shadow {
    endpoints: Vec<Shadowed>,
    differences: Vec<Difference>,
}

#[derive(Debug, Deserialize)]
struct Shadowed {
    comparisons: Comparisons,
}

#[derive(Debug, Deserialize)]
struct Comparisons {
    equal: u64,
    differed: u64,
}

#[derive(Debug, Deserialize)]
struct Difference {
    statement: String,
    endpoint: String,
    rows_on_primary: u64,
    rows_on_replica: u64,
}

impl Shadow {
    /// How many comparisons found what this counts.
    fn sum(&self, count: impl Fn(&Comparisons) -> u64) -> u64 {
        self.endpoints.iter().map(|it| count(&it.comparisons)).sum()
    }
}

#[derive(Deserialize)]
struct Endpoint {
    reads: u64,
}

#[derive(Deserialize)]
struct Boat {
    id: i32,
}

/// Somebody who launches boats and looks for them.
#[derive(Clone)]
struct Browser {
    agent: ureq::Agent,
    /// What it sends for a cookie, and keeps up to date; `None` if it knows no cookies.
    cookie: Option<String>,
    /// How many cookies it was given.
    given: usize,
}

impl Default for Browser {
    fn default() -> Self {
        let limit = Duration::from_secs(20);
        let agent = ureq::Agent::config_builder().timeout_global(Some(limit)).build();
        Browser { agent: agent.into(), cookie: Some(String::new()), given: 0 }
    }
}

impl Browser {
    fn without_cookies() -> Self {
        Browser { cookie: None, ..Browser::default() }
    }

    fn launch(&mut self, instance: &str) -> anyhow::Result<i32> {
        let request = self.agent.post(format!("{instance}/boats"));
        let request = request.header("cookie", self.cookie.as_deref().unwrap_or_default());
        let mut response = request.send_json(serde_json::json!({"name": "Ida"}))?;
        self.keep_cookies(response.headers())?;
        Ok(response.body_mut().read_json::<Boat>()?.id)
    }

    /// Errors if the answer is any other than 200.
    fn sees(&mut self, boat: i32, instance: &str) -> anyhow::Result<bool> {
        let request = self.agent.get(format!("{instance}/boats"));
        let request = request.header("cookie", self.cookie.as_deref().unwrap_or_default());
        let mut response = request.call()?;
        self.keep_cookies(response.headers())?;
        let boats: Vec<Boat> = response.body_mut().read_json()?;
        Ok(boats.iter().any(|it| it.id == boat))
    }

    fn keep_cookies(&mut self, headers: &ureq::http::HeaderMap) -> anyhow::Result<()> {
        for cookie in headers.get_all("set-cookie") {
            let (cookie, _) = cookie.to_str()?.split_once(';').context("no attributes")?;
            ensure!(cookie.starts_with(COOKIE), "an unknown cookie");
            self.given += 1;
            self.cookie = self.cookie.take().map(|_| cookie.to_owned());
        }
        Ok(())
    }

    /// Launches `rounds` boats, here and there in turn, and looks for each at once where it
    /// was not launched, then where it was; how many were not there.
    fn misses(&mut self, rounds: usize, mut urls: [String; 2]) -> anyhow::Result<usize> {
        let mut misses = 0;
        for _ in 0..rounds {
            let boat = self.launch(&urls[0])?;
            misses += usize::from(!self.sees(boat, &urls[1])?);
            misses += usize::from(!self.sees(boat, &urls[0])?);
            urls.swap(0, 1);
        }
        Ok(misses)
    }
}

struct Service {
    cluster: Cluster,
    instances: [Instance; 2],
}

impl Service {
    async fn start() -> anyhow::Result<Self> {
        let cluster = fleet::moor().await?;
        cluster.primary().sql(&format!("DROP TABLE IF EXISTS {TABLE}")).await?;
        // One after the other: both make the table if it is not there.
        let one = Instance::start(&cluster).await?;
        let two = Instance::start(&cluster).await?;
        fleet::replayed(&cluster).await?;
        for instance in [&one, &two] {
            let on_replica = async || {
                Browser::without_cookies().sees(0, &instance.url)?;
                Ok(instance.reads()?[1] > 0)
            };
            eventually(Duration::from_secs(10), "replicas serve", on_replica).await?;
        }
        Ok(Service { cluster, instances: [one, two] })
    }

    fn urls(&self) -> [String; 2] {
        [&self.instances[0], &self.instances[1]].map(|instance| instance.url.clone())
    }

    async fn delay_replicas(&self, delay: Duration) -> anyhow::Result<()> {
        for replica in self.cluster.replicas() {
            replica.delay_replay(delay).await?;
        }
        Ok(())
    }

    /// Reads so far, on the primary and on replicas.
    fn reads(&self) -> anyhow::Result<[u64; 2]> {
        let [one, two] = [self.instances[0].reads()?, self.instances[1].reads()?];
        Ok([one[0] + two[0], one[1] + two[1]])
    }

    /// The percentage of reads on replicas since `before`.
    fn share_since(&self, before: [u64; 2]) -> anyhow::Result<f64> {
        let after = self.reads()?;
        let [primary, replicas] = [after[0] - before[0], after[1] - before[1]];
        Ok(100.0 * replicas as f64 / (primary + replicas) as f64)
    }

    /// `users` who do the same at once.
    async fn with_users<T: Send + 'static>(
        &self,
        users: usize,
        act: impl Fn([String; 2]) -> anyhow::Result<T> + Clone + Send + 'static,
    ) -> anyhow::Result<Vec<T>> {
        let mut acting = JoinSet::new();
        for _ in 0..users {
            let (urls, act) = (self.urls(), act.clone());
            acting.spawn_blocking(move || act(urls));
        }
        acting.join_all().await.into_iter().collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_writes_on_one_instance_reads_it_on_the_other() -> anyhow::Result<()> {
    const USERS: usize = 4;
    const ROUNDS: usize = 100;
    let service = Service::start().await?;
    service.delay_replicas(DELAY).await?;
    let before = service.reads()?;
    let misses = service.with_users(USERS, |urls| Browser::default().misses(ROUNDS, urls)).await?;
    let misses: usize = misses.into_iter().sum();
    println!(
        "{} writes, {} reads: {misses} stale, {:.1}% on replicas that lag",
        USERS * ROUNDS,
        2 * USERS * ROUNDS,
        service.share_since(before)?
    );
    ensure!(misses == 0, "{BROKEN_PROMISE}: {misses} boats were not there");
    Ok(())
}

/// That the test above would find a stale read if there was one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_keeps_no_cookie_reads_the_past() -> anyhow::Result<()> {
    let service = Service::start().await?;
    service.delay_replicas(DELAY).await?;
    let misses = service.with_users(4, |urls| Browser::without_cookies().misses(10, urls)).await?;
    let misses: usize = misses.into_iter().sum();
    println!("without a cookie {misses} of 80 reads are stale");
    ensure!(misses >= 40, "{misses} of 80 reads from lagging replicas are stale");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_cookie_reads_no_past_and_is_replaced() -> anyhow::Result<()> {
    let service = Service::start().await?;
    service.delay_replicas(DELAY).await?;
    let forge = |urls: [String; 2]| {
        let mut browser = Browser::default();
        for round in 0..20 {
            let boat = browser.launch(&urls[0])?;
            let forged = match round % 3 {
                0 => browser.cookie.iter().flat_map(|it| it.chars().rev()).collect(),
                1 => "A".repeat(6_000),
                _ => String::new(),
            };
            let forged = format!("{COOKIE}={forged}");
            browser.cookie = Some(forged.clone());
            ensure!(
                browser.sees(boat, &urls[1])?,
                "{BROKEN_PROMISE}: not there with a forged cookie"
            );
            ensure!(browser.cookie != Some(forged), "it was not replaced");
            ensure!(
                browser.sees(boat, &urls[0])?,
                "{BROKEN_PROMISE}: not there with another cookie"
            );
        }
        Ok(())
    };
    service.with_users(4, forge).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_have_caught_up_serve_and_cookies_stay() -> anyhow::Result<()> {
    const ROUNDS: usize = 20;
    const READS: usize = 20;
    let service = Service::start().await?;
    service.delay_replicas(DELAY).await?;
    let mut browser = Browser::default();
    let boat = browser.launch(&service.urls()[0])?;
    ensure!(
        browser.sees(boat, &service.urls()[1])?,
        "{BROKEN_PROMISE}: not there while replicas lag"
    );
    service.delay_replicas(Duration::ZERO).await?;
    fleet::replayed(&service.cluster).await?;

    // A page after a write, and some more clicks.
    let before = service.reads()?;
    let click = |urls: [String; 2]| {
        let (mut browser, mut cookies) = (Browser::default(), HashSet::new());
        for _ in 0..ROUNDS {
            let boat = browser.launch(&urls[0])?;
            for _ in 0..READS {
                ensure!(browser.sees(boat, &urls[1])?, "{BROKEN_PROMISE}: not there");
                cookies.insert(browser.cookie.clone());
                // A user's pause between two clicks, much shortened.
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        Ok((browser.given, cookies.len()))
    };
    let given = service.with_users(2, click).await?;
    let share = service.share_since(before)?;
    let cookies: usize = given.iter().map(|(given, _)| given).sum();
    let requests = 2 * ROUNDS * (READS + 1);
    println!(
        "{share:.1}% of reads on replicas; {cookies} cookies in {requests} answers: {given:?}"
    );
    ensure!(share >= 70.0, "{share:.1}% of reads on replicas");

    // Who only reads is left alone.
    let (before, given) = (service.reads()?, browser.given);
    for _ in 0..200 {
        browser.sees(boat, &service.urls()[1])?;
    }
    let (share, given) = (service.share_since(before)?, browser.given - given);
    println!("who only reads: {share:.1}% of 200 reads on replicas, {given} cookies");
    ensure!(share >= 95.0 && given <= 10, "{share:.1}% of reads on replicas, {given} cookies");
    Ok(())
}

/// A cluster with an empty table on all servers, and an instance in shadow mode.
async fn shadowed(routing: &str) -> anyhow::Result<(Cluster, Instance)> {
    let cluster = fleet::moor().await?;
    cluster.primary().sql(&format!("DROP TABLE IF EXISTS {TABLE}")).await?;
    let routing = format!("shadow = 'compare'\n{routing}");
    let instance = Instance::routing(&cluster, &routing).await?;
    fleet::replayed(&cluster).await?;
    Ok((cluster, instance))
}

/// The wrong route: the application expects what was written, and its reads accept anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shadow_mode_finds_a_stale_route_before_anybody_reads_the_past() -> anyhow::Result<()> {
    let (cluster, instance) = shadowed("consistency = 'eventual'").await?;
    for replica in cluster.replicas() {
        replica.pause_replay().await?;
    }
    let boat = Browser::default().launch(&instance.url)?;
    let missed = Cell::new(0);
    let is_found = async || {
        let sees = Browser::default().sees(boat, &instance.url)?;
        missed.set(missed.get() + usize::from(!sees));
        Ok(!instance.shadow()?.differences.is_empty())
    };
    eventually(Duration::from_secs(20), "the stale route is reported", is_found).await?;
    ensure!(missed.get() == 0, "{BROKEN_PROMISE}: the answers were not the primary's");
    let report = instance.shadow()?;
    println!("{report:?}");
    // Without RETURNING, SeaORM reads what it inserted: that is another statement.
    ensure!(report.differences.len() <= 2, "more than two statements differ: {report:?}");
    for difference in &report.differences {
        let Difference { statement, endpoint, rows_on_primary, rows_on_replica } = difference;
        ensure!(statement.starts_with("SELECT") && statement.contains(TABLE), "{statement}");
        ensure!(
            cluster.replicas().iter().any(|it| it.name == *endpoint),
            "{endpoint} is no replica"
        );
        ensure!((*rows_on_primary, *rows_on_replica) == (1, 0), "{report:?}");
    }
    ensure!(instance.reads()?[1] == 0, "reads left the primary");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shadow_mode_reports_nothing_where_routes_are_right() -> anyhow::Result<()> {
    const ROUNDS: usize = 20;
    let (_cluster, instance) = shadowed("consistency = 'read-your-writes'").await?;
    let (mut browser, missed) = (Browser::default(), Cell::new(0));
    for _ in 0..ROUNDS {
        let boat = browser.launch(&instance.url)?;
        // Until replicas have the boat, reads would stay on the primary.
        let before = instance.shadow()?.sum(|it| it.equal);
        let is_compared = async || {
            let sees = browser.clone().sees(boat, &instance.url)?;
            missed.set(missed.get() + usize::from(!sees));
            Ok(instance.shadow()?.sum(|it| it.equal) >= before + 5)
        };
        eventually(Duration::from_secs(20), "five reads are compared", is_compared).await?;
    }
    ensure!(missed.get() == 0, "{BROKEN_PROMISE}: {} boats were not there", missed.get());
    let report = instance.shadow()?;
    println!("{report:?}");
    ensure!(report.sum(|it| it.differed) == 0 && report.differences.is_empty(), "{report:?}");
    ensure!(report.sum(|it| it.equal) >= 5 * ROUNDS as u64, "{report:?}");
    ensure!(instance.reads()?[1] == 0, "reads left the primary");
    Ok(())
}
