//! A response body that runs in the session of its request.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use sealane::CurrentScope;

pin_project! {
    /// The body of a response, for example a stream of rows or of server-sent events. It is
    /// produced in the session of its request.
    #[derive(Debug)]
    pub struct SessionBody<B> {
        // `None` if the layer itself made the response.
        #[pin]
        body: Option<B>,
        scope: CurrentScope,
    }
}

impl<B> SessionBody<B> {
    /// Captures the scope of the caller.
    pub(crate) fn here(body: B) -> Self {
        SessionBody { body: Some(body), scope: CurrentScope::capture() }
    }

    pub(crate) fn empty() -> Self {
        SessionBody { body: None, scope: CurrentScope::capture() }
    }

    /// The body of the inner service; `None` if the inner service did not answer in time
    /// ([`SessionLayer::answer_within`](crate::SessionLayer::answer_within)).
    pub fn into_inner(self) -> Option<B> {
        self.body
    }
}

impl<B: Body> Body for SessionBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.project();
        match this.body.as_pin_mut() {
            Some(body) => this.scope.enter(|| body.poll_frame(context)),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
