//! A deterministic simulator: the whole product in virtual time, against simulated servers.
//!
//! The product comes in through `sealane::assembly`: its execution, monitor, core and classifier
//! run as they are. Simulated are the servers (`server`, `replication`, `serve`), the network
//! (`world`), the pools of the driver (`lender`) and the probes' SQL (`probe`). A `process` puts
//! the product together. A `scenario` says what users do (`user`) and what goes wrong (`fault`), and
//! the `oracle` knows the truth (`history`).
//!
//! # Which runtime, and why
//! tokio's own, with one thread and a paused clock: nothing of the product has to be built in another
//! way, and everything it waits for is a timer or another task. `turmoil` simulates TCP for code that
//! uses its sockets, and sqlx has no seam for a transport. `madsim` replaces tokio in all
//! dependencies, and sqlx is not ported to it. `run` says why a run can be repeated.
//!
//! # What is not simulated
//! - Settings other than the defaults, except hedging and a group for costly reads: no
//!   `primary_reads`, `FallbackPolicy` or `WhenAhead` of an application.
//! - The drivers and their protocols, and what writes change in other tables (so the handle that
//!   everybody shares does not tell tables apart).
//! - A split SQLite file. sqlx runs each of its connections on a thread of its own, and SQLite waits
//!   for its locks there in real time. The paused clock would jump ahead of both.

mod catalog;
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
mod process;
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

pub use coverage::{WANTED, never_reached};
pub use plant::Plant;
pub use run::{Outcome, run};
pub use scenario::{Ends, Fault, Kind, Loss, Newcomer, Scenario, Step, Tables, User};
pub use shrink::{shrink, story};
pub use violation::Violation;
