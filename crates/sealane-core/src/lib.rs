//! The vocabulary and the decisions of sealane.
//!
//! Everything here is a pure function of its arguments: no clock, no entropy, no I/O, no async
//! runtime. The monitor feeds [`Observation`]s into a [`TopologyReducer`]; the adapter makes a
//! [`Plan`] from the resulting [`Topology`]. Both steps can be replayed from recorded data, so
//! tests (and one day a simulator) can check every decision.
//!
//! ```
//! use sealane_core::{Access, Consistency, ReadRequest, Endpoint, Moment, Plan, Topology};
//!
//! let topology = Topology::new(vec![Endpoint::new("primary", "db-1:5432")]);
//! let request = ReadRequest::new(Access::Write, Consistency::default(), Moment::ZERO);
//! let plan = Plan::new(&topology, &request);
//! assert_eq!(plan.primary(), topology.primary());
//! ```

mod adaptive_limit;
mod balance;
mod budget;
mod consistency;
mod ejection;
mod fence;
mod moment;
mod pace;
mod plan;
mod position;
mod printable;
mod retry;
mod routing;
mod session;
mod statement;
mod topology;

pub use adaptive_limit::AdaptiveLimit;
pub use balance::{
    AttemptOutcome, Balancer, Candidates, FastestResponse, InFlight, LeastInFlight, LeastLag,
    Loads, LocalFirst, Random, RoundRobin, Sticky, TwoChoices, Waiting, WeightedRoundRobin,
};
pub use budget::RetryBudget;
pub use consistency::{
    Access, Candidate, Consistency, ConsistencyPolicy, FallbackPolicy, PrimaryReads, ReadRequest,
    Refusal, Verdict, WhenAhead,
};
pub use ejection::{EjectionChange, EjectionPolicy, Ejections};
pub use fence::{WriteClock, WriteStamp};
pub use moment::Moment;
pub use pace::Pace;
pub use plan::{Plan, PrimaryUse};
pub use position::{
    Ancestry, Distance, GtidList, GtidSet, Lsn, MAX_GTID_TEXT_BYTES, ParseGtidError, ParseLsnError,
    Position, Source,
};
pub use printable::printable;
pub use retry::{Engine, ErrorCode, RetryDecision};
pub use routing::{
    ByGroup, Pattern, Routable, Route, RoutingPolicy, Rule, RuleError, RuleId, Rules,
};
pub use session::{
    Carried, CausalToken, DecodeTokenError, Export, Lent, Past, PastMismatch, SeenSoFar, Server,
    ServerMark, Session, SessionView, WriteTracking,
};
pub use statement::{
    Cost, CostClass, Intent, Limit, TableName, TableSet, Tables, Usage, UsageCounts,
};
pub use topology::{
    Condition, Database, Endpoint, EndpointId, EndpointSet, EndpointState, Event, Failure, Feed,
    FilterQuestion, Health, HealthPolicy, Horizon, Incarnation, LagHistory, LagSummary,
    MAX_ENDPOINTS, Observation, Outcome, ReadOnly, ReadsPlace, Replication, Report, Role,
    ServerInfo, Severity, Subscription, TimedEvent, Topology, TopologyReducer, Transactions,
};
