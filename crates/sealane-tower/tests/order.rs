//! The layer among other layers, and work that outlives its response.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may end there")]

use std::{convert::Infallible, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{Method, Request, Response, StatusCode, header},
    response::IntoResponse,
    routing::{any, get, post},
};
use futures_util::stream;
use http_body_util::BodyExt;
use sea_orm::ConnectionTrait;
use sealane::{Config, Consistency, CurrentScope, RoutedConnection};
use sealane_tower::SessionLayer;
use tempfile::TempDir;
use tower::ServiceExt;
use tower_http::{
    compression::CompressionLayer, timeout::TimeoutLayer,
    validate_request::ValidateRequestHeaderLayer,
};

async fn harbour() -> (RoutedConnection, SessionLayer, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let config = Config::sqlite(folder.path().join("harbour.db")).token_key("k".repeat(32));
    let db = sealane::connect(config).await.unwrap();
    // The table is not created in a session that a test checks.
    db.session().execute_unprepared("CREATE TABLE boat (name TEXT)").await.unwrap();
    let layer = SessionLayer::new(&db).unwrap();
    (db, layer, folder)
}

async fn launch(db: &RoutedConnection) {
    db.execute_unprepared("INSERT INTO boat (name) VALUES ('Ida')").await.unwrap();
}

/// Writes at once and never answers.
async fn stuck(State(db): State<RoutedConnection>) -> StatusCode {
    launch(&db).await;
    std::future::pending().await
}

async fn write(State(db): State<RoutedConnection>) -> String {
    launch(&db).await;
    "Ida ".repeat(1_000)
}

fn token<B>(response: &Response<B>) -> Option<&str> {
    response.headers().get(header::SET_COOKIE)?.to_str().unwrap().strip_prefix("sealane=")
}

fn request(path: &str) -> Request<Body> {
    let request = Request::post(path).header(header::ACCEPT_ENCODING, "gzip");
    request.body(Body::empty()).unwrap()
}

async fn consistency(State(db): State<RoutedConnection>) -> String {
    let of = |db: &RoutedConnection| db.explain("SELECT name FROM boat").consistency;
    let own = db.with_consistency(Consistency::Eventual);
    format!("{:?} {:?}", of(&db), of(&own))
}

#[tokio::test]
async fn requests_that_may_change_something_read_on_the_primary_if_the_layer_is_told_so() {
    let (db, layer, _folder) = harbour().await;
    let app = Router::new().route("/", any(consistency)).with_state(db);
    let told = layer.clone().unsafe_methods_on_primary();
    for (method, layer, wanted) in [
        (Method::POST, &layer, "ReadYourWrites Eventual"),
        (Method::GET, &told, "ReadYourWrites Eventual"),
        (Method::HEAD, &told, ""),
        (Method::POST, &told, "Strong Eventual"),
        (Method::PATCH, &told, "Strong Eventual"),
        (Method::DELETE, &told, "Strong Eventual"),
    ] {
        let request = Request::builder().method(&method).uri("/").body(Body::empty()).unwrap();
        let response = app.clone().layer(layer.clone()).oneshot(request).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, wanted, "{method}");
    }
}

/// A busy machine has written by then.
const SOON: Duration = Duration::from_secs(1);

fn time_limit() -> TimeoutLayer {
    TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, SOON)
}

#[tokio::test]
async fn a_time_limit_inside_ends_with_a_token_and_one_outside_loses_it() {
    let (db, layer, _folder) = harbour().await;
    let app = Router::new().route("/", post(stuck)).with_state(db);
    let inside = app.clone().layer(time_limit()).layer(layer.clone());
    let response = inside.oneshot(request("/")).await.unwrap();
    assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
    assert!(token(&response).is_some(), "what was written by then is told: {response:?}");
    let outside = app.layer(layer).layer(time_limit());
    let response = outside.oneshot(request("/")).await.unwrap();
    assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(token(&response), None, "as the documentation says");
}

/// For a proxy's time limit, which cannot be inside the layer.
#[tokio::test]
async fn the_layers_own_limit_answers_with_a_token() {
    let (db, layer, _folder) = harbour().await;
    let app = Router::new().route("/", post(stuck)).with_state(db.clone());
    let response = app.layer(layer.answer_within(SOON)).oneshot(request("/")).await.unwrap();
    assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
    let token = token(&response).unwrap().split(';').next().unwrap();
    assert_eq!(db.resume(token).refused, None);
    assert!(response.into_body().collect().await.unwrap().to_bytes().is_empty());
}

#[tokio::test]
async fn compression_may_be_on_either_side() {
    let (db, layer, _folder) = harbour().await;
    let app = Router::new().route("/", post(write)).with_state(db);
    let outside = app.clone().layer(layer.clone()).layer(CompressionLayer::new());
    let inside = app.layer(CompressionLayer::new()).layer(layer);
    for app in [outside, inside] {
        let response = app.oneshot(request("/")).await.unwrap();
        assert_eq!(response.headers()[header::CONTENT_ENCODING], "gzip");
        assert!(token(&response).is_some());
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!((1..1_000).contains(&body.len()), "{} bytes", body.len());
    }
}

#[tokio::test]
async fn a_request_rejected_outside_has_no_session() {
    let (db, layer, _folder) = harbour().await;
    let before = db.progress();
    let app = Router::new().route("/", post(write)).with_state(db.clone());
    #[allow(deprecated, reason = "a stand-in for whatever a service checks")]
    let app = app.layer(layer).layer(ValidateRequestHeaderLayer::accept("application/json"));
    let mut refused = request("/");
    refused.headers_mut().insert(header::ACCEPT, "text/html".parse().unwrap());
    refused.headers_mut().insert(header::COOKIE, "sealane=AAAA".parse().unwrap());
    let response = app.oneshot(refused).await.unwrap();
    assert_eq!(response.status(), StatusCode::NOT_ACCEPTABLE);
    assert_eq!(token(&response), None);
    assert_eq!(db.progress(), before);
}

/// Server-sent events: each one is written to the database when it is sent.
async fn events(State(db): State<RoutedConnection>) -> impl IntoResponse {
    Body::from_stream(stream::once(async move {
        launch(&db).await;
        Ok::<_, Infallible>(Bytes::from_static(b"data: launched"))
    }))
}

#[tokio::test]
async fn a_body_is_produced_in_the_session_of_its_request() {
    let (db, layer, _folder) = harbour().await;
    let before = db.progress();
    let app = Router::new().route("/", get(events)).with_state(db.clone());
    for app in [app.clone().layer(layer.clone()), app.clone().layer(layer.clone()).layer(layer)] {
        let response = app.oneshot(Request::get("/").body(Body::empty()).unwrap()).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, "data: launched");
        assert_eq!(db.progress(), before, "the shared session has not written");
    }
    let response = app.oneshot(Request::get("/").body(Body::empty()).unwrap()).await.unwrap();
    response.into_body().collect().await.unwrap();
    assert_ne!(db.progress(), before, "without the layer it has");
}

/// Like a WebSocket: the code behind an upgraded connection runs later, in a separate task.
#[tokio::test]
async fn work_after_an_upgrade_is_in_the_session() {
    let (db, layer, _folder) = harbour().await;
    let before = db.progress();
    let (begin, begun) = tokio::sync::oneshot::channel::<()>();
    let begun = std::sync::Arc::new(std::sync::Mutex::new(Some(begun)));
    let handle = db.clone();
    let talking = std::sync::Arc::new(std::sync::Mutex::new(None));
    let task = std::sync::Arc::clone(&talking);
    let upgrade = move || {
        let (begun, db) = (begun.lock().unwrap().take().unwrap(), handle.clone());
        let scope = CurrentScope::capture();
        *task.lock().unwrap() = Some(tokio::spawn(async move {
            begun.await.unwrap();
            scope.run(async { launch(&db).await }).await;
        }));
        std::future::ready(StatusCode::SWITCHING_PROTOCOLS)
    };
    let app = Router::new().route("/", get(upgrade)).layer(layer);
    let response = app.oneshot(Request::get("/").body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    begin.send(()).unwrap();
    let talking = talking.lock().unwrap().take().unwrap();
    talking.await.unwrap();
    assert_eq!(db.progress(), before, "the shared session has not written");
}
