//! The one place where observations become topology.

mod claim;
mod election;
mod epoch;
mod filters;
mod identity;
mod membership;
mod outlived;
mod shown;
mod subscriber;
mod timeline;
mod watched;

use std::{sync::Arc, time::Duration};

use super::{EndpointState, Topology};
use crate::{
    Condition, Database, EndpointId, Event, Failure, Health, HealthPolicy, Incarnation, LagHistory,
    Moment, Observation, Outcome, Position, Replication, Report, Role, Transactions, WriteStamp,
    topology::samples::{History, Sample},
};
use claim::Claim;
use shown::Shown;
use subscriber::Located;
use watched::Watched;

/// Folds observations into a [`Topology`]. The reducer has no clock: every observation brings its
/// time.
#[derive(Debug, Clone)]
pub struct TopologyReducer {
    topology: Topology,
    policy: HealthPolicy,
    history: History,
    shown: Shown,
    /// A position of the data that we serve: the newest known position of the primary. It tells
    /// foreign data from ours.
    ours: Option<Position>,
    /// The newest timeline of that system that any endpoint has shown. A primary on an older
    /// timeline was replaced, whether or not its successor answers now.
    newest_timeline: u32,
    /// When an endpoint with our data was last seen.
    ours_seen_at: Moment,
    /// Since when all endpoints show a state from before the newest promotion.
    undone_since: Option<Moment>,
    /// The database that we serve, if the servers report it.
    database: Option<Arc<Database>>,
    /// The endpoint of the newest sample.
    sampled_of: Option<EndpointId>,
    /// The run of the newest sample.
    sampled_run: Option<Incarnation>,
    /// What the primary showed with the newest sample. The sample itself also contains transactions
    /// that are about to commit, and these may still be rolled back.
    sampled_shown: Option<Position>,
    /// The first sample of the epoch.
    epoch_began_at: Option<Position>,
    /// How many promotions of replicas to primaries were seen.
    promotions: u32,
    /// How often a server took over from another one on a timeline with the same number.
    partings: u32,
    /// How many runs of servers were seen.
    runs: u32,
    /// How often servers were to be asked for their filters.
    filter_questions: u32,
    /// Whether several endpoints claim to be the primary.
    conflict: bool,
    /// Claims of servers whose former addresses lead elsewhere by now.
    departed: Vec<Claim>,
    /// One entry for each endpoint of the topology, in the topology's order.
    watched: Vec<Watched>,
}

impl TopologyReducer {
    /// Begins with `topology`, before any observation, with the default health policy.
    #[must_use]
    pub fn new(topology: Topology) -> Self {
        TopologyReducer::with_policy(topology, HealthPolicy::default())
    }

    /// Begins with `topology`, before any observation, with this health policy.
    #[must_use]
    pub fn with_policy(topology: Topology, policy: HealthPolicy) -> Self {
        let watched = vec![Watched::default(); topology.len()];
        TopologyReducer {
            topology,
            policy,
            history: History::default(),
            shown: Shown::default(),
            ours: None,
            ours_seen_at: Moment::ZERO,
            undone_since: None,
            database: None,
            sampled_of: None,
            sampled_run: None,
            sampled_shown: None,
            epoch_began_at: None,
            newest_timeline: 0,
            promotions: 0,
            partings: 0,
            runs: 0,
            filter_questions: 0,
            conflict: false,
            departed: Vec::new(),
            watched,
        }
    }

    /// The current topology.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The lags of `id` at its last observations as a replica; `None` if `id` is not in this
    /// topology.
    #[must_use]
    pub fn lags(&self, id: EndpointId) -> Option<&LagHistory> {
        self.watched(id).map(|watched| &watched.lags)
    }

    /// The least known position of the current primary that contains every write up to `stamp`;
    /// `None` if no such position is known.
    #[must_use]
    pub fn position_at(&self, stamp: WriteStamp) -> Option<Position> {
        let primary = self.topology.primary.and_then(|id| self.topology.get(id))?;
        match &primary.position {
            Some(Position::Current) => Some(Position::Current),
            _ => self.history.position_at(stamp).cloned(),
        }
    }

    /// How long `id`, if it is a replica in use, needs until it shows what the primary has at
    /// `now`; see [`LagHistory::catches_up_in`].
    #[must_use]
    pub fn catches_up_in(&self, id: EndpointId, now: Moment) -> Option<Duration> {
        let state = self.topology.get(id)?;
        let replays = state.is_replica_in_use()
            && !state.old_timeline
            && !matches!(state.replication, Replication::Paused | Replication::Stopped);
        if replays { self.lags(id)?.catches_up_in(now) } else { None }
    }

    /// What the reducer remembers of `id`.
    fn watched(&self, id: EndpointId) -> Option<&Watched> {
        self.watched.get(self.topology.index(id)?)
    }

    /// The state of `id`, and what the reducer remembers of it.
    fn both_mut(&mut self, id: EndpointId) -> Option<(&mut EndpointState, &mut Watched)> {
        let index = self.topology.index(id)?;
        Some((self.topology.endpoints.get_mut(index)?, self.watched.get_mut(index)?))
    }

    /// Whether [`apply`](Self::apply) takes `observation` into account. It may be late.
    #[must_use]
    pub fn takes(&self, observation: &Observation) -> bool {
        // The endpoint may have been removed in the meantime.
        let Some(watched) = self.watched(observation.endpoint) else { return false };
        // A probe sent before the last answered one says nothing new, however it ended.
        if watched.answered_at.is_some_and(|at| observation.started < at) {
            return false;
        }
        let is_answer = matches!(observation.outcome, Outcome::Answered(_));
        !(is_answer && watched.failed_at.is_some_and(|at| observation.started < at))
    }

    /// Applies one observation and returns what it changed.
    pub fn apply(&mut self, observation: &Observation) -> Vec<Event> {
        let mut events = Vec::new();
        let id = observation.endpoint;
        if !self.takes(observation) {
            return events;
        }
        match &observation.outcome {
            Outcome::Failed(failure) => self.take_failure(observation, failure, &mut events),
            Outcome::Answered(report) => self.take_answer(observation, report, &mut events),
        }
        self.judge_servers(&mut events);
        self.judge_systems(&mut events);
        self.judge_replacement(observation, &mut events);
        self.judge_databases(observation, &mut events);
        self.note_timelines();
        self.weigh_claims();
        self.note_timelines();
        self.judge_timelines(id, &mut events);
        self.elect(&mut events);
        self.doubt_until_sampled();
        self.tell_fenced(&mut events);
        self.compare_search_paths(observation, &mut events);
        self.sample(observation);
        self.judge_histories();
        self.judge_timelines(id, &mut events);
        self.note_shown(observation);
        self.prove();
        self.judge_lag(&mut events);
        self.remember_lags(observation);
        self.topology.note_replicas_in_use();
        events
    }

    /// A failure that the policy tolerates removes the endpoint's proofs, but does not take it out of
    /// use.
    fn take_failure(
        &mut self,
        observation: &Observation,
        failure: &Failure,
        events: &mut Vec<Event>,
    ) {
        let id = observation.endpoint;
        let (policy, is_primary) = (self.policy, self.topology.primary == Some(id));
        let Some((state, watched)) = self.both_mut(id) else { return };
        watched.failed_at = Some(observation.finished);
        watched.feeds.clear();
        watched.course.fail();
        if watched.standing.failed(observation.finished, &policy) {
            go_down(state, failure, is_primary, events);
        }
        // The server may come back in another run with less data, so nothing is proved any more.
        state.position = None;
        state.received = None;
        state.info = state.info.last_known();
    }

    fn take_answer(&mut self, observation: &Observation, report: &Report, events: &mut Vec<Event>) {
        let (id, now) = (observation.endpoint, observation.finished);
        let located = self.locate(observation);
        self.note_claim(id, report, now);
        let is_astray = self.is_astray(id, report);
        self.ask_for_filters(id, report, now);
        let (policy, next_run) = (self.policy, self.runs.saturating_add(1));
        let Some((state, watched)) = self.both_mut(id) else { return };
        watched.answered_at = Some(observation.started);
        watched.course.note(state, report, observation);
        watched.note_feeds(&report.feeds, now);
        let located = located.unwrap_or_else(|| Located::of(report));
        watched.footing = located.footing;
        watched.footing_ended = located.ended;
        if let Some(position) = &report.position {
            watched.timeline = position.timeline();
        }
        let took = now.since(observation.started);
        state.probe_time = Some(took);
        if report.role == Role::Primary {
            watched.standing.trust(now);
        }
        let in_use = watched.standing.answered(now, &policy);
        let is_new_run = state.incarnation.as_ref() != Some(&report.incarnation);
        if is_new_run {
            state.run = next_run;
            // The caches of a server that was restarted are cold, and so may be those of one that
            // was added. What is there at the start was there before.
            if state.incarnation.is_some() || watched.came_later {
                state.returned_at = Some(now);
            }
        }
        let least = state.least_probe_time.filter(|least| !is_new_run && *least < took);
        state.least_probe_time = Some(least.unwrap_or(took));
        state.returned_at = state.returned_at.max(watched.standing.back_since());
        answer(id, state, report, in_use, events);
        (state.position, state.received) = match is_astray {
            true => (None, None),
            false => (located.position, located.received),
        };
        if is_new_run {
            self.runs = next_run;
        }
    }

    /// Keeps the primary's position, if this is an observation of it.
    fn sample(&mut self, observation: &Observation) {
        let Outcome::Answered(report) = &observation.outcome else { return };
        let Some(position) = report.position.as_ref().filter(|_| report.role == Role::Primary)
        else {
            return;
        };
        if self.topology.primary == Some(observation.endpoint) {
            self.follow_history(observation, report);
            self.history.push(Sample {
                at: observation.started,
                stamp: observation.stamp,
                position: position.clone(),
            });
            if let Some(newest) = self.history.newest() {
                // A late answer is not a sample.
                if newest.at == observation.started {
                    self.sampled_shown = Some(match &report.transactions {
                        Some(Transactions::Within(shown)) => shown.clone(),
                        Some(Transactions::Numbered { .. }) | None => position.clone(),
                    });
                }
                self.topology.sampled = Some(newest.clone());
                self.ours = Some(newest.position.clone());
            }
        }
    }

    /// Derives what each endpoint's last position proves.
    fn prove(&mut self) {
        let sampled_at = self.topology.sampled.as_ref().map(|sample| sample.at);
        for state in &mut self.topology.endpoints {
            if state.position == Some(Position::Current) {
                continue;
            }
            let position = state.position.as_ref().filter(|_| !state.foreign);
            let proof = position.and_then(|position| self.history.proof(position));
            state.unproved_since = match (position, proof) {
                (Some(_), None) => state.unproved_since.or(sampled_at),
                (None, _) | (_, Some(_)) => None,
            };
            state.covered = proof.map_or(WriteStamp::NONE, |proof| proof.stamp);
            state.fresh_at = proof.map(|proof| proof.at);
        }
    }

    /// Marks replicas that are far behind. There is one threshold to begin and a lower one to end,
    /// so that no replica comes and goes at the limit.
    fn judge_lag(&mut self, events: &mut Vec<Event>) {
        let Some(sampled_at) = self.topology.sampled.as_ref().map(|sample| sample.at) else {
            return;
        };
        let primary = self.topology.primary;
        for state in &mut self.topology.endpoints {
            let endpoint = state.id;
            if state.role != Role::Replica || primary == Some(endpoint) {
                state.lagging = false;
                continue;
            }
            let proved = state.fresh_at.map(|at| sampled_at.since(at));
            let at_least = proved.or(state.unproved_since.map(|at| sampled_at.since(at)));
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

    /// Records the lag that a replica's answer found. If the lag was unknown because the primary
    /// had not answered yet, it is recorded as soon as it is known.
    fn remember_lags(&mut self, observation: &Observation) {
        let answered =
            matches!(&observation.outcome, Outcome::Answered(Report { role: Role::Replica, .. }));
        for (state, watched) in self.topology.endpoints.iter().zip(&mut self.watched) {
            let id = state.id;
            let is_news = answered && id == observation.endpoint;
            if !is_news && !watched.lags.awaits_first() {
                continue;
            }
            let lag = self.topology.lag(id);
            if is_news || lag.is_some() {
                watched.lags.push(observation.finished, lag);
            }
        }
    }
}

/// Takes an endpoint out of use. Each outage is told once. Only the loss of the primary is told
/// again when a probe confirms what a statement has shown, because a statement alone may have lost
/// no more than its connection. What a probe has found is not replaced by what a statement finds.
fn go_down(
    state: &mut EndpointState,
    failure: &Failure,
    is_primary: bool,
    events: &mut Vec<Event>,
) {
    let is_statement = |failure: &Failure| matches!(failure, Failure::Statement(_));
    let is_news = match &state.health {
        Health::Down { failure: before } if is_statement(before) => {
            is_primary && !is_statement(failure)
        }
        Health::Down { .. } if is_statement(failure) => return,
        Health::Down { .. } => false,
        Health::Unknown | Health::Up | Health::Probation => true,
    };
    if is_news {
        events.push(Event::Down { endpoint: state.id, failure: failure.clone() });
    }
    state.health = Health::Down { failure: failure.clone() };
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
    // The server is not a usable replica yet, because its tables are only partly copied.
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
    state.incarnation = Some(report.incarnation.clone());
    state.info = report.info.clone();
    if report.database.is_some() {
        state.database.clone_from(&report.database);
    }
}

#[cfg(test)]
mod tests;
