//! actix-web: a middleware made of a function.

use actix_web::{
    Error,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    error::ErrorInternalServerError,
    http::header::{CACHE_CONTROL, COOKIE, HeaderValue, SET_COOKIE},
    middleware::{Next, from_fn},
    web::{self, Data, Json},
};
use sea_orm::DbErr;
use sealane::RoutedConnection;

use crate::{
    boat::{self, Launch},
    visit::Visit,
};

/// Adds the routes: `App::new().configure(actix::routes(db))`.
pub fn routes(db: RoutedConnection) -> impl FnOnce(&mut web::ServiceConfig) {
    move |app| {
        let boats = web::resource("/boats").get(newest).post(launch).wrap(from_fn(in_session));
        app.app_data(Data::new(db)).service(boats);
    }
}

async fn in_session(
    db: Data<RoutedConnection>,
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let cookies = request.headers().get_all(COOKIE);
    let visit = Visit::begin(&db, cookies.filter_map(|cookie| cookie.to_str().ok()));
    let mut response = visit.serve(next.call(request)).await?;
    if let Some(cookie) = visit.end().await {
        let headers = response.headers_mut();
        headers.append(SET_COOKIE, HeaderValue::try_from(cookie)?);
        headers.append(CACHE_CONTROL, HeaderValue::from_static("private"));
    }
    Ok(response)
}

async fn launch(
    db: Data<RoutedConnection>,
    boat: Json<Launch>,
) -> Result<Json<boat::Model>, Error> {
    boat::launch(&db, boat.into_inner().name).await.map(Json).map_err(failed)
}

async fn newest(db: Data<RoutedConnection>) -> Result<Json<Vec<boat::Model>>, Error> {
    boat::newest(&db).await.map(Json).map_err(failed)
}

/// The client learns only that it failed.
fn failed(error: DbErr) -> Error {
    tracing::error!(%error, "failed");
    ErrorInternalServerError("failed")
}
