//! A [`tower`](tower_layer) layer that gives every request the session of its user:
//! who has written on one instance of a service reads it on all others, whichever
//! replica answers there.
//!
//! [`SessionLayer`] opens the session that the request's token tells of, has the
//! request served in its [scope](sealane::scope), and sends a new token along with the
//! answer, if there is something new to tell. Handlers use the one `db` of the
//! application and know nothing of it:
//!
//! ```
//! use axum::{Router, body::Body, extract::State, http::Request, routing::post};
//! use sea_orm::ConnectionTrait;
//! use sealane::{Config, RoutedConnection};
//! use sealane_tower::SessionLayer;
//! use tower::ServiceExt;
//!
//! async fn launch(State(db): State<RoutedConnection>) {
//!     db.execute_unprepared("INSERT INTO boat (name) VALUES ('Ida')").await.unwrap();
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let (file, secret) = (folder.path().join("harbour.db"), "k".repeat(32));
//! let db = sealane::connect(Config::sqlite(file).token_key(secret)).await?;
//! # db.execute_unprepared("CREATE TABLE boat (name TEXT)").await?;
//! let app = Router::new()
//!     .route("/boats", post(launch))
//!     .layer(SessionLayer::new(&db)?)
//!     .with_state(db);
//!
//! let response = app.oneshot(Request::post("/boats").body(Body::empty())?).await?;
//! let cookie = response.headers()["set-cookie"].to_str()?;
//! assert!(cookie.starts_with("sealane=") && cookie.contains("; HttpOnly"));
//! # Ok(())
//! # }
//! ```
//!
//! It works for whatever speaks [`http`]'s types: axum, tonic, hyper. All instances need
//! the same [key](sealane::Config::token_key).
//!
//! # What counts
//! What a request did until its service answered, and also if it answered with an error
//! status. Tasks that a handler spawns, and data loaders that spawn, are outside of its
//! session, unless they run [in its scope](sealane::in_current_scope). They miss none of its
//! writes all the same (see [`sealane::Config::shared_waits_for_sessions`]); what they write
//! is not in the token. One warning tells when work seems to have left its session.
//!
//! What is done later is not in the token: by a task that goes on, or by a body
//! that is made while it is sent. Such a body is made outside the scope, too; what it
//! reads with should be [forked](sealane::RoutedConnection::fork) by the handler. A
//! service that fails (its future's error, not a status) sends no answer and so no token.
//!
//! Answers that cross each other overwrite each other's cookie: if a read was
//! on its way while the same user's write ended, and its answer comes last, the
//! user has a cookie that does not know of the write. A client for which that matters
//! carries tokens in a [header](SessionLayer::header) and sends both.
//!
//! # What a client can do
//! A token that is forged, outdated or cut off is never an error: the request gets a
//! session that misses nothing of what the primary has by then, and a new token. Tokens
//! are signed, not secret; they name no user and give no rights.
//!
//! # Caches
//! An answer without a new token is left as it is. One that carries a token is marked
//! `Cache-Control: private`, for a shared cache would hand it to other users in place
//! of their own. Since every user's first read makes a token, pages that are to be cached for
//! everybody are best served outside the layer.

mod carrier;
mod cookie;
mod error;
mod layer;
mod service;

pub use cookie::TokenCookie;
pub use error::SessionLayerError;
pub use layer::SessionLayer;
pub use service::SessionService;
