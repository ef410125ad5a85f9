//! One task per endpoint, for as long as somebody holds the monitor.

use std::{sync::Arc, time::Duration};

use sealane_core::{
    EndpointId, Failure, Health, Moment, Observation, Outcome, Topology, WriteStamp,
};
use tokio::{task::JoinHandle, time::Instant};
use tracing::{Instrument, Span};

use crate::{Board, Pace, Probe, board::Need, caught::caught, pace::Allowance, span};

/// Probes the endpoints of one cluster until it is dropped.
#[derive(Debug)]
pub struct Monitor {
    board: Arc<Board>,
    tasks: Vec<JoinHandle<()>>,
    pace: Option<Pace>,
}

impl Monitor {
    /// Probes nothing: for topologies that need none.
    #[must_use]
    pub fn idle(board: Arc<Board>) -> Self {
        Monitor { board, tasks: Vec::new(), pace: None }
    }

    /// Begins to probe each endpoint of `board` with the probe at its place.
    /// Must be called within a tokio runtime.
    pub fn spawn<P: Probe>(board: Arc<Board>, probes: Vec<P>, pace: Pace) -> Self {
        let tasks = probes
            .into_iter()
            .enumerate()
            .filter_map(|(index, probe)| Some((EndpointId::from_index(index)?, probe)))
            .map(|(endpoint, probe)| {
                tokio::spawn(Watch::new(Arc::clone(&board), endpoint, probe, pace).run())
            })
            .collect();
        Monitor { board, tasks, pace: Some(pace) }
    }

    /// The time between probes of `endpoint` while sessions wait all the time: its share in
    /// the budget of all processes. `None` if it is not probed.
    #[must_use]
    pub fn quick_interval(&self, endpoint: EndpointId) -> Option<Duration> {
        let monitors = self.board.topology().get(endpoint)?.particulars.monitors;
        Some(self.pace?.quick_among(monitors.unwrap_or(1)))
    }

    /// Whether it probes nothing.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.tasks.is_empty()
    }

    /// What the probes write on.
    #[must_use]
    pub fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// Waits until every endpoint has answered or failed once, `patience` at
    /// most. Cancel safe.
    pub async fn first_round(&self, patience: Duration) {
        let observed =
            |topology: &Topology| topology.iter().all(|(_, state)| state.health != Health::Unknown);
        // Out of patience: what has not answered is simply not used yet.
        let _ = tokio::time::timeout(patience, self.board.until(observed)).await;
    }
}

impl Monitor {
    /// Waits until every replica in use is proved to have what the primary had
    /// at the call, `patience` at most; whether they are. Cancel safe.
    pub async fn await_replication(&self, patience: Duration) -> bool {
        let stamp = self.board.clock().tick();
        let proved = |topology: &Topology| topology.covered_by_replicas() >= stamp;
        let looking = async {
            // Told again and again: whoever waits is forgotten after a while.
            loop {
                self.board.await_stamp(stamp);
                tokio::time::sleep(AWAITED_AGAIN).await;
            }
        };
        tokio::select! {
            () = self.board.until(proved) => true,
            () = tokio::time::sleep(patience) => false,
            () = looking => false,
        }
    }

    /// Ends all probing; the topology stays as it is.
    pub fn stop(&self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Less than what the board forgets a waiting session after.
const AWAITED_AGAIN: Duration = Duration::from_millis(500);

/// After so long a database that a server does not have yet is asked for again: on a replica
/// it may have been created milliseconds ago, as those of tests and of tenants are. The delay
/// grows by as much each time, until it is as long as for whatever else is down.
const ABSENT_AGAIN: Duration = Duration::from_millis(50);

/// The watch over one endpoint.
struct Watch<P> {
    board: Arc<Board>,
    endpoint: EndpointId,
    probe: P,
    pace: Pace,
    waiting_since: Option<Moment>,
    /// Since when a probe is wanted that can help.
    asked_since: Option<Instant>,
    /// How many processes ask this server, if it can be seen.
    monitors: u32,
    allowance: Allowance,
    /// In a row, of an endpoint that nobody needs now.
    failures: u32,
    /// Answers in a row that the database is not there.
    absences: u32,
    /// Probes in a row that somebody called for.
    calls: u32,
}

impl<P: Probe> Watch<P> {
    fn new(board: Arc<Board>, endpoint: EndpointId, probe: P, pace: Pace) -> Self {
        Watch {
            board,
            endpoint,
            probe,
            pace,
            waiting_since: None,
            asked_since: None,
            monitors: 1,
            allowance: Allowance::default(),
            failures: 0,
            absences: 0,
            calls: 0,
        }
    }

    /// For ever: who panics is started again, or its endpoint would stay as it was last seen.
    async fn run(mut self) {
        loop {
            let Err(panic) = caught(self.watch()).await;
            self.failures = self.failures.saturating_add(1);
            // A listener that has panicked may do so again.
            let _ = caught(self.give_up(panic)).await;
            tokio::time::sleep(self.pace.retry_spread(self.failures, fastrand::f64())).await;
        }
    }

    /// Nothing that was known of the endpoint holds until it is probed again.
    async fn give_up(&mut self, panic: String) {
        self.probe.disconnect();
        let topology = self.board.topology();
        let endpoint = topology.get(self.endpoint).map_or("?", |state| state.endpoint.name());
        tracing::warn!(
            target: "sealane::probe", endpoint, panic, "the watch has panicked and begins anew"
        );
        let now = self.board.now();
        let failure = Failure::Unexpected(format!("the probe panicked: {panic}"));
        self.board.apply(&Observation {
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
            self.board.apply(&observation);
            if let Outcome::Answered(report) = &observation.outcome {
                self.monitors = report.particulars.monitors.unwrap_or(1);
            }
            match &observation.outcome {
                Outcome::Failed(Failure::Timeout) => {
                    self.board.note_unanswered(self.endpoint, false);
                }
                Outcome::Failed(Failure::Connection(_)) => {
                    self.board.note_unanswered(self.endpoint, true);
                }
                Outcome::Failed(_) | Outcome::Answered(_) => {}
            }
            self.failures = match observation.outcome {
                Outcome::Failed(_) if !self.board.is_needed(self.endpoint) => {
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
        if self.board.take_reconnect(self.endpoint) {
            self.probe.disconnect();
        }
        let span = self.span();
        let timeout = match self.probe.is_connected() {
            true => self.pace.timeout,
            false => self.pace.timeout_with_connect(),
        };
        // In this order: the stamp and the time are read before the question is sent,
        // so that the answer contains every write stamped by then.
        let stamp: WriteStamp = self.board.clock().now();
        let started = self.board.now();
        self.allowance.spend(Instant::now(), self.pace.share(self.monitors));
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
        let finished = self.board.now();
        span::close(&span, &outcome, finished.since(started));
        Observation { endpoint: self.endpoint, started, finished, stamp, outcome }
    }

    fn span(&self) -> Span {
        if !span::is_watched() {
            return Span::none();
        }
        let topology = self.board.topology();
        topology.get(self.endpoint).map_or_else(Span::none, |state| {
            span::open(&state.endpoint, self.probe.system(), !self.probe.is_connected())
        })
    }

    /// Waits until the next probe is due. Never shorter than the quick pace,
    /// whatever wakes it.
    async fn rest(&mut self) {
        let board = Arc::clone(&self.board);
        let began = Instant::now();
        let calm = self.allowed(began + self.calm_delay());
        loop {
            let (woken, published) = (board.woken(), board.published());
            tokio::pin!(woken, published);
            // Registered before looking, so that nobody's wait and no sample slips in between.
            woken.as_mut().enable();
            published.as_mut().enable();
            let need = board.need(self.endpoint);
            let quick = self.quick_due(need, began);
            let due = quick.unwrap_or(calm);
            // While somebody waits every refusal would wake it; it looks again by itself.
            let look = match quick {
                Some(_) => due.min(Instant::now() + self.pace.slowest_quick()),
                None => due,
            };
            tokio::select! {
                () = tokio::time::sleep_until(look) => {
                    if quick.is_none() {
                        self.calls = 0;
                    }
                    if look == due {
                        return;
                    }
                }
                () = board.nudged(self.endpoint) => {
                    let soonest = began + self.pace.called_after(self.calls);
                    self.calls = self.calls.saturating_add(1);
                    return tokio::time::sleep_until(soonest).await;
                }
                // Perhaps for others' sake.
                () = woken, if quick.is_none() => {}
                () = published, if need == Need::AfterSample => {}
            }
        }
    }

    /// When the next probe is due, if somebody waits for what it may prove.
    fn quick_due(&mut self, need: Need, began: Instant) -> Option<Instant> {
        let behind = match need {
            Need::None => {
                (self.waiting_since, self.asked_since) = (None, None);
                return None;
            }
            Need::AfterSample => {
                self.asked_since = None;
                return None;
            }
            Need::Now { behind } => behind,
        };
        if self.board.shows_more(self.endpoint) {
            self.waiting_since = None;
        }
        let asked_since = *self.asked_since.get_or_insert_with(Instant::now);
        let grace = self.pace.grace(self.monitors);
        let now = self.board.now();
        let since = *self.waiting_since.get_or_insert(now);
        let delay = self.pace.quick_after(now.since(since), behind);
        Some(self.allowed((began + delay).max(asked_since + grace)))
    }

    /// That moment, or the first one after it at which the share allows a probe.
    fn allowed(&self, at: Instant) -> Instant {
        self.allowance.next().map_or(at, |next| next.max(at))
    }

    /// Until the next probe, if nobody asks for one.
    fn calm_delay(&self) -> Duration {
        let delay = match self.failures {
            0 if self.probe.is_undecided() => self.pace.soon(),
            0 => self.pace.idle_spread(fastrand::f64()),
            failures => self.pace.retry_spread(failures, fastrand::f64()),
        };
        match self.absences {
            0 => delay,
            absences => ABSENT_AGAIN.saturating_mul(absences).min(delay),
        }
    }
}

#[cfg(test)]
mod tests;
