//! The cluster as the integration suites see it: its servers, faults to inflict on them,
//! and the way back to health.
//!
//! `cargo xtask itest` starts the containers and describes them in the environment variable
//! [`ENVIRONMENT`]. All suites share one cluster, one test after the other. So every test begins
//! with [`Cluster::healthy`], which repairs what the previous test broke, also if that test failed
//! half-way. No `Drop` guard does this, because repairing is asynchronous, and because a guard
//! would remove the state that the author of a failed test wants to inspect.

pub mod ahead;
pub mod browser;
mod certificate;
mod cluster;
mod companion;
mod connection;
mod container;
mod control;
pub mod crew;
mod docker;
mod engine;
mod fault;
pub mod fleet;
mod group;
mod heal;
mod log;
mod marker;
pub mod patroni;
mod pooler;
pub mod prometheus;
mod relay;
pub mod ruler;
mod server;
pub mod terminal;
mod wait;
pub mod watch;

pub use certificate::{Authority, Certificate, sealed};
pub use cluster::{Cluster, ENVIRONMENT};
pub use connection::Scalar;
pub use control::Control;
pub use docker::docker;
pub use engine::Engine;
pub use fault::Occupation;
pub use log::Log;
pub use marker::Markers;
pub use pooler::{PgBouncer, Pooler, three};
pub use relay::Relay;
pub use server::Server;
pub use wait::eventually;

/// Begins the message of a test that has seen what may never be: a stale read, a lost write, a
/// bound that does not hold. `cargo xtask test` runs other failed suites again, but not this one.
pub const BROKEN_PROMISE: &str = "BROKEN PROMISE";
