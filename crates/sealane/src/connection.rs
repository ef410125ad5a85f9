//! The connection that applications hold.

mod compat;
#[cfg(feature = "rbac")]
mod restricted;
mod traits;

#[cfg(feature = "rbac")]
pub use restricted::{Restricted, RestrictedConnection, RestrictedTransaction};

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use sea_orm::{DatabaseConnection, DbErr};
use sealane_core::{
    Consistency, ConsistencyPolicy, Engine, Event, FallbackPolicy, Moment, TimedEvent, WhenAhead,
};

use crate::{
    Events, Explanation, Report, Shadow, ShadowReport, Status,
    caller::{Caller, Wish},
    cluster::Cluster,
    execute::{PrimaryWait, ReadExecution, TakeLine, TakePool},
    observe::{Metric, explain},
    pool,
    scope::Here,
    transaction::READ_ONLY,
};

/// A SeaORM connection that sends each statement where it belongs.
///
/// It replaces a `DatabaseConnection` everywhere: entities, raw statements, streams, paginators,
/// loaders, transactions. Cloning it allocates nothing.
///
/// # Sessions
/// A handle reads its own writes: after a write through it, its reads stay on the primary until a
/// replica has replayed that write. Clones share this session. The handle that
/// [`connect`](crate::connect) returns is one session shared by everybody. Give each request or
/// user a separate one with [`session`](Self::session), so that one user's write does not send
/// another user's reads to the primary. A session is used as a handle, or bound to a future with
/// [`scope`](crate::scope). A [`token`](Self::token) carries it to another process.
///
/// Reads through the shared handle also wait for the writes of all sessions that were made from it,
/// by table where tables are distinguished
/// ([`Config::write_tracking`](crate::Config::write_tracking)). So a task that was spawned by a
/// request, and has left the request's session, does not miss what the request wrote.
/// [`Config::shared_waits_for_sessions`](crate::Config::shared_waits_for_sessions) turns this off.
///
/// # Cancel safety
/// A statement's future may be dropped at any time. A dropped read has no effect. A dropped write
/// may or may not have happened, as with SeaORM itself; the session assumes that it happened.
#[derive(Debug, Clone)]
pub struct RoutedConnection {
    caller: Caller,
    metric: Metric,
    /// Connected to nothing. It holds SeaORM's access rules for all handles.
    #[cfg(feature = "rbac")]
    rules: DatabaseConnection,
}

impl RoutedConnection {
    pub(crate) fn new(cluster: Cluster) -> Self {
        RoutedConnection {
            caller: Caller::shared(cluster),
            metric: Metric::default(),
            #[cfg(feature = "rbac")]
            rules: DatabaseConnection::default(),
        }
    }

    /// This handle for another caller.
    pub(crate) fn with_caller(&self, caller: Caller) -> Self {
        RoutedConnection { caller, ..self.clone() }
    }

    /// The same session, with its settings changed by `change`.
    fn wishing(&self, change: impl FnOnce(Wish) -> Wish) -> Self {
        self.with_caller(self.caller.wishing(change))
    }

    /// The same session with another consistency for its reads.
    #[must_use]
    pub fn with_consistency(&self, consistency: Consistency) -> Self {
        self.wishing(|wish| Wish { consistency: Some(consistency), ..wish })
    }

    /// The same session with another fallback for reads for which no replica is good enough.
    #[must_use]
    pub fn fallback(&self, fallback: FallbackPolicy) -> Self {
        self.wishing(|wish| Wish { fallback: Some(fallback), ..wish })
    }

    /// The same session with another rule for statements on the primary that follow a read on a
    /// replica that may have been ahead of it.
    #[must_use]
    pub fn when_ahead(&self, when_ahead: WhenAhead) -> Self {
        self.wishing(|wish| Wish { when_ahead: Some(when_ahead), ..wish })
    }

    /// The same session with another time limit for its reads; see
    /// [`Config::read_timeout`](crate::Config::read_timeout).
    #[must_use]
    pub fn read_timeout(&self, limit: Duration) -> Self {
        self.wishing(|wish| Wish { read_timeout: Some(limit), ..wish })
    }

    /// The same session with its slow reads sent to a second replica as well, or not; see
    /// [`Config::hedged_reads`](crate::Config::hedged_reads).
    #[must_use]
    pub fn hedged(&self, hedged: bool) -> Self {
        self.wishing(|wish| Wish { hedged: Some(hedged), ..wish })
    }

    /// Changes the share of the proved reads that may leave the primary, for all handles; see
    /// [`Config::replica_share`](crate::Config::replica_share). A value outside 0 to 1 is cut to the
    /// nearer end.
    ///
    /// ```
    /// # #[cfg(feature = "sqlite")]
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), sea_orm::DbErr> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// let config = sealane::Config::sqlite(dir.path().join("shop.db")).replica_share(0.0);
    /// let db = sealane::connect(config).await?; // everything runs on the primary
    /// db.set_replica_share(0.1); // one read in ten may run elsewhere
    /// assert_eq!(db.status().replica_share, 0.1);
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "sqlite"))]
    /// # fn main() {}
    /// ```
    pub fn set_replica_share(&self, ratio: f64) {
        self.cluster().roll_out.set_share(ratio);
    }

    /// Turns shadow mode on or off, for all handles; see [`Config::shadow`](crate::Config::shadow).
    /// It takes effect for the reads that begin afterwards.
    ///
    /// ```
    /// # #[cfg(feature = "sqlite")]
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), sea_orm::DbErr> {
    /// # use sea_orm::ConnectionTrait;
    /// use sealane::Shadow;
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// let config = sealane::Config::sqlite(dir.path().join("shop.db")).shadow(Shadow::Record);
    /// let db = sealane::connect(config).await?; // everything runs on the primary
    /// # db.execute_unprepared("CREATE TABLE boat (id INTEGER PRIMARY KEY)").await?;
    /// # db.query_all_raw(sea_orm::Statement::from_string(sea_orm::DbBackend::Sqlite, "SELECT * FROM boat")).await?;
    /// println!("{}", db.shadow_report());
    /// assert_eq!(db.shadow_report().endpoints[0].reads, 1);
    /// db.set_shadow(Shadow::Off); // reads run where they belong
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "sqlite"))]
    /// # fn main() {}
    /// ```
    pub fn set_shadow(&self, shadow: Shadow) {
        self.cluster().roll_out.set_shadow(shadow);
    }

    /// What shadow mode has recorded since the start: where reads would have run, and which answers
    /// would have differed. It prints as a table.
    #[must_use]
    pub fn shadow_report(&self) -> ShadowReport {
        self.cluster().ledger.report(self.cluster().roll_out.shadow())
    }

    /// The same session with all reads on the primary.
    #[must_use]
    pub fn on_primary(&self) -> Self {
        self.with_consistency(Consistency::Strong)
    }

    /// The same session with its reads on replicas: a read for which no replica is good enough
    /// fails ([`FallbackPolicy::Fail`], which also says what this means for inserts into MySQL).
    /// Reads that ask for the primary still run there, as with [`Consistency::Strong`].
    #[must_use]
    pub fn on_replicas(&self) -> Self {
        self.fallback(FallbackPolicy::Fail)
    }

    /// The same session with its reads on the replicas of a group
    /// ([`Replica::group`](crate::Replica::group)), including reads of entities and read-only
    /// transactions. A hint in the statement's text takes precedence. If the group does not exist,
    /// the replicas that are in no group serve the reads; [`explain`](Self::explain) shows this.
    #[must_use]
    pub fn group(&self, group: impl Into<Arc<str>>) -> Self {
        self.wishing(|wish| Wish { group: Some(group.into()), ..wish })
    }

    /// The same session with its reads on the replicas that carry `tag`
    /// ([`Replica::tag`](crate::Replica::tag)), if any of them may serve the reads. The
    /// application's own [`RoutingPolicy`](crate::RoutingPolicy) can give a tag another meaning.
    #[must_use]
    pub fn tagged(&self, tag: impl Into<Arc<str>>) -> Self {
        self.wishing(|wish| Wish { tag: Some(tag.into()), ..wish })
    }

    /// The same session with reads only on replicas that `policy` accepts. The handle's
    /// [`Consistency`] and the policies that the handle or its scope already has still apply. If no
    /// replica is accepted, the handle's [`fallback`](Self::fallback) decides.
    ///
    /// ```
    /// # #[cfg(feature = "sqlite")]
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), sea_orm::DbErr> {
    /// use sealane::{
    ///     Candidate, Config, Consistency, ConsistencyPolicy, Moment, ReadRequest, Verdict,
    /// };
    ///
    /// /// Shows at least what was there when the page was made.
    /// #[derive(Debug)]
    /// struct SincePage(Moment);
    ///
    /// impl ConsistencyPolicy for SincePage {
    ///     fn name(&self) -> &'static str {
    ///         "since-page"
    ///     }
    ///
    ///     fn judge(&self, candidate: &Candidate<'_>, _: &ReadRequest) -> Verdict {
    ///         candidate.shows(self.0)
    ///     }
    /// }
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// let db = sealane::connect(Config::sqlite(dir.path().join("shop.db"))).await?;
    /// let page = db.with_consistency(Consistency::Eventual).with_policy(SincePage(db.now()));
    /// assert_eq!(page.explain("SELECT 1").first_choice(), Some("readers"));
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "sqlite"))]
    /// # fn main() {}
    /// ```
    #[must_use]
    pub fn with_policy(&self, policy: impl ConsistencyPolicy + 'static) -> Self {
        self.wishing(|wish| wish.with_policy(Arc::new(policy)))
    }

    /// The plain connection to the current primary, or to the first endpoint while there is no
    /// primary.
    ///
    /// No session sees writes through it: a read that follows may be served by a replica that has
    /// not replayed them. Call [`note_write`](Self::note_write) after such a write has ended.
    /// (After a conversion to SeaORM's `DatabaseExecutor`, this is not needed for one second.)
    #[must_use]
    pub fn primary(&self) -> &DatabaseConnection {
        self.cluster().primary_or_first()
    }

    /// A plain connection to a server that may serve this session's reads now: a replica, or
    /// otherwise the primary, as for a read-only transaction. (On MySQL and MariaDB always the
    /// primary while a replica may have other rows of some table: with a filter of replication, or a
    /// table in an engine such as MEMORY.) It is for libraries that require SeaORM's type.
    ///
    /// Take a new one for each request. The server was good enough for the session when the
    /// connection was taken; reads through the connection are not recorded. After a failover, or
    /// after a change of an SQLite file's schema, its statements may fail because its pool was
    /// closed. On a replica the server refuses writes; the primary executes them, and the session
    /// does not learn of them.
    ///
    /// # Errors
    /// No server may serve it, or no connection could be opened.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    ///
    /// ```
    /// # #[cfg(feature = "sqlite")]
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), sea_orm::DbErr> {
    /// # use sea_orm::{ConnectionTrait, Statement, DbBackend};
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = sealane::connect(sealane::Config::sqlite(dir.path().join("shop.db"))).await?;
    /// let reader: sea_orm::DatabaseConnection = db.reader().await?;
    /// # let one = Statement::from_string(DbBackend::Sqlite, "SELECT 1");
    /// # assert!(reader.query_one_raw(one).await?.is_some());
    /// # assert!(reader.execute_unprepared("CREATE TABLE boat (id INTEGER)").await.is_err());
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "sqlite"))]
    /// # fn main() {}
    /// ```
    pub async fn reader(&self) -> Result<DatabaseConnection, DbErr> {
        let here = self.here();
        if here.cluster().classifier.is_none() {
            // A single server, which may be SeaORM's mock.
            return Ok(self.primary().clone());
        }
        let route = here.route_of_transaction();
        here.shadow_transaction(&route);
        let mut read = ReadExecution::plan(&here, route).await?;
        loop {
            let (attempt, connection) = read.open(&TakePool, READ_ONLY).await?;
            if read.served(&attempt) {
                return Ok(connection);
            }
        }
    }

    /// Records that something was written on behalf of this session by other means, so that its
    /// reads wait for that write as for its own.
    pub fn note_write(&self) {
        self.here().session_ref().wrote_anything(self.cluster().store().clock());
    }

    /// Records that the schema was changed by other means, such as a migration through
    /// [`primary`](Self::primary). Statements that only the catalog knows to be pure run on the
    /// primary until the catalog is loaded again, which begins now. Without this call, a change is
    /// noticed within a minute. Changes through this handle need no call.
    pub fn note_schema_change(&self) {
        self.note_write();
        self.cluster().schema_changed();
    }

    /// Waits until every replica in use has what the primary has at the time of the call, for
    /// `limit` at most. Returns whether they all have it. For tests, deployments and jobs that hand
    /// over to readers in another process. Replicas that are down, do not replicate or are being
    /// drained are ignored. Cancel safe.
    pub async fn wait_for_replication(&self, limit: Duration) -> bool {
        self.cluster().monitor.await_replication(limit).await
    }

    /// Where `sql` would run now, and why. Nothing is sent to any server.
    #[must_use]
    pub fn explain(&self, sql: &str) -> Explanation {
        explain::explain(&self.here(), sql)
    }

    /// The current moment, on the clock that policies use.
    #[must_use]
    pub fn now(&self) -> Moment {
        self.cluster().store().now()
    }

    /// The known state of all endpoints, and how the load is distributed.
    #[must_use]
    pub fn status(&self) -> Status {
        Status::of(self.cluster())
    }

    /// How well the load is spread since the start, what it costs, and what it would take to spread
    /// it better.
    #[must_use]
    pub fn report(&self) -> Report {
        Report::of(self.cluster())
    }

    /// A change of the topology in words, with the names of its endpoints.
    #[must_use]
    pub fn in_words(&self, event: &Event) -> String {
        event.named(&self.cluster().store().topology()).to_string()
    }

    /// Changes of the topology from now on.
    #[must_use]
    pub fn events(&self) -> Events {
        Events::new(self.cluster().store().events())
    }

    /// The last changes of the topology (up to 64), the oldest first: what a page shows to somebody
    /// who opens it after a failover.
    #[must_use]
    pub fn recent_events(&self) -> Vec<TimedEvent> {
        self.cluster().store().recent_events()
    }

    /// The consistency of this handle's reads, in the current scope.
    #[must_use]
    pub fn consistency(&self) -> Consistency {
        self.here().own_consistency()
    }

    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The caller whose settings and session this handle's statements use here: the handle's
    /// separate session takes precedence, then the scope's session, then the shared one.
    pub(crate) fn here(&self) -> Here<'_> {
        Here::of(&self.caller)
    }

    pub(crate) fn cluster(&self) -> &Arc<Cluster> {
        self.caller.cluster()
    }

    pub(crate) fn metric(&self) -> &Metric {
        &self.metric
    }

    #[cfg(feature = "rbac")]
    pub(crate) fn access_rules(&self) -> &DatabaseConnection {
        &self.rules
    }

    pub(crate) fn set_metric(&mut self, metric: Metric) {
        self.metric = metric;
    }
}

impl Default for RoutedConnection {
    /// Disconnected, like SeaORM's default: every statement fails.
    fn default() -> Self {
        // Any engine will do: nothing is ever sent.
        let disconnected = DatabaseConnection::default();
        let cluster = Cluster::alone("disconnected", "nowhere", Engine::Sqlite, disconnected);
        RoutedConnection::new(cluster)
    }
}

impl From<DatabaseConnection> for RoutedConnection {
    /// A connection that serves everything: for tests over SeaORM's mock, and
    /// for applications that have no replica yet.
    ///
    /// # Panics
    /// If `connection` is disconnected, as SeaORM does when asked for its
    /// backend.
    fn from(connection: DatabaseConnection) -> Self {
        let engine = pool::engine_of(connection.get_database_backend());
        let cluster = Cluster::alone("primary", "as given", engine, connection);
        RoutedConnection::new(cluster)
    }
}

impl RoutedConnection {
    /// Checks that the primary answers.
    ///
    /// # Errors
    /// The primary does not answer, or there is none.
    pub async fn ping(&self) -> Result<(), DbErr> {
        let (_, mut line) =
            PrimaryWait::default().open(self.cluster(), &TakeLine, |_, _| {}).await?;
        line.ping().await
    }

    /// Closes all pools of all endpoints and ends the probes, for every handle.
    ///
    /// # Errors
    /// Like those of SeaORM's connections; every pool is closed nevertheless.
    pub async fn close(self) -> Result<(), DbErr> {
        self.close_by_ref().await
    }

    /// Closes all pools of all endpoints and ends the probes, for every handle. Connections that do
    /// not end within five seconds, such as those to a server that hangs, are abandoned.
    ///
    /// # Errors
    /// Like those of SeaORM's connections; every pool is closed nevertheless.
    pub async fn close_by_ref(&self) -> Result<(), DbErr> {
        self.cluster().monitor.stop();
        if let Some(catalog) = &self.cluster().catalog {
            catalog.stop();
        }
        #[cfg(feature = "sqlite")]
        if self.cluster().is_split_file() {
            return self.cluster().close_file().await;
        }
        let entries = self.cluster().pools.all();
        let closing = entries.iter().map(|entry| entry.pools.close());
        join_all(closing).await.into_iter().fold(Ok(()), Result::and)
    }
}
