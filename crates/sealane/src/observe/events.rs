//! Changes of the topology, as they happen.

use sealane_core::Event;
use tokio::sync::broadcast::{self, error::RecvError};

/// A listener to the changes of one cluster. It never delays the monitor: a listener that is more
/// than a few hundred events behind misses the oldest ones.
#[derive(Debug)]
pub struct Events(broadcast::Receiver<Event>);

impl Events {
    pub(crate) fn new(receiver: broadcast::Receiver<Event>) -> Self {
        Events(receiver)
    }

    /// The next change; `None` when the last handle is gone. Cancel safe.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            match self.0.recv().await {
                Ok(event) => return Some(event),
                Err(RecvError::Lagged(missed)) => {
                    tracing::warn!(target: "sealane::topology", missed, "a listener missed events");
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }
}
