//! The endpoints of one configuration, and everything that their statements
//! share.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use sea_orm::DatabaseConnection;
use sealane_core::{
    Balancer, Consistency, Endpoint, EndpointId, EndpointSet, Engine, Footprint, Loads, Topology,
    TwoChoices, WhenAhead, WhenBehind, WriteTracking,
};
use sealane_monitor::{Board, CatalogWatch, Monitor};
use sealane_sql::{
    Classification, Classifier, TemporaryTables, is_single_write, may_change_schema,
};

use crate::{
    failover::Resignation,
    group::Groups,
    pool::{EndpointPools, Pools},
    token::Signer,
};

/// Shared by all handles of one [`connect`](crate::connect); the monitor's
/// tasks and the pools end with it.
pub(crate) struct Cluster {
    pub(crate) engine: Engine,
    pub(crate) monitor: Monitor,
    pub(crate) pools: Box<[EndpointPools]>,
    pub(crate) loads: Arc<Loads>,
    pub(crate) balancer: Arc<dyn Balancer>,
    /// `None` with one endpoint: there is nothing to decide.
    pub(crate) classifier: Option<Arc<Classifier>>,
    /// `None` where there is no catalog to ask.
    pub(crate) catalog: Option<CatalogWatch>,
    /// How many statements and transactions are running that may change the schema.
    pub(crate) schema_changes: AtomicUsize,
    pub(crate) groups: Groups,
    pub(crate) reading: Reading,
    pub(crate) signer: Signer,
    pub(crate) resignation: Resignation,
    /// How long something waits for a primary that answers.
    pub(crate) primary_wait: Duration,
    /// Between probes while somebody waits.
    pub(crate) quick: Duration,
}

/// What a read may be served by, and what it reads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reach {
    pub(crate) readers: EndpointSet,
    pub(crate) tables: Footprint,
}

/// How reads are served that ask for nothing else.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    pub(crate) consistency: Consistency,
    pub(crate) when_behind: WhenBehind,
    pub(crate) when_ahead: WhenAhead,
    pub(crate) max_lag: Option<Duration>,
    pub(crate) tracking: WriteTracking,
    /// Whether reads through the shared handle wait for the writes of all sessions.
    pub(crate) shared_waits: bool,
}

impl Default for Reading {
    fn default() -> Self {
        Reading {
            // What an application expects that has never heard of replicas.
            consistency: Consistency::ReadYourWrites,
            when_behind: WhenBehind::Primary,
            // Going back is rare; waiting costs each transaction that follows a read on a replica.
            when_ahead: WhenAhead::Primary,
            // A replica further behind than this has a problem; its readers should not.
            max_lag: Some(Duration::from_secs(30)),
            // A handle for everybody would read on the primary as long as anybody writes.
            tracking: WriteTracking::Tables,
            // Work that leaves its session must not miss what the session wrote.
            shared_waits: true,
        }
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
        Cluster {
            engine,
            loads: Arc::new(Loads::new(topology.len())),
            monitor: Monitor::idle(Board::new(topology)),
            pools: Box::new([EndpointPools::fixed(Pools::same(only))]),
            balancer: Arc::new(TwoChoices),
            classifier: None,
            catalog: None,
            schema_changes: AtomicUsize::new(0),
            groups: Groups::default(),
            reading: Reading::default(),
            signer: Signer::default(),
            resignation: Resignation::default(),
            primary_wait: Duration::ZERO,
            quick: Duration::ZERO,
        }
    }

    pub(crate) fn board(&self) -> &Arc<Board> {
        self.monitor.board()
    }

    /// Where the statement may run, besides the primary, and what it reads; `None` if
    /// it is not a proved read. With one endpoint nobody asks.
    pub(crate) fn reach(&self, sql: &str) -> Option<Reach> {
        let found = self.classifier.as_ref()?.look_up(sql);
        found.intent.is_read().then(|| self.reach_of(&found))
    }

    /// Where a proved read may run, besides the primary, and what it reads.
    pub(crate) fn reach_of(&self, read: &Classification) -> Reach {
        Reach { readers: self.groups.readers(read), tables: self.now(read.footprint) }
    }

    /// Where a read-only transaction may run, whatever it will read.
    pub(crate) fn reach_of_transaction(&self) -> Reach {
        Reach { readers: self.groups.others(), tables: Footprint::WHOLE }
    }

    /// Whether the statement is a proved read.
    pub(crate) fn is_read(&self, sql: &str) -> bool {
        self.classifier.as_ref().is_some_and(|classifier| classifier.look_up(sql).intent.is_read())
    }

    /// The tables that a statement writes, as far as is known.
    pub(crate) fn written(&self, sql: &str) -> Footprint {
        let written = self.classifier.as_ref().map(|classifier| classifier.written(sql));
        self.now(written.unwrap_or(Footprint::WHOLE))
    }

    /// What the catalog made of a text, or anything while the schema is changing.
    fn now(&self, tables: Footprint) -> Footprint {
        match self.schema_changes.load(Ordering::Acquire) {
            0 => tables,
            _ => Footprint::WHOLE,
        }
    }

    /// Of the catalog that [`written`](Self::written) goes by. To be read before.
    pub(crate) fn catalog_generation(&self) -> u64 {
        self.classifier.as_ref().map_or(0, |classifier| classifier.generation())
    }

    /// Whether the schema is, and was all the time, as it was in this generation of the
    /// catalog.
    pub(crate) fn is_schema_of(&self, generation: u64) -> bool {
        // In this order: a change ends by the generation and then by the count.
        self.schema_changes.load(Ordering::Acquire) == 0 && self.catalog_generation() == generation
    }

    /// To be held while `sql` runs on the primary, if it may change what the catalog says.
    pub(crate) fn schema_change(self: &Arc<Self>, sql: &str) -> Option<SchemaChange> {
        let classifier = self.classifier.as_ref().filter(|_| self.catalog.is_some())?;
        may_change_schema(sql, classifier.dialect()).then(|| SchemaChange::begin(self))
    }

    /// Whether a server that has refused this statement as read-only has done nothing of it.
    pub(crate) fn is_undone(&self, sql: &str) -> bool {
        self.classifier.as_ref().is_some_and(|it| is_single_write(sql, it.dialect()))
    }

    /// Whether the next statement of a transaction with such temporary tables may change what
    /// the catalog says.
    pub(crate) fn may_change_schema_in(&self, sql: &str, temporary: &mut TemporaryTables) -> bool {
        let classifier = self.classifier.as_ref().filter(|_| self.catalog.is_some());
        classifier.is_some_and(|it| temporary.may_change_schema(sql, it.dialect()))
    }

    /// The schema may have changed.
    pub(crate) fn schema_changed(&self) {
        if let Some(catalog) = &self.catalog {
            catalog.schema_changed();
        }
    }

    /// Whether probes tell of changes. Where none do, nothing that is suspected is ever cleared.
    pub(crate) fn is_watched(&self) -> bool {
        !self.monitor.is_idle()
    }

    /// The pools of an endpoint of this topology.
    pub(crate) fn pools(&self, id: EndpointId) -> &EndpointPools {
        &self.pools[id.index()]
    }

    /// Opens the pools of the endpoints that answer, which then make as many connections as the
    /// configuration asks for. Those of the others are opened when they are used.
    pub(crate) fn fill_pools(&self) {
        let board = self.board();
        for (id, _) in board.topology().iter().filter(|(_, state)| state.is_usable()) {
            self.pools(id).at(board.generation(id));
        }
    }

    /// The name of an endpoint.
    pub(crate) fn name(&self, id: EndpointId) -> String {
        let topology = self.board().topology();
        topology.get(id).map_or_else(|| id.to_string(), |state| state.endpoint.name().to_owned())
    }

    /// How long a read may wait for a proof of one of `readers` that is about to come:
    /// a probe of the primary, then one of a replica, each after a quick interval.
    pub(crate) fn proof_patience(&self, readers: EndpointSet) -> Duration {
        let topology = self.board().topology();
        let is_asked = |id| topology.primary() == Some(id) || readers.contains(id);
        let asked = topology.iter().filter(|(id, _)| is_asked(*id));
        let slowest = asked.filter_map(|(_, state)| state.probe_time).max();
        (self.quick + slowest.unwrap_or_default()) * 3
    }

    /// A server refused `sql` as a write: it never leaves the primary again.
    pub(crate) fn learn_write(&self, sql: &str) {
        if let Some(classifier) = &self.classifier {
            classifier.learn_write(sql);
        }
    }

    /// SeaORM's own connection to the primary, or to the configured primary while there
    /// is none.
    pub(crate) fn primary_or_first(&self) -> &DatabaseConnection {
        let id = self.board().topology().primary().unwrap_or(EndpointId::FIRST);
        self.pools(id).plain()
    }
}

/// A statement or transaction that may change the schema, while it is running.
#[derive(Debug)]
pub(crate) struct SchemaChange {
    cluster: Arc<Cluster>,
    undone: bool,
}

/// A statement that nobody heard the end of may wait for a lock on the server, and be carried
/// out when that is free.
const UNHEARD: Duration = Duration::from_secs(60);

impl SchemaChange {
    /// Counts as running for a minute more, during which the catalog is loaded anyway.
    pub(crate) fn linger(&self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        self.cluster.schema_changes.fetch_add(1, Ordering::AcqRel);
        // Not to keep the connections of an application that is over.
        let cluster = Arc::downgrade(&self.cluster);
        runtime.spawn(async move {
            tokio::time::sleep(UNHEARD).await;
            drop(cluster.upgrade().map(|cluster| SchemaChange { cluster, undone: false }));
        });
    }

    pub(crate) fn begin(cluster: &Arc<Cluster>) -> Self {
        cluster.schema_changes.fetch_add(1, Ordering::AcqRel);
        SchemaChange { cluster: Arc::clone(cluster), undone: false }
    }

    /// It was rolled back: the schema is what it was, and nobody has seen another one.
    pub(crate) fn undone(mut self) {
        self.undone = true;
    }
}

impl Drop for SchemaChange {
    fn drop(&mut self) {
        if !self.undone {
            self.cluster.schema_changed();
        }
        self.cluster.schema_changes.fetch_sub(1, Ordering::AcqRel);
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let topology = self.board().topology();
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
