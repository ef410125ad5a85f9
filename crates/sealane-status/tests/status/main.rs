//! What the service answers, for one SQLite file and for servers that fail.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may end there")]

mod events;
mod kit;
mod metrics;
mod page;

use std::time::Duration;

use axum::{
    body::Body,
    http::{Request, StatusCode, header},
};
use kit::{Client, Fleet, PASSWORD, text};
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use sealane::{Condition, Config, EndpointId, Failure, Health, RoutedConnection};
use sealane_status::{Needs, StatusService};

/// All paths that answer a GET at once.
const PATHS: [&str; 9] = [
    "/",
    "",
    "/fragment",
    "/livez",
    "/readyz",
    "/metrics",
    "/status.json",
    "/report.json",
    "/explain?sql=SELECT+1",
];

async fn harbour() -> (tempfile::TempDir, RoutedConnection) {
    let folder = tempfile::tempdir().unwrap();
    let db = sealane::connect(Config::sqlite(folder.path().join("harbour.db"))).await.unwrap();
    db.execute_unprepared("CREATE TABLE boat (name TEXT)").await.unwrap();
    db.execute_unprepared("INSERT INTO boat VALUES ('Ida')").await.unwrap();
    (folder, db)
}

#[tokio::test]
async fn every_path_answers_for_a_sqlite_file() {
    let (_folder, db) = harbour().await;
    let client = Client::of(StatusService::new(&db).metrics(|| "up 1\n".to_owned()));
    for path in PATHS {
        let response = client.get(path).await;
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store", "{path}");
        assert_eq!(response.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff", "{path}");
        let policy = response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'"), "{path}: {policy}");
        assert!(!text(response).await.1.is_empty(), "{path}");

        let head = Request::head(format!("/ops{path}")).body(Body::empty()).unwrap();
        let (status, body) = text(client.send(head).await).await;
        assert_eq!((status.as_u16(), body.as_str()), (200, ""), "{path}");
    }
    let status = client.json("/status.json").await.1;
    assert_eq!(status, serde_json::to_value(db.status()).unwrap());
    assert_eq!(client.read("/nothing").await.0, StatusCode::NOT_FOUND);
    assert_eq!(client.read("/explain").await.0, StatusCode::BAD_REQUEST);
    let refused = client.post("/status.json", "text/plain", "").await;
    assert_eq!(refused.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(refused.headers()[header::ALLOW], "GET, HEAD");
}

/// With a hostile text among the statements.
#[tokio::test]
async fn the_page_shows_statements_without_their_literals_and_the_load() {
    let (_folder, db) = harbour().await;
    let text = "SELECT name AS \"<img src=x>\" FROM boat WHERE name <> 'SECRET'";
    for _ in 0..120 {
        let read = Statement::from_string(DbBackend::Sqlite, text);
        db.on_primary().query_all_raw(read).await.unwrap();
    }
    let client = Client::of(StatusService::new(&db));
    let shown = "SELECT name AS &quot;&lt;img src=x&gt;&quot; FROM boat WHERE name &lt;&gt; ?";
    for path in ["/", "/fragment"] {
        let (_, html) = client.read(path).await;
        assert!(html.contains("<h2>Statements</h2>") && !html.contains("<img"), "{html}");
        assert_eq!(html.matches(shown).count(), 2, "in both tables: {html}");
        assert!(html.contains("<td>asks for the primary</td>"), "{html}");
        assert!(html.contains("Reads on the primary: 120 asked for it, 0 were pinned"), "{html}");
        assert!(html.contains("<li>100 % of the reads ask for the primary"), "{html}");
        assert!(!html.contains("SECRET"), "{html}");
    }
    let (_, report) = client.json("/report.json").await;
    assert_eq!(report["reads"], 120);
    assert_eq!(report["statements"]["on_primary"][0]["asked_for_primary"], 120);
    assert_eq!(report["advice"][0]["advice"], "most_ask_for_primary");
    assert!(!report.to_string().contains("SECRET"), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_service_is_not_ready_while_its_primary_is_gone() {
    let fleet = Fleet::of(&["db-1", "db-2"]).await;
    let client = Client::of(StatusService::new(&fleet.db));
    let (status, told) = client.json("/readyz").await;
    assert_eq!(status, 200);
    assert_eq!(told, serde_json::json!({ "ready": true, "text": "", "missing": [] }));

    fleet.servers[0].fail("refused");
    fleet.until(|it| it.endpoints[0].condition == Condition::Down).await;
    let (status, told) = client.json("/readyz").await;
    assert_eq!(status, 503);
    let missing =
        serde_json::json!([{ "reason": "primary_away", "endpoint": "db-1", "condition": "down" }]);
    assert_eq!((&told["ready"], &told["missing"]), (&false.into(), &missing));
    assert_eq!(told["text"], "the primary, db-1, is down");
    assert_eq!(client.read("/livez").await.0, 200, "the process still lives");

    fleet.servers[0].answer();
    fleet.until(|it| it.endpoints[0].condition == Condition::Serving).await;
    assert_eq!(client.read("/readyz").await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn what_counts_as_ready_is_the_services_choice() {
    let fleet = Fleet::of(&["db-1", "db-2", "db-3"]).await;
    let ready = async |needs: Needs| {
        let client = Client::of(StatusService::new(&fleet.db).needs(needs));
        client.read("/readyz").await.0 == 200
    };
    let (primary, two) = (Needs::primary(), Needs::nothing().replicas(2));
    let fresh = |most| Needs::nothing().fresh(Duration::from_secs(most));
    assert!(ready(primary).await && ready(two).await && ready(fresh(5)).await);
    assert!(!ready(Needs::primary().replicas(3)).await);

    fleet.servers[2].fail("refused");
    fleet.until(|it| it.endpoints[2].condition == Condition::Down).await;
    assert!(ready(primary).await && !ready(two).await && ready(fresh(5)).await);
    // In any order.
    assert!(!ready(fresh(5).replicas(2)).await && !ready(two.fresh(Duration::from_secs(5))).await);

    fleet.servers[0].fail("refused");
    fleet.until(|it| it.endpoints[0].condition == Condition::Down).await;
    assert!(!ready(primary).await);
    assert!(ready(Needs::nothing()).await && ready(Needs::nothing().replicas(1)).await);
    // Without a sample of the primary, nothing new is proved of a replica.
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(!ready(fresh(5)).await);
    let client = Client::of(StatusService::new(&fleet.db).needs(fresh(5)));
    let told = client.json("/readyz").await.1;
    assert_eq!(told["text"], "1 replicas are needed, 0 serve and are at most 5000 ms behind");
}

#[tokio::test(start_paused = true)]
async fn one_cut_connection_makes_no_service_unready() {
    let fleet = Fleet::of(&["db-1", "db-2"]).await;
    let client = Client::of(StatusService::new(&fleet.db));
    let (first, cut) = (EndpointId::FIRST, || Failure::Statement("terminated".to_owned()));
    fleet.store.suspect(first, fleet.store.now(), cut());
    // No probe has run since: nothing has waited.
    assert_eq!(fleet.db.status().endpoints[0].condition, Condition::Down);
    assert!(Needs::primary().missing(&fleet.db.status()).is_empty());
    let (_, html) = client.read("/fragment").await;
    assert!(html.contains("1 endpoint does not serve."), "{html}");

    fleet.servers[0].fail("refused");
    let is_refused = |failure: &Failure| matches!(failure, Failure::Connection(_));
    let is_confirmed =
        |health: &Health| matches!(health, Health::Down { failure } if is_refused(failure));
    fleet.until(|it| is_confirmed(&it.endpoints[0].health)).await;
    assert_eq!(Needs::primary().missing(&fleet.db.status()).len(), 1);
    assert_eq!(client.read("/readyz").await.0, 503, "a probe has confirmed it");

    fleet.servers[0].answer();
    fleet.until(|it| it.endpoints[0].condition == Condition::Serving).await;
    fleet.store.set_draining(first, true);
    fleet.store.suspect(first, fleet.store.now(), cut());
    assert_eq!(Needs::primary().missing(&fleet.db.status()).len(), 1, "it is drained as well");
}

#[tokio::test(start_paused = true)]
async fn an_ejected_replica_does_not_count() {
    let fleet = Fleet::of(&["db-1", "db-2", "db-3"]).await;
    let mut status = fleet.db.status();
    assert!(Needs::nothing().replicas(2).missing(&status).is_empty());
    status.endpoints[1].ejected = true;
    assert!(Needs::nothing().replicas(1).missing(&status).is_empty());
    assert_eq!(Needs::nothing().replicas(2).missing(&status).len(), 1);
}

#[tokio::test]
async fn a_statement_is_explained_and_not_executed() {
    let (_folder, db) = harbour().await;
    let client = Client::of(StatusService::new(&db));
    let read = client.json("/explain?sql=SELECT%20name+FROM%20boat").await.1;
    assert_eq!((&read["intent"], &read["first_choice"]), (&"read".into(), &"readers".into()));

    let write = "DELETE FROM boat WHERE name <> ''";
    for (kind, body) in [
        ("text/plain", write.to_owned()),
        ("application/x-www-form-urlencoded", "a=b&sql=DELETE+FROM+boat+WHERE+1%3D1".to_owned()),
    ] {
        let (status, told) = text(client.post("/explain", kind, body).await).await;
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        assert_eq!(status, 200);
        assert_eq!((&told["intent"], &told["first_choice"]), (&"write".into(), &"writer".into()));
        assert_eq!(told["choices"][1]["why"], "it is not the primary");
    }
    let count = Statement::from_string(DbBackend::Sqlite, "SELECT count(*) FROM boat");
    let row = db.query_one_raw(count).await.unwrap().unwrap();
    assert_eq!(row.try_get_by_index::<i64>(0).unwrap(), 1);

    let long = " ".repeat(65 * 1024);
    let refused = client.post("/explain", "text/plain", long).await;
    assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let refused = client.post("/explain", "text/plain", vec![0xFF]).await;
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn no_literal_of_a_statement_is_told() {
    let (_folder, db) = harbour().await;
    let client = Client::of(StatusService::new(&db));
    for sql in [
        "SELECT name FROM boat WHERE name = 'SECRET'",
        "SELECT nextval('SECRET')",
        "UPDATE boat SET name = 'SECRET'",
        "SELECT 'SECRET' FROM (",
        "SELECT 'SECRET",
        "SELECT load_extension('SECRET'), 'SECRET' -- SECRET",
    ] {
        let sql = sql.replace("SECRET", "s3cr3t");
        // That the statement has it, and is told about at all.
        assert!(sql.contains("s3cr3t"));
        let (status, told) = text(client.post("/explain", "text/plain", sql.clone()).await).await;
        assert!(status == 200 && told.contains("\"intent\""), "{told}");
        assert!(!told.contains("s3cr3t"), "{sql}: {told}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_password_is_in_any_output() {
    let fleet = Fleet::of(&["db-1", "db-2"]).await;
    fleet.servers[1].fail("refused");
    fleet.until(|it| it.endpoints[1].condition == Condition::Down).await;
    let service = StatusService::new(&fleet.db);
    assert!(!format!("{service:?}").contains(PASSWORD));
    let client = Client::of(service);
    for path in PATHS {
        let (_, told) = client.read(path).await;
        assert!(!told.contains(PASSWORD), "{path}: {told}");
    }
}
