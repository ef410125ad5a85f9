//! What an attempt stands on, and the moment when it stands there no longer.
//!
//! A statement is planned on one snapshot of the topology, and then waits: for a connection, and
//! for an answer. Meanwhile the world may move. Its [`Footing`] names what must still hold, and
//! [`Board::moved`] ends the wait when it does not.
//!
//! A *generation* counts, per endpoint, the reasons not to trust its connections any more: another
//! run of a server answers there, nothing can be connected to, or a server answers again after an
//! outage. Connections are pooled
//! per generation, so that a pooled connection belongs to one run of one server, and slots that a
//! dead network holds are left behind with their pool. (Rejected: a new generation with the first
//! probe that has no answer. A server that is merely overloaded would have to log everybody in
//! again.)
//!
//! A run is published after its generation is counted, and an attempt reads the topology before
//! the generation. So an attempt whose generation still holds was judged on the run that its pool
//! leads to, or on an older one, which its own check of the run finds.

use std::{
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use sealane_core::{
    EndpointId, EndpointSet, EndpointState, Failure, Moment, Observation, Outcome, Role, Topology,
};

use tokio::time::Instant;

use crate::{Board, board::WatchSignals};

/// Far more than a thread is held up between letting a connection in and noting its age.
const AGE_TOLERANCE: Duration = Duration::from_secs(1);

/// A server that was silent for so long has lost its connections, or they are worth no more: the
/// network's own attempts to mend them come as late again.
const OUTAGE: Duration = Duration::from_secs(2);

/// While a statement waits for a primary. Probes that are called for have a limit of their own.
const ASKED_AGAIN: Duration = Duration::from_millis(50);

/// What an attempt was planned on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footing {
    /// Where it runs.
    pub endpoint: EndpointId,
    /// The part that the endpoint plays for it.
    pub role: Role,
    /// The run of the server that it was judged on.
    pub run: u32,
    /// The connections that it may use.
    pub generation: u64,
    /// How often the endpoint had fallen silent by then.
    silences: u64,
}

/// How far an attempt has come: what ends its wait depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Nothing is sent. Any change ends the wait: another attempt costs nothing.
    Unsent,
    /// It was sent, and waits for the answer. On a replica, silence ends either wait: another
    /// endpoint may answer. On the primary only its replacement does: a busy server may miss a
    /// probe, and there is nowhere else to go.
    Sent,
}

impl Board {
    /// What an attempt on `endpoint` as `role` stands on, by `topology`.
    #[must_use]
    pub fn footing(
        &self,
        topology: &Topology,
        endpoint: EndpointId,
        role: Role,
    ) -> Option<Footing> {
        let run = topology.get(endpoint)?.run;
        let (generation, silences) = (self.generation(endpoint), self.silences(endpoint));
        Some(Footing { endpoint, role, run, generation, silences })
    }

    /// The generation of `endpoint`'s connections; see the module.
    #[must_use]
    pub fn generation(&self, endpoint: EndpointId) -> u64 {
        self.watch(endpoint).map_or(0, |watch| watch.generation.load(Ordering::Acquire))
    }

    /// Whether an attempt at this stage still stands where it was planned.
    #[must_use]
    pub fn holds(&self, footing: &Footing, stage: Stage) -> bool {
        let topology = self.topology();
        let Footing { endpoint, role, run, generation, silences } = *footing;
        let same_run = topology.get(endpoint).is_some_and(|state| state.run == run);
        match (role, stage) {
            (Role::Primary, Stage::Unsent) => {
                same_run
                    && topology.primary() == Some(endpoint)
                    && self.generation(endpoint) == generation
            }
            // While nobody is elected, nobody has taken its place.
            (Role::Primary, Stage::Sent) => {
                same_run && topology.primary().is_none_or(|primary| primary == endpoint)
            }
            _ => {
                same_run
                    && self.generation(endpoint) == generation
                    && self.silences(endpoint) == silences
            }
        }
    }

    /// Completes when an attempt at this stage no longer stands where it was planned. Cancel safe.
    pub async fn moved(&self, footing: &Footing, stage: Stage) {
        let Some(watch) = self.watch(footing.endpoint) else {
            return std::future::pending().await;
        };
        loop {
            let moved = watch.moved.notified();
            tokio::pin!(moved);
            // Registered before looking, so that no change slips in between.
            moved.as_mut().enable();
            if !self.holds(footing, stage) {
                return;
            }
            moved.await;
        }
    }

    /// Waits for a primary that answers. All endpoints are asked again and again meanwhile: who is
    /// promoted does not tell. Cancel safe; bounded by the caller.
    pub async fn next_primary(&self) {
        let asking = async {
            loop {
                self.nudge_all();
                tokio::time::sleep(ASKED_AGAIN).await;
            }
        };
        tokio::select! {
            biased;
            () = self.until(Topology::has_usable_primary) => {}
            () = asking => {}
        }
    }

    /// What the first probe of `endpoint` that began after `after` found: an answer, or why there
    /// was none. Cancel safe; bounded by the caller.
    pub async fn heard_after(&self, endpoint: EndpointId, after: Moment) -> Result<(), Failure> {
        let mut heard = None;
        self.until(|_| {
            heard = self.watch(endpoint).and_then(|watch| {
                let last = watch.heard.lock().unwrap_or_else(PoisonError::into_inner);
                last.as_ref().filter(|(started, _)| *started > after).map(|(_, it)| it.clone())
            });
            heard.is_some()
        })
        .await;
        heard.unwrap_or(Ok(()))
    }

    /// A probe of `endpoint` had no answer, and it is out of use: whatever is connected to it may
    /// wait for ever. Not for statements that failed: one broken connection says nothing about the
    /// others.
    ///
    /// `is_gone`: it could not even be connected to, so that what is connected is dead.
    pub(crate) fn note_unanswered(&self, endpoint: EndpointId, is_gone: bool) {
        let is_in_use = self.topology().get(endpoint).is_some_and(|state| state.is_usable());
        if let Some(watch) = self.watch(endpoint).filter(|_| !is_in_use) {
            let now_ms = self.now_ms();
            let _ = watch.silent_since_ms.compare_exchange(
                0,
                now_ms,
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            if is_gone {
                self.renew_connections(endpoint);
            }
            watch.silences.fetch_add(1, Ordering::AcqRel);
            self.wake_attempts(EndpointSet::from_iter([endpoint]));
        }
    }

    /// Remembers what a probe found, for [`Board::heard_after`]. To be called before it is
    /// published.
    pub(crate) fn note_heard(&self, observation: &Observation) {
        if let Some(watch) = self.watch(observation.endpoint) {
            let result = match &observation.outcome {
                Outcome::Answered(_) => Ok(()),
                Outcome::Failed(failure) => Err(failure.clone()),
            };
            if result.is_ok() {
                self.note_sign_of_life(observation.endpoint, watch);
            }
            let mut heard = watch.heard.lock().unwrap_or_else(PoisonError::into_inner);
            *heard = Some((observation.started, result));
        }
    }

    /// After an outage its connections may be dead, and nobody has told.
    fn note_sign_of_life(&self, endpoint: EndpointId, watch: &WatchSignals) {
        let since_ms = watch.silent_since_ms.swap(0, Ordering::AcqRel);
        let outage = Duration::from_millis(self.now_ms().saturating_sub(since_ms));
        if since_ms != 0 && outage >= OUTAGE {
            self.renew_connections(endpoint);
            self.wake_attempts(EndpointSet::from_iter([endpoint]));
        }
    }

    /// Publishes `next`. Returns it, and whose attempts may have lost their footing by it: to be
    /// [woken](Self::wake_attempts) when nothing is locked, for a waker is foreign code.
    pub(crate) fn publish(&self, next: Topology) -> (Arc<Topology>, EndpointSet) {
        let before = self.topology.load_full();
        // The first run that is seen is the one that was connected to all the time.
        let is_other = |old: &EndpointState, new: &EndpointState| {
            old.incarnation.is_some() && old.run != new.run
        };
        let runs = before.iter().zip(next.iter());
        let restarted = runs
            .filter(|((_, old), (_, new))| is_other(old, new))
            .map(|(_, (endpoint, _))| endpoint)
            .collect::<EndpointSet>();
        restarted.iter().for_each(|endpoint| self.renew_connections(endpoint));
        // Not only the two: who waits on a third was planned while that was the primary.
        let woken = match before.primary() == next.primary() {
            true => restarted,
            false => EndpointSet::ALL,
        };
        let next = Arc::new(next);
        self.topology.store(Arc::clone(&next));
        (next, woken)
    }

    /// Has the attempts on these endpoints look at their footing.
    pub(crate) fn wake_attempts(&self, endpoints: EndpointSet) {
        for endpoint in endpoints.iter() {
            if let Some(watch) = self.watch(endpoint) {
                watch.moved.notify_waiters();
            }
        }
    }

    /// Whether a connection of that age was made for the generation of now. One that was made in
    /// the second after the last one ended counts as older: its age is taken a little after it was
    /// let in.
    #[must_use]
    pub fn is_younger_than_generation(&self, endpoint: EndpointId, age: Duration) -> bool {
        let Some(watch) = self.watch(endpoint) else { return false };
        let renewed_at = *watch.renewed_at.lock().unwrap_or_else(PoisonError::into_inner);
        // On the clock that the age is of: it stands still while the machine is suspended.
        renewed_at.is_none_or(|at| age + AGE_TOLERANCE < at.elapsed())
    }

    fn silences(&self, endpoint: EndpointId) -> u64 {
        self.watch(endpoint).map_or(0, |watch| watch.silences.load(Ordering::Acquire))
    }

    /// Never zero.
    fn now_ms(&self) -> u64 {
        let now_ms = self.now().since(Moment::ZERO).as_millis();
        u64::try_from(now_ms).unwrap_or(u64::MAX).max(1)
    }

    fn renew_connections(&self, endpoint: EndpointId) {
        if let Some(watch) = self.watch(endpoint) {
            let mut renewed_at = watch.renewed_at.lock().unwrap_or_else(PoisonError::into_inner);
            *renewed_at = Some(Instant::now());
            watch.generation.fetch_add(1, Ordering::AcqRel);
        }
    }
}
