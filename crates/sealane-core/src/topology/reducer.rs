//! The one place where observations become topology.

mod election;
mod shown;
mod subscriber;

use std::time::Duration;

use super::{EndpointState, Topology};
use crate::{
    Condition, EndpointId, Event, Failure, Health, HealthPolicy, LagHistory, Moment, Observation,
    Outcome, Position, Replication, Report, Role, WriteStamp,
    health::Standing,
    history::{History, Sample},
};
use shown::Shown;
use subscriber::{FedSince, Footing, Located};

/// Folds observations into a [`Topology`]. It has no clock: every observation
/// brings its time.
#[derive(Debug, Clone)]
pub struct TopologyReducer {
    topology: Topology,
    policy: HealthPolicy,
    history: History,
    shown: Shown,
    /// A position of the data that we serve, by which strangers are told: the
    /// newest known of the primary.
    ours: Option<Position>,
    /// The newest timeline seen of that system, on any endpoint: a primary of
    /// an older one was replaced, whether or not its successor answers now.
    newest_timeline: u32,
    /// How many replicas were seen to become primaries.
    promotions: u32,
    /// Whether several endpoints claim to be the primary.
    conflict: bool,
    watched: Vec<Watched>,
}

/// What the reducer remembers of an endpoint for its own judgement.
#[derive(Debug, Clone, Default)]
struct Watched {
    standing: Standing,
    lags: LagHistory,
    /// The newest sample when it first had a position that no sample proves:
    /// it lags at least since then.
    unproved_since: Option<Moment>,
    /// When it last failed: an answer to an older question does not bring it
    /// back.
    failed_at: Option<Moment>,
    /// When the last question that it answered was asked: the failure of an
    /// older statement says nothing new.
    answered_at: Option<Moment>,
    /// The timeline it was last seen on; it outlives the connection.
    timeline: u32,
    /// The number of the promotion that made it a primary; 0 if none was seen.
    promotion: u32,
    /// It claims to be the primary, and another one took its place.
    replaced: bool,
    /// The subscribers that it sends to.
    feeds: Vec<FedSince>,
    /// Of a subscriber: the history that its positions are counted on.
    footing: Option<Footing>,
    /// Of a subscriber: a promotion has ended that history.
    footing_ended: bool,
}

impl TopologyReducer {
    /// Begins with `topology`, before any observation, and the default policy of
    /// health.
    #[must_use]
    pub fn new(topology: Topology) -> Self {
        TopologyReducer::with_policy(topology, HealthPolicy::default())
    }

    /// Begins with `topology`, before any observation.
    #[must_use]
    pub fn with_policy(topology: Topology, policy: HealthPolicy) -> Self {
        let watched = vec![Watched::default(); topology.len()];
        TopologyReducer {
            topology,
            policy,
            history: History::default(),
            shown: Shown::default(),
            ours: None,
            newest_timeline: 0,
            promotions: 0,
            conflict: false,
            watched,
        }
    }

    /// What is known now.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// How far `id` was behind at its last observations as a replica; `None` if
    /// it is not in this topology.
    #[must_use]
    pub fn lags(&self, id: EndpointId) -> Option<&LagHistory> {
        self.watched.get(id.index()).map(|watched| &watched.lags)
    }

    /// The least position known of the primary in charge that contains every write
    /// up to `stamp`; `None` while there is none.
    #[must_use]
    pub fn position_at(&self, stamp: WriteStamp) -> Option<Position> {
        let primary = self.topology.primary.and_then(|id| self.topology.get(id))?;
        match &primary.position {
            Some(Position::Current) => Some(Position::Current),
            _ => self.history.position_at(stamp).cloned(),
        }
    }

    /// How long it takes `id`, if it is a replica in use, to show what the primary has
    /// at `now`; see [`LagHistory::catches_up_in`].
    #[must_use]
    pub fn catches_up_in(&self, id: EndpointId, now: Moment) -> Option<Duration> {
        let state = self.topology.get(id)?;
        let replays = state.is_usable()
            && state.role == Role::Replica
            && !matches!(state.replication, Replication::Paused | Replication::Stopped);
        if replays { self.lags(id)?.catches_up_in(now) } else { None }
    }

    /// Takes in one observation and says what it changed.
    pub fn apply(&mut self, observation: &Observation) -> Vec<Event> {
        let mut events = Vec::new();
        let id = observation.endpoint;
        let located = self.locate(observation);
        let (Some(state), Some(watched)) =
            (self.topology.endpoints.get_mut(id.index()), self.watched.get_mut(id.index()))
        else {
            return events;
        };
        // What was asked before the last answer says nothing new, however it ended.
        if watched.answered_at.is_some_and(|at| observation.started < at) {
            return events;
        }
        match &observation.outcome {
            Outcome::Failed(failure) => {
                watched.failed_at = Some(observation.finished);
                watched.feeds.clear();
                let down = watched.standing.failed(observation.finished, &self.policy);
                fail(id, state, failure, down, &mut events);
            }
            Outcome::Answered(report) => {
                if watched.failed_at.is_some_and(|at| observation.started < at) {
                    return events;
                }
                watched.answered_at = Some(observation.started);
                watched.note_feeds(&report.feeds, observation.finished);
                let located = located.unwrap_or_else(|| Located::of(report));
                watched.footing = located.footing;
                watched.footing_ended = located.ended;
                if let Some(position) = &report.position {
                    watched.timeline = position.timeline();
                }
                match (state.role, report.role) {
                    (Role::Replica, Role::Primary) => {
                        self.promotions += 1;
                        watched.promotion = self.promotions;
                    }
                    (_, Role::Primary) => {}
                    (_, Role::Replica | Role::Unknown) => {
                        watched.promotion = 0;
                        watched.replaced = false;
                    }
                }
                state.probe_time = Some(observation.finished.since(observation.started));
                if report.role == Role::Primary {
                    watched.standing.trust(observation.finished);
                }
                let in_use = watched.standing.answered(observation.finished, &self.policy);
                answer(id, state, report, in_use, &mut events);
                (state.position, state.received) = (located.position, located.received);
            }
        }
        self.judge_systems(&mut events);
        self.judge_timeline(id, &mut events);
        self.elect(&mut events);
        self.sample(observation);
        self.note_shown(observation);
        self.prove();
        self.judge_lag(&mut events);
        self.remember_lag(observation);
        events
    }

    /// Marks the endpoints that hold another system's data, and notes the
    /// newest timeline of ours.
    fn judge_systems(&mut self, events: &mut Vec<Event>) {
        if self.ours.is_none() {
            self.ours = self.first_position().cloned();
        }
        let Some(ours) = &self.ours else { return };
        for (index, state) in self.topology.endpoints.iter_mut().enumerate() {
            let Some(position) = &state.position else { continue };
            let foreign = !position.is_related_to(ours);
            if foreign != state.foreign
                && let Some(endpoint) = EndpointId::from_index(index)
            {
                events.push(match foreign {
                    true => Event::Foreign { endpoint },
                    false => Event::Recovered { endpoint, from: Condition::Foreign },
                });
            }
            state.foreign = foreign;
            if !foreign {
                self.newest_timeline = self.newest_timeline.max(position.timeline());
            }
        }
    }

    /// Notes whether an endpoint that has answered is on an old timeline.
    fn judge_timeline(&mut self, endpoint: EndpointId, events: &mut Vec<Event>) {
        let (Some(state), Some(watched)) =
            (self.topology.endpoints.get_mut(endpoint.index()), self.watched.get(endpoint.index()))
        else {
            return;
        };
        let old = match &state.position {
            _ if watched.footing_ended => true,
            Some(position) => !state.foreign && position.timeline() < self.newest_timeline,
            None => return,
        };
        if old != state.old_timeline {
            events.push(match old {
                true => Event::OldTimeline { endpoint },
                false => Event::Recovered { endpoint, from: Condition::OldTimeline },
            });
        }
        state.old_timeline = old;
    }

    /// A position of the endpoint configured first, which decides whose data we
    /// serve. Only if it does not answer, or answers without one, of the first
    /// primary that has one.
    fn first_position(&self) -> Option<&Position> {
        let first = self.topology.get(EndpointId::FIRST)?;
        if first.health == Health::Unknown {
            return None;
        }
        first.position.as_ref().or_else(|| {
            self.topology
                .iter()
                .filter(|(_, state)| state.role == Role::Primary)
                .find_map(|(_, state)| state.position.as_ref())
        })
    }

    /// Keeps the primary's position, if this is an observation of it.
    fn sample(&mut self, observation: &Observation) {
        let Outcome::Answered(Report { position: Some(position), role: Role::Primary, .. }) =
            &observation.outcome
        else {
            return;
        };
        if self.topology.primary == Some(observation.endpoint) {
            self.history.push(Sample {
                at: observation.started,
                stamp: observation.stamp,
                position: position.clone(),
            });
            if let Some(newest) = self.history.newest() {
                self.topology.sampled = Some(newest.clone());
                self.ours = Some(newest.position.clone());
            }
        }
    }

    /// Derives what every endpoint's last position proves.
    fn prove(&mut self) {
        let sampled_at = self.topology.sampled.as_ref().map(|sample| sample.at);
        for (state, watched) in self.topology.endpoints.iter_mut().zip(&mut self.watched) {
            if state.position == Some(Position::Current) {
                continue;
            }
            let position = state.position.as_ref().filter(|_| !state.foreign);
            let proof = position.and_then(|position| self.history.proof(position));
            watched.unproved_since = match (position, proof) {
                (Some(_), None) => watched.unproved_since.or(sampled_at),
                (None, _) | (_, Some(_)) => None,
            };
            state.covered = proof.map_or(WriteStamp::NONE, |proof| proof.stamp);
            state.fresh_at = proof.map(|proof| proof.at);
        }
    }

    /// Notes which replicas are far behind. One threshold to begin and a lower
    /// one to end, so that nobody comes and goes at the limit.
    fn judge_lag(&mut self, events: &mut Vec<Event>) {
        let Some(sampled_at) = self.topology.sampled.as_ref().map(|sample| sample.at) else {
            return;
        };
        let primary = self.topology.primary;
        for (index, (state, watched)) in
            self.topology.endpoints.iter_mut().zip(&self.watched).enumerate()
        {
            let Some(endpoint) = EndpointId::from_index(index) else { continue };
            if state.role != Role::Replica || primary == Some(endpoint) {
                state.lagging = false;
                continue;
            }
            let proved = state.fresh_at.map(|at| sampled_at.since(at));
            let at_least = proved.or(watched.unproved_since.map(|at| sampled_at.since(at)));
            let policy = &self.policy;
            if let Some(lag) = at_least.filter(|lag| !state.lagging && *lag > policy.lagging_above)
            {
                state.lagging = true;
                events.push(Event::Lagging { endpoint, lag });
            } else if state.lagging
                && proved.is_some_and(|lag| lag <= policy.lagging_until.min(policy.lagging_above))
            {
                state.lagging = false;
                events.push(Event::Recovered { endpoint, from: Condition::Lagging });
            }
        }
    }

    fn remember_lag(&mut self, observation: &Observation) {
        let id = observation.endpoint;
        let lag = self.topology.lag(id);
        let answered =
            matches!(&observation.outcome, Outcome::Answered(Report { role: Role::Replica, .. }));
        if let Some(watched) = self.watched.get_mut(id.index()).filter(|_| answered) {
            watched.lags.push(observation.finished, lag);
        }
    }
}

/// A failure that the policy tolerates takes the proofs away, not the endpoint
/// out of use.
fn fail(
    id: EndpointId,
    state: &mut EndpointState,
    failure: &Failure,
    down: bool,
    events: &mut Vec<Event>,
) {
    if down {
        if !matches!(state.health, Health::Down { .. }) {
            events.push(Event::Down { endpoint: id, failure: failure.clone() });
        }
        state.health = Health::Down { failure: failure.clone() };
    }
    // It may come back as another run, with less data: nothing is proved any more.
    state.position = None;
    state.received = None;
    state.particulars = state.particulars.last_known();
}

fn answer(
    id: EndpointId,
    state: &mut EndpointState,
    report: &Report,
    in_use: bool,
    events: &mut Vec<Event>,
) {
    let health = if in_use { Health::Up } else { Health::Probation };
    if state.health != health {
        events.push(match in_use {
            true => Event::Up { endpoint: id },
            false => Event::Probation { endpoint: id },
        });
        state.health = health;
    }
    if state.incarnation.as_ref().is_some_and(|known| *known != report.incarnation) {
        events.push(Event::Restarted { endpoint: id });
    }
    // Nobody's replica yet: its tables are half full.
    let role = if report.replication == Replication::Copying { Role::Unknown } else { report.role };
    if state.role != role {
        if state.role != Role::Unknown && role != Role::Unknown {
            events.push(Event::RoleChanged { endpoint: id, from: state.role, to: role });
        }
        state.role = role;
    }
    if state.replication != report.replication {
        if report.role == Role::Replica {
            events.push(Event::ReplicationChanged { endpoint: id, to: report.replication });
        }
        state.replication = report.replication;
    }
    if state.incarnation.as_ref() != Some(&report.incarnation) {
        state.incarnation = Some(report.incarnation.clone());
        state.run = state.run.wrapping_add(1);
    }
    state.particulars = report.particulars.clone();
}

#[cfg(test)]
mod tests;
