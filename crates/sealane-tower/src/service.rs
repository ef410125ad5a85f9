//! The service that the layer creates.
//!
//! The layer opens the request's session from its token, and sends a new token if the session's
//! `Progress` has changed. Opening a session sends nothing to any server. The first statement of
//! the session bears the cost.

use std::{
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response, StatusCode};
use sealane::{Consistency, RoutedConnection};
use tower_service::Service;

use crate::{SessionBody, carrier::Carrier, returned::Returned};

/// Serves each request in the session of its user. Made by [`SessionLayer`](crate::SessionLayer).
///
/// # Errors
/// Only the errors of the inner service.
///
/// # Cancel safety
/// Dropping the future drops the future of the inner service. The client then gets no response and
/// no token, but the request's writes may have happened.
#[derive(Debug, Clone)]
pub struct SessionService<S> {
    inner: S,
    db: RoutedConnection,
    settings: Arc<Settings>,
}

/// The settings that all services of a layer share.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) max_age: Duration,
    pub(crate) carrier: Carrier,
    pub(crate) limit: Option<Duration>,
    /// Whether requests that may change something read on the primary.
    pub(crate) unsafe_on_primary: bool,
    pub(crate) returned: Arc<Returned>,
}

impl<S> SessionService<S> {
    pub(crate) fn new(inner: S, db: RoutedConnection, settings: Arc<Settings>) -> Self {
        SessionService { inner, db, settings }
    }
}

impl<S, Q, R> Service<Request<Q>> for SessionService<S>
where
    S: Service<Request<Q>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    Q: Send + 'static,
    R: Send + 'static,
{
    type Response = Response<SessionBody<R>>;
    type Error = S::Error;
    // The future of a scope has no nameable type, so it is boxed: one allocation.
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        // Only the service that was polled is known to be ready; its clone may not be.
        let clone = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, clone);
        if self.db.is_scoped() {
            let served = inner.call(request);
            return Box::pin(async { Ok(served.await?.map(SessionBody::here)) });
        }
        let settings = Arc::clone(&self.settings);
        // This sends nothing to any server; only using the session does.
        let tokens = settings.carrier.tokens(request.headers());
        if !tokens.is_empty() {
            settings.returned.note_returned();
        }
        let session = self.db.resume_all(tokens).session;
        let session = match settings.unsafe_on_primary && !request.method().is_safe() {
            true => session.with_consistency(Consistency::Strong),
            false => session,
        };
        let before = session.progress();
        Box::pin(async move {
            // `call` also runs inside the scope: a service may start its work before its future is
            // polled.
            let served = async { Ok(inner.call(request).await?.map(SessionBody::here)) };
            let served = sealane::scope(session.clone(), served);
            let mut response = match settings.limit {
                None => served.await?,
                Some(limit) => match tokio::time::timeout(limit, served).await {
                    Ok(served) => served?,
                    // The inner future is dropped by now. The session has recorded what it may have
                    // written.
                    Err(_elapsed) => late(),
                },
            };
            // A refused token is replaced as well, once its session is used.
            if session.progress() != before
                && let Some(token) = session.token().await
            {
                settings.carrier.put(&token, settings.max_age, response.headers_mut());
                settings.returned.note_given();
            }
            Ok(response)
        })
    }
}

/// The response for a request that takes too long.
fn late<R>() -> Response<SessionBody<R>> {
    let mut response = Response::new(SessionBody::empty());
    *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
    response
}
