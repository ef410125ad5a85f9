//! The alerts and the dashboard of `ops/`, in a real Prometheus that scrapes this process.
//!
//! Times are shorter here than in the rules; everything else is what operators get.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, ensure};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use sea_orm::EntityTrait;
use sealane::{Consistency, OPERATION_DURATION_BUCKETS, RoutedConnection};
use sealane_status::StatusService;
use sealane_tests::{
    Cluster, Server, eventually,
    fleet::{self, harbour},
    prometheus::Prometheus,
};

const RULES: &str = include_str!("../../ops/prometheus/alerts.yml");
const DASHBOARD: &str = include_str!("../../ops/grafana/dashboard.json");

const SOON: Duration = Duration::from_secs(30);

const NO_PRIMARY: &str = "SealaneNoPrimary";
const SECOND_PRIMARY: &str = "SealaneSecondPrimary";
const REPLICA_DOWN: &str = "SealaneReplicaDown";
const NOT_SERVING: &str = "SealaneReplicaNotServing";
const LAGS: &str = "SealaneReplicaLags";
const ON_PRIMARY: &str = "SealaneAllReadsOnPrimary";
const EJECTED: &str = "SealaneEndpointEjected";
const ALL: [&str; 7] =
    [NO_PRIMARY, SECOND_PRIMARY, REPLICA_DOWN, NOT_SERVING, LAGS, ON_PRIMARY, EJECTED];

/// The rules with short times: every `for`, every range, and the limit of the lag.
fn hurried() -> anyhow::Result<String> {
    let mut text = String::new();
    let (mut waits, mut ranges) = (0, 0);
    for line in RULES.lines() {
        let line = match line.split_once("for: ") {
            Some((before, _)) => {
                waits += 1;
                format!("{before}for: 1s")
            }
            None => line.to_owned(),
        };
        ranges += line.matches("[10m]").count();
        text += &line.replace("[10m]", "[20s]").replace(
            "sealane_endpoint_least_lag_seconds > 30",
            "sealane_endpoint_least_lag_seconds > 2",
        );
        text.push('\n');
    }
    ensure!((waits, ranges) == (6, 1), "{waits} waits and {ranges} ranges were shortened");
    ensure!(
        text.contains("sealane_endpoint_least_lag_seconds > 2 "),
        "the limit of the lag was not changed"
    );
    for name in ALL {
        ensure!(text.contains(&format!("alert: {name}\n")), "{name} is no rule");
    }
    ensure!(text.matches("- alert: ").count() == ALL.len(), "a rule that no test knows");
    Ok(text)
}

/// All expressions of the dashboard, for every job, instance and database, as Grafana fills them in.
fn expressions() -> anyhow::Result<Vec<String>> {
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD)?;
    let panels = dashboard["panels"].as_array().context("no panels")?;
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let expressions = targets.filter_map(|target| target["expr"].as_str());
    let filled = |it: &str| {
        let variables = ["$job", "$instance", "$database"];
        let it = variables.iter().fold(it.to_owned(), |it, name| it.replace(name, ".*"));
        // Grafana's is four intervals between scrapes, at least.
        it.replace("$__rate_interval", "1m")
    };
    let expressions: Vec<_> = expressions.map(filled).collect();
    let unknown = expressions.iter().find(|it| it.contains('$'));
    ensure!(unknown.is_none(), "a variable that no test knows: {unknown:?}");
    Ok(expressions)
}

/// This process as a service: its routed connection, its metrics, and a load.
struct Service {
    db: RoutedConnection,
    prometheus: Prometheus,
    url: String,
}

impl Service {
    async fn launch(cluster: &Cluster) -> anyhow::Result<Self> {
        // Without buckets there are no percentiles to show.
        let durations = Matcher::Full("db_client_operation_duration_seconds".to_owned());
        let metrics = PrometheusBuilder::new()
            .set_buckets_for_metric(durations, &OPERATION_DURATION_BUCKETS)?
            .install_recorder()?;
        let db = sealane::connect(fleet::config(cluster)).await?;
        fleet::ready(&db).await?;
        let status = StatusService::new(&db).metrics(move || {
            metrics.run_upkeep();
            metrics.render()
        });
        let app = axum::Router::new().nest_service("/ops", status);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        tokio::spawn(async move { axum::serve(listener, app).await });
        let prometheus = Prometheus::start(cluster.primary(), port, "/ops", &hurried()?).await?;
        Ok(Service { db, prometheus, url: format!("http://127.0.0.1:{port}/ops") })
    }

    /// Waits until these alerts fire.
    async fn fires(&self, wanted: &[&str]) -> anyhow::Result<()> {
        let fires = async || {
            let firing = self.prometheus.firing().await?;
            ensure!(wanted.iter().all(|it| firing.iter().any(|f| f == it)), "{firing:?}");
            Ok(true)
        };
        eventually(SOON, &format!("{wanted:?} fire"), fires).await
    }

    /// Waits until no alert fires.
    async fn calm(&self) -> anyhow::Result<()> {
        let calm = async || {
            let firing = self.prometheus.firing().await?;
            ensure!(firing.is_empty(), "{firing:?}");
            Ok(true)
        };
        eventually(SOON * 2, "all alerts are clear", calm).await
    }

    async fn get(&self, path: &str) -> anyhow::Result<String> {
        let url = format!("{}{path}", self.url);
        let read = move || ureq::get(url).call()?.body_mut().read_to_string();
        Ok(tokio::task::spawn_blocking(read).await??)
    }
}

/// Reads until it is dropped; what fails does not matter.
struct Load(Arc<AtomicBool>);

impl Load {
    fn of(db: &RoutedConnection) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        for _ in 0..4 {
            let (db, stop) = (db.with_consistency(Consistency::Eventual), Arc::clone(&stop));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let _ = harbour::Entity::find().all(&db).await;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            });
        }
        Load(stop)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_alert_fires_when_it_should_and_clears_and_no_panel_is_empty() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let service = Service::launch(&cluster).await?;
    let load = Load::of(&service.db);
    let (primary, first) = (cluster.primary(), cluster.server("replica-1"));
    service.calm().await?;

    first.kill().await?;
    service.fires(&[REPLICA_DOWN]).await?;
    // The others may be slow for a moment.
    let alone = async || {
        let firing = service.prometheus.firing().await?;
        ensure!(!firing.iter().any(|it| it == ON_PRIMARY || it == NO_PRIMARY), "{firing:?}");
        Ok(true)
    };
    eventually(SOON, "nothing else is wrong", alone).await?;
    cluster.server("replica-2").kill().await?;
    service.fires(&[REPLICA_DOWN, ON_PRIMARY]).await?;
    first.start().await?;
    cluster.server("replica-2").start().await?;
    service.calm().await?;

    first.pause_replay().await?;
    // Lag is what a replica misses: without writes it misses nothing.
    tokio::select! {
        fired = service.fires(&[NOT_SERVING, LAGS]) => fired?,
        failed = write_on(primary) => match failed? {},
    }
    first.resume_replay().await?;
    service.calm().await?;

    // The pool replaces the connections that hang, so the new ones must hang, too.
    tokio::select! {
        fired = service.fires(&[EJECTED]) => fired?,
        never = stop_all_queries(first) => match never {},
    }
    first.continue_queries().await?;
    service.calm().await?;

    primary.kill().await?;
    service.fires(&[NO_PRIMARY]).await?;
    primary.start().await?;
    service.calm().await?;

    // The old primary lives on: nobody has stopped it.
    first.promote().await?;
    service.fires(&[SECOND_PRIMARY]).await?;
    primary.kill().await?;
    let gone =
        async || Ok(!service.prometheus.firing().await?.iter().any(|it| it == SECOND_PRIMARY));
    eventually(SOON, "there is one primary again", gone).await?;
    drop(load);

    println!("{} expressions of the dashboard have data", panels(&service).await?);
    for path in ["/", "/fragment", "/status.json", "/metrics", "/readyz"] {
        let told = service.get(path).await?;
        // As in the URLs, where user and password are the same.
        ensure!(
            !told.contains("sealane:sealane") && !told.contains("postgres://"),
            "{path}: {told}"
        );
    }
    Ok(())
}

/// Writes again and again; it ends only with an error.
async fn write_on(primary: &Server) -> anyhow::Result<Infallible> {
    loop {
        primary.sql("UPDATE boat SET voyages = voyages + 1").await?;
        primary.sql("INSERT INTO boat (harbour_id, name, voyages) VALUES (1, 'Ida', 0)").await?;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Stops the processes of whatever connections there are, again and again; it does not end.
async fn stop_all_queries(server: &Server) -> Infallible {
    loop {
        // At times there is no connection.
        let _ = server.stop_queries().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Every expression of the dashboard gives something after all of this. Returns how many there are.
async fn panels(service: &Service) -> anyhow::Result<usize> {
    let nothing = service.prometheus.query("sealane_no_such_metric").await?;
    ensure!(nothing.is_empty(), "an expression without a metric gives {nothing:?}");
    let expressions = expressions()?;
    ensure!(expressions.len() >= 21, "{expressions:?}");
    for metric in ["operation_duration", "connection_count", "pending_requests", "detours"] {
        ensure!(expressions.iter().any(|it| it.contains(metric)), "no panel shows {metric}");
    }
    for expression in &expressions {
        let found = service.prometheus.query(expression).await?;
        ensure!(!found.is_empty(), "the dashboard shows nothing for {expression}");
    }
    Ok(expressions.len())
}
