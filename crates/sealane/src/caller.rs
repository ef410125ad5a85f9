//! The caller of a statement.
//!
//! A [`Caller`] is what all handles of one session share: the cluster, the session, and the
//! handle's settings. Internals that execute statements take a caller and never the public handle,
//! which exists for applications only.

use std::{sync::Arc, time::Duration};

use sealane_core::{
    Access, Candidate, Consistency, ConsistencyPolicy, FallbackPolicy, PrimaryReads, ReadRequest,
    Routable, Route, Session, Verdict, WhenAhead,
};
use sealane_sql::Classification;

use crate::cluster::{Cluster, ReadRoute};

/// The caller of a statement: a session, and the settings of its handle.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    cluster: Arc<Cluster>,
    session: Arc<Session>,
    /// The number of the session in this process; `None` for the shared one.
    number: Option<u64>,
    wish: Wish,
}

/// The settings of a handle. What a handle leaves open is decided by its scope, or otherwise by the
/// configuration.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wish {
    pub(crate) consistency: Option<Consistency>,
    pub(crate) fallback: Option<FallbackPolicy>,
    pub(crate) when_ahead: Option<WhenAhead>,
    pub(crate) group: Option<Arc<str>>,
    pub(crate) tag: Option<Arc<str>>,
    pub(crate) policy: Option<Arc<dyn ConsistencyPolicy>>,
    pub(crate) read_timeout: Option<Duration>,
    pub(crate) hedged: Option<bool>,
}

impl Wish {
    fn is_empty(&self) -> bool {
        let Wish { consistency, fallback, when_ahead, group, tag, policy, read_timeout, hedged } =
            self;
        consistency.is_none()
            && fallback.is_none()
            && when_ahead.is_none()
            && group.is_none()
            && tag.is_none()
            && policy.is_none()
            && read_timeout.is_none()
            && hedged.is_none()
    }

    /// The same settings, with the open ones taken from `outer`.
    fn or(&self, outer: &Wish) -> Wish {
        Wish {
            consistency: self.consistency.or(outer.consistency),
            fallback: self.fallback.or(outer.fallback),
            when_ahead: self.when_ahead.or(outer.when_ahead),
            group: self.group.as_ref().or(outer.group.as_ref()).cloned(),
            tag: self.tag.as_ref().or(outer.tag.as_ref()).cloned(),
            policy: both(outer.policy.as_ref(), self.policy.as_ref()),
            read_timeout: self.read_timeout.or(outer.read_timeout),
            hedged: self.hedged.or(outer.hedged),
        }
    }

    /// The same with one more policy.
    pub(crate) fn with_policy(self, policy: Arc<dyn ConsistencyPolicy>) -> Self {
        Wish { policy: both(self.policy.as_ref(), Some(&policy)), ..self }
    }
}

/// Two policies, each of which may refuse.
#[derive(Debug)]
struct Both(Arc<dyn ConsistencyPolicy>, Arc<dyn ConsistencyPolicy>);

impl ConsistencyPolicy for Both {
    fn name(&self) -> &'static str {
        "several policies"
    }

    fn judge(&self, candidate: &Candidate<'_>, read: &ReadRequest) -> Verdict {
        self.0.judge(candidate, read)?;
        self.1.judge(candidate, read)
    }
}

fn both(
    one: Option<&Arc<dyn ConsistencyPolicy>>,
    other: Option<&Arc<dyn ConsistencyPolicy>>,
) -> Option<Arc<dyn ConsistencyPolicy>> {
    match (one, other) {
        (Some(one), Some(other)) => Some(Arc::new(Both(Arc::clone(one), Arc::clone(other)))),
        (one, other) => one.or(other).cloned(),
    }
}

impl Caller {
    /// The caller behind the shared handle, without settings.
    pub(crate) fn shared(cluster: Cluster) -> Self {
        let session = Session::shared(cluster.reading.tracking)
            .waiting_for_others(cluster.reading.shared_waits);
        let (cluster, session) = (Arc::new(cluster), Arc::new(session));
        Caller { cluster, session, number: None, wish: Wish::default() }
    }

    /// The same caller with another session. The shared session learns of the other session's
    /// writes.
    pub(crate) fn with_session(&self, session: Session) -> Self {
        let number = Some(self.cluster.number_of_session());
        Caller { session: Arc::new(session.beside(&self.session)), number, ..self.clone() }
    }

    /// The same caller, with its settings changed by `change`.
    pub(crate) fn wishing(&self, change: impl FnOnce(Wish) -> Wish) -> Self {
        Caller { wish: change(self.wish.clone()), ..self.clone() }
    }

    /// The number of its session, by which balancers keep the session's reads together; `None` for
    /// the shared session.
    pub(crate) fn session_number(&self) -> Option<u64> {
        self.number
    }

    pub(crate) fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    pub(crate) fn own_consistency(&self) -> Consistency {
        self.wish.consistency.unwrap_or(self.cluster.reading.consistency)
    }

    /// What happens to its reads for which no replica is good enough.
    pub(crate) fn own_way_out(&self) -> FallbackPolicy {
        self.wish.fallback.unwrap_or(self.cluster.reading.fallback)
    }

    /// What happens to statements on the primary in a session that may be ahead of the primary.
    pub(crate) fn own_when_ahead(&self) -> WhenAhead {
        self.wish.when_ahead.unwrap_or(self.cluster.reading.when_ahead)
    }

    /// How long its reads may take.
    pub(crate) fn own_read_timeout(&self) -> Option<Duration> {
        self.wish.read_timeout.or(self.cluster.reading.read_timeout)
    }

    /// Whether its slow reads on `route` are sent to a second replica.
    pub(crate) fn hedges(&self, route: &Route) -> bool {
        self.wish.hedged.or(route.hedged).unwrap_or(self.cluster.reading.hedged)
    }

    /// Whether it leaves everything to its scope and the configuration.
    pub(crate) fn asks_for_nothing(&self) -> bool {
        self.wish.is_empty()
    }

    /// Uses the session of `scoped`; settings that this handle leaves open are those of `scoped`.
    pub(crate) fn in_session_of(&self, scoped: &Caller) -> Self {
        let wish = self.wish.or(&scoped.wish);
        Caller { wish, ..scoped.clone() }
    }

    /// Where the statement may run besides the primary; `None` if it is not a proved read, or if
    /// there is only one endpoint.
    pub(crate) fn route(&self, sql: &str) -> Option<ReadRoute> {
        let (found, catalog) = self.judged(sql)?;
        self.route_of_read(found, catalog, sql)
    }

    /// The same for a statement that is about to run: if it is not a proved read, this is counted.
    pub(crate) fn route_to_run(&self, sql: &str) -> Option<ReadRoute> {
        let (found, catalog) = self.judged(sql)?;
        if !found.intent.is_read() {
            found.usage.unproved();
        }
        self.route_of_read(found, catalog, sql)
    }

    fn route_of_read(
        &self,
        found: Arc<Classification>,
        catalog: u64,
        sql: &str,
    ) -> Option<ReadRoute> {
        let is_read = found.intent.is_read();
        is_read.then(|| {
            let route = self.cluster.shared_out(self.route_of(&found, catalog, sql));
            ReadRoute { statement: Some(found), ..route }
        })
    }

    /// The same without a share of the replicas and without shadow mode.
    pub(crate) fn unshadowed(&self, sql: &str) -> Option<ReadRoute> {
        let (found, catalog) = self.judged(sql)?;
        let is_read = found.intent.is_read();
        is_read.then(|| ReadRoute {
            statement: Some(Arc::clone(&found)),
            ..self.route_of(&found, catalog, sql)
        })
    }

    /// The judgement on `sql`, and a generation of the catalog that is not newer than the catalog
    /// that it was made with.
    fn judged(&self, sql: &str) -> Option<(Arc<Classification>, u64)> {
        let classifier = self.cluster.classifier.as_ref()?;
        let catalog = classifier.generation();
        Some((classifier.look_up(sql), catalog))
    }

    /// Where a proved read with the text `sql` may run besides the primary. `catalog` is a generation of
    /// the catalog that is not newer than the one of `read`.
    pub(crate) fn route_of(&self, read: &Classification, catalog: u64, sql: &str) -> ReadRoute {
        let mut routable = self.routable();
        routable.text = Some(sql);
        routable.tables = Some(&read.tables);
        routable.cost = Some(&read.cost);
        routable.hint = read.group.as_deref();
        self.cluster.route(Some(read), catalog, routable)
    }

    /// Where a read-only transaction may run, whatever it will read.
    pub(crate) fn route_of_transaction(&self) -> ReadRoute {
        self.cluster.shared_out(self.unshadowed_transaction())
    }

    /// The same without a share of the replicas and without shadow mode.
    pub(crate) fn unshadowed_transaction(&self) -> ReadRoute {
        // Filters that become known later refuse it, because this generation does not include them.
        self.cluster.route(None, self.cluster.catalog_generation(), self.routable())
    }

    fn routable(&self) -> Routable<'_> {
        let mut routable = Routable::new(self.own_consistency(), self.own_way_out());
        routable.chose_consistency = self.wish.consistency.is_some();
        routable.chose_fallback = self.wish.fallback.is_some();
        routable.group = self.wish.group.as_deref();
        routable.tag = self.wish.tag.as_deref();
        routable
    }

    /// The name of the application's own policy.
    pub(crate) fn policy(&self) -> Option<&'static str> {
        self.wish.policy.as_ref().map(|policy| policy.name())
    }

    /// The group that a read asks for, if it does not exist.
    pub(crate) fn unknown_group(&self, read: &Classification) -> Option<String> {
        let topology = self.cluster.store().topology();
        let mut asked = [read.group.as_deref(), self.wish.group.as_deref()].into_iter().flatten();
        asked.find(|group| topology.group(group).is_none()).map(str::to_owned)
    }

    /// What a read of this handle requires of an endpoint now.
    pub(crate) fn request(&self, read: &ReadRoute) -> ReadRequest {
        let (configured, now) = (self.cluster.reading.max_lag, self.cluster.store().now());
        let max_lag = [configured, read.route.max_lag].into_iter().flatten().min();
        let shares = self.cluster.reading.primary_reads == PrimaryReads::Always;
        ReadRequest::new(Access::Read, read.route.consistency, now)
            .sharing_primary(shares && !read.only_replicas())
            .avoiding(self.cluster.ejections.ejected())
            .with_session(
                self.session_now().view_of(&read.tables, self.cluster.catalog_generation()),
            )
            .among(read.route.among)
            .within(read.horizon)
            .judged_by(read.catalog)
            .with_replicas_differing(read.is_unjudged && self.cluster.replicas_may_differ())
            .with_max_lag(max_lag)
            .with_policy(self.wish.policy.clone())
    }

    pub(crate) fn session_ref(&self) -> &Arc<Session> {
        &self.session
    }

    /// The session in its current state, including what may have happened unseen.
    pub(crate) fn session_now(&self) -> &Arc<Session> {
        if self.session.is_unwatched() {
            let store = self.cluster.store();
            self.session.catch_up(&store.topology(), store.now(), store.clock());
        }
        &self.session
    }
}
