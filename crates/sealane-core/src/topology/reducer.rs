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
    /// The system whose data we serve: that of the first primary seen.
    system: Option<u64>,
    /// When each endpoint last failed: an answer to an older question does not
    /// bring it back.
    failed_at: Vec<Option<Moment>>,
}

impl TopologyReducer {
    /// Begins with `topology`, before any observation.
    #[must_use]
    pub fn new(topology: Topology) -> Self {
        let failed_at = vec![None; topology.len()];
        TopologyReducer { topology, history: History::default(), system: None, failed_at }
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
        let Some(state) = self.topology.endpoints.get_mut(id.index()) else {
            return events;
        };
        match &observation.outcome {
            Outcome::Failed(failure) => {
                self.failed_at[id.index()] = Some(observation.finished);
                fail(id, state, failure, &mut events);
            }
            Outcome::Answered(_)
                if self.failed_at[id.index()].is_some_and(|at| observation.started < at) =>
            {
                return events;
            }
            Outcome::Answered(report) => answer(id, state, report, &mut events),
        }
        self.elect(&mut events);
        self.sample(observation);
        self.prove();
        events
    }

    /// Decides who takes writes.
    fn elect(&mut self, events: &mut Vec<Event>) {
        if self.system.is_none() {
            self.system = self.first_system();
        }
        self.judge_systems(events);
        let mut claims: Vec<_> = self
            .topology
            .iter()
            .filter(|(_, state)| state.is_usable() && state.role == Role::Primary)
            .map(|(id, state)| (timeline(state), id))
            .collect();
        // The highest timeline wins: an older one is a primary that was replaced.
        claims.sort_by_key(|(timeline, id)| (std::cmp::Reverse(*timeline), *id));
        let before = self.topology.primary;
        let elected = match claims.as_slice() {
            [(first_timeline, first), (second_timeline, second), ..]
                if first_timeline == second_timeline =>
            {
                if before.is_some() {
                    events.push(Event::PrimaryConflict { first: *first, second: *second });
                }
                None
            }
            [(_, first), ..] => Some(*first),
            // Nobody claims it: the last one stays, unless it was seen in another role.
            [] => before.filter(|id| {
                self.topology
                    .get(*id)
                    .is_some_and(|state| state.role != Role::Replica && !state.foreign)
            }),
        };
        if elected != before {
            self.topology.primary = elected;
            events.push(Event::PrimaryChanged { from: before, to: elected });
        }
    }

    /// The system of the configured primary if it is one, else of the first
    /// endpoint that is a primary.
    fn first_system(&self) -> Option<u64> {
        self.topology
            .iter()
            .filter(|(_, state)| state.role == Role::Primary && state.health == Health::Up)
            .find_map(|(_, state)| state.position.as_ref()?.system())
    }

    fn judge_systems(&mut self, events: &mut Vec<Event>) {
        let Some(ours) = self.system else { return };
        for (index, state) in self.topology.endpoints.iter_mut().enumerate() {
            let theirs = state.position.as_ref().and_then(Position::system);
            let foreign = theirs.is_some_and(|theirs| theirs != ours);
            if foreign
                && !state.foreign
                && let Some(endpoint) = EndpointId::from_index(index)
            {
                events.push(Event::Foreign { endpoint });
            }
            state.foreign = foreign;
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

fn timeline(state: &EndpointState) -> u32 {
    state.position.as_ref().map_or(0, Position::timeline)
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
