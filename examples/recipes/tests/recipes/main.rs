//! Each recipe of the book as a service that answers over HTTP, on one SQLite file: writes run on
//! the writer and reads on the readers, in the session of their request.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may end there")]

mod harbour;
mod kubernetes;
mod route;

use std::net::SocketAddr;

use sealane_recipes::{actix, axum, boat, graphql, grpc, jobs, poem};
use serde_json::json;
use tokio::net::TcpListener;
use tonic::transport::Channel;

use crate::{
    harbour::{Harbour, User},
    route::{READ, Route, WRITE},
};

/// What every web service must do: a user reads what the user wrote, in one session, and tokens
/// travel only if there is something to tell.
async fn is_a_harbour(harbour: &Harbour, address: SocketAddr) {
    let mut user = User::of(address);
    let ida: boat::Model = user.post("boats", json!({ "name": "Ida" })).await;
    assert_eq!(ida.name, "Ida");
    let token = user.token.clone().expect("a write has something to tell");
    assert!(user.is_private, "no shared cache may keep the token");
    assert_eq!(harbour.routes().last(), Some(&WRITE));

    let boats: Vec<boat::Model> = user.get("boats").await;
    assert_eq!(boats, [ida]);
    assert_eq!(harbour.routes(), [READ]);
    assert_eq!(user.sent.as_deref(), Some(&*token));

    // A forged one is replaced, and its user served.
    user.token = Some("forged".to_owned());
    let _: Vec<boat::Model> = user.get("boats").await;
    assert_ne!(user.token.as_deref(), Some("forged"));
    assert_eq!(harbour.routes(), [READ]);
}

#[tokio::test(flavor = "multi_thread")]
async fn axum_with_a_state_struct_and_migrations() {
    let harbour = Harbour::empty().await;
    let app = axum::app(harbour.db.clone()).await.unwrap();
    // Not in a session, and of no request.
    harbour.routes();
    let address = serve(app).await;
    is_a_harbour(&harbour, address).await;

    // The read that decides about a write is on the primary.
    let mut user = User::of(address);
    let _: boat::Model = user.post("boats", json!({ "name": "Jolle" })).await;
    assert_eq!(harbour.routes(), [Route { endpoint: "writer", ..READ }, WRITE]);

    // Probes are no user's requests.
    assert!(!user.text("ops/readyz").await.is_empty());
    assert!(harbour.routes().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn actix_web_with_a_middleware() {
    use actix_web::{App, HttpServer, rt::System};

    let harbour = Harbour::open().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let db = harbour.db.clone();
    let serve = move || {
        let app = move || App::new().configure(actix::routes(db.clone()));
        let server = HttpServer::new(app).workers(1).disable_signals().listen(listener).unwrap();
        System::new().block_on(server.run()).unwrap();
    };
    // Its workers have threads of their own, which end with the test's process.
    std::thread::spawn(serve);
    is_a_harbour(&harbour, address).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn poem_with_a_middleware() {
    use ::poem::{Server, listener::TcpAcceptor};

    let harbour = Harbour::open().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::new_with_acceptor(TcpAcceptor::from_tokio(listener).unwrap());
    tokio::spawn(server.run(poem::app(harbour.db.clone())));
    is_a_harbour(&harbour, address).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn graphql_with_data_loaders() {
    let harbour = Harbour::open().await;
    let mut user = User::of(serve(graphql::app(&harbour.db).unwrap()).await);
    for (name, crew) in [("Ida", r#"["Ole", "Ane"]"#), ("Jolle", r#"["Per"]"#)] {
        let launch = format!(r#"mutation {{ launch(name: "{name}", crew: {crew}) {{ id }} }}"#);
        let _: serde_json::Value = user.post("graphql", json!({ "query": launch })).await;
        assert_eq!(harbour.routes(), [WRITE, WRITE]);
    }
    assert!(user.token.is_some());
    let query = json!({ "query": "{ boats { name crew } }" });
    let answer: serde_json::Value = user.post("graphql", query).await;
    let boats = json!([
        { "name": "Jolle", "crew": ["Per"] },
        { "name": "Ida", "crew": ["Ole", "Ane"] },
    ]);
    assert_eq!(answer["data"]["boats"], boats, "{answer}");
    // Both crews with one statement, and in the request's session although it is another task.
    assert_eq!(harbour.routes(), [READ, READ]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_continues_the_session_of_its_request() {
    let harbour = Harbour::open().await;
    let session = harbour.db.session();
    let payload = sealane::scope(session, jobs::enqueue(&harbour.db, "Ida")).await.unwrap();
    assert_eq!(harbour.routes(), [WRITE]);
    let job: jobs::Job = serde_json::from_str(&payload).unwrap();
    let resumed = harbour.db.resume(job.token.as_deref().unwrap());
    assert!(resumed.refused.is_none(), "{resumed:?}");

    let boat = jobs::work(&harbour.db, &payload).await.unwrap();
    assert_eq!(boat.map(|boat| boat.name).as_deref(), Some("Ida"));
    assert_eq!(harbour.routes(), [READ]);
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_with_tokens_in_metadata() {
    let harbour = Harbour::open().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(grpc::serve(harbour.db.clone(), listener));
    let channel = Channel::from_shared(format!("http://{address}")).unwrap();
    let mut client = grpc::HarbourClient::new(channel.connect().await.unwrap());

    let boat = grpc::Boat { id: 0, name: "Ida".to_owned() };
    let launched = client.launch(tonic::Request::new(boat)).await.unwrap();
    let token = launched.metadata().get(grpc::TOKEN).expect("a write has something to tell");
    assert_eq!(harbour.routes(), [WRITE]);

    let mut request = tonic::Request::new(grpc::Empty {});
    request.metadata_mut().insert(grpc::TOKEN, token.clone());
    let newest = client.newest(request).await.unwrap().into_inner();
    assert_eq!(newest.boats, [launched.into_inner()]);
    assert_eq!(harbour.routes(), [READ]);

    // A forged one is replaced, so the service reads what it gets.
    let mut request = tonic::Request::new(grpc::Empty {});
    request.metadata_mut().insert(grpc::TOKEN, "forged".parse().unwrap());
    let answer = client.newest(request).await.unwrap();
    assert!(answer.metadata().get(grpc::TOKEN).is_some_and(|token| token != "forged"));
}

/// Serves an app of axum for the rest of the test.
async fn serve(app: ::axum::Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { ::axum::serve(listener, app).await });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn work_outside_its_session_is_seen() {
    let harbour = Harbour::open().await;
    boat::launch(&harbour.db, "Ida".to_owned()).await.unwrap();
    boat::newest(&harbour.db).await.unwrap();
    let outside = |route: Route| Route { session: "shared", ..route };
    assert_eq!(harbour.routes(), [outside(WRITE), outside(READ)]);
}
