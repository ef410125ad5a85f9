//! Probes of health, role, position and lag, and the topology they make.
//!
//! One task per endpoint asks its server over a connection of its own, so that
//! an exhausted application pool is not mistaken for a dead server. All of them
//! feed the one reducer on the [`Board`], whose snapshot statements read with
//! one atomic load. When the [`Monitor`] is dropped its tasks end.
//!
//! Each probe is a `tracing` span; with feature `metrics` what it knows goes to the recorder
//! that the application has installed. Beside them a [`CatalogWatch`] keeps what statements are judged by up to date.

mod board;
mod catalog;
mod caught;
mod clock;
mod footing;
mod guard;
#[cfg(feature = "metrics")]
mod metrics;
mod monitor;
#[cfg(feature = "mysql")]
pub mod mysql;
mod pace;
#[cfg(feature = "postgres")]
pub mod postgres;
mod probe;
mod span;
mod telling;

pub use board::Board;
pub use catalog::{CatalogSource, CatalogWatch};
pub use footing::{Footing, Stage};
pub use guard::{Admission, RunGuard};
pub use monitor::Monitor;
pub use pace::Pace;
pub use probe::Probe;
