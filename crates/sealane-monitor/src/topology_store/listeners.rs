//! What is told of each change: metrics, a line in the log, an event for each listener.
//!
//! The last events are kept, so that a page that is opened after a failover shows the failover.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use sealane_core::{EndpointId, Event, Moment, ReadsPlace, Severity, TimedEvent, Topology};
use tokio::sync::broadcast;

use super::TopologyStore;
use crate::telling::Told;

/// How many events a listener may be behind before it misses events. A slow listener loses events,
/// but it never delays the monitor.
const EVENTS_KEPT: usize = 256;

/// How many events are kept for those who come later.
const RECENT: usize = 64;

/// Replicas that come and go every second must not fill the log.
const READS_LOGGED_EVERY: Duration = Duration::from_secs(10);

/// The listeners, and the last events.
#[derive(Debug)]
pub(super) struct Listeners {
    sender: broadcast::Sender<TimedEvent>,
    recent: Mutex<Recent>,
    /// Changed only under the writer's lock.
    reads: Mutex<ReadsPlace>,
}

#[derive(Debug, Default)]
struct Recent {
    number: u64,
    events: VecDeque<TimedEvent>,
    /// When it was last logged where reads are, and whether the line said that they are on the
    /// primary.
    reads_logged: Option<(Moment, bool)>,
    /// How many such lines were left out since.
    left_out: u32,
}

impl Default for Listeners {
    fn default() -> Self {
        let sender = broadcast::channel(EVENTS_KEPT).0;
        Listeners { sender, recent: Mutex::default(), reads: Mutex::default() }
    }
}

impl Listeners {
    /// Adds to `events` whether the primary now serves all reads, or no longer does. Must be called
    /// under the writer's lock.
    pub(super) fn judge_reads(&self, topology: &Topology, now: Moment, events: &mut Vec<Event>) {
        let mut reads = lock(&self.reads);
        events.iter().for_each(|event| reads.note(event));
        events.extend(reads.judge(topology, now));
    }

    /// Numbers an event and keeps it. Returns it with the number of lines that were left out of the
    /// log before; `None` if it is to be left out itself.
    fn keep(&self, at: Moment, event: Event, topology: &Topology) -> (TimedEvent, Option<u32>) {
        let mut recent = lock(&self.recent);
        recent.number += 1;
        let told = TimedEvent::new(recent.number, wall_clock(), at, event, topology);
        if recent.events.len() == RECENT {
            recent.events.pop_front();
        }
        recent.events.push_back(told.clone());
        let logged = recent.is_logged(&told);
        (told, logged)
    }
}

impl Recent {
    fn is_logged(&mut self, told: &TimedEvent) -> Option<u32> {
        let on_primary = match told.event {
            Event::ReadsOnPrimary {} => true,
            Event::ReadsOnReplicas {} => false,
            _ => return Some(0),
        };
        let is_needless = |(at, logged_on_primary): (Moment, bool)| {
            // The bad news may be the last event for hours. The log must not end with the opposite.
            let is_news = on_primary && !logged_on_primary;
            told.at.since(at) < READS_LOGGED_EVERY && !is_news
        };
        if self.reads_logged.is_some_and(is_needless) {
            self.left_out += 1;
            return None;
        }
        self.reads_logged = Some((told.at, on_primary));
        Some(std::mem::take(&mut self.left_out))
    }
}

impl TopologyStore {
    /// The events from now on. A listener that falls behind learns how many events it missed and
    /// continues.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<TimedEvent> {
        self.listeners.sender.subscribe()
    }

    /// The last events (up to 64), the oldest first. Takes a lock for a moment, so it is for people
    /// only.
    #[must_use]
    pub fn recent_events(&self) -> Vec<TimedEvent> {
        lock(&self.listeners.recent).events.iter().cloned().collect()
    }

    /// Whether the primary serves all reads, because no replica takes any; `None` if there are no
    /// replicas, or before every endpoint was observed. Takes a lock for a moment, so it is for
    /// people and metrics only.
    #[must_use]
    pub fn reads_on_primary(&self) -> Option<bool> {
        lock(&self.listeners.reads).on_primary()
    }

    /// Reports a change that the statements themselves have shown, not a probe.
    pub fn announce(&self, event: Event) {
        let (writer, topology) = (self.lock(), self.topology.load_full());
        let mut events = vec![event];
        self.listeners.judge_reads(&topology, self.now(), &mut events);
        // With an event, all endpoints are told of, whichever is named here.
        let endpoint = EndpointId::FIRST;
        self.telling.put(Told { topology, endpoint, at: self.now(), events });
        drop(writer);
        self.telling.tell_all(|told| self.tell(told));
    }

    /// Runs foreign code (listeners), so no lock is held here.
    pub(super) fn tell(&self, told: Told) {
        #[cfg(feature = "metrics")]
        {
            let reads = self.reads_on_primary();
            self.metrics.observed(&told.topology, told.endpoint, told.at, &told.events, reads);
        }
        for event in told.events {
            let (event, logged) = self.listeners.keep(told.at, event, &told.topology);
            if let Some(left_out) = logged {
                log(&event, left_out);
            }
            // An error only means that there is no listener.
            let _ = self.listeners.sender.send(event);
        }
    }
}

fn log(told: &TimedEvent, left_out: u32) {
    let text = &told.text;
    let since = match left_out {
        0 => String::new(),
        more => format!(" (it changed {more} more times since the last such line)"),
    };
    match told.severity {
        Severity::Error => tracing::error!(target: "sealane::topology", "{text}{since}"),
        Severity::Warning => tracing::warn!(target: "sealane::topology", "{text}{since}"),
        _ => tracing::info!(target: "sealane::topology", "{text}{since}"),
    }
}

/// The time of day, for people. Nothing is decided by it.
#[allow(clippy::disallowed_methods, reason = "the one place; see above")]
fn wall_clock() -> SystemTime {
    SystemTime::now()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use sealane_core::Endpoint;

    use super::*;

    fn store() -> std::sync::Arc<TopologyStore> {
        let names = ["db-1", "db-2"].map(|name| Endpoint::new(name, "here"));
        TopologyStore::new(Topology::always_current(names.to_vec()))
    }

    fn ejected() -> Event {
        Event::Ejected { endpoint: EndpointId::from_index(1).unwrap(), for_ms: 1_000 }
    }

    #[test]
    fn the_last_events_are_kept_in_their_order_and_no_more_than_that() {
        let store = store();
        assert!(store.recent_events().is_empty());
        store.announce(ejected());
        let texts: Vec<_> = store.recent_events().into_iter().map(|it| it.text).collect();
        assert!(texts.len() == 2 && texts[0].starts_with("db-2 gets no reads"), "{texts:?}");
        assert_eq!(store.reads_on_primary(), Some(true));
        for _ in 0..2 * RECENT {
            store.announce(ejected());
        }
        let numbers: Vec<_> = store.recent_events().iter().map(|it| it.number).collect();
        let last = 2 * RECENT as u64 + 2;
        assert_eq!(numbers, (last - RECENT as u64 + 1..=last).collect::<Vec<_>>());
    }

    #[test]
    fn replicas_that_come_and_go_do_not_fill_the_log() {
        let topology = Topology::new(Vec::new());
        let (mut recent, at) =
            (Recent::default(), |seconds| Moment::from_origin(Duration::from_secs(seconds)));
        let mut logged = |seconds, event: Event| {
            recent.is_logged(&TimedEvent::new(1, wall_clock(), at(seconds), event, &topology))
        };
        assert_eq!(logged(100, Event::ReadsOnPrimary {}), Some(0));
        assert_eq!(logged(101, Event::ReadsOnReplicas {}), None);
        assert_eq!(logged(109, Event::ReadsOnPrimary {}), None);
        assert_eq!(logged(109, ejected()), Some(0), "other events are always logged");
        assert_eq!(logged(110, Event::ReadsOnReplicas {}), Some(2));
        assert_eq!(logged(120, Event::ReadsOnPrimary {}), Some(0));
        assert_eq!(logged(130, Event::ReadsOnReplicas {}), Some(0));
        assert_eq!(logged(131, Event::ReadsOnPrimary {}), Some(0), "the log says the opposite");
        assert_eq!(logged(132, Event::ReadsOnReplicas {}), None);
    }
}
