//! What changed, told to listeners in its order, and under no lock.
//!
//! Whoever listens (a subscriber of `tracing`, a recorder of `metrics`, a task that is woken) may
//! look at the board again, which takes the writer's lock. So what is to be told is put into a
//! queue under that lock, in the order of the changes, and told after it is free. One thread
//! tells at a time; what others have to tell meanwhile, and what a listener itself causes, it tells
//! as well. So the order is kept, and nobody waits for a listener.

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

/// A listener that does not come back must not cost ever more memory.
const MOST_WITHOUT_EVENTS: usize = 256;

/// What is still to be told.
#[derive(Debug, Default)]
pub(crate) struct Telling {
    queue: Mutex<VecDeque<Told>>,
    /// Somebody is telling.
    busy: AtomicBool,
}

impl Telling {
    /// To be called under the writer's lock, which makes the order.
    pub(crate) fn put(&self, told: Told) {
        let mut queue = self.lock();
        // Without events it is for metrics only, of which the next one tells the same.
        let is_wanted = cfg!(feature = "metrics") && queue.len() < MOST_WITHOUT_EVENTS;
        if is_wanted || !told.events.is_empty() {
            queue.push_back(told);
        }
    }

    /// Has everything told by `tell` that was put before, here or by whoever is telling.
    /// To be called under no lock.
    pub(crate) fn tell_all(&self, mut tell: impl FnMut(Told)) {
        // After the token is given back something may have been put whose owner saw it taken.
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

/// The token of whoever tells; given back also when a listener panics.
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
