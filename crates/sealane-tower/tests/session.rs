//! Requests and their sessions; each test has its own SQLite file.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may end there")]

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use http::{HeaderName, Request, Response, StatusCode, header};
use rstest::rstest;
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use sealane::{Config, RoutedConnection};
use sealane_tower::{SessionLayer, SessionLayerError, TokenCookie};
use tempfile::TempDir;
use tower::{Layer, Service, ServiceExt, service_fn, util::BoxCloneService};

struct Harbour {
    db: RoutedConnection,
    layer: SessionLayer,
    // Removed when the test ends.
    _folder: TempDir,
}

async fn connected(configure: impl FnOnce(Config) -> Config) -> (RoutedConnection, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let config = configure(Config::sqlite(folder.path().join("harbour.db")));
    let db = sealane::connect(config).await.unwrap();
    // The table is not created in a session that a test checks.
    db.session().execute_unprepared("CREATE TABLE boat (name TEXT)").await.unwrap();
    (db, folder)
}

async fn harbour() -> Harbour {
    let (db, _folder) = connected(|config| config.token_key("k".repeat(32))).await;
    let layer = SessionLayer::new(&db).unwrap();
    Harbour { db, layer, _folder }
}

type Answer = Result<Response<&'static str>, Infallible>;

async fn launch(db: &RoutedConnection) {
    db.execute_unprepared("INSERT INTO boat (name) VALUES ('Ida')").await.unwrap();
}

/// A handler that writes through the handle of the whole application.
fn writer(
    db: &RoutedConnection,
) -> BoxCloneService<Request<()>, Response<&'static str>, Infallible> {
    let db = db.clone();
    BoxCloneService::new(service_fn(move |_| {
        let db = db.clone();
        async move {
            launch(&db).await;
            Ok(Response::new("launched"))
        }
    }))
}

/// A handler that reads through the handle of the whole application.
fn reader(
    db: &RoutedConnection,
) -> BoxCloneService<Request<()>, Response<&'static str>, Infallible> {
    let db = db.clone();
    BoxCloneService::new(service_fn(move |_| {
        let db = db.clone();
        async move {
            db.query_one_raw(Statement::from_string(DbBackend::Sqlite, "SELECT name FROM boat"))
                .await
                .unwrap();
            Ok(Response::new("ahoy"))
        }
    }))
}

/// A handler that does nothing.
async fn idle(_: Request<()>) -> Answer {
    Ok(Response::new("ahoy"))
}

fn request() -> Request<()> {
    Request::new(())
}

fn request_with(name: HeaderName, value: &[u8]) -> Request<()> {
    Request::builder().header(name, value).body(()).unwrap()
}

fn cookies<B>(response: &Response<B>) -> Vec<&str> {
    let cookies = response.headers().get_all(header::SET_COOKIE);
    cookies.iter().map(|cookie| cookie.to_str().unwrap()).collect()
}

/// The token in the only cookie that was set; the cookie has the name `name`.
fn token_in<B>(response: &Response<B>, name: &str) -> String {
    let cookies = cookies(response);
    let [cookie] = cookies[..] else { panic!("{cookies:?}") };
    let (token, _) = cookie.strip_prefix(name).unwrap()[1..].split_once(';').unwrap();
    token.to_owned()
}

#[tokio::test]
async fn a_request_that_writes_gets_a_token() {
    let Harbour { db, layer, _folder } = harbour().await;
    let response = layer.layer(writer(&db)).oneshot(request()).await.unwrap();
    assert_eq!(db.resume(&token_in(&response, "sealane")).refused, None);
    assert_eq!(response.headers()[header::CACHE_CONTROL], "private");
}

#[tokio::test]
async fn a_cookie_is_secure_unless_the_layer_is_told_otherwise() {
    let Harbour { db, layer, _folder } = harbour().await;
    for (layer, is_secure) in [(layer.clone(), true), (layer.insecure(), false)] {
        let response = layer.layer(writer(&db)).oneshot(request()).await.unwrap();
        assert!(!token_in(&response, "sealane").is_empty());
        assert_eq!(cookies(&response)[0].contains("; Secure"), is_secure);
    }
}

#[tokio::test]
async fn the_applications_handle_uses_the_requests_session() {
    let Harbour { db, layer, _folder } = harbour().await;
    let before = db.progress();
    layer.layer(writer(&db)).oneshot(request()).await.unwrap();
    assert_eq!(db.progress(), before, "the shared session has not written");
    writer(&db).oneshot(request()).await.unwrap();
    assert_ne!(db.progress(), before, "without the layer it has");
}

#[tokio::test]
async fn a_response_without_a_new_token_stays_unchanged() {
    let Harbour { db, layer, _folder } = harbour().await;
    let response = layer.layer(service_fn(idle)).oneshot(request()).await.unwrap();
    assert!(response.headers().is_empty(), "{response:?}");
    launch(&db).await;
    let cookie = format!("sealane={}", db.token().await.unwrap());
    let request = request_with(header::COOKIE, cookie.as_bytes());
    let response = layer.layer(service_fn(idle)).oneshot(request).await.unwrap();
    assert!(response.headers().is_empty(), "{response:?}");
}

#[tokio::test]
async fn without_replicas_a_token_only_says_that_there_is_a_past_and_is_sent_once() {
    let Harbour { db, layer, _folder } = harbour().await;
    let response = layer.layer(writer(&db)).oneshot(request()).await.unwrap();
    let cookie = format!("sealane={}", token_in(&response, "sealane"));
    let request = request_with(header::COOKIE, cookie.as_bytes());
    let response = layer.layer(writer(&db)).oneshot(request).await.unwrap();
    assert!(response.headers().is_empty(), "{response:?}");
}

#[rstest]
#[case::empty(b"sealane=")]
#[case::forged(b"sealane=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")]
#[case::no_base64(b"theme=dark; sealane=%20%20")]
#[case::no_text(b"sealane=\xff\xfe")]
#[case::oversized(&[b"sealane=".as_slice(), &[b'A'; 20_000]].concat())]
#[case::one_of_two(b"sealane=GOOD; sealane=bad")]
#[tokio::test]
async fn a_token_that_is_refused_is_replaced_once_its_session_is_used(#[case] cookie: &[u8]) {
    let Harbour { db, layer, _folder } = harbour().await;
    launch(&db).await;
    let cookie = match str::from_utf8(cookie) {
        Ok(text) => text.replace("GOOD", &db.token().await.unwrap()).into_bytes(),
        Err(_) => cookie.to_owned(),
    };
    let request = || request_with(header::COOKIE, &cookie);
    let response = layer.layer(service_fn(idle)).oneshot(request()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert!(response.headers().is_empty(), "nothing was read or written: {response:?}");
    for service in [reader(&db), writer(&db)] {
        let response = layer.layer(service).oneshot(request()).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(db.resume(&token_in(&response, "sealane")).refused, None);
    }
}

#[tokio::test]
async fn tokens_travel_in_headers_if_configured() {
    let Harbour { db, layer, _folder } = harbour().await;
    let name = HeaderName::from_static("sealane-token");
    let layer = layer.header(name.clone());
    let response = layer.layer(writer(&db)).oneshot(request()).await.unwrap();
    assert!(cookies(&response).is_empty());
    let token = response.headers()[&name].to_str().unwrap();
    assert_eq!(db.resume(token).refused, None);
    let again = async |value: &str| {
        let request = request_with(name.clone(), value.as_bytes());
        let response = layer.layer(reader(&db)).oneshot(request).await.unwrap();
        response.headers().contains_key(&name)
    };
    assert!(!again(token).await, "it was accepted");
    assert!(!again(&format!("{token}, {token}")).await, "both were");
    assert!(again("nonsense").await, "it was replaced");
}

#[tokio::test]
async fn a_write_counts_whatever_the_answer_is() {
    let Harbour { db, layer, _folder } = harbour().await;
    let handle = db.clone();
    let service = service_fn(move |_: Request<()>| {
        let db = handle.clone();
        async move {
            launch(&db).await;
            let mut response = Response::new("aground");
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response.headers_mut().append(header::SET_COOKIE, "theme=dark".parse().unwrap());
            Answer::Ok(response)
        }
    });
    let response = layer.layer(service).oneshot(request()).await.unwrap();
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let cookies = cookies(&response);
    assert_eq!(cookies[0], "theme=dark");
    assert!(cookies[1].starts_with("sealane="), "{cookies:?}");
}

#[tokio::test]
async fn an_error_of_the_inner_service_is_returned() {
    let Harbour { layer, _folder, .. } = harbour().await;
    let fails = async |_: Request<()>| Err::<Response<()>, _>("sunk");
    let service = service_fn(move |request| Box::pin(fails(request)));
    assert_eq!(layer.layer(service).oneshot(request()).await.unwrap_err(), "sunk");
}

/// A service that must be polled before each call, as tower requires; its clones must be polled
/// again.
#[derive(Debug, Default)]
struct Strict {
    is_ready: bool,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Strict::default()
    }
}

impl Service<Request<()>> for Strict {
    type Response = Response<()>;
    type Error = &'static str;
    type Future = std::future::Ready<Result<Response<()>, &'static str>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let was_ready = std::mem::replace(&mut self.is_ready, true);
        Poll::Ready(if was_ready { Err("polled twice") } else { Ok(()) })
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        assert!(self.is_ready, "called before it was ready");
        std::future::ready(Ok(Response::new(())))
    }
}

#[tokio::test]
async fn readiness_is_that_of_the_inner_service() {
    let Harbour { layer, _folder, .. } = harbour().await;
    let mut service = layer.layer(Strict::default());
    for _ in 0..3 {
        service.ready().await.unwrap().call(request()).await.unwrap();
    }
    service.ready().await.unwrap();
    assert_eq!(service.ready().await.unwrap_err(), "polled twice");
}

#[tokio::test]
async fn the_layers_of_two_databases_do_not_disturb_each_other() {
    let (one, two) = (harbour().await, harbour().await);
    let (first, second) = (one.db.clone(), two.db.clone());
    let handler = service_fn(move |_: Request<()>| {
        let (first, second) = (first.clone(), second.clone());
        async move {
            launch(&first).await;
            launch(&second).await;
            Answer::Ok(Response::new("launched"))
        }
    });
    let second_cookie = two.layer.cookie(TokenCookie::named("second")).unwrap();
    let before = (one.db.progress(), two.db.progress());
    let service = one.layer.layer(second_cookie.layer(handler));
    let response = service.oneshot(request()).await.unwrap();
    assert_eq!((one.db.progress(), two.db.progress()), before);
    let cookies = cookies(&response);
    let [inner, outer] = cookies[..] else { panic!("{cookies:?}") };
    assert!(inner.starts_with("second=") && outer.starts_with("sealane="), "{cookies:?}");
}

#[tokio::test]
async fn a_request_has_one_session_however_many_layers_there_are() {
    let Harbour { db, layer, _folder } = harbour().await;
    let renamed = layer.clone().cookie(TokenCookie::named("inner")).unwrap();
    for inner in [layer.clone(), renamed] {
        let service = layer.layer(inner.layer(writer(&db)));
        let request = request_with(header::COOKIE, b"sealane=refused; inner=refused");
        let response = service.oneshot(request).await.unwrap();
        token_in(&response, "sealane");
    }
}

#[tokio::test]
async fn a_cancelled_request_leaves_the_service_usable() {
    let Harbour { db, layer, _folder } = harbour().await;
    let mut service = layer.layer(writer(&db));
    drop(service.ready().await.unwrap().call(request()));
    let response = service.ready().await.unwrap().call(request()).await.unwrap();
    token_in(&response, "sealane");
}

#[tokio::test]
async fn a_layer_without_a_key_or_with_a_wrong_cookie_is_refused() {
    let (keyless, _folder) = connected(|config| config).await;
    assert_eq!(SessionLayer::new(&keyless).unwrap_err(), SessionLayerError::NoTokenKey);
    let Harbour { layer, _folder, .. } = harbour().await;
    let error = layer.cookie(TokenCookie::named("a;b")).unwrap_err();
    assert!(error.to_string().contains("a;b"), "{error}");
}
