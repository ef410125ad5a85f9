//! Seaography: its resolvers want a `DatabaseConnection`, so each request brings its own.
//!
//! A query gets `db.reader()`, the pool of a server that may serve the session now; its data
//! loaders get the same. A mutation gets `db.primary()`. What Seaography writes there is not seen
//! by sealane, so the recipe notes it.

use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use sea_orm::{DatabaseConnection, DbErr};
use sealane::RoutedConnection;
use sealane_tower::SessionLayer;
use seaography::{
    Builder, BuilderContext, OneToManyLoader, OneToOneLoader,
    async_graphql::{
        Request, Response, dataloader::DataLoader, dynamic::Schema, parser::types::OperationType,
    },
};

use crate::{boat, sailor};

/// The service. `db` needs a key for tokens.
///
/// # Errors
/// `db` has no key, or the schema is not valid.
pub fn app(db: RoutedConnection) -> Result<Router, Box<dyn std::error::Error + Send + Sync>> {
    static CONTEXT: std::sync::LazyLock<BuilderContext> =
        std::sync::LazyLock::new(BuilderContext::default);
    // Only for its dialect: each request brings the connection that is used.
    let mut builder = Builder::new(&CONTEXT, db.primary().clone());
    seaography::register_entities!(builder, [boat, sailor]);
    let schema = builder.schema_builder().finish()?;
    let layer = SessionLayer::new(&db)?;
    let router = Router::new().route("/graphql", post(execute)).layer(layer);
    Ok(router.with_state((schema, db)))
}

async fn execute(
    State((schema, db)): State<(Schema, RoutedConnection)>,
    Json(mut request): Json<Request>,
) -> Result<Json<Response>, StatusCode> {
    let writes = writes(&mut request);
    let connection = connection(&db, writes).await.map_err(|error| {
        tracing::error!(%error, "failed");
        StatusCode::INTERNAL_SERVER_ERROR
    })?;
    let response = schema.execute(on(request, &connection)).await;
    if writes {
        // Also after an error: it may have written before.
        db.note_write();
    }
    Ok(Json(response))
}

/// Whether any of the request's operations is a mutation. One that cannot be parsed counts as one.
fn writes(request: &mut Request) -> bool {
    request.parsed_query().map_or(true, |document| {
        document.operations.iter().any(|(_, it)| it.node.ty == OperationType::Mutation)
    })
}

async fn connection(db: &RoutedConnection, writes: bool) -> Result<DatabaseConnection, DbErr> {
    if writes { Ok(db.primary().clone()) } else { db.reader().await }
}

/// Puts the connection where the resolvers look first, also into the loaders of relations. Each
/// entity with relations needs its loaders here: without them Seaography takes those of the
/// schema, which stay on the server that was the primary at the start.
fn on(request: Request, connection: &DatabaseConnection) -> Request {
    let many = OneToManyLoader::<sailor::Entity>::new(connection.clone());
    let one = OneToOneLoader::<boat::Entity>::new(connection.clone());
    request
        .data(connection.clone())
        .data(DataLoader::new(many, tokio::spawn))
        .data(DataLoader::new(one, tokio::spawn))
}
