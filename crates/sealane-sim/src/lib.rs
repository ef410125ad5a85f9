//! A deterministic simulator: the whole product in virtual time, against simulated servers.
//!
//! The product comes in through `sealane::assembly`: its execution, monitor, core and classifier
//! run as they are. Simulated are the servers (`server`, `replication`, `serve`), the network
//! (`world`), the pools of the driver (`lender`) and the probes' SQL (`probe`). A `scenario` says
//! what users do (`user`) and what goes wrong (`fault`), and the `oracle` knows the truth
//! (`history`).
//!
//! What is not simulated: the drivers and their protocols, the catalog, SQLite, subscribers.

mod coverage;
mod draw;
mod error;
mod fault;
mod history;
mod lender;
mod oracle;
mod place;
mod plant;
mod probe;
mod replication;
mod run;
mod scenario;
mod serve;
mod server;
mod shrink;
mod trace;
mod user;
mod violation;
mod world;

pub use coverage::WANTED;
pub use plant::Plant;
pub use run::{Outcome, run};
pub use scenario::{Ends, Fault, Kind, Loss, Scenario, Step, User};
pub use shrink::{shrink, story};
pub use violation::Violation;
