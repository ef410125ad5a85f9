//! The cluster as the integration suites see it: its servers, faults to inflict on them,
//! and the way back to health.
//!
//! `cargo xtask itest` starts the containers and describes them in the environment variable
//! [`ENVIRONMENT`]. All suites share one cluster, one test after the other, so every test
//! begins with [`Cluster::healthy`]: what the one before broke, also by failing half-way, is
//! repaired there. No `Drop` guard does it, because repairing is asynchronous and because a
//! guard would repair what a failed test leaves for its author to look at.

mod cluster;
mod connection;
mod docker;
mod engine;
mod fault;
pub mod fleet;
mod heal;
mod marker;
mod pooler;
mod relay;
pub mod ruler;
mod server;
mod wait;
pub mod watch;

pub use cluster::{Cluster, ENVIRONMENT};
pub use connection::Scalar;
pub use engine::Engine;
pub use marker::Markers;
pub use pooler::{PgBouncer, Pooler, three};
pub use relay::Relay;
pub use server::Server;
pub use wait::eventually;
