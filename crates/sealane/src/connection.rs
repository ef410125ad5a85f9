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
    Consistency, ConsistencyPolicy, Engine, Event, FallbackPolicy, Moment, WhenAhead,
};

use crate::{
    Events, Explanation, Status,
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
/// It stands wherever a `DatabaseConnection` stood: entities, raw statements,
/// streams, paginators, loaders, transactions. Cloning it allocates nothing.
///
/// # Sessions
/// A handle reads its own writes: after a write through it, its reads stay on
/// the primary until a replica has replayed that write. Clones share this. The
/// handle that [`connect`](crate::connect) gives is one session for everybody;
/// give each request or user its own with [`session`](Self::session), so that
/// one user's write does not send another's reads to the primary. A session is
/// used as a handle, or bound to a future with [`scope`](crate::scope); it goes to
/// another process as a [`token`](Self::token).
///
/// Reads through the handle for everybody also wait for the writes of all sessions that
/// were made from it, by table where tables are told apart
/// ([`Config::write_tracking`](crate::Config::write_tracking)). So a task that was spawned
/// by a request, and has left the request's session, does not miss what the request wrote.
/// [`Config::shared_waits_for_sessions`](crate::Config::shared_waits_for_sessions) turns
/// this off.
///
/// # Cancel safety
/// A statement's future may be dropped at any time. A read has then no effect.
/// A write may or may not have happened, as with SeaORM itself; the session
/// counts it as one that did.
#[derive(Debug, Clone)]
pub struct RoutedConnection {
    caller: Caller,
    metric: Metric,
    /// Leads nowhere, and holds SeaORM's rules of access for all handles.
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

    /// The same session, asking for what `change` makes of its wish.
    fn wishing(&self, change: impl FnOnce(Wish) -> Wish) -> Self {
        self.with_caller(self.caller.wishing(change))
    }

    /// The same session with another consistency for its reads.
    #[must_use]
    pub fn with_consistency(&self, consistency: Consistency) -> Self {
        self.wishing(|wish| Wish { consistency: Some(consistency), ..wish })
    }

    /// The same session with another way out for reads for which no replica is
    /// good enough.
    #[must_use]
    pub fn fallback(&self, fallback: FallbackPolicy) -> Self {
        self.wishing(|wish| Wish { fallback: Some(fallback), ..wish })
    }

    /// The same session with another way for what goes on to the primary after a read on a replica
    /// that may have been ahead of it.
    #[must_use]
    pub fn when_ahead(&self, when_ahead: WhenAhead) -> Self {
        self.wishing(|wish| Wish { when_ahead: Some(when_ahead), ..wish })
    }

    /// The same session with all reads on the primary.
    #[must_use]
    pub fn on_primary(&self) -> Self {
        self.with_consistency(Consistency::Strong)
    }

    /// The same session with its reads on replicas: a read for which no replica is good enough fails
    /// ([`FallbackPolicy::Fail`], which also says what that means for inserts into MySQL). Reads that
    /// ask for the primary run there all the same, as with [`Consistency::Strong`].
    #[must_use]
    pub fn on_replicas(&self) -> Self {
        self.fallback(FallbackPolicy::Fail)
    }

    /// The same session with reads, also those of entities and of read-only transactions, on the
    /// replicas of a group ([`Replica::group`](crate::Replica::group)). A hint in the text goes
    /// first. Without such a group the replicas of no group serve them; [`explain`](Self::explain)
    /// tells.
    #[must_use]
    pub fn group(&self, group: impl Into<Arc<str>>) -> Self {
        self.wishing(|wish| Wish { group: Some(group.into()), ..wish })
    }

    /// The same session with reads on the replicas that carry `tag`
    /// ([`Replica::tag`](crate::Replica::tag)), if there are any among those that may serve them. A
    /// [`RoutingPolicy`](crate::RoutingPolicy) of the application's can make of a tag what it wants.
    #[must_use]
    pub fn tagged(&self, tag: impl Into<Arc<str>>) -> Self {
        self.wishing(|wish| Wish { tag: Some(tag.into()), ..wish })
    }

    /// The same session with reads only on replicas that `policy` lets pass, besides the handle's
    /// [`Consistency`] and the policies that it or its scope has already. What happens if no replica
    /// passes, the handle's [`fallback`](Self::fallback) says.
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

    /// The plain connection to the primary of this moment (to the first
    /// endpoint while there is none).
    ///
    /// What is written through it is not seen by any session: a read that
    /// follows may be served by a replica that has not replayed it. Say
    /// [`note_write`](Self::note_write) when such a write has ended. (The conversion to
    /// SeaORM's `DatabaseExecutor` needs no such note for a second.)
    #[must_use]
    pub fn primary(&self) -> &DatabaseConnection {
        self.cluster().primary_or_first()
    }

    /// A plain connection to a server that may serve this session's reads now: a replica, or else
    /// the primary, as for a read-only transaction. For libraries that name SeaORM's type.
    ///
    /// Take it anew for each request. It was good enough for the session when it was taken; what is
    /// read through it is not noted, and after a failover, or a change of an SQLite file's schema, its
    /// statements may fail because its pool was closed. On a replica the server refuses writes; the
    /// primary carries them out, and the session does not hear of them.
    ///
    /// # Errors
    /// No server may serve it, or none could be connected to.
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
            // One server, which may be SeaORM's mock.
            return Ok(self.primary().clone());
        }
        let mut read = ReadExecution::plan(&here, &here.route_of_transaction()).await?;
        loop {
            let (attempt, connection) = read.open(&TakePool, READ_ONLY).await?;
            if read.served(&attempt) {
                return Ok(connection);
            }
        }
    }

    /// Notes that something was written on behalf of this session by other
    /// means, so that its reads wait for it as for its own writes.
    pub fn note_write(&self) {
        self.here().session_ref().wrote_anything(self.cluster().store().clock());
    }

    /// Notes that the schema was changed by other means, such as a migration over
    /// [`primary`](Self::primary). What only the catalog knew to be pure runs on the
    /// primary until it is loaded again, which begins now; otherwise a change is
    /// noticed within a minute. Changes through this handle need no note.
    pub fn note_schema_change(&self) {
        self.note_write();
        self.cluster().schema_changed();
    }

    /// Waits until every replica in use has what the primary has at the call,
    /// `limit` at most; whether they have. For tests, deployments and jobs that
    /// hand over to readers of another process. Replicas that are down, do not
    /// replicate or are being drained are not waited for. Cancel safe.
    pub async fn wait_for_replication(&self, limit: Duration) -> bool {
        self.cluster().monitor.await_replication(limit).await
    }

    /// What would become of `sql` now, and why. Nothing is sent anywhere.
    #[must_use]
    pub fn explain(&self, sql: &str) -> Explanation {
        explain::explain(&self.here(), sql)
    }

    /// This moment, on the clock that policies see.
    #[must_use]
    pub fn now(&self) -> Moment {
        self.cluster().store().now()
    }

    /// What is known of all endpoints, and how the load is spread.
    #[must_use]
    pub fn status(&self) -> Status {
        Status::of(self.cluster())
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

    /// The consistency of this handle's reads, here.
    #[must_use]
    pub fn consistency(&self) -> Consistency {
        self.here().own_consistency()
    }

    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// For whom statements of this handle run here: its own session goes first, a scope's next, the
    /// shared one last.
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
    pub(crate) fn rules(&self) -> &DatabaseConnection {
        &self.rules
    }

    pub(crate) fn set_metric(&mut self, metric: Metric) {
        self.metric = metric;
    }
}

impl Default for RoutedConnection {
    /// Disconnected, like SeaORM's: every statement fails.
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
        let (_, mut line) = PrimaryWait::default().open(self.cluster(), &TakeLine, |_| {}).await?;
        line.ping().await
    }

    /// Closes all pools of all endpoints and ends the probes, for every handle.
    ///
    /// # Errors
    /// As SeaORM's connections do; every pool is closed even so.
    pub async fn close(self) -> Result<(), DbErr> {
        self.close_by_ref().await
    }

    /// Closes all pools of all endpoints and ends the probes, for every handle. Connections that
    /// do not end within five seconds, as those to a server that hangs, are left behind.
    ///
    /// # Errors
    /// As SeaORM's connections do; every pool is closed even so.
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
