//! What is known of the cluster, for a health page.

use std::time::Duration;

use sealane_core::{Condition, Distance, Health, LagSummary, ReadOnly, Replication, Role};
use serde::Serialize;

use crate::cluster::Cluster;

/// A snapshot of all endpoints and of how the load is spread over them.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Status {
    /// The name of the endpoint that takes writes; `None` while none may.
    pub primary: Option<String>,
    /// All endpoints, in the order of the configuration.
    pub endpoints: Vec<EndpointStatus>,
    /// What is known of the database's catalog; `None` where it is not asked.
    pub catalog: Option<CatalogState>,
    /// The part of proved reads that were sent to replicas since the start, 0 to
    /// 1; `None` before the first read. A read that had to be sent twice counts
    /// twice.
    pub replica_read_ratio: Option<f64>,
}

/// What is known of the catalog that statements are judged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CatalogState {
    /// It was loaded, and nothing is known to have changed since.
    Loaded,
    /// The schema has changed, or it could not be loaded again for minutes: what
    /// only it knew to be pure runs on the primary.
    InDoubt,
    /// It was never loaded, or holds nothing worth knowing.
    Empty,
}

/// What is known of one endpoint.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct EndpointStatus {
    /// Its name.
    pub name: String,
    /// Where it is, without credentials.
    pub address: String,
    /// What it was last seen to be.
    pub role: Role,
    /// In one word, how it stands.
    pub condition: Condition,
    /// Whether it answers.
    pub health: Health,
    /// Whether it still receives from its primary.
    pub replication: Replication,
    /// Whether what receives on a replica is connected to its source. `None`, here and
    /// below: the engine does not tell, or not us.
    pub receives: Option<bool>,
    /// Whether what applies on a replica runs.
    pub applies: Option<bool>,
    /// Whether it accepts writes. Who takes them is decided by more than that.
    pub writable: Option<bool>,
    /// What it runs, such as `PostgreSQL 17.5`.
    pub version: Option<String>,
    /// Whose data it holds: PostgreSQL's system identifier, MySQL's server UUID,
    /// MariaDB's server and domain, Aurora's instance.
    pub identity: Option<String>,
    /// Whether it holds another system's data.
    pub foreign: bool,
    /// The database that its URL leads to, by its name.
    pub database: Option<String>,
    /// The endpoint that stands for the server that this one leads to as well: this one
    /// is not used.
    pub same_server_as: Option<String>,
    /// How far it has got, as its engine writes it.
    pub position: Option<String>,
    /// What a read on it may miss at most, in milliseconds. `None`: unknown.
    pub staleness_ms: Option<u64>,
    /// How far it is behind the newest that is known of the primary, in
    /// milliseconds. `None`: unknown.
    pub lag_ms: Option<u64>,
    /// How far behind it takes itself to be, by the clocks of servers. For people only:
    /// nothing is routed by it.
    pub reported_lag_ms: Option<u64>,
    /// How much it has yet to replay of what the primary has: bytes of the log, or
    /// transactions. `None`: unknown.
    pub behind: Option<Distance>,
    /// How much of that it has yet to receive.
    pub behind_received: Option<Distance>,
    /// Its lags in the last minute, in milliseconds.
    pub lag_last_minute: Option<LagMillis>,
    /// How long its last probe took, in milliseconds.
    pub probe_ms: Option<u64>,
    /// How many processes ask it how it is, this one among them. `None`: it cannot be seen,
    /// and this process takes itself to be alone.
    pub monitors: Option<u32>,
    /// Between probes while sessions wait all the time, in milliseconds: this process's share
    /// of [`Config::probe_budget`](crate::Config::probe_budget). About so long a write keeps
    /// its session on the primary. `None` if it is not probed.
    pub quick_probe_interval_ms: Option<u64>,
    /// What keeps sessions that read on it from writing. `None`: that was not tried out, or need
    /// not be.
    pub read_only_guard: Option<ReadOnly>,
    /// Statements running on it for this process.
    pub in_flight: u32,
    /// Proved reads that this process sent to it.
    pub reads: u64,
    /// Other statements, and transactions that may write, that this process
    /// sent to it.
    pub writes: u64,
}

/// The lags that were found in a while, in milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
#[non_exhaustive]
pub struct LagMillis {
    /// The mean. `None` if no lag was known, as below.
    pub average_ms: Option<u64>,
    /// Ninety-five in a hundred were no longer.
    pub p95_ms: Option<u64>,
    /// The longest.
    pub maximum_ms: Option<u64>,
    /// How often it was unknown.
    pub unknown: usize,
}

impl From<LagSummary> for LagMillis {
    fn from(summary: LagSummary) -> Self {
        LagMillis {
            average_ms: summary.average.map(millis),
            p95_ms: summary.p95.map(millis),
            maximum_ms: summary.maximum.map(millis),
            unknown: summary.unknown,
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// For bounds: cut off, one would promise more than is proved.
fn millis_up(duration: Duration) -> u64 {
    millis(duration.saturating_add(Duration::from_nanos(999_999)))
}

/// What [`EndpointStatus::lag_last_minute`] looks at.
const MINUTE: Duration = Duration::from_secs(60);

impl Status {
    pub(crate) fn of(cluster: &Cluster) -> Status {
        let board = cluster.board();
        let (topology, now) = (board.topology(), board.now());
        let endpoints: Vec<_> = topology
            .iter()
            .map(|(id, state)| EndpointStatus {
                name: state.endpoint.name().to_owned(),
                address: state.endpoint.address().to_owned(),
                role: state.role,
                condition: topology.condition(id),
                health: state.health.clone(),
                replication: state.replication,
                receives: state.particulars.receives,
                applies: state.particulars.applies,
                writable: state.particulars.writable,
                version: state.particulars.version.as_deref().map(str::to_owned),
                identity: state.particulars.identity.as_deref().map(str::to_owned),
                foreign: state.foreign,
                database: state.database.as_ref().map(|database| database.name.to_string()),
                same_server_as: state
                    .same_as
                    .and_then(|id| topology.get(id))
                    .map(|same| same.endpoint.name().to_owned()),
                position: state.position.as_ref().map(ToString::to_string),
                staleness_ms: topology.staleness(id, now).map(millis_up),
                lag_ms: topology.lag(id).map(millis_up),
                reported_lag_ms: state.particulars.reported_lag.map(millis),
                behind: topology.distance(id),
                behind_received: topology.distance_to_receive(id),
                lag_last_minute: board.lags(id, MINUTE).map(LagMillis::from),
                probe_ms: state.probe_time.map(millis),
                monitors: state.particulars.monitors,
                quick_probe_interval_ms: cluster.monitor.quick_interval(id).map(millis_up),
                read_only_guard: state.particulars.read_only,
                in_flight: cluster.loads.in_flight(id),
                reads: cluster.loads.reads(id),
                writes: cluster.loads.writes(id),
            })
            .collect();
        let primary = topology.primary().and_then(|id| topology.get(id));
        let primary = primary.map(|state| state.endpoint.name().to_owned());
        let total: u64 = endpoints.iter().map(|e| e.reads).sum();
        let on_replicas: u64 =
            endpoints.iter().filter(|e| Some(&e.name) != primary.as_ref()).map(|e| e.reads).sum();
        #[allow(clippy::cast_precision_loss, reason = "a ratio for people")]
        let replica_read_ratio = (total > 0).then(|| on_replicas as f64 / total as f64);
        let classifier = cluster.catalog.as_ref().and(cluster.classifier.as_ref());
        let catalog = classifier.map(|classifier| match classifier.catalog() {
            known if known.is_empty() => CatalogState::Empty,
            known if known.is_doubted() => CatalogState::InDoubt,
            _ => CatalogState::Loaded,
        });
        Status { primary, endpoints, catalog, replica_read_ratio }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_not_cut_off() {
        assert_eq!(millis_up(Duration::ZERO), 0);
        assert_eq!(millis_up(Duration::from_nanos(1)), 1);
        assert_eq!(millis_up(Duration::from_millis(7)), 7);
        assert_eq!(millis_up(Duration::from_micros(7_001)), 8);
        assert_eq!(millis_up(Duration::MAX), u64::MAX);
    }
}
