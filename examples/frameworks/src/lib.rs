//! sealane in frameworks that hold SeaORM's own `DatabaseConnection` in a field or a context:
//! [`loco`] and [`seaography`]. `tests/frameworks.rs` runs both over HTTP.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod boat;
pub mod loco;
pub mod migration;
pub mod sailor;
pub mod seaography;
