//! The connection that applications hold.

mod compat;
mod traits;

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use sea_orm::{DatabaseConnection, DbErr};
use sealane_core::{Access, Consistency, Demand, Engine, Event, Session, WhenAhead, WhenBehind};

use crate::{
    Events, Explanation, Status,
    cluster::{Cluster, Reach},
    connect, events,
    execute::{PrimaryWait, TakeLine},
    explain,
    pool::EndpointPools,
    scope::Here,
};

/// A SeaORM connection that sends each statement where it belongs.
///
/// It stands wherever a `DatabaseConnection` stood: entities, raw statements,
/// streams, paginators, loaders, transactions. Cloning it copies two pointers.
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
    cluster: Arc<Cluster>,
    session: Arc<Session>,
    wish: Wish,
}

/// What a handle asks for; what it leaves open its scope decides, or else the
/// configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Wish {
    consistency: Option<Consistency>,
    when_behind: Option<WhenBehind>,
    when_ahead: Option<WhenAhead>,
}

impl RoutedConnection {
    pub(crate) fn new(cluster: Cluster) -> Self {
        let session = Session::shared(cluster.reading.tracking)
            .waiting_for_others(cluster.reading.shared_waits);
        RoutedConnection {
            cluster: Arc::new(cluster),
            session: Arc::new(session),
            wish: Wish::default(),
        }
    }

    /// This handle for another session, of which the shared one hears.
    pub(crate) fn with_session(&self, session: Session) -> Self {
        RoutedConnection { session: Arc::new(session.beside(&self.session)), ..self.clone() }
    }

    /// The same session with another consistency for its reads.
    #[must_use]
    pub fn with_consistency(&self, consistency: Consistency) -> Self {
        let wish = Wish { consistency: Some(consistency), ..self.wish };
        RoutedConnection { wish, ..self.clone() }
    }

    /// The same session with another way out for reads for which no replica is
    /// good enough.
    #[must_use]
    pub fn when_behind(&self, when_behind: WhenBehind) -> Self {
        let wish = Wish { when_behind: Some(when_behind), ..self.wish };
        RoutedConnection { wish, ..self.clone() }
    }

    /// The same session with another way for what goes on to the primary after a read on a replica
    /// that may have been ahead of it.
    #[must_use]
    pub fn when_ahead(&self, when_ahead: WhenAhead) -> Self {
        let wish = Wish { when_ahead: Some(when_ahead), ..self.wish };
        RoutedConnection { wish, ..self.clone() }
    }

    /// The same session with all reads on the primary.
    #[must_use]
    pub fn on_primary(&self) -> Self {
        self.with_consistency(Consistency::Strong)
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
        self.cluster.primary_or_first()
    }

    /// Notes that something was written on behalf of this session by other
    /// means, so that its reads wait for it as for its own writes.
    pub fn note_write(&self) {
        Here::of(self).session.wrote_anything(self.cluster.board().clock());
    }

    /// Notes that the schema was changed by other means, such as a migration over
    /// [`primary`](Self::primary). What only the catalog knew to be pure runs on the
    /// primary until it is loaded again, which begins now; otherwise a change is
    /// noticed within a minute. Changes through this handle need no note.
    pub fn note_schema_change(&self) {
        self.note_write();
        self.cluster.schema_changed();
    }

    /// Waits until every replica in use has what the primary has at the call,
    /// `limit` at most; whether they have. For tests, deployments and jobs that
    /// hand over to readers of another process. Replicas that are down or do not
    /// replicate are not waited for. Cancel safe.
    pub async fn wait_for_replication(&self, limit: Duration) -> bool {
        self.cluster.monitor.await_replication(limit).await
    }

    /// What would become of `sql` now, and why. Nothing is sent anywhere.
    #[must_use]
    pub fn explain(&self, sql: &str) -> Explanation {
        explain::explain(&Here::of(self), sql)
    }

    /// What is known of all endpoints, and how the load is spread.
    #[must_use]
    pub fn status(&self) -> Status {
        Status::of(&self.cluster)
    }

    /// A change of the topology in words, with the names of its endpoints.
    #[must_use]
    pub fn in_words(&self, event: &Event) -> String {
        event.named(&self.cluster.board().topology()).to_string()
    }

    /// Changes of the topology from now on.
    #[must_use]
    pub fn events(&self) -> Events {
        events::Events::new(self.cluster.board().events())
    }

    /// The consistency of this handle's reads, here.
    #[must_use]
    pub fn consistency(&self) -> Consistency {
        Here::of(self).own_consistency()
    }

    pub(crate) fn own_consistency(&self) -> Consistency {
        self.wish.consistency.unwrap_or(self.cluster.reading.consistency)
    }

    /// What becomes of its reads for which no replica is good enough.
    pub(crate) fn own_way_out(&self) -> WhenBehind {
        self.wish.when_behind.unwrap_or(self.cluster.reading.when_behind)
    }

    /// What becomes of what it runs on the primary in a session that may be ahead of it.
    pub(crate) fn own_when_ahead(&self) -> WhenAhead {
        self.wish.when_ahead.unwrap_or(self.cluster.reading.when_ahead)
    }

    /// Whether it leaves everything to its scope and the configuration.
    pub(crate) fn asks_for_nothing(&self) -> bool {
        self.wish == Wish::default()
    }

    /// Speaks for the session of `scoped`; what this handle leaves open, `scoped` decides.
    pub(crate) fn in_session_of(&self, scoped: &RoutedConnection) -> Self {
        let wish = Wish {
            consistency: self.wish.consistency.or(scoped.wish.consistency),
            when_behind: self.wish.when_behind.or(scoped.wish.when_behind),
            when_ahead: self.wish.when_ahead.or(scoped.wish.when_ahead),
        };
        RoutedConnection { wish, ..scoped.clone() }
    }

    pub(crate) fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// What a read of this handle asks of an endpoint now.
    pub(crate) fn demand(&self, reach: &Reach) -> Demand {
        let max_lag = self.cluster.reading.max_lag;
        Demand::new(Access::Read, self.own_consistency(), self.cluster.board().now())
            .with_session(
                self.session_now().view_of(&reach.tables, self.cluster.catalog_generation()),
            )
            .among(reach.readers)
            .with_max_lag(max_lag)
    }

    pub(crate) fn session_ref(&self) -> &Arc<Session> {
        &self.session
    }

    /// The session as it is by now, with what may have happened where nobody looks.
    pub(crate) fn session_now(&self) -> &Arc<Session> {
        if self.session.is_unwatched() {
            let board = self.cluster.board();
            self.session.catch_up(&board.topology(), board.now(), board.clock());
        }
        &self.session
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
        let engine = connect::engine_of(connection.get_database_backend());
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
        let (_, mut line) = PrimaryWait::default().open(&self.cluster, &TakeLine, |_| {}).await?;
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
        self.cluster.monitor.stop();
        if let Some(catalog) = &self.cluster.catalog {
            catalog.stop();
        }
        let closing = self.cluster.pools.iter().map(EndpointPools::close);
        join_all(closing).await.into_iter().fold(Ok(()), Result::and)
    }
}
