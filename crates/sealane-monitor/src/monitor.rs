//! Runs one probing task per endpoint until the monitor is dropped.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sealane_core::{
    EndpointId, Failure, Health, Moment, Observation, Outcome, Topology, WriteStamp,
};
use tokio::{task::JoinHandle, time::Instant};
use tracing::{Instrument, Span};

use crate::{
    Probe, ProbeSchedule, TopologyStore, caught::caught, probe_schedule::Allowance, span,
    topology_store::Need,
};

/// Probes the endpoints of one cluster until it is dropped.
#[derive(Debug)]
pub struct Monitor {
    store: Arc<TopologyStore>,
    tasks: Mutex<Vec<(EndpointId, JoinHandle<()>)>>,
    schedule: Option<ProbeSchedule>,
    is_stopped: AtomicBool,
}

impl Monitor {
    /// A monitor without probes, for topologies that need none.
    #[must_use]
    pub fn idle(store: Arc<TopologyStore>) -> Self {
        Monitor::with(store, None)
    }

    /// A monitor that probes nothing yet.
    #[must_use]
    pub fn new(store: Arc<TopologyStore>, schedule: ProbeSchedule) -> Self {
        Monitor::with(store, Some(schedule))
    }

    fn with(store: Arc<TopologyStore>, schedule: Option<ProbeSchedule>) -> Self {
        Monitor { store, tasks: Mutex::default(), schedule, is_stopped: AtomicBool::default() }
    }

    /// Starts to probe each endpoint of `store` with the probe of the same index. Must be called
    /// within a tokio runtime.
    pub fn spawn<P: Probe>(
        store: Arc<TopologyStore>,
        probes: Vec<P>,
        schedule: ProbeSchedule,
    ) -> Self {
        let monitor = Monitor::new(store, schedule);
        for (index, probe) in probes.into_iter().enumerate() {
            if let Some(endpoint) = EndpointId::from_index(index) {
                monitor.add(endpoint, probe);
            }
        }
        monitor
    }

    /// Starts to probe `endpoint`, unless the monitor is idle. Must be called within a tokio
    /// runtime.
    pub fn add<P: Probe>(&self, endpoint: EndpointId, probe: P) {
        if let Some(schedule) = self.schedule {
            let watch = Watch::new(Arc::clone(&self.store), endpoint, probe, schedule);
            self.tasks().push((endpoint, tokio::spawn(watch.run())));
        }
    }

    /// Stops the probing of `endpoint`. A probe under way may still answer; its answer is ignored
    /// if the endpoint was removed from the store.
    pub fn remove(&self, endpoint: EndpointId) {
        self.tasks().extract_if(.., |(of, _)| *of == endpoint).for_each(|(_, task)| task.abort());
    }

    fn tasks(&self) -> MutexGuard<'_, Vec<(EndpointId, JoinHandle<()>)>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time between probes of `endpoint` while sessions wait for it without a pause: this
    /// process's share of the budget of all processes. `None` if the endpoint is not probed.
    #[must_use]
    pub fn quick_interval(&self, endpoint: EndpointId) -> Option<Duration> {
        let monitors = self.store.topology().get(endpoint)?.info.monitors;
        Some(self.schedule?.quick_among(monitors.unwrap_or(1)))
    }

    /// Whether the monitor probes nothing.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.schedule.is_none()
    }

    /// Whether probing was [stopped](Self::stop).
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }

    /// The store that the probes write to.
    #[must_use]
    pub fn store(&self) -> &Arc<TopologyStore> {
        &self.store
    }

    /// Waits until every endpoint has answered or failed once, but at most for `patience`. Cancel
    /// safe.
    pub async fn first_round(&self, patience: Duration) {
        let observed =
            |topology: &Topology| topology.iter().all(|(_, state)| state.health != Health::Unknown);
        // After a timeout, an endpoint without an answer is simply not used yet.
        let _ = tokio::time::timeout(patience, self.store.until(observed)).await;
    }
}

impl Monitor {
    /// Waits, at most for `patience`, until every replica in use is proved to have everything that
    /// the primary had at the call. Returns whether this is proved. Cancel safe.
    pub async fn await_replication(&self, patience: Duration) -> bool {
        let stamp = self.store.clock().tick();
        let proved = |topology: &Topology| topology.covered_by_replicas() >= stamp;
        let looking = async {
            // Repeats the request, because the store forgets a waiter after a while.
            loop {
                self.store.await_stamp(stamp);
                tokio::time::sleep(TopologyStore::AWAITED_AGAIN).await;
            }
        };
        tokio::select! {
            biased;
            () = self.store.until(proved) => true,
            () = tokio::time::sleep(patience) => false,
            () = looking => false,
        }
    }

    /// Stops all probing; the topology stays as it is.
    pub fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
        self.tasks().iter().for_each(|(_, task)| task.abort());
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The delay before a server is asked again for a database that it did not have. The primary may
/// have created the database milliseconds ago, as for tests or tenants, and the replica gets it
/// soon. The delay grows by this amount each time, up to the delay for any endpoint that is down.
const ABSENT_AGAIN: Duration = Duration::from_millis(50);

/// The state of the task that probes one endpoint.
struct Watch<P> {
    store: Arc<TopologyStore>,
    endpoint: EndpointId,
    probe: P,
    schedule: ProbeSchedule,
    waiting_since: Option<Moment>,
    /// When a useful probe was first requested.
    asked_since: Option<Instant>,
    /// How many processes probe this server; 1 if unknown.
    monitors: u32,
    allowance: Allowance,
    /// How long the last probe took that had to connect; `None` if one has failed since.
    connected_in: Option<Duration>,
    /// Failures in a row while nobody needs the endpoint.
    failures: u32,
    /// Answers in a row that the database does not exist.
    absences: u32,
    /// Probes in a row that were requested.
    calls: u32,
}

impl<P: Probe> Watch<P> {
    fn new(
        store: Arc<TopologyStore>,
        endpoint: EndpointId,
        probe: P,
        schedule: ProbeSchedule,
    ) -> Self {
        Watch {
            store,
            endpoint,
            probe,
            schedule,
            waiting_since: None,
            asked_since: None,
            monitors: 1,
            allowance: Allowance::default(),
            connected_in: None,
            failures: 0,
            absences: 0,
            calls: 0,
        }
    }

    /// Probes forever. After a panic the loop starts again; otherwise the topology would keep the
    /// endpoint's last state.
    async fn run(mut self) {
        loop {
            let Err(panic) = caught(self.watch()).await;
            self.failures = self.failures.saturating_add(1);
            // A listener that caused the panic may panic again.
            let _ = caught(self.give_up(panic)).await;
            tokio::time::sleep(
                self.schedule.retry_spread(self.failures, self.store.entropy().ratio()),
            )
            .await;
        }
    }

    /// Marks the endpoint as failed: nothing known about it counts until it is probed again.
    async fn give_up(&mut self, panic: String) {
        self.probe.disconnect();
        let topology = self.store.topology();
        let endpoint = topology.get(self.endpoint).map_or("?", |state| state.endpoint.name());
        tracing::warn!(
            target: "sealane::probe", endpoint, panic, "the watch has panicked and begins anew"
        );
        let now = self.store.now();
        let failure = Failure::Unexpected(format!("the probe panicked: {panic}"));
        self.store.apply(&Observation {
            endpoint: self.endpoint,
            started: now,
            finished: now,
            stamp: WriteStamp::NONE,
            outcome: Outcome::Failed(failure),
        });
    }

    async fn watch(&mut self) -> std::convert::Infallible {
        loop {
            let observation = self.observe().await;
            self.store.apply(&observation);
            if let Outcome::Answered(report) = &observation.outcome {
                self.monitors = report.info.monitors.unwrap_or(1);
            }
            self.failures = match observation.outcome {
                Outcome::Failed(_) if !self.store.is_needed(self.endpoint) => {
                    self.failures.saturating_add(1)
                }
                Outcome::Failed(_) | Outcome::Answered(_) => 0,
            };
            self.absences = match observation.outcome {
                Outcome::Failed(Failure::NoDatabase(_)) => self.absences.saturating_add(1),
                Outcome::Failed(_) | Outcome::Answered(_) => 0,
            };
            self.rest().await;
        }
    }

    async fn observe(&mut self) -> Observation {
        // The stamp and the time are read before the question is sent, so that the answer contains
        // every write stamped by then; and before the connection is chosen, so that a later suspicion
        // outweighs the answer.
        let stamp: WriteStamp = self.store.clock().now();
        let started = self.store.now();
        if self.store.take_reconnect(self.endpoint) {
            self.probe.disconnect();
        }
        let span = self.span();
        let is_connected = self.probe.is_connected();
        let timeout = match is_connected {
            true => self.schedule.timeout,
            false => self.schedule.timeout_to_reconnect(self.connected_in),
        };
        self.allowance.spend(Instant::now(), self.schedule.share(self.monitors));
        self.probe.await_shown(self.store.is_awaited_to_show(self.endpoint));
        let outcome =
            match tokio::time::timeout(timeout, self.probe.ask().instrument(span.clone())).await {
                Ok(Ok(report)) => Outcome::Answered(report),
                Ok(Err(failure)) => {
                    self.probe.disconnect();
                    Outcome::Failed(failure)
                }
                Err(_elapsed) => {
                    self.probe.disconnect();
                    Outcome::Failed(Failure::Timeout)
                }
            };
        let finished = self.store.now();
        let took = finished.since(started);
        span::close(&span, &outcome, took);
        self.connected_in = match outcome {
            Outcome::Failed(_) => None,
            Outcome::Answered(_) if is_connected => self.connected_in,
            Outcome::Answered(_) => Some(took),
        };
        Observation { endpoint: self.endpoint, started, finished, stamp, outcome }
    }

    fn span(&self) -> Span {
        if !span::is_watched() {
            return Span::none();
        }
        let topology = self.store.topology();
        topology.get(self.endpoint).map_or_else(Span::none, |state| {
            span::open(&state.endpoint, self.probe.system(), !self.probe.is_connected())
        })
    }

    /// Waits until the next probe is due. The wait is never shorter than the quick pace, whatever
    /// ends it.
    async fn rest(&mut self) {
        let store = Arc::clone(&self.store);
        let began = Instant::now();
        let calm = self.allowed(began + self.calm_delay());
        loop {
            let (woken, published) = (store.woken(), store.published());
            tokio::pin!(woken, published);
            // The waiters are registered before the check, so that no request and no sample is
            // missed in between.
            woken.as_mut().enable();
            published.as_mut().enable();
            let need = store.need(self.endpoint);
            let quick = self.quick_due(need, began);
            let due = quick.unwrap_or(calm);
            if due <= Instant::now() {
                // A timer would round up to the next millisecond, which is as long as a probe.
                return;
            }
            // While sessions wait, every refused read would wake this task. So it does not listen
            // then, and checks again by itself.
            let look = match quick {
                Some(_) => due.min(Instant::now() + self.schedule.slowest_quick()),
                None => due,
            };
            tokio::select! {
                biased;
                () = store.nudged(self.endpoint) => {
                    let soonest = began + self.schedule.called_after(self.calls);
                    self.calls = self.calls.saturating_add(1);
                    return tokio::time::sleep_until(soonest).await;
                }
                // The request may be for another endpoint, so check the need again.
                () = woken, if quick.is_none() => {}
                () = published, if need == Need::AfterSample => {}
                () = tokio::time::sleep_until(look) => {
                    if quick.is_none() {
                        self.calls = 0;
                    }
                    if look == due {
                        return;
                    }
                }
            }
        }
    }

    /// When the next probe is due, if a session waits for what this probe may prove.
    fn quick_due(&mut self, need: Need, began: Instant) -> Option<Instant> {
        let (behind, quickest) = match need {
            Need::None => {
                (self.waiting_since, self.asked_since) = (None, None);
                return None;
            }
            Need::AfterSample => {
                self.asked_since = None;
                return None;
            }
            Need::Sample { behind } => (behind, self.schedule.quick),
            Need::Answer { behind } => (behind, self.schedule.first_quick()),
        };
        if self.store.shows_more(self.endpoint) {
            self.waiting_since = None;
        }
        let asked_since = *self.asked_since.get_or_insert_with(Instant::now);
        let grace = self.schedule.grace(self.monitors);
        let now = self.store.now();
        let since = *self.waiting_since.get_or_insert(now);
        let delay = self.schedule.quick_after(now.since(since), behind, quickest);
        Some(self.allowed((began + delay).max(asked_since + grace)))
    }

    /// The moment `at`, or the first later one at which the budget allows a probe.
    fn allowed(&self, at: Instant) -> Instant {
        self.allowance.next().map_or(at, |next| next.max(at))
    }

    /// The delay until the next probe if nobody requests one.
    fn calm_delay(&self) -> Duration {
        let delay = match self.failures {
            0 if self.probe.is_undecided() => self.schedule.soon(),
            0 => {
                let idle = self.schedule.idle_spread(self.store.entropy().ratio());
                self.search_delay().map_or(idle, |search| search.min(idle))
            }
            failures => self.schedule.retry_spread(failures, self.store.entropy().ratio()),
        };
        match self.absences {
            0 => delay,
            absences => ABSENT_AGAIN.saturating_mul(absences).min(delay),
        }
    }

    /// The longest delay until the next probe while a primary is looked for. A server without a
    /// connection is not asked quickly, because connecting costs a server more than a probe.
    fn search_delay(&self) -> Option<Duration> {
        let missed_for = self.store.missed_for().filter(|_| self.probe.is_connected())?;
        self.schedule.search_after(missed_for, self.store.entropy().ratio())
    }
}

#[cfg(test)]
mod tests;
