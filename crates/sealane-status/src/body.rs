//! The body of a response: whole, or a stream of events.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::stream::EventStream;

/// The body of a response of [`StatusService`](crate::StatusService). It never fails.
#[derive(Debug)]
pub struct StatusBody(Kind);

#[derive(Debug)]
enum Kind {
    /// `None` once it was sent.
    Whole(Option<Bytes>),
    /// Boxed, because most bodies are small.
    Events(Box<EventStream>),
}

impl StatusBody {
    pub(crate) fn whole(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        StatusBody(Kind::Whole((!bytes.is_empty()).then_some(bytes)))
    }

    pub(crate) fn events(stream: EventStream) -> Self {
        StatusBody(Kind::Events(Box::new(stream)))
    }
}

impl Body for StatusBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = match &mut self.0 {
            Kind::Whole(bytes) => Poll::Ready(bytes.take()),
            Kind::Events(stream) => stream.poll_next(context),
        };
        bytes.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.0, Kind::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |it| it.len() as u64))
            }
            Kind::Events(_) => SizeHint::default(),
        }
    }
}
