//! poem: a middleware around an endpoint.

use std::sync::Arc;

use poem::{
    Endpoint, EndpointExt, Request, Response, Route, get, handler,
    http::{
        HeaderValue, StatusCode,
        header::{CACHE_CONTROL, COOKIE, SET_COOKIE},
    },
    web::{Data, Json},
};
use sea_orm::DbErr;
use sealane::RoutedConnection;

use crate::{
    boat::{self, Launch},
    visit::Visit,
};

/// The service.
pub fn app(db: RoutedConnection) -> impl Endpoint {
    let around = db.clone();
    Route::new()
        .at("/boats", get(newest).post(launch))
        .around(move |next, request| in_session(around.clone(), next, request))
        .data(db)
}

async fn in_session(
    db: RoutedConnection,
    next: Arc<impl Endpoint>,
    request: Request,
) -> poem::Result<Response> {
    let cookies = request.headers().get_all(COOKIE).into_iter();
    let visit = Visit::begin(&db, cookies.filter_map(|cookie| cookie.to_str().ok()));
    // An error becomes a response here already: what it wrote before belongs to the session, too.
    let mut response = visit.serve(next.get_response(request)).await;
    if let Some(cookie) = visit.end().await {
        let cookie = HeaderValue::try_from(cookie).map_err(poem::error::InternalServerError)?;
        response.headers_mut().append(SET_COOKIE, cookie);
        response.headers_mut().append(CACHE_CONTROL, HeaderValue::from_static("private"));
    }
    Ok(response)
}

#[handler]
async fn launch(
    Data(db): Data<&RoutedConnection>,
    Json(boat): Json<Launch>,
) -> poem::Result<Json<boat::Model>> {
    boat::launch(db, boat.name).await.map(Json).map_err(failed)
}

#[handler]
async fn newest(Data(db): Data<&RoutedConnection>) -> poem::Result<Json<Vec<boat::Model>>> {
    boat::newest(db).await.map(Json).map_err(failed)
}

/// The client learns only that it failed.
fn failed(error: DbErr) -> poem::Error {
    tracing::error!(%error, "failed");
    poem::Error::from_status(StatusCode::INTERNAL_SERVER_ERROR)
}
