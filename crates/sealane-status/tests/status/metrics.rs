//! The metrics as Prometheus's exporter renders them, and what `ops/` makes of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use axum::http::{StatusCode, header};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use sealane::{Condition, OPERATION_DURATION_BUCKETS};
use sealane_status::StatusService;

use crate::kit::{Client, Fleet, text};

/// What the exporter renders once every metric has a value.
async fn rendered(exporter: PrometheusBuilder) -> String {
    let recorder = exporter.build_recorder();
    // Only for this thread: other tests have endpoints of the same names.
    let _recording = ::metrics::set_default_local_recorder(&recorder);
    let fleet = Fleet::of(&["db-1", "db-2"]).await;
    fleet.servers[1].fail("refused");
    fleet.until(|it| it.endpoints[1].condition == Condition::Down).await;
    recorder.handle().render()
}

/// The names of all series in a text of Prometheus.
fn series(rendered: &str) -> BTreeSet<&str> {
    let samples = rendered.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    samples.filter_map(|line| line.split(['{', ' ']).next()).collect()
}

#[tokio::test(start_paused = true)]
async fn names_follow_prometheus_whatever_the_exporter_adds() {
    let plain = rendered(PrometheusBuilder::new()).await;
    let kinds: BTreeMap<_, _> = plain
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ").and_then(|it| it.split_once(' ')))
        .collect();
    assert!(kinds.len() >= 14, "{kinds:?}");
    for (name, kind) in &kinds {
        assert_eq!(*kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
        assert!(plain.contains(&format!("# HELP {name} ")), "{name} is not described");
    }
    assert_eq!(kinds["sealane_probe_duration_seconds"], "summary");
    let with_endings = rendered(PrometheusBuilder::new().with_recommended_naming(true)).await;
    assert_eq!(series(&plain), series(&with_endings));
}

fn ops(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ops");
    std::fs::read_to_string(root.join(path)).unwrap()
}

/// The series with names that begin so, which an alert or a panel is about.
fn asked<'t>(text: &'t str, begin: &str) -> BTreeSet<&'t str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with(begin)).collect()
}

#[tokio::test(start_paused = true)]
async fn alerts_and_dashboard_ask_for_what_is_exported() {
    let rendered = rendered(PrometheusBuilder::new()).await;
    let exported = series(&rendered);
    for path in ["prometheus/alerts.yml", "grafana/dashboard.json"] {
        let text = ops(path);
        let asked = asked(&text, "sealane_");
        assert!(asked.len() >= 5, "{path}: {asked:?}");
        assert!(asked.is_subset(&exported), "{path}: {:?}", asked.difference(&exported));
    }
    assert!(
        !asked("sealane_no_such_metric == 1", "sealane_").is_subset(&exported),
        "a planted name is found"
    );
}

/// Two samples of a series are needed, and Prometheus asks once a minute unless told otherwise.
#[test]
fn no_panel_is_empty_at_the_default_scrape_interval() {
    let dashboard: serde_json::Value =
        serde_json::from_str(&ops("grafana/dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ranges = 0;
    for target in panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap()) {
        let expression = target["expr"].as_str().unwrap();
        for range in expression.split('[').skip(1).map(|it| it.split(']').next().unwrap()) {
            let minutes = range.strip_suffix('m').and_then(|it| it.parse::<u32>().ok());
            let is_enough = range == "$__rate_interval" || minutes.is_some_and(|it| it >= 4);
            assert!(is_enough, "{range} in {expression}");
            ranges += 1;
        }
    }
    assert!(ranges >= 6, "{ranges} ranges");
}

#[tokio::test]
async fn the_metrics_of_an_exporter_are_served() {
    // Only for this thread: other tests have an endpoint of the same name.
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let _recording = ::metrics::set_default_local_recorder(&recorder);
    let fleet = Fleet::of(&["db-1", "db-2"]).await;
    let bare = Client::of(StatusService::new(&fleet.db));
    assert_eq!(bare.read("/metrics").await.0, StatusCode::NOT_FOUND);
    let client = Client::of(StatusService::new(&fleet.db).metrics(move || handle.render()));
    let response = client.get("/metrics").await;
    assert_eq!(
        response.headers()[header::CONTENT_TYPE],
        "text/plain; version=0.0.4; charset=utf-8"
    );
    let (_, told) = text(response).await;
    for wanted in [
        "sealane_endpoint_up{database=\"shop\",endpoint=\"db-1\"} 1",
        "sealane_reads_on_primary{database=\"shop\"} 0",
    ] {
        assert!(told.contains(wanted), "{wanted} is not in {told}");
    }
}

#[tokio::test]
async fn durations_and_connections_have_opentelemetrys_names() {
    let name = "db_client_operation_duration_seconds".to_owned();
    let exporter = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full(name), &OPERATION_DURATION_BUCKETS)
        .unwrap();
    let recorder = exporter.build_recorder();
    // Only for this thread, which runs everything here.
    let _recording = ::metrics::set_default_local_recorder(&recorder);
    let (_folder, db) = crate::harbour().await;
    let read = || Statement::from_string(DbBackend::Sqlite, "SELECT name FROM boat");
    for _ in 0..3 {
        db.query_all_raw(read()).await.unwrap();
    }
    db.on_primary().query_all_raw(read()).await.unwrap();
    tokio::task::yield_now().await;
    let told = recorder.handle().render();
    let count = |endpoint: &str, role: &str, intent: &str| -> u64 {
        let wanted = [
            "db_client_operation_duration_seconds_count{",
            &format!("endpoint=\"{endpoint}\""),
            &format!("role=\"{role}\""),
            &format!("intent=\"{intent}\""),
            "db_system_name=\"sqlite\"",
        ];
        let found = told
            .lines()
            .find(|line| wanted.iter().all(|it| line.contains(it)) && !line.contains("error_type"));
        found.and_then(|line| line.split_once("} ")?.1.parse().ok()).unwrap_or_default()
    };
    assert_eq!(count("readers", "replica", "read"), 3, "{told}");
    assert_eq!(count("writer", "primary", "read"), 1, "{told}");
    assert_eq!(count("writer", "primary", "write"), 2, "{told}");
    assert_eq!(told.matches("_bucket{").count() % (OPERATION_DURATION_BUCKETS.len() + 1), 0);
    for wanted in ["state=\"used\"", "state=\"idle\"", "detour=\"asked_for_primary\"} 1\n"] {
        assert!(told.contains(wanted), "{wanted} is not in {told}");
    }
    assert!(told.contains("db_client_connection_count{") && told.contains("_pending_requests{"));
    let dashboard = ops("grafana/dashboard.json");
    let (asked, exported) = (asked(&dashboard, "db_client_"), series(&told));
    assert!(asked.len() >= 5, "{asked:?}");
    assert!(asked.is_subset(&exported), "{:?}", asked.difference(&exported));
}
