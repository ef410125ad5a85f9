//! The session of whatever runs now, so that handles need not be passed around.

use std::{ops::Deref, sync::Arc};

use crate::RoutedConnection;

tokio::task_local! {
    static CURRENT: Arc<Scope>;
}

/// A session bound to a future; one inside another, for applications with several
/// databases.
struct Scope {
    session: Arc<RoutedConnection>,
    outer: Option<Arc<Scope>>,
}

/// Runs `future` with `session` bound to it: every handle of the same
/// [`connect`](crate::connect) that has no session of its own then speaks for
/// `session`, wherever in `future` it is used.
///
/// So the one `db` in an application's state serves each request in the request's
/// own session. What a call asks for ([`with_consistency`] and the like) goes
/// before what `session` asks for, and that before what was configured. A scope
/// inside another one takes its place, unless it is of another database.
///
/// A task that is spawned inside begins without a scope; give it this one with
/// [`in_current_scope`]. Without it the task uses the handle for everybody. It then misses
/// none of the writes of `session` ([`Config::shared_waits_for_sessions`]), but what it
/// writes itself `session` does not wait for, and it may read something older than
/// `session` has read.
///
/// ```
/// # #[cfg(feature = "sqlite")]
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), sea_orm::DbErr> {
/// # use sea_orm::ConnectionTrait;
/// # let dir = tempfile::tempdir().unwrap();
/// # let db = sealane::connect(sealane::Config::sqlite(dir.path().join("s.db"))).await?;
/// # let handler = async || db.execute_unprepared("CREATE TABLE boat (id INT)").await;
/// sealane::scope(db.session(), handler()).await?;
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "sqlite"))]
/// # fn main() {}
/// ```
///
/// [`with_consistency`]: RoutedConnection::with_consistency
/// [`Config::shared_waits_for_sessions`]: crate::Config::shared_waits_for_sessions
pub async fn scope<F: Future>(session: RoutedConnection, future: F) -> F::Output {
    // Not before it runs: it may be made outside the scope that it is to run in.
    let outer = CURRENT.try_with(Arc::clone).ok();
    CURRENT.scope(Arc::new(Scope { session: Arc::new(session), outer }), future).await
}

/// Runs `future` in the scope of the caller, for tasks. Where there is none, the shared
/// session goes on.
///
/// ```
/// # async fn send_mail() {}
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// tokio::spawn(sealane::in_current_scope(send_mail()));
/// # }
/// ```
pub fn in_current_scope<F: Future>(future: F) -> impl Future<Output = F::Output> + use<F> {
    let current = CURRENT.try_with(Arc::clone).ok();
    async move {
        match current {
            Some(scope) => CURRENT.scope(scope, future).await,
            None => future.await,
        }
    }
}

/// The handle that a call is made on, with the session that it is made for.
pub(crate) enum Here<'a> {
    Own(&'a RoutedConnection),
    Scoped(Arc<RoutedConnection>),
}

impl<'a> Here<'a> {
    /// Takes no lock, and allocates only where a call overrides its scope.
    pub(crate) fn of(connection: &'a RoutedConnection) -> Self {
        if !connection.session_ref().is_shared() {
            return Here::Own(connection);
        }
        match CURRENT.try_with(|scope| scope.find(connection)) {
            Ok(Some(session)) if connection.asks_for_nothing() => Here::Scoped(session),
            Ok(Some(session)) => Here::Scoped(Arc::new(connection.in_session_of(&session))),
            Ok(None) | Err(_) => Here::Own(connection),
        }
    }

    pub(crate) fn into_owned(self) -> RoutedConnection {
        match self {
            Here::Own(connection) => connection.clone(),
            Here::Scoped(connection) => Arc::unwrap_or_clone(connection),
        }
    }
}

/// Which session `connection`, that a call was resolved to, speaks for: in traces.
pub(crate) fn kind_of_session(connection: &RoutedConnection) -> &'static str {
    let session = connection.session_ref();
    let is_of = |scope: &Arc<Scope>| {
        scope.find(connection).is_some_and(|it| Arc::ptr_eq(it.session_ref(), session))
    };
    match CURRENT.try_with(is_of) {
        _ if session.is_shared() => "shared",
        Ok(true) => "scoped",
        Ok(false) | Err(_) => "own",
    }
}

impl Deref for Here<'_> {
    type Target = RoutedConnection;

    fn deref(&self) -> &RoutedConnection {
        match self {
            Here::Own(connection) => connection,
            Here::Scoped(connection) => connection,
        }
    }
}

impl Scope {
    /// The innermost session on the database of `connection`.
    fn find(&self, connection: &RoutedConnection) -> Option<Arc<RoutedConnection>> {
        let mut scope = Some(self);
        while let Some(Scope { session, outer }) = scope {
            if Arc::ptr_eq(session.cluster(), connection.cluster()) {
                return Some(Arc::clone(session));
            }
            scope = outer.as_deref();
        }
        None
    }
}
