//! What everybody looks at: the snapshot, the write clock, and who waits.

mod ahead;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, Guard};
use sealane_core::{
    EndpointId, EndpointSet, EndpointState, Event, Failure, Health, HealthPolicy, LagSummary,
    Moment, Observation, Outcome, Position, Topology, TopologyReducer, WriteClock, WriteStamp,
};
use tokio::{
    sync::{Notify, broadcast},
    time::Instant,
};

use crate::{
    clock::Clock,
    telling::{Telling, Told},
};

/// How many events a listener may be behind before it misses some. A slow
/// listener loses events; it never delays the monitor.
const EVENTS_KEPT: usize = 256;

/// The shared state of one cluster: written by probes, read by statements.
#[derive(Debug)]
pub struct Board {
    time: Clock,
    clock: WriteClock,
    pub(crate) topology: ArcSwap<Topology>,
    /// Behind the lock is the one writer of `topology`; readers never take it.
    reducer: Mutex<TopologyReducer>,
    telling: Telling,
    events: broadcast::Sender<Event>,
    published: Notify,
    awaited: AtomicU64,
    /// Milliseconds from the origin of time to the last refusal, plus one; 0 before any.
    refused_at_ms: AtomicU64,
    wake_all: Notify,
    /// How many wait until the primary shows what a session has seen.
    shown_awaited: AtomicUsize,
    /// What it was proved to show when last looked at.
    shown_before: AtomicU64,
    watches: Box<[WatchSignals]>,
}

/// What is told to, and by, the watch over one endpoint.
#[derive(Debug, Default)]
pub(crate) struct WatchSignals {
    /// Probe now.
    wake: Notify,
    /// And on a new connection: the old one may lead elsewhere.
    reconnect: AtomicBool,
    /// Counts the reasons to connect anew; see `footing.rs`.
    pub(crate) generation: AtomicU64,
    /// When the last of them came.
    pub(crate) renewed_at: Mutex<Option<Instant>>,
    /// Counts the probes that had no answer while it was out of use.
    pub(crate) silences: AtomicU64,
    /// Milliseconds from `origin` to the first of them in a row; 0 if it is not silent.
    pub(crate) silent_since_ms: AtomicU64,
    /// Attempts may have lost their footing.
    pub(crate) moved: Notify,
    /// When the last probe that has ended began, and what it found.
    pub(crate) heard: Mutex<Option<(Moment, Result<(), Failure>)>>,
}

/// What sessions that wait want of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing that a probe of it could show.
    None,
    /// A probe, once there is a newer sample of the primary.
    AfterSample,
    /// A probe. The nearest replica that they wait for is `behind` by so much.
    Now { behind: Duration },
}

/// A session that was refused this long ago is no longer waiting.
const PATIENCE_MS: u64 = 1_000;

impl Board {
    /// A board that begins with `topology`.
    #[must_use]
    pub fn new(topology: Topology) -> Arc<Self> {
        Self::with_policy(topology, HealthPolicy::default())
    }

    /// The same, with other thresholds for health.
    #[must_use]
    pub fn with_policy(topology: Topology, policy: HealthPolicy) -> Arc<Self> {
        Self::with_clock(topology, policy, Clock::new())
    }

    pub(crate) fn with_clock(topology: Topology, policy: HealthPolicy, time: Clock) -> Arc<Self> {
        let watches = (0..topology.len()).map(|_| WatchSignals::default()).collect();
        Arc::new(Board {
            time,
            clock: WriteClock::default(),
            topology: ArcSwap::from_pointee(topology.clone()),
            reducer: Mutex::new(TopologyReducer::with_policy(topology, policy)),
            telling: Telling::default(),
            events: broadcast::channel(EVENTS_KEPT).0,
            published: Notify::new(),
            awaited: AtomicU64::new(0),
            refused_at_ms: AtomicU64::new(0),
            wake_all: Notify::new(),
            shown_awaited: AtomicUsize::new(0),
            shown_before: AtomicU64::new(0),
            watches,
        })
    }

    /// The time on the clock that observations and needs use.
    #[must_use]
    pub fn now(&self) -> Moment {
        self.time.now()
    }

    /// The clock that stamps finished writes.
    #[must_use]
    pub fn clock(&self) -> &WriteClock {
        &self.clock
    }

    /// The snapshot: one atomic load, no lock, no allocation.
    #[must_use]
    pub fn topology(&self) -> Guard<Arc<Topology>> {
        self.topology.load()
    }

    /// The lags of `endpoint` in the `window` before now. Takes the writer's lock for
    /// a moment: for people and metrics.
    #[must_use]
    pub fn lags(&self, endpoint: EndpointId, window: Duration) -> Option<LagSummary> {
        let now = self.now();
        self.lock().lags(endpoint).map(|lags| lags.summary(now, window))
    }

    /// The least position known of the primary that contains every write up to
    /// `stamp`. Takes the writer's lock for a moment: for tokens.
    #[must_use]
    pub fn position_at(&self, stamp: WriteStamp) -> Option<Position> {
        self.lock().position_at(stamp)
    }

    /// Whether one of these replicas is likely to show within `patience` what the
    /// primary has now. Takes the writer's lock for a moment: for reads that would
    /// wait anyway.
    #[must_use]
    pub fn is_worth_waiting(&self, among: EndpointSet, patience: Duration) -> bool {
        let (now, reducer) = (self.now(), self.lock());
        among
            .iter()
            .filter_map(|id| reducer.catches_up_in(id, now))
            .any(|expected| expected <= patience)
    }

    /// Changes from now on. A listener that falls behind is told how many it
    /// missed and goes on.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// A read was refused by a replica that does not cover `stamp`: look often
    /// until one does.
    pub fn await_stamp(&self, stamp: WriteStamp) {
        let now_ms = self.elapsed_ms() + 1;
        let refused_at_ms = self.refused_at_ms.swap(now_ms, Ordering::Relaxed);
        let newer = self.awaited.fetch_max(stamp.number(), Ordering::AcqRel) < stamp.number();
        if newer || refused_at_ms + PATIENCE_MS < now_ms {
            // Wakes only those that are idle; quick ones are not interrupted, so that
            // many refusals are answered by one probe.
            self.wake_all.notify_waiters();
        }
    }

    /// A statement that was sent at `started` failed for the endpoint's own
    /// reason: no more statements go there until a probe has answered on a new
    /// connection, and one is sent at once.
    pub fn suspect(&self, endpoint: EndpointId, started: Moment, failure: Failure) {
        self.take_in(&Observation {
            endpoint,
            started,
            finished: self.now(),
            stamp: WriteStamp::NONE,
            outcome: Outcome::Failed(failure),
        });
        #[cfg(feature = "metrics")]
        crate::metrics::suspected(&self.topology(), endpoint);
        self.probe_anew(endpoint);
    }

    /// Has `endpoint` probed now.
    pub fn nudge(&self, endpoint: EndpointId) {
        if let Some(watch) = self.watches.get(endpoint.index()) {
            watch.wake.notify_one();
        }
    }

    /// Has all endpoints probed now: another one may be the primary.
    pub fn nudge_all(&self) {
        self.watches.iter().for_each(|watch| watch.wake.notify_one());
    }

    /// Has `endpoint` probed now, on a new connection.
    pub(crate) fn probe_anew(&self, endpoint: EndpointId) {
        if let Some(watch) = self.watches.get(endpoint.index()) {
            watch.reconnect.store(true, Ordering::Release);
        }
        self.nudge(endpoint);
    }

    pub(crate) fn watch(&self, endpoint: EndpointId) -> Option<&WatchSignals> {
        self.watches.get(endpoint.index())
    }

    /// Takes in what a probe found and publishes the topology that follows.
    pub fn apply(&self, observation: &Observation) {
        self.note_heard(observation);
        self.take_in(observation);
        #[cfg(feature = "metrics")]
        crate::metrics::probed(&self.topology(), observation);
    }

    fn take_in(&self, observation: &Observation) {
        let mut reducer = self.lock();
        let events = reducer.apply(observation);
        let (topology, woken) = self.publish(reducer.topology().clone());
        let (endpoint, at) = (observation.endpoint, observation.finished);
        let elsewhere = events.iter().any(|event| matches!(event, Event::PrimaryChanged { .. }));
        self.telling.put(Told { topology, endpoint, at, events });
        drop(reducer);
        self.wake_attempts(woken);
        self.published.notify_waiters();
        if elsewhere {
            // Whether replicas follow the new primary is worth knowing at once.
            self.nudge_all();
        }
        self.telling.tell_all(|told| self.tell(told));
    }

    /// Calls what others have written: nothing is locked here.
    fn tell(&self, told: Told) {
        #[cfg(feature = "metrics")]
        crate::metrics::observed(&told.topology, told.endpoint, told.at, &told.events);
        for event in told.events {
            log(&event, &told.topology);
            // An error only says that nobody listens.
            let _ = self.events.send(event);
        }
    }

    /// Waits until `holds` of a snapshot. Cancel safe; bounded by the caller.
    pub async fn until(&self, mut holds: impl FnMut(&Topology) -> bool) {
        loop {
            let published = self.published.notified();
            tokio::pin!(published);
            // Registered before looking, so that no publication slips in between.
            published.as_mut().enable();
            if holds(&self.topology()) {
                return;
            }
            published.await;
        }
    }

    /// What probes of `endpoint` can do for sessions that were refused lately.
    ///
    /// A proof takes two steps: a sample of the primary that was begun after the write, and
    /// an answer of the replica that covers it. A replica that covers the newest sample
    /// is asked in vain before the next one. The primary is not: a read that was
    /// refused goes on there, and what is waited for next is newer than what was waited for.
    pub(crate) fn need(&self, endpoint: EndpointId) -> Need {
        if self.is_awaited_to_show(endpoint) {
            return Need::Now { behind: Duration::ZERO };
        }
        let refused_at_ms = self.refused_at_ms.load(Ordering::Relaxed);
        if refused_at_ms == 0 || refused_at_ms + PATIENCE_MS < self.elapsed_ms() {
            return Need::None;
        }
        let awaited = WriteStamp::from_number(self.awaited.load(Ordering::Acquire));
        let topology = self.topology();
        let Some(state) = topology.get(endpoint).filter(|state| state.is_usable()) else {
            return Need::None;
        };
        if topology.covered_by_replicas() >= awaited {
            return Need::None;
        }
        let is_primary = topology.primary() == Some(endpoint);
        let sampled = topology.sampled_stamp();
        let behind = topology
            .iter()
            .filter(|(id, _)| if is_primary { *id != endpoint } else { *id == endpoint })
            .filter(|(_, state)| state.is_usable() && state.covered < awaited)
            // What is farther behind than anybody remembers has no lag.
            .map(|(id, _)| topology.lag(id).unwrap_or(Duration::MAX))
            .min();
        match behind {
            None => Need::None,
            Some(behind) if is_primary || state.covered < sampled => Need::Now { behind },
            Some(_) => Need::AfterSample,
        }
    }

    /// Completes when the next observation is published. Enabled, it misses none.
    pub(crate) fn published(&self) -> tokio::sync::futures::Notified<'_> {
        self.published.notified()
    }

    /// Whether statements go to `endpoint`, or would if it answered: of a primary
    /// everybody waits for the return.
    pub(crate) fn is_needed(&self, endpoint: EndpointId) -> bool {
        let topology = self.topology();
        let in_use = |state: &EndpointState| matches!(state.health, Health::Up | Health::Probation);
        topology.primary() == Some(endpoint) || topology.get(endpoint).is_some_and(in_use)
    }

    /// Whether the next probe of `endpoint` is to connect anew.
    pub(crate) fn take_reconnect(&self, endpoint: EndpointId) -> bool {
        self.watches
            .get(endpoint.index())
            .is_some_and(|watch| watch.reconnect.swap(false, Ordering::AcqRel))
    }

    /// Woken when a first session begins to wait.
    pub(crate) fn woken(&self) -> tokio::sync::futures::Notified<'_> {
        self.wake_all.notified()
    }

    /// Woken when `endpoint` alone is to be probed.
    pub(crate) async fn nudged(&self, endpoint: EndpointId) {
        match self.watches.get(endpoint.index()) {
            Some(watch) => watch.wake.notified().await,
            None => std::future::pending().await,
        }
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.now().since(Moment::ZERO).as_millis()).unwrap_or(u64::MAX / 2)
    }

    fn lock(&self) -> MutexGuard<'_, TopologyReducer> {
        // The reducer does not panic half-way; and a stale topology is safer than none.
        self.reducer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn log(event: &Event, topology: &Topology) {
    let told = event.named(topology);
    match event.is_trouble() {
        true => tracing::warn!(target: "sealane::topology", "{told}"),
        false => tracing::info!(target: "sealane::topology", "{told}"),
    }
}
