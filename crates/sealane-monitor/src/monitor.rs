//! One task per endpoint, for as long as somebody holds the monitor.

use std::{sync::Arc, time::Duration};

use sealane_core::{
    EndpointId, Failure, Health, Moment, Observation, Outcome, Topology, WriteStamp,
};
use tokio::task::JoinHandle;

use crate::{Board, Pace, Probe};

/// Probes the endpoints of one cluster until it is dropped.
#[derive(Debug)]
pub struct Monitor {
    board: Arc<Board>,
    tasks: Vec<JoinHandle<()>>,
}

impl Monitor {
    /// Probes nothing: for topologies that need none.
    #[must_use]
    pub fn idle(board: Arc<Board>) -> Self {
        Monitor { board, tasks: Vec::new() }
    }

    /// Begins to probe each endpoint of `board` with the probe at its place.
    /// Must be called within a tokio runtime.
    pub fn spawn<P: Probe>(board: Arc<Board>, probes: Vec<P>, pace: Pace) -> Self {
        let tasks = probes
            .into_iter()
            .enumerate()
            .filter_map(|(index, probe)| Some((EndpointId::from_index(index)?, probe)))
            .map(|(endpoint, probe)| {
                let watch =
                    Watch { board: Arc::clone(&board), endpoint, probe, pace, waiting_since: None };
                tokio::spawn(watch.run())
            })
            .collect();
        Monitor { board, tasks }
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

/// The watch over one endpoint.
struct Watch<P> {
    board: Arc<Board>,
    endpoint: EndpointId,
    probe: P,
    pace: Pace,
    waiting_since: Option<Moment>,
}

impl<P: Probe> Watch<P> {
    async fn run(mut self) {
        loop {
            let observation = self.observe().await;
            self.board.apply(&observation);
            if let Outcome::Failed(Failure::Timeout | Failure::Connection(_)) = observation.outcome
            {
                self.board.note_unanswered(self.endpoint);
            }
            self.rest().await;
        }
    }

    async fn observe(&mut self) -> Observation {
        if self.board.take_reconnect(self.endpoint) {
            self.probe.disconnect();
        }
        let timeout = match self.probe.is_connected() {
            true => self.pace.timeout,
            false => self.pace.timeout_with_connect(),
        };
        // In this order: the stamp and the time are read before the question is sent,
        // so that the answer contains every write stamped by then.
        let stamp: WriteStamp = self.board.clock().now();
        let started = self.board.now();
        let outcome = match tokio::time::timeout(timeout, self.probe.ask()).await {
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
        Observation { endpoint: self.endpoint, started, finished, stamp, outcome }
    }

    /// Waits until the next probe is due. Never shorter than the quick pace,
    /// whatever wakes it.
    async fn rest(&mut self) {
        let woken = self.board.woken();
        tokio::pin!(woken);
        woken.as_mut().enable();
        if self.board.is_awaited(self.endpoint) {
            let now = self.board.now();
            let since = *self.waiting_since.get_or_insert(now);
            tokio::time::sleep(self.pace.quick_after(now.since(since))).await;
            return;
        }
        self.waiting_since = None;
        let soonest = tokio::time::Instant::now() + self.pace.quick;
        tokio::select! {
            () = tokio::time::sleep(self.pace.idle_spread(fastrand::f64())) => {}
            () = woken => {}
            () = self.board.nudged(self.endpoint) => {}
        }
        // Refusals and failures can wake it as fast as statements run: many of them
        // are answered by one probe.
        tokio::time::sleep_until(soonest).await;
    }
}

#[cfg(test)]
mod tests;
