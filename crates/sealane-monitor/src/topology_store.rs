//! The shared state: the snapshot, the write clock, and what sessions wait for.

mod ahead;
mod listeners;
mod membership;
mod series;

use std::{
    cell::Cell,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, Guard};
use sealane_core::{
    EndpointId, EndpointSet, EndpointState, Event, Failure, Health, HealthPolicy, LagSummary,
    MAX_ENDPOINTS, Moment, Observation, Outcome, Position, Topology, TopologyReducer, WriteClock,
    WriteStamp,
};
use tokio::{sync::Notify, time::Instant};

use crate::{
    clock::Clock,
    entropy::Entropy,
    telling::{Telling, Told},
};
use listeners::Listeners;

/// The shared state of one cluster: written by probes, read by statements.
#[derive(Debug)]
pub struct TopologyStore {
    time: Clock,
    entropy: Entropy,
    clock: WriteClock,
    pub(crate) topology: ArcSwap<Topology>,
    /// The one writer of `topology`, behind a lock; readers never take this lock.
    reducer: Mutex<TopologyReducer>,
    telling: Telling,
    #[cfg(feature = "metrics")]
    metrics: crate::metrics::Metrics,
    listeners: Listeners,
    published: Notify,
    awaited: AtomicU64,
    /// Milliseconds from the origin of time to the last refusal, plus one; 0 before the first
    /// refusal.
    refused_at_ms: AtomicU64,
    /// When the last primary was lost, in milliseconds from the origin of time; 0 before.
    lost_at_ms: AtomicU64,
    wake_all: Notify,
    /// How many tasks wait until the primary shows what a session has seen.
    shown_awaited: AtomicUsize,
    /// What the primary was proved to show at the last check.
    shown_before: AtomicU64,
    /// The signals of each place that an endpoint can have.
    watches: Box<[WatchSignals; MAX_ENDPOINTS]>,
}

/// Signals to and from the task that probes one endpoint.
#[derive(Debug, Default)]
pub(crate) struct WatchSignals {
    /// Requests a probe now.
    wake: Notify,
    /// The next probe must use a new connection: the old one may lead to another server.
    reconnect: AtomicBool,
    /// Whether a connection was admitted before any probe had told where it leads.
    pub(crate) is_used_unobserved: AtomicBool,
    /// Counts the reasons to open new connections; see `footing.rs`.
    pub(crate) generation: AtomicU64,
    /// When the generation last grew.
    pub(crate) renewed_at: Mutex<Option<Instant>>,
    /// Counts the probes without an answer while the endpoint was out of use.
    pub(crate) silences: AtomicU64,
    /// Milliseconds from the origin of time to the first unanswered probe of the current silence; 0
    /// if the endpoint is not silent.
    pub(crate) silent_since_ms: AtomicU64,
    /// Wakes attempts that may have lost their footing.
    pub(crate) moved: Notify,
    /// When the last finished probe began, and its result.
    pub(crate) heard: Mutex<Option<(Moment, Result<(), Failure>)>>,
}

/// What waiting sessions need from an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// No probe of this endpoint would help.
    None,
    /// A probe after the next sample of the primary.
    AfterSample,
    /// A new sample of the primary. `behind` is the lag of the nearest replica that sessions wait
    /// for.
    Sample { behind: Duration },
    /// An answer of this replica, whose lag is `behind`.
    Answer { behind: Duration },
}

/// A session whose read was refused this long ago no longer counts as waiting.
const PATIENCE_MS: u64 = 1_000;

impl TopologyStore {
    /// A caller that goes on waiting for a stamp must [repeat its request](Self::await_stamp) after
    /// this time. It is shorter than the time after which the store forgets a waiting session.
    pub const AWAITED_AGAIN: Duration = Duration::from_millis(PATIENCE_MS / 2);

    /// A store that starts with `topology`.
    #[must_use]
    pub fn new(topology: Topology) -> Arc<Self> {
        Self::with_entropy(topology, HealthPolicy::default(), Entropy::default())
    }

    /// The same, with other thresholds for health, for a database that metrics call `database`.
    #[must_use]
    pub fn of_database(database: &str, topology: Topology, policy: HealthPolicy) -> Arc<Self> {
        Self::assemble(database, topology, policy, Clock::new(), Entropy::default())
    }

    /// The same, with other thresholds for health and another source of randomness.
    #[must_use]
    pub fn with_entropy(topology: Topology, policy: HealthPolicy, entropy: Entropy) -> Arc<Self> {
        Self::assemble("", topology, policy, Clock::new(), entropy)
    }

    #[cfg_attr(not(feature = "metrics"), allow(unused_variables, reason = "for metrics"))]
    pub(crate) fn assemble(
        database: &str,
        topology: Topology,
        policy: HealthPolicy,
        time: Clock,
        entropy: Entropy,
    ) -> Arc<Self> {
        let watches = Box::new(std::array::from_fn(|_| WatchSignals::default()));
        Arc::new(TopologyStore {
            time,
            entropy,
            clock: WriteClock::default(),
            topology: ArcSwap::from_pointee(topology.clone()),
            reducer: Mutex::new(TopologyReducer::with_policy(topology, policy)),
            telling: Telling::default(),
            #[cfg(feature = "metrics")]
            metrics: crate::metrics::Metrics::begin(database),
            listeners: Listeners::default(),
            published: Notify::new(),
            awaited: AtomicU64::new(0),
            refused_at_ms: AtomicU64::new(0),
            lost_at_ms: AtomicU64::new(0),
            wake_all: Notify::new(),
            shown_awaited: AtomicUsize::new(0),
            shown_before: AtomicU64::new(0),
            watches,
        })
    }

    /// The current time on the clock of observations.
    #[must_use]
    pub fn now(&self) -> Moment {
        self.time.now()
    }

    /// The source of randomness of everything that belongs to this store.
    #[must_use]
    pub fn entropy(&self) -> &Entropy {
        &self.entropy
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

    /// The lags of `endpoint` in the last `window`. Takes the writer's lock for a moment, so it is
    /// for people and metrics only.
    #[must_use]
    pub fn lags(&self, endpoint: EndpointId, window: Duration) -> Option<LagSummary> {
        let now = self.now();
        self.lock().lags(endpoint).map(|lags| lags.summary(now, window))
    }

    /// The least known position of the primary that contains every write up to `stamp`. Takes the
    /// writer's lock for a moment, so it is for tokens only.
    #[must_use]
    pub fn position_at(&self, stamp: WriteStamp) -> Option<Position> {
        self.lock().position_at(stamp)
    }

    /// Whether one of these replicas will probably show within `patience` what the primary has now.
    /// Takes the writer's lock for a moment, so it is only for reads that would wait anyway.
    #[must_use]
    pub fn is_worth_waiting(&self, among: EndpointSet, patience: Duration) -> bool {
        let (now, reducer) = (self.now(), self.lock());
        reducer
            .topology()
            .members(among)
            .filter_map(|id| reducer.catches_up_in(id, now))
            .any(|expected| expected <= patience)
    }

    /// Requests quick probes until a replica covers `stamp`, because a read was refused without it.
    pub fn await_stamp(&self, stamp: WriteStamp) {
        let now_ms = self.elapsed_ms() + 1;
        let refused_at_ms = self.refused_at_ms.swap(now_ms, Ordering::Relaxed);
        let newer = self.awaited.fetch_max(stamp.number(), Ordering::AcqRel) < stamp.number();
        if newer || refused_at_ms + PATIENCE_MS < now_ms {
            // This wakes only tasks at the idle pace. Quick ones are not interrupted, so that one
            // probe answers many refusals.
            self.wake_all.notify_waiters();
        }
    }

    /// Reports that a statement sent at `started` failed because of its endpoint. No more
    /// statements go to the endpoint until a probe has answered on a new connection. This probe is
    /// sent at once.
    pub fn suspect(&self, endpoint: EndpointId, started: Moment, failure: Failure) {
        // A probe that begins after `finished` counts, so it must not use the old connection any more.
        self.watch(endpoint).reconnect.store(true, Ordering::Release);
        let observation = Observation {
            endpoint,
            started,
            finished: self.now(),
            stamp: WriteStamp::NONE,
            outcome: Outcome::Failed(failure),
        };
        self.change(endpoint, observation.finished, |reducer| reducer.apply(&observation));
        #[cfg(feature = "metrics")]
        self.metrics.suspected(&self.topology(), endpoint);
        self.nudge(endpoint);
    }

    /// Requests a probe of `endpoint` now.
    pub fn nudge(&self, endpoint: EndpointId) {
        self.watch(endpoint).wake.notify_one();
    }

    /// Requests a probe of all endpoints now, because another one may be the primary.
    pub fn nudge_all(&self) {
        self.topology().iter().for_each(|(id, _)| self.nudge(id));
    }

    /// Requests a probe of `endpoint` now, on a new connection. Probes that begin after the returned
    /// moment do not use the old one.
    pub fn probe_anew(&self, endpoint: EndpointId) -> Moment {
        self.watch(endpoint).reconnect.store(true, Ordering::Release);
        let asked = self.now();
        self.nudge(endpoint);
        asked
    }

    /// The signals at the place of `endpoint`. If it was removed, another endpoint may use them
    /// now. So a signal may wake somebody needlessly, but values stored there must belong to the
    /// endpoint.
    pub(crate) fn watch(&self, endpoint: EndpointId) -> &WatchSignals {
        &self.watches[endpoint.place()]
    }

    pub(crate) fn watch_at(&self, place: usize) -> Option<&WatchSignals> {
        self.watches.get(place)
    }

    /// Applies a probe's result and publishes the new topology.
    pub fn apply(&self, observation: &Observation) {
        self.note_sign_of_life(observation);
        let is_taken = Cell::new(false);
        let take = |reducer: &mut TopologyReducer| {
            is_taken.set(reducer.takes(observation));
            reducer.apply(observation)
        };
        // Who has heard of a probe goes on with what it has changed: the topology and the connections.
        let published = || match is_taken.get() {
            true => {
                let woken = self.note_silence(observation);
                self.note_heard(observation);
                woken
            }
            false => EndpointSet::EMPTY,
        };
        self.change_and(observation.endpoint, observation.finished, take, published);
        #[cfg(feature = "metrics")]
        self.metrics.probed(&self.topology(), observation);
    }

    /// Changes the topology, publishes it, and reports the changes.
    fn change(
        &self,
        endpoint: EndpointId,
        at: Moment,
        change: impl FnOnce(&mut TopologyReducer) -> Vec<Event>,
    ) {
        self.change_and(endpoint, at, change, || EndpointSet::EMPTY);
    }

    /// The same. Calls `published` once the topology is published, and before anybody is told of that; it
    /// returns the endpoints whose attempts are woken as well.
    fn change_and(
        &self,
        endpoint: EndpointId,
        at: Moment,
        change: impl FnOnce(&mut TopologyReducer) -> Vec<Event>,
        published: impl FnOnce() -> EndpointSet,
    ) {
        let mut reducer = self.lock();
        let mut events = change(&mut reducer);
        let before = self.topology();
        let (topology, woken) = self.publish(reducer.topology().clone());
        let woken = woken.or(published());
        let elsewhere = events.iter().any(|event| matches!(event, Event::PrimaryChanged { .. }))
            || topology.epoch() != before.epoch();
        let is_lost = has_primary(&before) && !has_primary(&topology);
        if is_lost {
            self.lost_at_ms.store(self.elapsed_ms(), Ordering::Relaxed);
        }
        let twins = twins(&events);
        self.listeners.judge_reads(&topology, at, &mut events);
        self.telling.put(Told { topology, endpoint, at, events });
        drop(reducer);
        self.wake_attempts(woken);
        self.published.notify_waiters();
        if elsewhere || is_lost {
            // Probe at once whether the replicas follow the new primary, or which of them has taken
            // the place of the lost one.
            self.nudge_all();
        }
        // One of the two addresses may lead elsewhere by now, perhaps to the primary, and the
        // probe's old connection does not show it.
        twins.into_iter().for_each(|endpoint| _ = self.probe_anew(endpoint));
        self.telling.tell_all(|told| self.tell(told));
    }

    /// Notes that questions for filters are answered. `since` is the first generation of the catalog
    /// that includes what was found, or `None` if that adds nothing to it.
    pub(crate) fn note_filters(&self, answered: &[(EndpointId, u32)], since: Option<u64>) {
        if answered.is_empty() && since.is_none() {
            return;
        }
        // The metrics of others follow with their next probe.
        let first = answered.first().map_or(EndpointId::FIRST, |(id, _)| *id);
        self.change(first, self.now(), |reducer| {
            reducer.note_filters(answered, since);
            Vec::new()
        });
    }

    /// Waits until `holds` is true for a snapshot. Cancel safe; the caller limits the time.
    pub async fn until(&self, mut holds: impl FnMut(&Topology) -> bool) {
        loop {
            let published = self.published.notified();
            tokio::pin!(published);
            // The waiter is registered before the check, so that no publication is missed in
            // between.
            published.as_mut().enable();
            if holds(&self.topology()) {
                return;
            }
            published.await;
        }
    }

    /// What a probe of `endpoint` can do for sessions whose reads were refused recently.
    ///
    /// A proof takes two steps: a sample of the primary that begins after the write, and an answer
    /// of a replica that covers this sample. A replica that covers the newest sample cannot prove
    /// more before the next sample, so a probe of it would be useless. A probe of the primary is
    /// never useless: a refused read continues there, and the next stamp to wait for is newer than
    /// the last one.
    pub(crate) fn need(&self, endpoint: EndpointId) -> Need {
        if self.is_awaited_to_show(endpoint) {
            return Need::Sample { behind: Duration::ZERO };
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
            .filter(|(id, state)| {
                let is_idle = state.draining && topology.primary() != Some(*id);
                state.is_usable() && !is_idle && state.covered < awaited
            })
            // A replica that is behind the whole remembered history has no known lag.
            .map(|(id, _)| topology.lag(id).unwrap_or(Duration::MAX))
            .min();
        match behind {
            None => Need::None,
            Some(behind) if is_primary => Need::Sample { behind },
            Some(behind) if state.covered < sampled => Need::Answer { behind },
            Some(_) => Need::AfterSample,
        }
    }

    /// For how long no primary has answered; `None` while one does.
    pub(crate) fn missed_for(&self) -> Option<Duration> {
        let lost_at = Duration::from_millis(self.lost_at_ms.load(Ordering::Relaxed));
        let now = self.now().since(Moment::ZERO);
        (!has_primary(&self.topology())).then(|| now.saturating_sub(lost_at))
    }

    /// Completes when the next observation is published. Once enabled, it misses no observation.
    pub(crate) fn published(&self) -> tokio::sync::futures::Notified<'_> {
        self.published.notified()
    }

    /// Whether statements go to `endpoint`, or would go there if it answered: all sessions wait for
    /// the return of a primary.
    pub(crate) fn is_needed(&self, endpoint: EndpointId) -> bool {
        let topology = self.topology();
        let in_use = |state: &EndpointState| matches!(state.health, Health::Up | Health::Probation);
        topology.primary() == Some(endpoint) || topology.get(endpoint).is_some_and(in_use)
    }

    /// Whether the next probe of `endpoint` must open a new connection. Resets the request.
    pub(crate) fn take_reconnect(&self, endpoint: EndpointId) -> bool {
        self.watch(endpoint).reconnect.swap(false, Ordering::AcqRel)
    }

    /// Completes when a first session starts to wait.
    pub(crate) fn woken(&self) -> tokio::sync::futures::Notified<'_> {
        self.wake_all.notified()
    }

    /// Completes when a probe of `endpoint` is requested.
    pub(crate) async fn nudged(&self, endpoint: EndpointId) {
        self.watch(endpoint).wake.notified().await;
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.now().since(Moment::ZERO).as_millis()).unwrap_or(u64::MAX / 2)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, TopologyReducer> {
        // The reducer does not panic half-way, and a stale topology is safer than no topology.
        self.reducer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether there is a primary that is not known to be away. That a statement has failed on it says
/// little, and it is probed at once.
fn has_primary(topology: &Topology) -> bool {
    let primary = topology.primary().and_then(|primary| topology.get(primary));
    primary.is_some_and(|state| {
        matches!(state.health, Health::Up | Health::Down { failure: Failure::Statement(_) })
    })
}

/// The endpoints that have just turned out to lead to one server.
fn twins(events: &[Event]) -> Vec<EndpointId> {
    let twins = events.iter().filter_map(|event| match event {
        Event::SameServer { endpoint, stands } => Some([*endpoint, *stands]),
        _ => None,
    });
    twins.flatten().collect()
}
