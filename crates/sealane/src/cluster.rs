//! The endpoints of one configuration, and everything that their statements share.

#[cfg(any(feature = "mysql", feature = "postgres", feature = "assembly"))]
mod catalog;
mod counts;
mod differences;
mod durations;
#[cfg_attr(
    not(any(feature = "mysql", feature = "postgres", feature = "sqlite", feature = "assembly")),
    allow(dead_code, reason = "nothing is connected to")
)]
mod fallback_limit;
mod file;
mod ledger;
pub(crate) mod membership;
mod notices;
mod pool_table;
mod resignation;
#[cfg_attr(
    not(any(feature = "mysql", feature = "postgres", feature = "sqlite", feature = "assembly")),
    allow(dead_code, reason = "nothing is connected to")
)]
mod roll_out;
mod turns;

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use sea_orm::DatabaseConnection;
use sealane_core::{
    Balancer, Consistency, EjectionPolicy, Ejections, Endpoint, EndpointId, EndpointSet, Engine,
    FallbackPolicy, Horizon, Loads, Moment, RetryBudget, Routable, Route, RoutingPolicy, Rules,
    Sticky, TableSet, Topology, TwoChoices,
};
use sealane_monitor::{CatalogWatch, Monitor, TopologyStore};
use sealane_sql::{
    Classification, Classifier, Sketch, Sketches, TemporaryTables, is_single_write,
    may_change_schema,
};

#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite", feature = "assembly"))]
use crate::Config;
use crate::{
    config::Reading,
    pool::{EndpointPools, Pools},
    signer::Signer,
};
pub(crate) use counts::Counts;
pub use counts::ReadCounts;
pub use durations::LatencyReport;
pub(crate) use durations::{Durations, Operation};
pub(crate) use fallback_limit::{FallbackLimit, FallbackPermit};
pub(crate) use ledger::{Compared, Ledger, Stay};
pub use ledger::{ShadowComparisons, ShadowDifference, ShadowEndpoint, ShadowReport, ShadowStays};
use membership::OpenEndpoint;
use notices::Notices;
pub(crate) use pool_table::PoolTable;
use resignation::Resignation;
pub(crate) use roll_out::RollOut;
use turns::Turns;

/// Shared by all handles of one [`connect`](crate::connect). The monitor's tasks and the pools end
/// with it.
pub(crate) struct Cluster {
    pub(crate) engine: Engine,
    pub(crate) monitor: Monitor,
    pub(crate) pools: PoolTable,
    /// Opens added endpoints; `None` if none can be added.
    pub(crate) opener: Option<Box<dyn OpenEndpoint>>,
    /// Allows one change of the endpoints at a time.
    pub(crate) membership: tokio::sync::Mutex<()>,
    pub(crate) loads: Arc<Loads>,
    pub(crate) balancer: Arc<dyn Balancer>,
    /// For reads whose rule keeps a session on one replica.
    pub(crate) sticky: Arc<dyn Balancer>,
    pub(crate) ejections: Ejections,
    pub(crate) retries: RetryBudget,
    pub(crate) hedges: RetryBudget,
    /// For statements that go on on their servers although nobody waits for them any more.
    pub(crate) left_running: RetryBudget,
    pub(crate) counts: Counts,
    pub(crate) notices: Notices,
    pub(crate) durations: Durations,
    /// When the counts began.
    pub(crate) began: Moment,
    pub(crate) fallback_limit: FallbackLimit,
    /// `None` with a single endpoint, because there is nothing to decide.
    pub(crate) classifier: Option<Arc<Classifier>>,
    /// `None` if there is no catalog to query.
    pub(crate) catalog: Option<CatalogWatch>,
    /// What the endpoints of a split file share.
    #[cfg(feature = "sqlite")]
    pub(crate) file: Option<Arc<crate::pool::sqlite::File>>,
    /// How many statements and transactions that may change the schema are running.
    pub(crate) schema_changes: AtomicUsize,
    pub(crate) routing: Rules,
    pub(crate) reading: Reading,
    pub(crate) roll_out: RollOut,
    /// What shadow mode has recorded.
    pub(crate) ledger: Ledger,
    /// What traces show of statements; made when the first one is traced.
    pub(crate) sketches: OnceLock<Sketches>,
    /// How many separate sessions were made.
    pub(crate) sessions: AtomicU64,
    pub(crate) signer: Signer,
    pub(crate) resignation: Resignation,
    pub(crate) turns: Turns,
    /// How long a statement waits for a primary that answers.
    pub(crate) primary_wait: Duration,
    /// The time between probes while somebody waits.
    pub(crate) quick: Duration,
    /// How long to wait for an endpoint's first answer.
    pub(crate) patience: Duration,
}

/// Where a proved read may run besides the primary, and what it reads.
#[derive(Debug, Clone)]
pub(crate) struct ReadRoute {
    pub(crate) route: Route,
    pub(crate) tables: TableSet,
    /// When the route was made; it does not lead to endpoints added later.
    pub(crate) horizon: Horizon,
    /// The generation of the catalog by which the statement was judged.
    pub(crate) catalog: u64,
    /// Whether no replica may serve the read, whatever the handle asks for.
    pub(crate) stays_on_primary: bool,
    /// Whether nobody judges its statements, because it is a transaction.
    pub(crate) is_unjudged: bool,
    /// What is known about the statement; `None` for anything but a single statement.
    pub(crate) statement: Option<Arc<Classification>>,
}

impl ReadRoute {
    /// Whether a read on this route must not run on the primary.
    pub(crate) fn only_replicas(&self) -> bool {
        self.route.fallback == FallbackPolicy::Fail
            && !self.stays_on_primary
            && self.route.consistency != Consistency::Strong
    }
}

impl Cluster {
    /// A cluster of one connection, which serves everything.
    pub(crate) fn alone(
        name: &str,
        address: &str,
        engine: Engine,
        only: DatabaseConnection,
    ) -> Self {
        let topology = Topology::always_current(vec![Endpoint::new(name, address)]);
        let monitor = Monitor::idle(TopologyStore::new(topology));
        let pools = PoolTable::new([EndpointPools::fixed(Pools::same(only))]);
        Cluster::assemble(engine, monitor, pools)
    }

    /// A cluster of these endpoints that decides nothing and waits for nothing. Callers that need
    /// more set the fields.
    pub(crate) fn assemble(engine: Engine, monitor: Monitor, pools: PoolTable) -> Self {
        let (counts, began) = (Counts::of(monitor.store()), monitor.store().now());
        Cluster {
            engine,
            monitor,
            pools,
            opener: None,
            membership: tokio::sync::Mutex::default(),
            loads: Arc::default(),
            balancer: Arc::new(TwoChoices),
            sticky: Arc::new(Sticky),
            ejections: Ejections::new(EjectionPolicy::default()),
            retries: RetryBudget::default(),
            hedges: RetryBudget::for_hedges(),
            left_running: RetryBudget::for_left_running(),
            counts,
            notices: Notices::default(),
            durations: Durations::default(),
            began,
            fallback_limit: FallbackLimit::none(),
            classifier: None,
            catalog: None,
            #[cfg(feature = "sqlite")]
            file: None,
            schema_changes: AtomicUsize::new(0),
            routing: Rules::default(),
            reading: Reading::default(),
            roll_out: RollOut::default(),
            ledger: Ledger::default(),
            sketches: OnceLock::new(),
            sessions: AtomicU64::new(0),
            signer: Signer::default(),
            resignation: Resignation::default(),
            turns: Turns::default(),
            primary_wait: Duration::ZERO,
            quick: Duration::ZERO,
            patience: Duration::ZERO,
        }
    }

    /// The same cluster with the policies and the limits of `config`.
    #[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite", feature = "assembly"))]
    pub(crate) fn configured(self, config: &Config) -> Self {
        Cluster {
            balancer: config.local_first(Arc::clone(&config.balancer)),
            sticky: config.local_first(Arc::new(Sticky)),
            routing: Rules::new(Arc::clone(&config.routing), config.rules.clone()),
            ejections: Ejections::new(config.ejection),
            roll_out: RollOut::new(config.replica_share, config.shadow),
            fallback_limit: FallbackLimit::of(config),
            primary_wait: config.primary_wait,
            quick: config.schedule.quick,
            patience: config.schedule.timeout_with_connect(),
            ..self
        }
    }

    pub(crate) fn store(&self) -> &Arc<TopologyStore> {
        self.monitor.store()
    }

    /// Where a proved read, or without a statement a read-only transaction, may run besides the
    /// primary. The routing policy decides that, unless something keeps it on the primary. `catalog`
    /// is the generation of the catalog before the statement was judged.
    pub(crate) fn route(
        &self,
        statement: Option<&Classification>,
        catalog: u64,
        read: Routable<'_>,
    ) -> ReadRoute {
        let tables = statement.map_or(TableSet::WHOLE, |found| self.now(found.table_set));
        let may_leave = statement.is_none_or(Classification::may_leave_primary);
        if !may_leave || self.reads_with_writer() {
            let route = Route::new(EndpointSet::EMPTY, read.consistency, read.fallback);
            let horizon = Horizon::NEVER;
            return ReadRoute {
                route,
                tables,
                horizon,
                catalog,
                stays_on_primary: true,
                is_unjudged: statement.is_none(),
                statement: None,
            };
        }
        let topology = self.store().topology();
        let mut route = self.routing.route(&read, &topology);
        // No policy may change these.
        if read.consistency == Consistency::Strong {
            route.consistency = Consistency::Strong;
        }
        let subscribers = topology.subscribers();
        if !subscribers.is_empty() {
            let asked = [read.hint, read.group].into_iter().flatten();
            let asked = asked
                .filter_map(|name| topology.group(name))
                .fold(EndpointSet::EMPTY, EndpointSet::or);
            route.among = route.among.without(subscribers.without(asked));
        }
        let horizon = topology.horizon();
        ReadRoute {
            route,
            tables,
            horizon,
            catalog,
            stays_on_primary: false,
            is_unjudged: statement.is_none(),
            statement: None,
        }
    }

    /// The same route, or one to the primary for a read outside the share of the replicas and in
    /// shadow mode.
    pub(crate) fn shared_out(&self, route: ReadRoute) -> ReadRoute {
        if self.roll_out.admits(|| self.store().entropy().word()) {
            return route;
        }
        let Route { consistency, fallback, .. } = route.route;
        let kept = Route::new(EndpointSet::EMPTY, consistency, fallback);
        ReadRoute { route: kept, stays_on_primary: true, ..route }
    }

    /// A number for a new session.
    pub(crate) fn number_of_session(&self) -> u64 {
        self.sessions.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether the statement is a proved read.
    pub(crate) fn is_read(&self, sql: &str) -> bool {
        self.classifier.as_ref().is_some_and(|classifier| classifier.look_up(sql).intent.is_read())
    }

    /// The tables that a statement writes, as far as is known.
    pub(crate) fn written(&self, sql: &str) -> TableSet {
        let written = self.classifier.as_ref().map(|classifier| classifier.written(sql));
        self.now(written.unwrap_or(TableSet::WHOLE))
    }

    /// `tables`, or all tables while the schema is changing.
    fn now(&self, tables: TableSet) -> TableSet {
        match self.schema_changes.load(Ordering::Acquire) {
            0 => tables,
            _ => TableSet::WHOLE,
        }
    }

    /// The generation of the catalog that [`written`](Self::written) uses. Read it before calling
    /// `written`.
    pub(crate) fn catalog_generation(&self) -> u64 {
        self.classifier.as_ref().map_or(0, |classifier| classifier.generation())
    }

    /// Whether the schema is unchanged since this generation of the catalog.
    pub(crate) fn is_schema_of(&self, generation: u64) -> bool {
        // The order matters: a change that ends raises the generation first and then lowers the
        // count.
        self.schema_changes.load(Ordering::Acquire) == 0 && self.catalog_generation() == generation
    }

    /// A guard to hold while `sql` runs on the primary, if `sql` may change what the catalog says.
    pub(crate) fn schema_change(self: &Arc<Self>, sql: &str) -> Option<SchemaChange> {
        let classifier = self.classifier.as_ref().filter(|_| self.knows_schema())?;
        may_change_schema(sql, classifier.dialect()).then(|| SchemaChange::begin(self))
    }

    /// Whether a statement that a server refused as read-only has had no effect at all.
    pub(crate) fn is_undone(&self, sql: &str) -> bool {
        self.classifier.as_ref().is_some_and(|it| is_single_write(sql, it.dialect()))
    }

    /// Whether the next statement of a transaction with these temporary tables may change what the
    /// catalog says.
    pub(crate) fn may_change_schema_in(&self, sql: &str, temporary: &mut TemporaryTables) -> bool {
        let classifier = self.classifier.as_ref().filter(|_| self.knows_schema());
        classifier.is_some_and(|it| temporary.may_change_schema(sql, it.dialect()))
    }

    /// Records that the schema may have changed.
    pub(crate) fn schema_changed(&self) {
        if let Some(catalog) = &self.catalog {
            catalog.schema_changed();
        }
        #[cfg(feature = "sqlite")]
        if let (Some(file), Some(classifier)) = (&self.file, &self.classifier) {
            file.schema_changed();
            // A view or the meaning of a name may have changed.
            classifier.forget_learned();
        }
    }

    /// Whether the meaning of statements must be determined again after a schema change.
    fn knows_schema(&self) -> bool {
        self.catalog.is_some() || self.is_split_file()
    }

    /// Whether probes report changes. Without probes, a suspicion would never be cleared.
    pub(crate) fn is_watched(&self) -> bool {
        !self.monitor.is_idle()
    }

    /// The name of an endpoint.
    pub(crate) fn name(&self, id: EndpointId) -> String {
        let topology = self.store().topology();
        topology.get(id).map_or_else(|| id.to_string(), |state| state.endpoint.name().to_owned())
    }

    /// How long a read may wait for a proof for one of `readers` that is about to come: a probe of
    /// the primary, then one of a replica, each after a quick interval.
    pub(crate) fn proof_patience(&self, readers: EndpointSet) -> Duration {
        let topology = self.store().topology();
        let is_asked = |id| topology.primary() == Some(id) || readers.contains(id);
        let asked = topology.iter().filter(|(id, _)| is_asked(*id));
        let slowest = asked.filter_map(|(_, state)| state.probe_time).max();
        (self.quick + slowest.unwrap_or_default()) * 3
    }

    /// Records that a server refused `sql` as a write: `sql` never leaves the primary again.
    pub(crate) fn learn_write(&self, sql: &str) {
        if let Some(classifier) = &self.classifier {
            classifier.learn_write(sql);
            let text = || Sketch::of(sql, classifier.dialect()).text.unwrap_or_default();
            self.notices.learned(self.store().now(), text);
        }
    }

    /// SeaORM's own connection to the primary. While there is no primary: to the endpoint that was
    /// configured first, or added before all others.
    pub(crate) fn primary_or_first(&self) -> &DatabaseConnection {
        let topology = self.store().topology();
        let first = || topology.iter().next().map(|(id, _)| id);
        self.pools.plain(topology.primary().or_else(first).unwrap_or(EndpointId::FIRST))
    }
}

/// A running statement or transaction that may change the schema.
#[derive(Debug)]
pub(crate) struct SchemaChange {
    cluster: Arc<Cluster>,
    undone: bool,
    /// Whether this change counts as running.
    counts: bool,
}

/// A statement whose end was not seen may still wait for a lock on the server, and be executed when
/// the lock is free.
const UNHEARD: Duration = Duration::from_secs(60);

impl SchemaChange {
    /// Counts as running for another minute, during which the catalog is loaded anyway.
    pub(crate) fn linger(&self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        self.cluster.schema_changes.fetch_add(1, Ordering::AcqRel);
        #[cfg(feature = "sqlite")]
        if self.cluster.file.is_some() {
            let change =
                SchemaChange { cluster: Arc::clone(&self.cluster), undone: false, counts: true };
            runtime.spawn(async move {
                crate::pool::sqlite::is_idle(change.cluster.primary_or_first()).await;
                drop(change);
            });
            return;
        }
        // A weak reference, so as not to keep the connections of an application that has ended.
        let cluster = Arc::downgrade(&self.cluster);
        runtime.spawn(async move {
            tokio::time::sleep(UNHEARD).await;
            let cluster = cluster.upgrade();
            drop(cluster.map(|cluster| SchemaChange { cluster, undone: false, counts: true }));
        });
    }

    pub(crate) fn begin(cluster: &Arc<Cluster>) -> Self {
        let mut change =
            SchemaChange { cluster: Arc::clone(cluster), undone: false, counts: false };
        change.count();
        change
    }

    /// Begins a change inside a transaction. On a file, it does not count before the COMMIT: nobody
    /// else sees the change until then, and while it counted, all reads would need the writer,
    /// which the transaction occupies.
    pub(crate) fn begin_in_transaction(cluster: &Arc<Cluster>) -> Self {
        match cluster.is_split_file() {
            true => SchemaChange { cluster: Arc::clone(cluster), undone: false, counts: false },
            false => SchemaChange::begin(cluster),
        }
    }

    /// Counts as running from now on.
    pub(crate) fn count(&mut self) {
        if !std::mem::replace(&mut self.counts, true) {
            self.cluster.schema_changes.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Ends a change that was rolled back: the schema is unchanged, and nobody has seen another
    /// one.
    pub(crate) fn undone(mut self) {
        self.undone = true;
    }
}

impl Drop for SchemaChange {
    fn drop(&mut self) {
        if !self.undone {
            self.cluster.schema_changed();
        }
        if self.counts {
            self.cluster.schema_changes.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let topology = self.store().topology();
        f.debug_struct("Cluster")
            .field("engine", &self.engine)
            .field(
                "endpoints",
                &topology.iter().map(|(_, s)| s.endpoint.name()).collect::<Vec<_>>(),
            )
            .field("balancer", &self.balancer.name())
            .finish_non_exhaustive()
    }
}
