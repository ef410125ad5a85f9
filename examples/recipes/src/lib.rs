//! The recipes of the book, one file each: sealane in web frameworks, GraphQL, gRPC and jobs.
//! `tests/recipes` runs all of them, most over HTTP, on one SQLite file whose reads and writes have
//! different connections.
//!
//! All recipes serve the same harbour: `POST /boats` launches a [boat], `GET /boats` lists
//! the newest. Their handlers use the application's one `db`. What differs is how a framework gets
//! each request into the session of its user: with `sealane-tower` where it is a `tower` service,
//! and otherwise with a small middleware around a [`Visit`](visit::Visit).

pub mod actix;
pub mod axum;
pub mod boat;
pub mod graphql;
pub mod grpc;
pub mod jobs;
pub mod migration;
pub mod poem;
pub mod sailor;
pub mod visit;
