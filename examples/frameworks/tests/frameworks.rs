//! Loco and Seaography as services that answer over HTTP, on one SQLite file: writes run on the
//! writer, and reads on the readers.

use std::net::SocketAddr;

use axum::Router;
use loco_rs::{app::Hooks, boot::StartMode, environment::Environment};
use sea_orm_migration::MigratorTrait;
use sealane::{Config, RoutedConnection};
use sealane_frameworks::{boat, loco, migration::Migrator, seaography};
use serde_json::{Value, json};

async fn serve(app: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// Sends `body`, or asks without one, with the cookie; keeps the cookie of the answer.
async fn ask(url: &str, body: Option<Value>, cookie: &mut Option<String>) -> Value {
    let (url, sent) = (url.to_owned(), cookie.clone().unwrap_or_default());
    let send = move || {
        let sent = sent.as_str();
        match body {
            None => ureq::get(url).header("cookie", sent).call(),
            Some(body) => ureq::post(url).header("cookie", sent).send_json(body),
        }
    };
    let mut response = tokio::task::spawn_blocking(send).await.unwrap().unwrap();
    if let Some(set) = response.headers().get("set-cookie") {
        *cookie = Some(set.to_str().unwrap().split(';').next().unwrap().to_owned());
    }
    response.body_mut().read_json().unwrap()
}

/// Reads and writes that sealane counted: on the writer, and on the readers.
fn counts(db: &RoutedConnection) -> [(u64, u64); 2] {
    let report = db.report();
    let of = |name: &str| {
        let endpoint = report.endpoints.iter().find(|it| it.name == name).unwrap();
        (endpoint.reads, endpoint.writes)
    };
    [of("writer"), of("readers")]
}

#[tokio::test(flavor = "multi_thread")]
async fn loco() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("harbour.db");
    let settings = folder.path().join("sealane.toml");
    let text = format!(
        "[primary]\nurl = 'sqlite://{}?mode=rwc'\n[tokens]\nkeys = ['{}']\n",
        file.display(),
        "k".repeat(32)
    );
    std::fs::write(&settings, text).unwrap();
    let config = json!({
        "logger": { "enable": false, "level": "off", "format": "json" },
        "server": { "port": 0, "host": "localhost" },
        "database": {
            "uri": format!("sqlite://{}?mode=rwc", file.display()),
            "enable_logging": false,
            "min_connections": 1,
            "max_connections": 2,
            "connect_timeout": 500,
            "idle_timeout": 500,
            "auto_migrate": true,
        },
        "workers": { "mode": "ForegroundBlocking" },
        "settings": { "sealane": settings },
    });
    let config = serde_json::from_value(config).unwrap();
    let booted = loco::App::boot(StartMode::ServerOnly, &Environment::Test, config).await;
    let booted = booted.unwrap();
    let db = loco::routed(&booted.app_context).unwrap();
    let url = format!("http://{}/boats", serve(booted.router.unwrap()).await);

    let mut cookie = None;
    let before = counts(&db);
    let ida = ask(&url, Some(json!({ "name": "Ida" })), &mut cookie).await;
    assert!(cookie.as_ref().is_some_and(|it| it.starts_with("sealane=")), "{cookie:?}");
    let boats = ask(&url, None, &mut cookie).await;
    assert_eq!(boats, json!([ida]));
    let [writer, readers] = counts(&db);
    assert_eq!(writer, (before[0].0, before[0].1 + 1), "one write, no read");
    assert_eq!(readers, (before[1].0 + 1, before[1].1), "one read");
}

#[tokio::test(flavor = "multi_thread")]
async fn seaography() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config::sqlite(folder.path().join("harbour.db")).token_key("k".repeat(32));
    let db = sealane::connect(config).await.unwrap();
    Migrator::up(&db, None).await.unwrap();
    db.note_schema_change();
    let app = seaography::app(db.clone()).unwrap();
    let url = format!("http://{}/graphql", serve(app).await);

    let mut cookie = None;
    let launch = json!({ "query": r#"mutation { boatCreateOne(data: { name: "Ida" }) { id } }"# });
    let answer = ask(&url, Some(launch), &mut cookie).await;
    assert_eq!(answer, json!({ "data": { "boatCreateOne": { "id": 1 } } }));
    assert!(cookie.is_some(), "the write that sealane did not see was noted");
    let hire = r#"mutation { sailorCreateOne(data: { boatId: 1, name: "Ole" }) { id } }"#;
    ask(&url, Some(json!({ "query": hire })), &mut cookie).await;

    let query = json!({ "query": "{ boat { nodes { name sailor { nodes { name } } } } }" });
    let answer = ask(&url, Some(query), &mut cookie).await;
    let crew = json!({ "nodes": [{ "name": "Ole" }] });
    let boats = json!({ "boat": { "nodes": [{ "name": "Ida", "sailor": crew }] } });
    assert_eq!(answer, json!({ "data": boats }));
}

/// What shows that queries are on the readers: these connections cannot write.
#[tokio::test(flavor = "multi_thread")]
async fn the_connection_of_a_query_cannot_write() {
    use sea_orm::ActiveModelTrait;

    let folder = tempfile::tempdir().unwrap();
    let config = Config::sqlite(folder.path().join("harbour.db"));
    let db = sealane::connect(config).await.unwrap();
    Migrator::up(&db, None).await.unwrap();
    let boat = boat::ActiveModel { name: sea_orm::Set("Ida".to_owned()), ..Default::default() };
    let refused = boat.clone().insert(&db.reader().await.unwrap()).await;
    assert!(refused.is_err_and(|error| error.to_string().contains("readonly")));
    boat.insert(db.primary()).await.unwrap();
}
