//! The known state of the cluster, for a health page.

use std::time::Duration;

use sealane_core::{Condition, Distance, Health, LagSummary, ReadOnly, Replication, Role};
use serde::Serialize;

use crate::cluster::{Cluster, ReadCounts, ShadowReport};

/// A snapshot of all endpoints and of the load on each of them.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Status {
    /// The name of the endpoint that takes writes; `None` while no endpoint may.
    pub primary: Option<String>,
    /// All endpoints, in the order of the configuration.
    pub endpoints: Vec<EndpointStatus>,
    /// The state of the database's catalog; `None` if the catalog is not queried.
    pub catalog: Option<CatalogState>,
    /// The share of proved reads that were sent to replicas since the start, 0 to 1; `None` before
    /// the first read. A read that was sent twice counts twice.
    pub replica_read_ratio: Option<f64>,
    /// The share of the proved reads that may leave the primary, 0 to 1
    /// ([`Config::replica_share`](crate::Config::replica_share)).
    pub replica_share: f64,
    /// What became of reads that did not simply run on a replica.
    pub reads: ReadCounts,
    /// How many reads may fall back to the primary at a time, now; `None` for no limit
    /// ([`Config::fallback_limit`](crate::Config::fallback_limit)).
    pub fallback_limit: Option<usize>,
    /// What shadow mode has recorded; `None` if it was never on ([`Shadow`](crate::Shadow)).
    pub shadow: Option<ShadowReport>,
    /// Whether the primary serves all reads, because no replica takes any
    /// ([`Event::ReadsOnPrimary`](crate::Event::ReadsOnPrimary)). `None` if there are no replicas,
    /// for an SQLite file, and before every endpoint was observed.
    pub reads_on_primary: Option<bool>,
}

/// The state of the catalog that is used to judge statements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CatalogState {
    /// The catalog is loaded, and no change since then is known.
    Loaded,
    /// The schema has changed, or the catalog could not be loaded again for minutes. Statements
    /// that only the catalog knows to be pure run on the primary.
    InDoubt,
    /// The catalog was never loaded, or it holds nothing relevant.
    Empty,
}

/// The known state of one endpoint.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct EndpointStatus {
    /// Its name.
    pub name: String,
    /// Its address, without credentials.
    pub address: String,
    /// Its last observed role.
    pub role: Role,
    /// Its state in one word.
    pub condition: Condition,
    /// Whether the endpoint answers.
    pub health: Health,
    /// Whether a replica still receives from its primary.
    pub replication: Replication,
    /// Whether a replica's receiving process is connected to its source. `None`, here and below,
    /// means that the engine does not report this, or not to our role.
    pub receives: Option<bool>,
    /// Whether a replica's applying process runs.
    pub applies: Option<bool>,
    /// Whether the server accepts writes. This alone does not make it the primary.
    pub writable: Option<bool>,
    /// The server's software, such as `PostgreSQL 17.5`.
    pub version: Option<String>,
    /// The identity of the server or its data: PostgreSQL's system identifier, MySQL's server UUID,
    /// MariaDB's server and domain, Aurora's instance.
    pub identity: Option<String>,
    /// Whether the endpoint gets no reads for a while, although it answers probes, because reads on
    /// it failed or did not end ([`Config::ejection`](crate::Config::ejection)).
    pub ejected: bool,
    /// Whether the endpoint is being drained, so that it gets no new statements.
    pub draining: bool,
    /// Whether the endpoint holds another system's data.
    pub foreign: bool,
    /// The name of the database that its URL leads to.
    pub database: Option<String>,
    /// Another endpoint that leads to the same server and represents it. This endpoint is then not
    /// used.
    pub same_server_as: Option<String>,
    /// Its position, as the engine writes it.
    pub position: Option<String>,
    /// The most that a read on it may miss, in milliseconds. `None` if unknown.
    pub staleness_ms: Option<u64>,
    /// How far it is behind the newest sample of the primary, in milliseconds. `None` if unknown.
    pub lag_ms: Option<u64>,
    /// How far behind it believes itself to be, by the clocks of the servers. For people only:
    /// routing does not use it.
    pub reported_lag_ms: Option<u64>,
    /// How much it still has to replay of what the primary has: bytes of the log, or transactions.
    /// `None` if unknown.
    pub behind: Option<Distance>,
    /// How much of this it still has to receive.
    pub behind_received: Option<Distance>,
    /// Its lags in the last minute, in milliseconds.
    pub lag_last_minute: Option<LagMillis>,
    /// How long its last probe took, in milliseconds.
    pub probe_ms: Option<u64>,
    /// How many processes probe it, including this one. `None` if this cannot be seen; this process
    /// then assumes that it is alone.
    pub monitors: Option<u32>,
    /// The time between probes while sessions wait without a pause, in milliseconds: this process's
    /// share of [`Config::probe_budget`](crate::Config::probe_budget). A write keeps its session on
    /// the primary for about this long. `None` if the endpoint is not probed.
    pub quick_probe_interval_ms: Option<u64>,
    /// What keeps reading sessions on it from writing. `None` if this was not tested, or need not
    /// be.
    pub read_only_guard: Option<ReadOnly>,
    /// The group of primaries that it belongs to, and its state there, such as `Galera: Synced`.
    pub group: Option<String>,
    /// Whether commits wait for a replica, or it acknowledges them (semi-synchronous replication of
    /// MySQL and MariaDB). `None` if it does not say.
    pub semi_sync: Option<bool>,
    /// How many statements of this process it is running.
    pub in_flight: u32,
    /// How many proved reads this process has sent to it.
    pub reads: u64,
    /// How many other statements, and transactions that may write, this process has sent to it.
    pub writes: u64,
}

impl EndpointStatus {
    /// Its [group](Self::group) and whether replication is [semi-synchronous](Self::semi_sync), in
    /// words for people. Empty if it says neither.
    #[must_use]
    pub fn replication_notes(&self) -> String {
        let semi_sync = self.semi_sync.map(|is_on| match is_on {
            true => "semi-synchronous",
            // Nobody has acknowledged a commit in time, or nobody is connected.
            false => "semi-synchronous, but not at present",
        });
        let notes: Vec<&str> = self.group.as_deref().into_iter().chain(semi_sync).collect();
        notes.join("; ")
    }
}

/// The lags found in a period, in milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
#[non_exhaustive]
pub struct LagMillis {
    /// The mean. This and the following values are `None` if no lag was known.
    pub average_ms: Option<u64>,
    /// The 95th percentile: 95 of 100 lags were not longer.
    pub p95_ms: Option<u64>,
    /// The longest lag.
    pub maximum_ms: Option<u64>,
    /// How often the lag was unknown.
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

/// Rounds up, for bounds: a bound rounded down would promise more than is proved.
fn millis_up(duration: Duration) -> u64 {
    millis(duration.saturating_add(Duration::from_nanos(999_999)))
}

/// The period of [`EndpointStatus::lag_last_minute`].
const MINUTE: Duration = Duration::from_secs(60);

impl Status {
    pub(crate) fn of(cluster: &Cluster) -> Status {
        cluster.settle_ejections();
        let store = cluster.store();
        let (topology, now) = (store.topology(), store.now());
        let endpoints: Vec<_> = topology
            .iter()
            .map(|(id, state)| EndpointStatus {
                name: state.endpoint.name().to_owned(),
                address: state.endpoint.address().to_owned(),
                role: state.role,
                condition: topology.condition(id),
                health: state.health.clone(),
                replication: state.replication,
                receives: state.info.receives,
                applies: state.info.applies,
                writable: state.info.writable,
                version: state.info.version.as_deref().map(str::to_owned),
                identity: state.info.identity.as_deref().map(str::to_owned),
                ejected: cluster.ejections.is_ejected(id),
                draining: state.draining,
                foreign: state.foreign,
                database: state.database.as_ref().map(|database| database.name.to_string()),
                same_server_as: state
                    .same_as
                    .and_then(|id| topology.get(id))
                    .map(|same| same.endpoint.name().to_owned()),
                position: state.position.as_ref().map(ToString::to_string),
                staleness_ms: topology.staleness(id, now).map(millis_up),
                lag_ms: topology.lag(id).map(millis_up),
                reported_lag_ms: state.info.reported_lag.map(millis),
                behind: topology.distance(id),
                behind_received: topology.distance_to_receive(id),
                lag_last_minute: store.lags(id, MINUTE).map(LagMillis::from),
                probe_ms: state.probe_time.map(millis),
                monitors: state.info.monitors,
                quick_probe_interval_ms: cluster.monitor.quick_interval(id).map(millis_up),
                read_only_guard: state.info.read_only,
                group: state.info.group.as_deref().map(str::to_owned),
                semi_sync: state.info.semi_sync,
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
        Status {
            primary,
            endpoints,
            catalog,
            replica_read_ratio,
            replica_share: cluster.roll_out.share(),
            reads: cluster.counts.read(),
            fallback_limit: cluster.fallback_limit.most(),
            shadow: Some(cluster.ledger.report(cluster.roll_out.shadow()))
                .filter(ShadowReport::is_any),
            reads_on_primary: store.reads_on_primary(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_rounded_up() {
        assert_eq!(millis_up(Duration::ZERO), 0);
        assert_eq!(millis_up(Duration::from_nanos(1)), 1);
        assert_eq!(millis_up(Duration::from_millis(7)), 7);
        assert_eq!(millis_up(Duration::from_micros(7_001)), 8);
        assert_eq!(millis_up(Duration::MAX), u64::MAX);
    }
}
