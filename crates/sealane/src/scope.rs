//! Binds a session to running code, so that handles need not be passed around.
//!
//! A scope binds a caller to a future by a task-local. `Here::of` resolves it once, when a
//! statement begins; the layers below know nothing of scopes. The handle's separate session takes
//! precedence, then the scope's session, then the shared one.

use std::{fmt, ops::Deref, sync::Arc};

use sealane_core::Session;

use crate::caller::Caller;

tokio::task_local! {
    static CURRENT: Arc<Scope>;
}

/// A session bound to a future. Scopes nest, for applications with several databases.
struct Scope {
    session: Arc<Caller>,
    outer: Option<Arc<Scope>>,
}

/// Runs `future` with `session` bound to it; see [`crate::scope`].
pub(crate) async fn bound<F: Future>(session: Caller, future: F) -> F::Output {
    // The outer scope is read when the future runs, because the future may be created outside the
    // scope that it runs in.
    let outer = CURRENT.try_with(Arc::clone).ok();
    CURRENT.scope(Arc::new(Scope { session: Arc::new(session), outer }), future).await
}

/// Runs `future` in the scope of the caller, for spawned tasks. If the caller has no scope,
/// `future` uses the shared session.
///
/// ```
/// # async fn send_mail() {}
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// tokio::spawn(sealane::in_current_scope(send_mail()));
/// # }
/// ```
pub fn in_current_scope<F: Future>(future: F) -> impl Future<Output = F::Output> + use<F> {
    CurrentScope::capture().run(future)
}

/// A captured scope for work that starts later in another place: in a callback, on an upgraded
/// connection, or while a body is sent. If there was no scope to capture, the work runs as it would
/// without this.
///
/// ```
/// # struct Socket;
/// # fn on_upgrade<F: Future>(callback: impl FnOnce(Socket) -> F) {}
/// # async fn talk(socket: Socket) {}
/// // In a handler. The callback runs in a separate task, once the connection is upgraded.
/// let scope = sealane::CurrentScope::capture();
/// on_upgrade(move |socket| scope.run(talk(socket)));
/// ```
#[derive(Clone)]
pub struct CurrentScope(Option<Arc<Scope>>);

impl CurrentScope {
    /// Captures the scope of the caller.
    #[must_use]
    pub fn capture() -> Self {
        CurrentScope(CURRENT.try_with(Arc::clone).ok())
    }

    /// Runs `future` in the scope. Dropping the returned future drops `future`.
    pub async fn run<F: Future>(self, future: F) -> F::Output {
        match self.0 {
            Some(scope) => CURRENT.scope(scope, future).await,
            None => future.await,
        }
    }

    /// Runs `work` in the scope, for example one poll of a stream.
    pub fn enter<T>(&self, work: impl FnOnce() -> T) -> T {
        match &self.0 {
            Some(scope) => CURRENT.sync_scope(Arc::clone(scope), work),
            None => work(),
        }
    }
}

impl fmt::Debug for CurrentScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CurrentScope").field("is_scoped", &self.0.is_some()).finish()
    }
}

/// The caller of a statement, resolved to the session that it uses.
pub(crate) enum Here<'a> {
    Own(&'a Caller),
    Scoped(Arc<Caller>),
}

impl<'a> Here<'a> {
    /// Takes no lock, and allocates only if the call overrides settings of its scope.
    pub(crate) fn of(caller: &'a Caller) -> Self {
        if !caller.session_ref().is_shared() {
            return Here::Own(caller);
        }
        match CURRENT.try_with(|scope| scope.find(caller)) {
            Ok(Some(session)) if caller.asks_for_nothing() => Here::Scoped(session),
            Ok(Some(session)) => Here::Scoped(Arc::new(caller.in_session_of(&session))),
            Ok(None) | Err(_) => Here::Own(caller),
        }
    }

    pub(crate) fn into_owned(self) -> Caller {
        match self {
            Here::Own(caller) => caller.clone(),
            Here::Scoped(caller) => Arc::unwrap_or_clone(caller),
        }
    }
}

/// The kind of the session that a statement runs in, for traces.
pub(crate) fn kind_of_session(session: &Arc<Session>) -> &'static str {
    let is_of = |scope: &Arc<Scope>| scope.binds(session);
    match CURRENT.try_with(is_of) {
        _ if session.is_shared() => "shared",
        Ok(true) => "scoped",
        Ok(false) | Err(_) => "own",
    }
}

impl Deref for Here<'_> {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        match self {
            Here::Own(caller) => caller,
            Here::Scoped(caller) => caller,
        }
    }
}

impl Scope {
    /// Whether this scope, or one around it, binds `session`.
    fn binds(&self, session: &Arc<Session>) -> bool {
        Arc::ptr_eq(self.session.session_ref(), session)
            || self.outer.as_ref().is_some_and(|outer| outer.binds(session))
    }

    /// The innermost session on the database of `caller`.
    fn find(&self, caller: &Caller) -> Option<Arc<Caller>> {
        let mut scope = Some(self);
        while let Some(Scope { session, outer }) = scope {
            if Arc::ptr_eq(session.cluster(), caller.cluster()) {
                return Some(Arc::clone(session));
            }
            scope = outer.as_deref();
        }
        None
    }
}
