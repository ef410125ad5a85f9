//! Changes of the topology as server-sent events
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).
//!
//! The stream is a future that the client's connection polls, and no task: it ends when the client
//! goes. A client that reads slowly delays nobody; it misses events, and is told how many.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use sealane::{Events, TimedEvent};
use tokio::sync::watch;

/// A comment is sent this often, so that proxies do not take the connection for dead (many close one
/// after 30 or 60 seconds), and so that a client that is gone is noticed.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// The first bytes: how long a browser waits before it connects again.
const OPENING: &str = "retry: 2000\n\n: changes from now on\n\n";

/// What is told next, and what is needed to go on; `None` at the end.
type Waiting = Pin<Box<dyn Future<Output = Option<(Source, Bytes)>> + Send>>;

/// A stream of events for one client.
pub(crate) struct EventStream {
    opening: Option<Bytes>,
    /// `None` after the end.
    waiting: Option<Waiting>,
}

struct Source {
    events: Events,
    /// Becomes true when all streams are to end.
    end: watch::Receiver<bool>,
    /// Kept, so that the stream goes on without the service: a client that is served by a clone of it
    /// does not notice that the clone is dropped.
    _sender: Arc<watch::Sender<bool>>,
    /// What of the missed events was already told.
    missed: u64,
}

impl EventStream {
    pub(crate) fn new(events: Events, end: &Arc<watch::Sender<bool>>) -> Self {
        let missed = events.missed();
        let waiting: Waiting = Box::pin(
            Source { events, end: end.subscribe(), _sender: Arc::clone(end), missed }.next(),
        );
        EventStream {
            opening: Some(Bytes::from_static(OPENING.as_bytes())),
            waiting: Some(waiting),
        }
    }

    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(opening) = self.opening.take() {
            return Poll::Ready(Some(opening));
        }
        let Some(waiting) = &mut self.waiting else { return Poll::Ready(None) };
        match waiting.as_mut().poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => {
                self.waiting = None;
                Poll::Ready(None)
            }
            Poll::Ready(Some((source, bytes))) => {
                self.waiting = Some(Box::pin(source.next()));
                Poll::Ready(Some(bytes))
            }
        }
    }
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream").field("is_open", &self.waiting.is_some()).finish()
    }
}

impl Source {
    async fn next(mut self) -> Option<(Source, Bytes)> {
        let event = tokio::select! {
            biased;
            // An error would mean that there is no sender.
            _ = self.end.wait_for(|end| *end) => return None,
            event = self.events.next_timed() => Some(event?),
            () = tokio::time::sleep(HEARTBEAT) => None,
        };
        let text = event.map_or_else(|| ": still here\n\n".to_owned(), |event| self.told(&event));
        Some((self, text.into()))
    }

    fn told(&mut self, event: &TimedEvent) -> String {
        let missed = self.events.missed() - self.missed;
        self.missed += missed;
        let gap = match missed {
            0 => String::new(),
            missed => format!("event: missed\ndata: {{\"missed\":{missed}}}\n\n"),
        };
        // JSON has no line breaks outside strings, and escapes those inside. An event is plain data.
        let json = serde_json::to_string(event).unwrap_or_default();
        format!("{gap}event: change\ndata: {json}\n\n")
    }
}
