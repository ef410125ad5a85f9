//! Changes of the topology, as they happen.

use sealane_core::{Event, TimedEvent};
use tokio::sync::broadcast::{self, error::RecvError};

/// A listener to the changes of one cluster. It never delays the monitor: a listener that is more
/// than a few hundred events behind misses the oldest ones.
#[derive(Debug)]
pub struct Events {
    receiver: broadcast::Receiver<TimedEvent>,
    missed: u64,
}

impl Events {
    pub(crate) fn new(receiver: broadcast::Receiver<TimedEvent>) -> Self {
        Events { receiver, missed: 0 }
    }

    /// The next change; `None` when the last handle is gone. Cancel safe.
    pub async fn next(&mut self) -> Option<Event> {
        Some(self.next_timed().await?.event)
    }

    /// The next change with its time, its severity and its words; `None` when the last handle is
    /// gone. Cancel safe.
    pub async fn next_timed(&mut self) -> Option<TimedEvent> {
        loop {
            match self.receiver.recv().await {
                Ok(event) => return Some(event),
                Err(RecvError::Lagged(missed)) => {
                    self.missed += missed;
                    tracing::warn!(target: "sealane::topology", missed, "a listener missed events");
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// How many events this listener has missed so far, because it was too slow.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.missed
    }
}
