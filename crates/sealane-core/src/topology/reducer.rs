//! The one place where observations become topology.

use super::{EndpointState, Health, Topology};
use crate::{
    EndpointId, Event, Failure, Moment, Observation, Outcome, Position, Report, Role, WriteStamp,
    history::{History, Sample},
};

/// Folds observations into a [`Topology`]. It has no clock: every observation
/// brings its time.
#[derive(Debug, Clone)]
pub struct TopologyReducer {
    topology: Topology,
    history: History,
    /// The system whose data we serve.
    system: Option<u64>,
    /// The newest timeline seen of that system, on any endpoint: a primary of
    /// an older one was replaced, whether or not its successor answers now.
    newest_timeline: u32,
    watched: Vec<Watched>,
}

/// What the reducer remembers of an endpoint for its own judgement.
#[derive(Debug, Clone, Default)]
struct Watched {
    /// When it last failed: an answer to an older question does not bring it
    /// back.
    failed_at: Option<Moment>,
    /// When the last question that it answered was asked: the failure of an
    /// older statement says nothing new.
    answered_at: Option<Moment>,
    /// The timeline it was last seen on; it outlives the connection.
    timeline: u32,
}

impl TopologyReducer {
    /// Begins with `topology`, before any observation.
    #[must_use]
    pub fn new(topology: Topology) -> Self {
        let watched = vec![Watched::default(); topology.len()];
        TopologyReducer {
            topology,
            history: History::default(),
            system: None,
            newest_timeline: 0,
            watched,
        }
    }

    /// What is known now.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Takes in one observation and says what it changed.
    pub fn apply(&mut self, observation: &Observation) -> Vec<Event> {
        let mut events = Vec::new();
        let id = observation.endpoint;
        let (Some(state), Some(watched)) =
            (self.topology.endpoints.get_mut(id.index()), self.watched.get_mut(id.index()))
        else {
            return events;
        };
        match &observation.outcome {
            Outcome::Failed(failure) => {
                if watched.answered_at.is_some_and(|at| observation.started < at) {
                    return events;
                }
                watched.failed_at = Some(observation.finished);
                fail(id, state, failure, &mut events);
            }
            Outcome::Answered(report) => {
                if watched.failed_at.is_some_and(|at| observation.started < at) {
                    return events;
                }
                watched.answered_at = Some(observation.started);
                if let Some(position) = &report.position {
                    watched.timeline = position.timeline();
                }
                state.probe_time = Some(observation.finished.since(observation.started));
                answer(id, state, report, &mut events);
            }
        }
        self.judge_systems(&mut events);
        self.elect(&mut events);
        self.sample(observation);
        self.prove();
        events
    }

    /// Decides who takes writes. Whoever was last seen to be a primary claims
    /// it, also while it does not answer: silence is not a demotion.
    fn elect(&mut self, events: &mut Vec<Event>) {
        let before = self.topology.primary;
        let claims: Vec<EndpointId> = self
            .topology
            .iter()
            .filter(|(id, state)| state.role == Role::Primary && self.is_current(*id, state))
            .map(|(id, _)| id)
            .collect();
        let elected = match claims.as_slice() {
            [] => before.filter(|id| {
                self.topology
                    .get(*id)
                    .is_some_and(|state| state.role == Role::Unknown && !state.foreign)
            }),
            [only] => Some(*only),
            [first, second, ..] => {
                if before.is_some() {
                    events.push(Event::PrimaryConflict { first: *first, second: *second });
                }
                None
            }
        };
        if elected != before {
            self.topology.primary = elected;
            events.push(Event::PrimaryChanged { from: before, to: elected });
        }
    }

    /// Whether an endpoint is known to be of our system and on its newest
    /// timeline.
    fn is_current(&self, id: EndpointId, state: &EndpointState) -> bool {
        let timeline = self.watched.get(id.index()).map_or(0, |watched| watched.timeline);
        self.system.is_some() && !state.foreign && timeline >= self.newest_timeline
    }

    /// Marks the endpoints that hold another system's data, and notes the
    /// newest timeline of ours.
    fn judge_systems(&mut self, events: &mut Vec<Event>) {
        if self.system.is_none() {
            self.system = self.first_system();
        }
        let Some(ours) = self.system else { return };
        for (index, state) in self.topology.endpoints.iter_mut().enumerate() {
            let Some(position) = &state.position else { continue };
            let foreign = position.system().is_some_and(|theirs| theirs != ours);
            if foreign
                && !state.foreign
                && let Some(endpoint) = EndpointId::from_index(index)
            {
                events.push(Event::Foreign { endpoint });
            }
            state.foreign = foreign;
            if !foreign {
                self.newest_timeline = self.newest_timeline.max(position.timeline());
            }
        }
    }

    /// The system of the endpoint configured first, which decides whose data
    /// we serve. Only if that one is down, the first primary that answers.
    fn first_system(&self) -> Option<u64> {
        let system = |state: &EndpointState| state.position.as_ref().and_then(Position::system);
        let first = self.topology.get(EndpointId::FIRST)?;
        match first.health {
            Health::Unknown => None,
            Health::Up => system(first),
            Health::Down { .. } => self
                .topology
                .iter()
                .filter(|(_, state)| state.role == Role::Primary && state.health == Health::Up)
                .find_map(|(_, state)| system(state)),
        }
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
            self.topology.sampled_at = self.history.newest().map(|sample| sample.at);
        }
    }

    /// Derives what every endpoint's last position proves.
    fn prove(&mut self) {
        for state in &mut self.topology.endpoints {
            if state.position == Some(Position::Current) {
                continue;
            }
            let proof = state
                .position
                .as_ref()
                .filter(|_| !state.foreign)
                .and_then(|position| self.history.newest_covered(position));
            state.covered = proof.map_or(WriteStamp::NONE, |sample| sample.stamp);
            state.fresh_at = proof.map(|sample| sample.at);
        }
    }
}

fn fail(id: EndpointId, state: &mut EndpointState, failure: &Failure, events: &mut Vec<Event>) {
    let down = Health::Down { failure: failure.clone() };
    if !matches!(state.health, Health::Down { .. }) {
        events.push(Event::Down { endpoint: id, failure: failure.clone() });
    }
    state.health = down;
    // It may come back as another run, with less data: nothing is proved any more.
    state.position = None;
}

fn answer(id: EndpointId, state: &mut EndpointState, report: &Report, events: &mut Vec<Event>) {
    if state.health != Health::Up {
        state.health = Health::Up;
        events.push(Event::Up { endpoint: id });
    }
    if state.incarnation.as_ref().is_some_and(|known| *known != report.incarnation) {
        events.push(Event::Restarted { endpoint: id });
    }
    if state.role != report.role {
        if state.role != Role::Unknown {
            events.push(Event::RoleChanged { endpoint: id, from: state.role, to: report.role });
        }
        state.role = report.role;
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
    state.position = report.position.clone();
}

#[cfg(test)]
mod tests;
