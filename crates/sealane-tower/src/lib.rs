//! A [`tower`](tower_layer) layer that gives every request the session of its user. A user who
//! writes through one instance of a service reads this write through all other instances, whichever
//! replica answers.
//!
//! [`SessionLayer`] opens the session that the request's token describes and serves the request in
//! its [scope](sealane::scope). If the session has made progress, the response carries a new token.
//! Handlers use the application's one `db` and need no change:
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
//! The layer works with everything that uses the types of [`http`]: axum, tonic, hyper. All
//! instances need the same [key](sealane::Config::token_key).
//!
//! # What a token covers
//! A token covers everything that the request did until its service answered, even if the answer is
//! an error status. Tasks that a handler spawns, and data loaders that spawn tasks, run outside the
//! session, unless they run [in its scope](sealane::in_current_scope). Even outside, they miss none
//! of the session's writes (see [`sealane::Config::shared_waits_for_sessions`]), but the token does
//! not cover their own writes. sealane logs one warning if work seems to have left its session.
//!
//! A body that is produced while it is sent (streamed rows, server-sent events) is produced in the
//! session of its request. The code behind an upgraded connection (a WebSocket) runs in its own
//! task; the handler takes the session there with a [`CurrentScope`](sealane::CurrentScope). The
//! token covers neither's writes, because it was sent earlier.
//!
//! If two responses overtake each other, the later one sets the cookie. Suppose that a read is in
//! flight while the same user's write ends, and that the read's response arrives last. Then the
//! cookie does not cover the write. A client for which this matters carries tokens in a
//! [header](SessionLayer::header) and sends both.
//!
//! # Among other layers
//! The order from the outside to the inside (the reverse of the order in which `Router::layer` adds
//! layers):
//! 1. Layers that turn requests away: authentication, rate limits. A rejected request gets no
//!    session.
//! 2. This layer.
//! 3. Time limits, and layers that turn a service's error into a response (axum's
//!    `HandleErrorLayer`). Inside this layer, their responses carry a token, which is needed: a
//!    request may have written something before it was cancelled. Outside this layer, their
//!    responses carry no token. A service that fails (with an error of its future, not a status)
//!    sends no response at all, and so no token. If a proxy outside the process has a time limit,
//!    use [`SessionLayer::answer_within`] to answer before the proxy does.
//!
//! Compression may be on either side. A layer that passes requests to another task (tower's
//! `Buffer`) belongs outside.
//!
//! # What a client can do
//! A forged, outdated or truncated token is never an error. The request gets a session that misses
//! nothing of what the primary has at that moment, and a new token once the session has read or
//! written something. A request that neither reads nor writes causes no work for any server,
//! whatever token it sends. The first reads of such sessions wait for each other, up to a twentieth
//! of a second, and share their proofs. So many requests with bad tokens load neither the primary
//! nor its probes. Tokens are signed, not secret; they name no user and give no rights.
//!
//! # Caches
//! A response without a new token stays unchanged. A response with a token is marked
//! `Cache-Control: private`, because a shared cache would hand the token to other users. Some
//! caches read other fields instead; these fields are changed in the same way if they are present:
//! `CDN-Cache-Control` and similar ones, `Surrogate-Control`, `Edge-Control`, `X-Accel-Expires`.
//! Every user's first read makes a token, so it is best to serve pages that are cached for
//! everybody outside the layer.

mod body;
mod carrier;
mod cookie;
mod error;
mod layer;
mod returned;
mod service;

pub use body::SessionBody;
pub use cookie::TokenCookie;
pub use error::SessionLayerError;
pub use layer::SessionLayer;
pub use service::SessionService;
