//! The vocabulary and the decisions of sealane.
//!
//! Everything here is a pure function of its arguments: no clock, no entropy,
//! no I/O, no async runtime. The monitor feeds [`Observation`]s into a
//! [`TopologyReducer`]; the adapter makes a [`Plan`] from the [`Topology`] that
//! comes out. That both can be replayed from data is what lets the tests (and
//! one day a simulator) check every decision.
//!
//! ```
//! use sealane_core::{Access, Consistency, Demand, Endpoint, Moment, Plan, Topology};
//!
//! let topology = Topology::new(vec![Endpoint::new("primary", "db-1:5432")]);
//! let demand = Demand::new(Access::Write, Consistency::default(), Moment::ZERO);
//! let plan = Plan::new(&topology, &demand);
//! assert_eq!(plan.primary(), topology.primary());
//! ```

mod balance;
mod condition;
mod consistency;
mod database;
mod endpoint;
mod event;
mod failure;
mod fence;
mod footprint;
mod health;
mod history;
mod intent;
mod lag;
mod load;
mod moment;
mod observation;
mod plan;
mod position;
mod role;
mod session;
mod subscription;
mod token;
mod topology;

pub use balance::{Balancer, RoundRobin, TwoChoices};
pub use condition::Condition;
pub use consistency::{Consistency, WhenAhead, WhenBehind};
pub use database::Database;
pub use endpoint::{Endpoint, EndpointId, EndpointSet, MAX_ENDPOINTS};
pub use event::Event;
pub use failure::{Engine, ErrorCode, Remedy};
pub use fence::{WriteClock, WriteStamp};
pub use footprint::Footprint;
pub use health::{Health, HealthPolicy};
pub use intent::Intent;
pub use lag::{LagHistory, LagSummary};
pub use load::{InFlight, Loads};
pub use moment::Moment;
pub use observation::{
    Failure, Incarnation, Observation, Outcome, Particulars, ReadOnly, Replication, Report,
    Transactions,
};
pub use plan::{Access, Demand, Plan, Refusal, Verdict};
pub use position::{
    Distance, GtidList, GtidSet, Lsn, MAX_GTID_TEXT_BYTES, ParseGtidError, ParseLsnError, Position,
};
pub use role::Role;
pub use session::{
    Carried, Export, Lent, PastMismatch, Server, Session, SessionView, WriteTracking,
};
pub use subscription::{Feed, Subscription};
pub use token::{CausalToken, DecodeTokenError, Past, ServerMark};
pub use topology::{EndpointState, Topology, TopologyReducer};
