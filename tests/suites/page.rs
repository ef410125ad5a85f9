//! The status page in a real Chromium, which looks at a real cluster under a little load.
//!
//! Its pictures are in `target/itest/page`, for people to look at.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use sea_orm::{ActiveModelTrait, DbErr, EntityTrait};
use sealane::{Config, Consistency, Replica, RoutedConnection};
use sealane_status::StatusService;
use sealane_tests::{
    Cluster, Control, Server,
    browser::{Browser, Scheme},
    eventually,
    fleet::{self, harbour},
};
use serde_json::Value;
use tokio::task::JoinSet;

const SOON: Duration = Duration::from_secs(10);
/// How soon the picture shows that a server has died.
const PROMPT: Duration = Duration::from_secs(2);
/// The name of the last endpoint. As HTML it would run.
const HOSTILE: &str = "<img src=x onerror=hit=1>";

/// What shows text with too little contrast, in the terms of <https://www.w3.org/TR/WCAG22/#contrast-minimum>.
const PALE: &str = include_str!("page/pale.js");
/// Notes in `seen` when the picture first has something bad in it, in milliseconds after `began`.
const WATCH: &str = include_str!("page/watch.js");

/// This process as a service with a status page, and a browser that looks at it.
struct Lookout {
    cluster: Cluster,
    db: RoutedConnection,
    browser: Browser,
    url: String,
}

impl Lookout {
    async fn climb() -> anyhow::Result<Self> {
        let cluster = fleet::moor().await?;
        let db = sealane::connect(config(&cluster)?).await?;
        fleet::ready(&db).await?;
        let app = axum::Router::new().nest_service("/ops", StatusService::new(&db));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/ops/", listener.local_addr()?);
        tokio::spawn(async move { axum::serve(listener, app).await });
        let browser = Browser::open(cluster.primary()).await?;
        Ok(Lookout { cluster, db, browser, url })
    }

    /// The server whose endpoint has the hostile name.
    fn victim(&self) -> &Server {
        self.cluster.server("replica-2")
    }

    async fn text(&self, selector: &str) -> anyhow::Result<String> {
        let script = format!("return document.querySelector('{selector}').textContent");
        Ok(self.browser.run(&script).await?.as_str().context("no text")?.to_owned())
    }

    async fn number(&self, expression: &str) -> anyhow::Result<f64> {
        let value = self.browser.run(&format!("return {expression}")).await?;
        value.as_f64().with_context(|| format!("{expression}: {value}"))
    }

    /// Goes to the page, and waits until its script has fetched the state.
    async fn visit(&self) -> anyhow::Result<()> {
        self.browser.visit(&self.url).await?;
        let live = async || Ok(self.text("#state").await? == "live");
        eventually(SOON, "the page is live", live).await
    }

    /// Waits until the verdict of the page contains `words`.
    async fn says(&self, words: &str) -> anyhow::Result<()> {
        let says = async || {
            let verdict = self.text(".verdict").await?;
            ensure!(verdict.contains(words), "{verdict}");
            Ok(true)
        };
        eventually(SOON, words, says).await
    }

    async fn photograph(&self, name: &str) -> anyhow::Result<()> {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("../itest/page");
        self.browser.photograph(&folder.join(format!("{name}.png"))).await
    }

    /// Nothing that a page should not do has happened since the last visit.
    async fn is_well_behaved(&self) -> anyhow::Result<()> {
        let console = self.browser.console().await?;
        ensure!(console.is_empty(), "{console:?}");
        let script = "return performance.getEntriesByType('resource').map(entry => entry.name)";
        let asked: Vec<String> = serde_json::from_value(self.browser.run(script).await?)?;
        ensure!(asked.len() >= 2, "the page has fetched only {asked:?}");
        let foreign = asked.iter().find(|it| !it.starts_with(&self.url));
        ensure!(foreign.is_none(), "{foreign:?}");
        let hits = "return [typeof hit, document.images.length]";
        let hits = self.browser.run(hits).await?;
        ensure!(hits == serde_json::json!(["undefined", 0]), "HTML of a name: {hits}");
        Ok(())
    }

    /// Kills the victim. Returns how long after its end the picture showed it, and how long the primary
    /// took meanwhile at most to answer.
    async fn kill(&self) -> anyhow::Result<(Duration, Duration)> {
        let control = Control::of(self.cluster.primary()).await?;
        self.browser.run(WATCH).await?;
        let began = Instant::now();
        self.victim().kill().await?;
        // `docker kill` itself takes long on a busy machine; at its end the server is dead.
        let killed = began.elapsed();
        let seen = async || Ok(self.browser.run("return seen").await? != Value::Null);
        eventually(SOON, "the picture shows the dead replica", seen).await?;
        let control = control.end().await?;
        let seen = Duration::from_secs_f64(self.number("seen").await? / 1_000.0);
        Ok((seen.saturating_sub(killed), control))
    }
}

fn config(cluster: &Cluster) -> anyhow::Result<Config> {
    let [first, second] = cluster.replicas() else { anyhow::bail!("not two replicas") };
    let named = |server: &Server, name| Replica::from(server.url.clone()).name(name);
    Ok(Config::new(Replica::from(cluster.primary().url.clone()).name("primary"))
        .replica(named(first, "replica-1"))
        .replica(named(second, HOSTILE)))
}

/// Reads and writes until it is dropped; what fails does not matter.
fn load(db: &RoutedConnection) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for reader in 0..4 {
        let db = db.with_consistency(Consistency::Eventual);
        tasks.spawn(async move {
            loop {
                let _ = work(&db, reader == 0).await;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
    }
    tasks
}

async fn work(db: &RoutedConnection, writes: bool) -> Result<(), DbErr> {
    harbour::Entity::find().all(db).await?;
    if writes {
        fleet::boat("Ida").insert(db).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_can_be_read_in_both_schemes_on_screens_of_any_width() -> anyhow::Result<()> {
    let lookout = Lookout::climb().await?;
    let _load = load(&lookout.db);
    let mut grounds = Vec::new();
    for (scheme, colours) in [(Scheme::Light, "light"), (Scheme::Dark, "dark")] {
        lookout.browser.prefer(scheme).await?;
        for (width, height) in [(1_200, 1_300), (400, 2_100)] {
            lookout.browser.resize(width, height).await?;
            lookout.visit().await?;
            lookout.says("All endpoints serve.").await?;
            let drawn = async || {
                Ok(lookout.number("document.querySelectorAll('polyline').length").await? >= 3.0)
            };
            eventually(SOON, "the curves are drawn", drawn).await?;
            lookout.photograph(&format!("{colours}-{width}")).await?;
            let broad = lookout.number("document.documentElement.scrollWidth").await?;
            ensure!(broad <= f64::from(width), "the page is {broad} pixels wide on {width}");
            let pale = lookout.browser.run(PALE).await?;
            ensure!(pale == serde_json::json!([]), "{colours}, {width}: {pale}");
        }
        let ground = "return getComputedStyle(document.body).backgroundColor";
        grounds.push(lookout.browser.run(ground).await?);
        lookout.is_well_behaved().await?;
    }
    ensure!(grounds[0] != grounds[1], "both schemes are {}", grounds[0]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_javascript_it_shows_the_same_tables() -> anyhow::Result<()> {
    let lookout = Lookout::climb().await?;
    lookout.browser.resize(1_200, 1_300).await?;
    lookout.browser.allow_scripts(false).await?;
    lookout.browser.visit(&lookout.url).await?;
    ensure!(lookout.text("#state").await?.starts_with("as of the moment"), "a script ran");
    lookout.says("All endpoints serve.").await?;
    for table in ["endpoints", "load"] {
        let rows = format!("document.querySelectorAll('#live table.{table} tbody th')");
        let names = format!("return [...{rows}].map(it => it.textContent)");
        let names = lookout.browser.run(&names).await?;
        ensure!(names == serde_json::json!(["primary", "replica-1", HOSTILE]), "{table}: {names}");
    }
    let drawn = lookout.text("svg.topology").await?;
    ensure!(["primary", "replica-1", "<img"].iter().all(|it| drawn.contains(it)), "{drawn}");
    lookout.photograph("without-javascript").await?;
    // The form is a plain form then.
    lookout.browser.run("document.querySelector('form').submit()").await?;
    let answered = async || Ok(lookout.text("body").await?.contains("first_choice"));
    eventually(SOON, "the form is answered", answered).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_dies_is_seen_within_two_seconds_and_so_is_its_return() -> anyhow::Result<()>
{
    let lookout = Lookout::climb().await?;
    lookout.browser.resize(1_200, 1_300).await?;
    lookout.visit().await?;
    let mut tasks = load(&lookout.db);
    let points =
        "[...document.querySelectorAll('polyline')].reduce((sum, it) => sum + it.points.length, 0)";
    let before = lookout.number(points).await?;
    let grown = async || Ok(lookout.number(points).await? >= before + 10.0);
    eventually(SOON, "the curves grow", grown).await?;
    for what in ["under load", "idle"] {
        let (took, control) = lookout.kill().await?;
        println!(
            "{what}: the picture shows the dead replica {took:.0?} after the kill; the primary \
             took {control:.0?} at most to answer"
        );
        ensure!(took < PROMPT + control, "{what}: only after {took:.0?}");
        lookout.says("1 endpoint does not serve.").await?;
        let event = lookout.text("table.events tbody tr").await?;
        ensure!(event.contains(HOSTILE), "the newest event is: {event}");
        let cut = "[...document.querySelectorAll('.wide')].filter(it => it.scrollWidth > it.clientWidth).length";
        ensure!(lookout.number(cut).await? == 0.0, "a table is cut at the right");
        lookout.photograph(&format!("killed-{}", what.replace(' ', "-"))).await?;
        let pale = lookout.browser.run(PALE).await?;
        ensure!(pale == serde_json::json!([]), "{pale}");
        lookout.victim().start().await?;
        lookout.says("All endpoints serve.").await?;
        // From now on only probes can notice.
        tasks.shutdown().await;
    }
    lookout.is_well_behaved().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_box_explains_statements() -> anyhow::Result<()> {
    let lookout = Lookout::climb().await?;
    lookout.visit().await?;
    let statements = [
        ("SELECT * FROM boat", "It is judged as: read"),
        ("DELETE FROM boat", "It would run on primary. It is judged as: write"),
        ("SELECT '<img src=x onerror=hit=1>' FROM boat", "may serve it"),
        ("<img src=x onerror=hit=1>", "It would run on primary."),
    ];
    for (sql, wanted) in statements {
        let ask = format!(
            "document.querySelector('#sql').value = {sql:?}; \
             document.querySelector('#explained').replaceChildren(); \
             document.querySelector('#explain button').click()"
        );
        lookout.browser.run(&ask).await?;
        let answered = async || {
            let told = lookout.text("#explained").await?;
            ensure!(told.contains(wanted), "{told}");
            Ok(true)
        };
        eventually(SOON, sql, answered).await?;
    }
    lookout.photograph("explained").await?;
    lookout.is_well_behaved().await
}
