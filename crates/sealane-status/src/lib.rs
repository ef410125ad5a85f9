//! What a person on call and an orchestrator ask a service that uses sealane: health checks,
//! metrics, the state of the servers, changes as they happen, and a page that shows all of this.
//!
//! [`StatusService`] is one [`tower`](tower_service) service over the types of [`http`]. axum mounts
//! it as it is, so this crate does not depend on axum:
//!
//! ```
//! use std::time::Duration;
//!
//! use axum::{Router, body::Body, http::Request};
//! use sealane::Config;
//! use sealane_status::{Needs, StatusService};
//! use tower::ServiceExt;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let file = folder.path().join("harbour.db");
//! let db = sealane::connect(Config::sqlite(file)).await?;
//! let status = StatusService::new(&db).needs(Needs::primary());
//! let app: Router = Router::new().nest_service("/ops", status);
//!
//! let request = Request::get("/ops/readyz").body(Body::empty())?;
//! assert_eq!(app.oneshot(request).await?.status(), 200);
//! # Ok(())
//! # }
//! ```
//!
//! | path | |
//! |---|---|
//! | `/` | the page: the servers with their roles and lags, load and latencies, advice, the statements that cost most, the last events, a box that explains statements |
//! | `/livez` | 200: the process answers |
//! | `/readyz` | 200, or 503 with the reasons, if something is missing that the service [needs](Needs) |
//! | `/metrics` | the text that [`StatusService::metrics`] gives; 404 without it |
//! | `/status.json` | [`RoutedConnection::status`](sealane::RoutedConnection::status) |
//! | `/report.json` | [`RoutedConnection::report`](sealane::RoutedConnection::report) |
//! | `/events` | changes as they happen, as server-sent events |
//! | `/explain` | where a statement would run now, and why. The statement is the parameter `sql` of a GET, or the body of a POST: plain text, or a form with a field `sql`. Nothing is sent to any server |
//!
//! (`/fragment` is the part of the page that changes; its script asks for it.)
//! Other frameworks pass the path without the prefix under which they mount the service.
//!
//! # Access
//! **This service asks nobody who they are.** What it shows helps an attacker: names and addresses
//! of servers, versions, names of tables, load. Whoever mounts it decides who may reach it: a
//! listener on an internal address, or a layer that authenticates in front of it. Only `/livez` and
//! `/readyz` are made for everybody who can reach the pod.
//!
//! No output contains a password, or a literal of a statement. A GET of `/explain` has the statement
//! in its address, which proxies write into their logs; the page uses POST.
//!
//! # The page
//! One document without foreign scripts, fonts or images. Its `Content-Security-Policy` allows its
//! own script and its own style, both by their hashes, and nothing else. Without JavaScript it shows
//! the same tables as they are at that moment. Its address should end with a slash (`/ops/`); with
//! JavaScript it moves there by itself.
//!
//! # Shutdown
//! An open page holds a stream of events, and a graceful shutdown waits for every response to end.
//! [`StatusService::end_streams`] ends them:
//!
//! ```no_run
//! # async fn serve(listener: tokio::net::TcpListener, app: axum::Router,
//! #     status: sealane_status::StatusService, interrupted: impl Future<Output = ()> + Send + 'static,
//! # ) -> std::io::Result<()> {
//! let stop = async move {
//!     interrupted.await;
//!     status.end_streams();
//! };
//! axum::serve(listener, app).with_graceful_shutdown(stop).await
//! # }
//! ```

mod answer;
mod body;
mod explain;
mod html;
mod needs;
mod page;
mod picture;
mod service;
mod spread;
mod stream;

pub use body::StatusBody;
pub use needs::{Needs, Unready};
pub use service::StatusService;
