//! A web service of which several instances run: who launches a boat on one of them sees
//! it on all others, whichever replica they read from.
//!
//! ```sh
//! cargo run --example web                     # SQLite; or `-- --help`
//! curl -c jar -b jar 127.0.0.1:3000/boats --json '{"name": "Ida"}'
//! curl -c jar -b jar 127.0.0.1:3000/boats
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

use anyhow::Context;
use axum::{Json, Router, extract::State, http::StatusCode, routing::get};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use sea_orm::{ActiveValue::Set, ConnectionTrait, QueryOrder, QuerySelect, Schema};
use sea_orm::{DbErr, entity::prelude::*};
use sealane::{Config, OPERATION_DURATION_BUCKETS, RoutedConnection};
use sealane_status::StatusService;
use sealane_tower::SessionLayer;

const HELP: &str = "\
A web service over sealane: POST /boats with {\"name\": \"Ida\"}, GET /boats (the twenty
newest). /ops/ shows the servers, and has /ops/readyz, /ops/metrics and more. Each statement says
where it ran.

usage: web [ADDRESS]              default: 127.0.0.1:3000

  DATABASE_URL                    the primary; without it, a SQLite file for trying out
  DATABASE_REPLICA_URLS           replicas, separated by commas
  TOKEN_KEY                       at least 32 bytes, secret, the same for all instances;
                                  needed with DATABASE_URL
  CONFIG                          a TOML file with all of this, and more, instead
  RUST_LOG                        default: sealane=debug

Two instances on one cluster (without DATABASE_URL each has a file of its own, and the cookie shows
nothing; nor does it without replicas):

  export DATABASE_URL=postgres://app@db-1/shop DATABASE_REPLICA_URLS=postgres://app@db-2/shop
  export TOKEN_KEY=$(openssl rand -hex 32)
  cargo run --example web -- 127.0.0.1:3000 & cargo run --example web -- 127.0.0.1:3001
  curl -c jar -b jar 127.0.0.1:3000/boats --json '{\"name\": \"Ida\"}'
  curl -c jar -b jar 127.0.0.1:3001/boats";

mod boat {
    use sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, serde::Serialize)]
    #[sea_orm(table_name = "sealane_example_boat")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i32,
        pub name: String,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

#[derive(serde::Deserialize)]
struct Launch {
    name: String,
}

// The handlers know nothing of sessions: `db` is the one of the whole application.

async fn launch(
    State(db): State<RoutedConnection>,
    Json(launch): Json<Launch>,
) -> Result<Json<boat::Model>, Failed> {
    let boat = boat::ActiveModel { name: Set(launch.name), ..Default::default() };
    Ok(Json(boat.insert(&db).await?))
}

async fn newest(State(db): State<RoutedConnection>) -> Result<Json<Vec<boat::Model>>, Failed> {
    let newest = boat::Entity::find().order_by_desc(boat::Column::Id).limit(20);
    Ok(Json(newest.all(&db).await?))
}

/// The client is told no more than that it failed.
struct Failed;

impl From<DbErr> for Failed {
    fn from(error: DbErr) -> Self {
        eprintln!("failed: {error}");
        Failed
    }
}

impl axum::response::IntoResponse for Failed {
    fn into_response(self) -> axum::response::Response {
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    if address.starts_with('-') {
        println!("{HELP}");
        return Ok(());
    }
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| "sealane=debug".to_owned());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();

    let folder = tempfile::tempdir()?;
    let config = match (std::env::var_os("CONFIG"), std::env::var_os("DATABASE_URL")) {
        (Some(file), _) => Config::from_toml_file(file)?,
        (None, Some(_)) => {
            let key = std::env::var("TOKEN_KEY").context("TOKEN_KEY signs sessions; see --help")?;
            Config::from_env()?.token_key(key)
        }
        // Everybody can read this key; whom it would matter to sets one.
        (None, None) => Config::sqlite(folder.path().join("harbour.db"))
            .token_key("for trying out: known to everybody"),
    };
    // Before the connection is made, so that its first metrics are not missed.
    let durations = Matcher::Full("db_client_operation_duration_seconds".to_owned());
    let metrics = PrometheusBuilder::new()
        .set_buckets_for_metric(durations, &OPERATION_DURATION_BUCKETS)?
        .install_recorder()?;
    let db = sealane::connect(config).await?;
    let schema = Schema::new(db.get_database_backend());
    let mut table = schema.create_table_from_entity(boat::Entity);
    db.session().execute(table.if_not_exists()).await?;

    // It asks nobody who they are: a real service has it on an internal address, or behind a login.
    let status = StatusService::new(&db).metrics(move || {
        metrics.run_upkeep();
        metrics.render()
    });
    let app = Router::new()
        .route("/boats", get(newest).post(launch))
        // The one line: each request in the session of its user.
        .layer(SessionLayer::new(&db)?)
        .nest_service("/ops", status.clone())
        .with_state(db);
    let listener = tokio::net::TcpListener::bind(&address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    let stop = async move {
        interrupted().await;
        // An open page would keep the service alive.
        status.end_streams();
    };
    axum::serve(listener, app).with_graceful_shutdown(stop).await?;
    Ok(())
}

/// So that requests are finished, and the SQLite file is removed.
async fn interrupted() {
    let from_keyboard = async {
        // Nobody can interrupt it then.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    // Containers are stopped with SIGTERM.
    #[cfg(unix)]
    let from_outside = async {
        use tokio::signal::unix::{SignalKind, signal};
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => drop(terminate.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    #[cfg(not(unix))]
    let from_outside = std::future::pending::<()>();
    tokio::select! {
        () = from_keyboard => {}
        () = from_outside => {}
    }
}
