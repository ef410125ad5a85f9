//! How well the load is spread, and what it would take to spread it better.
//!
//! A report is made of counts since the start that statements leave behind anyway, so asking for one
//! costs nothing to statements. Everything in it is a figure or follows from the figures: the
//! [advice](Advice) is a pure function of them, silent when nothing is to be done.

mod advice;
mod statements;
mod text;

use sealane_core::{Condition, EndpointId, EndpointState, Topology};
use serde::Serialize;

use crate::cluster::{Cluster, LatencyReport, ReadCounts};

pub use advice::Advice;
pub use statements::{StatementReport, StatementReports};

/// How well the load is spread, since the start ([`RoutedConnection::report`]).
///
/// [`Display`](std::fmt::Display) writes it for people, on several lines.
///
/// [`RoutedConnection::report`]: crate::RoutedConnection::report
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// For how long this was counted, in milliseconds: since this process connected.
    pub counted_for_ms: u64,
    /// Proved reads that were sent. A read that was sent twice counts twice.
    pub reads: u64,
    /// Transactions, and statements that are not proved reads.
    pub writes: u64,
    /// The share of the reads that were sent to replicas, 0 to 1; `None` before the first read.
    pub replica_read_ratio: Option<f64>,
    /// The share of the reads that may leave the primary, 0 to 1
    /// ([`Config::replica_share`](crate::Config::replica_share)).
    pub replica_share: f64,
    /// Why reads were on the primary, and what else became of those that did not simply run on a
    /// replica.
    pub detours: ReadCounts,
    /// All endpoints, in the order of the configuration.
    pub endpoints: Vec<EndpointReport>,
    /// The statements that cost most.
    pub statements: StatementReports,
    /// What it would take to spread the load better. Empty if nothing is to be done.
    pub advice: Vec<Advice>,
}

/// The load of one endpoint.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct EndpointReport {
    /// Its name.
    pub name: String,
    /// Whether it is the current primary.
    pub is_primary: bool,
    /// Whether it takes reads or writes now, as far as is known.
    pub serves: bool,
    /// Its group, if it is in one.
    pub group: Option<String>,
    /// Its weight in the configuration.
    pub weight: u32,
    /// Proved reads that were sent to it.
    pub reads: u64,
    /// Its share of all reads, 0 to 1; `None` before the first read.
    pub read_ratio: Option<f64>,
    /// Transactions, and statements that are not proved reads, that ran on it.
    pub writes: u64,
    /// Statements that it did not answer: they failed because of it, or were given up.
    pub failures: u64,
    /// How long reads took there; `None` before the first answer.
    pub read_latency: Option<LatencyReport>,
    /// How long single statements that are not proved reads took there; `None` before the first
    /// answer.
    pub write_latency: Option<LatencyReport>,
    /// Its connections.
    pub connections: ConnectionReport,
}

/// The connections of this process to one endpoint. Those that SeaORM's own connection
/// ([`primary`](crate::RoutedConnection::primary)) opens are not among them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ConnectionReport {
    /// How many are open.
    pub open: u32,
    /// How many of these are idle.
    pub idle: u32,
    /// How many statements wait for one now.
    pub waiting: u32,
}

impl ConnectionReport {
    /// The connections to `id`.
    pub(crate) fn of(cluster: &Cluster, id: EndpointId) -> Self {
        let connections = cluster.pools.connections(id);
        let waiting = cluster.loads.waiting(id);
        ConnectionReport { open: connections.open, idle: connections.idle, waiting }
    }

    /// How many are in use.
    #[must_use]
    pub fn used(&self) -> u32 {
        // The two are counted one after the other.
        self.open.saturating_sub(self.idle)
    }
}

impl Report {
    pub(crate) fn of(cluster: &Cluster) -> Report {
        cluster.settle_ejections();
        let topology = cluster.store().topology();
        let total = topology.iter().map(|(id, _)| cluster.loads.reads(id)).sum();
        let endpoints: Vec<_> = topology
            .iter()
            .map(|(id, state)| EndpointReport::of(cluster, &topology, id, state, total))
            .collect();
        let on_replicas = endpoints.iter().filter(|it| !it.is_primary).map(|it| it.reads).sum();
        let counted_for = cluster.store().now().since(cluster.began);
        let mut report = Report {
            counted_for_ms: u64::try_from(counted_for.as_millis()).unwrap_or(u64::MAX),
            reads: total,
            writes: endpoints.iter().map(|it| it.writes).sum(),
            replica_read_ratio: ratio(on_replicas, total),
            replica_share: cluster.roll_out.share(),
            detours: cluster.counts.read(),
            endpoints,
            statements: cluster.classifier.as_deref().map(StatementReports::of).unwrap_or_default(),
            advice: Vec::new(),
        };
        // In shadow mode all reads are on the primary on purpose, and its own report tells of them.
        let shadow = cluster.ledger.report(cluster.roll_out.shadow());
        if !shadow.shadow.is_on() {
            report.advice = Advice::on(&report);
        }
        // What it kept on the primary still counts as having asked for it.
        if shadow.is_any() {
            report.advice.retain(|it| !matches!(it, Advice::MostAskForPrimary { .. }));
        }
        report
    }
}

impl EndpointReport {
    fn of(
        cluster: &Cluster,
        topology: &Topology,
        id: EndpointId,
        state: &EndpointState,
        total: u64,
    ) -> Self {
        let (reads, durations) = (cluster.loads.reads(id), cluster.durations.on(id));
        EndpointReport {
            name: state.endpoint.name().to_owned(),
            is_primary: topology.primary() == Some(id),
            serves: topology.condition(id) == Condition::Serving
                && !cluster.ejections.is_ejected(id),
            group: state.endpoint.group().map(str::to_owned),
            weight: state.endpoint.weight(),
            reads,
            read_ratio: ratio(reads, total),
            writes: cluster.loads.writes(id),
            failures: durations.as_ref().map_or(0, |it| it.failures()),
            read_latency: durations.as_ref().and_then(|it| it.reads()),
            write_latency: durations.as_ref().and_then(|it| it.writes()),
            connections: ConnectionReport::of(cluster, id),
        }
    }
}

/// `part` of `whole`, 0 to 1; `None` of nothing.
#[allow(clippy::cast_precision_loss, reason = "a ratio for people")]
fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// The same in whole percent.
fn percent(part: u64, whole: u64) -> u64 {
    let percent = u128::from(part) * 100 / u128::from(whole.max(1));
    u64::try_from(percent).unwrap_or(u64::MAX)
}
