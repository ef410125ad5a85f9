//! The assumptions of an attempt to run a statement, and the moment when they no longer hold.
//!
//! A statement is planned on one snapshot of the topology. Then it waits for a connection and for
//! an answer, and meanwhile the cluster may change. The attempt's [`Footing`] names what must still
//! hold, and [`TopologyStore::moved`] ends the wait when it no longer holds.
//!
//! A *generation* is a counter per endpoint. It grows whenever the endpoint's connections can no
//! longer be trusted: another run of a server answers, the endpoint refuses connections, or a
//! server answers again after an outage. Each generation has its own pool. So a pooled connection
//! belongs to one run of one server, and slots that wait for a dead network are left behind with
//! the old pool. (Rejected: a new generation at the first probe without an answer. A server that is
//! merely overloaded would have to accept all logins again.)
//!
//! The store increases the generation before it publishes a new run, and an attempt reads the
//! topology before the generation. So if an attempt's generation still holds, the attempt was
//! planned on the run that its pool connects to, or on an older run. The attempt's own check of the
//! run finds the older one.

use std::{
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use sealane_core::{
    EndpointId, EndpointSet, EndpointState, Failure, Moment, Observation, Outcome, Role, Topology,
};

use tokio::time::Instant;

use crate::TopologyStore;

/// Much longer than a thread is delayed between admitting a connection and recording its age.
const AGE_TOLERANCE: Duration = Duration::from_secs(1);

/// After a silence of this length the connections to a server are lost or useless: TCP's next
/// retransmission on them would come as late again.
const OUTAGE: Duration = Duration::from_secs(2);

/// How often a statement that waits for a primary requests probes. Requested probes have their own
/// rate limit.
const ASKED_AGAIN: Duration = Duration::from_millis(50);

/// The assumptions on which an attempt was planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footing {
    /// The endpoint that the attempt uses.
    pub endpoint: EndpointId,
    /// The role in which the attempt uses the endpoint.
    pub role: Role,
    /// Whether the endpoint was the primary when the attempt was planned. Reads may use the primary
    /// like a replica; they rest on its being the primary all the same.
    pub on_primary: bool,
    /// The run of the server that the plan judged.
    pub run: u32,
    /// The generation of the connections that the attempt may use.
    pub generation: u64,
    /// How often the endpoint had fallen silent before the attempt.
    silences: u64,
}

/// How far an attempt has come. This decides which changes end its wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The attempt has sent nothing. Any change ends the wait, because a new attempt costs nothing.
    /// Draining the endpoint ends it, too, although draining ends no other wait.
    Unsent,
    /// The statement is sent, and the attempt waits for the answer. On a replica, silence ends the
    /// wait at both stages, because another endpoint may answer. On the primary only its
    /// replacement ends this wait: a busy server may miss a probe, and no other server can answer.
    Sent,
}

impl TopologyStore {
    /// The footing of an attempt on `endpoint` as `role`, according to `topology`.
    #[must_use]
    pub fn footing(
        &self,
        topology: &Topology,
        endpoint: EndpointId,
        role: Role,
    ) -> Option<Footing> {
        let run = topology.get(endpoint)?.run;
        let (generation, silences) = (self.generation(endpoint), self.silences(endpoint));
        let on_primary = topology.primary() == Some(endpoint);
        Some(Footing { endpoint, role, on_primary, run, generation, silences })
    }

    /// The generation of `endpoint`'s connections; see the module.
    #[must_use]
    pub fn generation(&self, endpoint: EndpointId) -> u64 {
        self.watch(endpoint).generation.load(Ordering::Acquire)
    }

    /// Whether the footing of an attempt at this stage still holds.
    #[must_use]
    pub fn holds(&self, footing: &Footing, stage: Stage) -> bool {
        let topology = self.topology();
        let Footing { endpoint, role, on_primary, run, generation, silences } = *footing;
        let state = topology.get(endpoint);
        let same_run = state.is_some_and(|state| state.run == run);
        if stage == Stage::Unsent && state.is_some_and(|state| state.draining) {
            return false;
        }
        // Also while there is no primary now.
        let is_replaced = || topology.last_primary().is_some_and(|primary| primary != endpoint);
        match (role, stage) {
            (Role::Primary, Stage::Unsent) => {
                same_run
                    && topology.primary() == Some(endpoint)
                    && self.generation(endpoint) == generation
            }
            (Role::Primary, Stage::Sent) => same_run && !is_replaced(),
            _ => {
                same_run
                    && !(on_primary && is_replaced())
                    && self.generation(endpoint) == generation
                    && self.silences(endpoint) == silences
            }
        }
    }

    /// Completes when the footing of an attempt at this stage no longer holds. Cancel safe.
    pub async fn moved(&self, footing: &Footing, stage: Stage) {
        let watch = self.watch(footing.endpoint);
        loop {
            let moved = watch.moved.notified();
            tokio::pin!(moved);
            // The waiter is registered before the check, so that no change is missed in between.
            moved.as_mut().enable();
            if !self.holds(footing, stage) {
                return;
            }
            moved.await;
        }
    }

    /// Waits for a primary that answers. Meanwhile all endpoints are probed again and again,
    /// because a promoted server does not announce itself. Cancel safe; the caller limits the time.
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

    /// Waits for the first probe of `endpoint` that begins after `after`, and returns whether the
    /// endpoint answered, or why not. Cancel safe; the caller limits the time.
    pub async fn heard_after(&self, endpoint: EndpointId, after: Moment) -> Result<(), Failure> {
        let mut heard = None;
        self.until(|_| {
            heard = self.heard(endpoint, after);
            heard.is_some()
        })
        .await;
        heard.unwrap_or(Ok(()))
    }

    /// Whether the endpoint answered its last probe, or why not; `None` if that probe did not begin after
    /// `after`.
    #[must_use]
    pub fn heard(&self, endpoint: EndpointId, after: Moment) -> Option<Result<(), Failure>> {
        let last = self.watch(endpoint).heard.lock().unwrap_or_else(PoisonError::into_inner);
        let last = last.as_ref().filter(|(started, _)| *started > after);
        last.map(|(_, it)| it.clone())
    }

    /// Notes a probe without an answer. If the endpoint is out of use, statements on its connections may
    /// wait forever, so they are to be woken: returns whose. Must be called after the result is published.
    /// Failed statements do not come here: one broken connection says nothing about the others.
    ///
    /// Where not even a connection was possible, existing connections are dead.
    pub(crate) fn note_silence(&self, observation: &Observation) -> EndpointSet {
        let endpoint = observation.endpoint;
        let is_gone = match &observation.outcome {
            Outcome::Failed(Failure::Timeout) => false,
            Outcome::Failed(Failure::Connection(_)) => true,
            Outcome::Failed(_) | Outcome::Answered(_) => return EndpointSet::EMPTY,
        };
        if self.topology().get(endpoint).is_none_or(EndpointState::is_usable) {
            return EndpointSet::EMPTY;
        }
        let watch = self.watch(endpoint);
        let now_ms = self.now_ms();
        let _ =
            watch.silent_since_ms.compare_exchange(0, now_ms, Ordering::AcqRel, Ordering::Acquire);
        if is_gone {
            self.renew_connections(endpoint);
        }
        watch.silences.fetch_add(1, Ordering::AcqRel);
        EndpointSet::from_iter([endpoint])
    }

    /// Remembers a probe's result for [`TopologyStore::heard_after`]. Must be called after the result is
    /// published, because who has heard it looks there next; and before the waiters are woken.
    pub(crate) fn note_heard(&self, observation: &Observation) {
        if self.topology().get(observation.endpoint).is_some() {
            let result = match &observation.outcome {
                Outcome::Answered(_) => Ok(()),
                Outcome::Failed(failure) => Err(failure.clone()),
            };
            let watch = self.watch(observation.endpoint);
            let mut heard = watch.heard.lock().unwrap_or_else(PoisonError::into_inner);
            *heard = Some((observation.started, result));
        }
    }

    /// After an outage the endpoint's connections may be dead without any notice. Must be called before
    /// the result of the probe is published.
    pub(crate) fn note_sign_of_life(&self, observation: &Observation) {
        let endpoint = observation.endpoint;
        let is_known = self.topology().get(endpoint).is_some();
        if !is_known || !matches!(observation.outcome, Outcome::Answered(_)) {
            return;
        }
        let since_ms = self.watch(endpoint).silent_since_ms.swap(0, Ordering::AcqRel);
        let outage = Duration::from_millis(self.now_ms().saturating_sub(since_ms));
        if since_ms != 0 && outage >= OUTAGE {
            self.renew_connections(endpoint);
            self.wake_attempts(EndpointSet::from_iter([endpoint]));
        }
    }

    /// Publishes `next`. Returns it together with the endpoints whose attempts may have lost their
    /// footing. The caller [wakes](Self::wake_attempts) them when it holds no lock, because a waker
    /// runs foreign code.
    pub(crate) fn publish(&self, next: Topology) -> (Arc<Topology>, EndpointSet) {
        let before = self.topology.load_full();
        // The first observed run is a change only for connections that were admitted before: nobody
        // knows where they lead.
        let is_other = |old: &EndpointState, new: &EndpointState| {
            let is_first = old.incarnation.is_none();
            let was_used = || self.watch(old.id).is_used_unobserved.swap(false, Ordering::AcqRel);
            old.run != new.run && (!is_first || was_used())
        };
        let (mut restarted, mut left) = (EndpointSet::EMPTY, EndpointSet::EMPTY);
        for (endpoint, old) in before.iter() {
            match next.get(endpoint) {
                Some(new) if is_other(old, new) => {
                    restarted.insert(endpoint);
                    self.renew_connections(endpoint);
                }
                Some(new) if new.draining && !old.draining => left.insert(endpoint),
                Some(_) => {}
                None => left.insert(endpoint),
            }
        }
        // A new primary wakes the attempts on all endpoints, not only on the old and the new
        // primary: an attempt on a third endpoint may have been planned while that one was the
        // primary.
        let woken = match before.primary() == next.primary() {
            true => restarted.or(left),
            false => EndpointSet::ALL,
        };
        let next = Arc::new(next);
        self.topology.store(Arc::clone(&next));
        (next, woken)
    }

    /// Makes the attempts on these endpoints check their footing.
    pub(crate) fn wake_attempts(&self, endpoints: EndpointSet) {
        for watch in endpoints.places().filter_map(|place| self.watch_at(place)) {
            watch.moved.notify_waiters();
        }
    }

    /// Whether a connection of this age belongs to the current generation. A connection from the
    /// first second of the generation counts as older, because its age is measured a little after
    /// its admission.
    #[must_use]
    pub fn is_younger_than_generation(&self, endpoint: EndpointId, age: Duration) -> bool {
        let watch = self.watch(endpoint);
        let renewed_at = *watch.renewed_at.lock().unwrap_or_else(PoisonError::into_inner);
        // This is the clock that measures the age: it stands still while the machine is suspended.
        renewed_at.is_none_or(|at| age + AGE_TOLERANCE < at.elapsed())
    }

    fn silences(&self, endpoint: EndpointId) -> u64 {
        self.watch(endpoint).silences.load(Ordering::Acquire)
    }

    /// The current time in milliseconds, never zero.
    fn now_ms(&self) -> u64 {
        let now_ms = self.now().since(Moment::ZERO).as_millis();
        u64::try_from(now_ms).unwrap_or(u64::MAX).max(1)
    }

    pub(crate) fn renew_connections(&self, endpoint: EndpointId) {
        let watch = self.watch(endpoint);
        let mut renewed_at = watch.renewed_at.lock().unwrap_or_else(PoisonError::into_inner);
        *renewed_at = Some(Instant::now());
        watch.generation.fetch_add(1, Ordering::AcqRel);
    }
}
