//! The service that a layer makes.

use std::{
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use sealane::{Resumed, RoutedConnection, TokenRefusal};
use tower_service::Service;

use crate::carrier::Carrier;

/// Serves each request in the session of its user. Made by [`SessionLayer`](crate::SessionLayer).
///
/// # Errors
/// Those of the inner service, and no others.
///
/// # Cancel safety
/// Dropping its future drops that of the inner service. The client gets no answer then, and
/// no token; what was written may have happened.
#[derive(Debug, Clone)]
pub struct SessionService<S> {
    inner: S,
    db: RoutedConnection,
    max_age: Duration,
    carrier: Arc<Carrier>,
}

impl<S> SessionService<S> {
    pub(crate) fn new(
        inner: S,
        db: RoutedConnection,
        max_age: Duration,
        carrier: Arc<Carrier>,
    ) -> Self {
        SessionService { inner, db, max_age, carrier }
    }
}

impl<S, Q, R> Service<Request<Q>> for SessionService<S>
where
    S: Service<Request<Q>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    Q: Send + 'static,
    R: Send + 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    // The future of a scope has no name; one allocation gives it one.
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        // The one that was polled is ready; a clone of it need not be.
        let clone = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, clone);
        if self.db.is_scoped() {
            return Box::pin(inner.call(request));
        }
        let (max_age, carrier) = (self.max_age, Arc::clone(&self.carrier));
        let Resumed { session, refused, .. } =
            self.db.resume_all(carrier.tokens(request.headers()));
        let before = session.progress();
        Box::pin(async move {
            // Called inside as well: a service may begin its work before it is awaited.
            let served = async { inner.call(request).await };
            let mut response = sealane::scope(session.clone(), served).await?;
            // A refused token is replaced, or the client would send it for ever. Not one that
            // knows of a failover: it says more than can be said here.
            let is_void = refused.is_some_and(|refusal| refusal != TokenRefusal::NewerTimeline);
            if (is_void || session.progress() != before)
                && let Some(token) = session.token().await
            {
                carrier.put(&token, max_age, response.headers_mut());
            }
            Ok(response)
        })
    }
}
