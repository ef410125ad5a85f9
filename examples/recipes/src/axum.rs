//! axum: a state struct, migrations at the start, and the layer of `sealane-tower`.

use axum::{
    Json, Router,
    extract::{FromRef, State},
    http::StatusCode,
    routing::get,
};
use sea_orm::DbErr;
use sealane::RoutedConnection;
use sealane_status::StatusService;
use sealane_tower::SessionLayer;

use crate::{
    boat::{self, Launch},
    migration,
};

/// What the handlers share. Each takes the part that it needs.
#[derive(Debug, Clone)]
pub struct Harbour {
    /// The one connection of the application.
    pub db: RoutedConnection,
    /// Anything else.
    pub berths: Berths,
}

/// How many boats fit.
#[derive(Debug, Clone, Copy)]
pub struct Berths(pub usize);

/// axum's feature `macros` derives this.
impl FromRef<Harbour> for RoutedConnection {
    fn from_ref(harbour: &Harbour) -> Self {
        harbour.db.clone()
    }
}

/// The service. `db` needs a key for tokens.
///
/// # Errors
/// Those of the database, and that `db` has no key.
pub async fn app(db: RoutedConnection) -> Result<Router, Box<dyn std::error::Error + Send + Sync>> {
    migration::migrate(&db).await?;
    Ok(Router::new()
        .route("/boats", get(newest).post(launch))
        .layer(SessionLayer::new(&db)?)
        // Outside the layer: probes need no session.
        .nest_service("/ops", StatusService::new(&db))
        .with_state(Harbour { db, berths: Berths(20) }))
}

async fn launch(
    State(harbour): State<Harbour>,
    Json(boat): Json<Launch>,
) -> Result<Json<boat::Model>, StatusCode> {
    // A read that decides about a write must not be old, so it is asked of the primary.
    let boats = boat::newest(&harbour.db.on_primary()).await.map_err(failed)?;
    if boats.len() >= harbour.berths.0 {
        return Err(StatusCode::CONFLICT);
    }
    boat::launch(&harbour.db, boat.name).await.map(Json).map_err(failed)
}

async fn newest(State(db): State<RoutedConnection>) -> Result<Json<Vec<boat::Model>>, StatusCode> {
    boat::newest(&db).await.map(Json).map_err(failed)
}

/// The client learns only that it failed.
fn failed(error: DbErr) -> StatusCode {
    tracing::error!(%error, "failed");
    StatusCode::INTERNAL_SERVER_ERROR
}
