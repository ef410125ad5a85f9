//! Tells listeners about changes, in order and without holding a lock.
//!
//! A listener (a subscriber of `tracing`, a recorder of `metrics`, a woken task) may read the
//! store, which takes the writer's lock. So changes go into a queue while this lock is held, in
//! their order, and are told after it is released. One thread tells at a time. It also tells what
//! other threads add meanwhile and what a listener itself causes. So the order is kept, and no
//! thread waits for another thread's listeners.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use sealane_core::{EndpointId, Event, Moment, Topology};

/// One observation's consequences.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) topology: Arc<Topology>,
    #[cfg_attr(not(feature = "metrics"), allow(dead_code, reason = "for metrics"))]
    pub(crate) endpoint: EndpointId,
    #[cfg_attr(not(feature = "metrics"), allow(dead_code, reason = "for metrics"))]
    pub(crate) at: Moment,
    pub(crate) events: Vec<Event>,
}

/// Limits the queue: a listener that never returns must not cost more and more memory.
const MOST_WITHOUT_EVENTS: usize = 256;

/// The queue of what is still to be told.
#[derive(Debug, Default)]
pub(crate) struct Telling {
    queue: Mutex<VecDeque<Told>>,
    /// Whether a thread is telling now.
    busy: AtomicBool,
}

impl Telling {
    /// Must be called under the writer's lock, which defines the order.
    pub(crate) fn put(&self, told: Told) {
        let mut queue = self.lock();
        // An entry without events is for metrics only, and the next entry carries the same metrics.
        let is_wanted = cfg!(feature = "metrics") && queue.len() < MOST_WITHOUT_EVENTS;
        if is_wanted || !told.events.is_empty() {
            queue.push_back(told);
        }
    }

    /// Passes everything in the queue to `tell`, or leaves it to the thread that is telling now.
    /// Must be called without holding a lock.
    pub(crate) fn tell_all(&self, mut tell: impl FnMut(Told)) {
        // Between the end of the inner loop and the release of the turn, another thread may have
        // added an entry and found the turn taken. So the queue is checked again.
        while !self.lock().is_empty() {
            let Some(_turn) = Turn::take(&self.busy) else { return };
            while let Some(told) = self.next() {
                tell(told);
            }
        }
    }

    fn next(&self) -> Option<Told> {
        self.lock().pop_front()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Told>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to tell; released even if a listener panics.
struct Turn<'a>(&'a AtomicBool);

impl<'a> Turn<'a> {
    fn take(busy: &'a AtomicBool) -> Option<Self> {
        (!busy.swap(true, Ordering::AcqRel)).then_some(Turn(busy))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
