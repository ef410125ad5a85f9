//! Whose data an endpoint holds: the server that it leads to, that server's system, and the
//! database there.
//!
//! - **Server.** Two endpoints that show one run of one server are one server. This happens, for
//!   example, if a proxy without any replica left sends to the primary. One of the endpoints
//!   represents the server: the primary in charge, or else the endpoint that was configured or
//!   added first.
//! - **System.** The system of the endpoint configured first, unless that endpoint has none when
//!   the first primary answers. Later, the system of the primary's newest sample.
//! - **Database.** Likewise the database of the endpoint configured first, because the application
//!   means the database in that URL. Later, the database that the primary in charge reports, so
//!   that a database that is dropped and created again is followed. A primary of another database
//!   gets no writes.

use std::sync::Arc;

use super::TopologyReducer;
use crate::{
    Condition, EndpointId, EndpointState, Event, Health, Observation, Outcome, Position,
    Replication, Role,
};

impl TopologyReducer {
    /// Marks the endpoints that lead to a server that another endpoint represents.
    pub(super) fn judge_servers(&mut self, events: &mut Vec<Event>) {
        let stands: Vec<_> = self.topology.iter().map(|(id, _)| self.stands_for(id)).collect();
        let states = self.topology.endpoints.iter_mut().zip(&mut self.watched).zip(stands);
        for ((state, watched), stands) in states {
            let endpoint = state.id;
            state.same_as = stands;
            if state.health != Health::Up || stands == watched.told_same_as {
                continue;
            }
            watched.told_same_as = stands;
            events.push(match stands {
                Some(stands) => Event::SameServer { endpoint, stands },
                None => Event::Recovered { endpoint, from: Condition::SameServer },
            });
        }
    }

    /// The endpoint that represents the server of `id`, if it is not `id` itself. An endpoint that
    /// does not answer represents nothing.
    fn stands_for(&self, id: EndpointId) -> Option<EndpointId> {
        let state = self.topology.get(id)?;
        let mut same = self
            .topology
            .iter()
            .filter(|(_, other)| other.health == Health::Up && leads_to_one_server(state, other))
            .map(|(other, _)| other);
        let first = same.next()?;
        let primary = self.topology.primary;
        let stands = if Some(first) == primary || same.any(|other| Some(other) == primary) {
            primary?
        } else {
            first
        };
        (stands != id).then_some(stands)
    }

    /// Marks the endpoints that hold another system's data.
    pub(super) fn judge_systems(&mut self, events: &mut Vec<Event>) {
        if self.ours.is_none() {
            self.ours = self.first_position().cloned();
        }
        let Some(ours) = &self.ours else { return };
        for state in &mut self.topology.endpoints {
            let endpoint = state.id;
            let Some(position) = &state.position else { continue };
            // The primary itself, in the run that was sampled, has forgotten its transactions (`RESET
            // BINARY LOGS AND GTIDS`) or joined a group. Whatever it tells now is ours.
            let is_sampled = self.sampled_of == Some(endpoint)
                && self.sampled_run.is_some()
                && self.sampled_run == state.incarnation;
            // Nothing is proved there. A primary must be known.
            let is_replica_beside = state.role == Role::Replica && position.is_told_beside(ours);
            let foreign = !position.is_related_to(ours) && !is_sampled && !is_replica_beside;
            if foreign != state.foreign {
                events.push(match foreign {
                    true => Event::Foreign { endpoint },
                    false => Event::Recovered { endpoint, from: Condition::Foreign },
                });
            }
            state.foreign = foreign;
        }
    }

    /// A position of the endpoint configured first, which decides whose data we serve. If that
    /// endpoint does not answer, or answers without a position, a position of the first primary
    /// that has one.
    fn first_position(&self) -> Option<&Position> {
        self.of_first(|state| state.position.as_ref())
    }

    /// What the endpoint configured first reports. If it was probed but reports nothing, what the
    /// first primary reports that does.
    fn of_first<T>(&self, told: impl Fn(&EndpointState) -> Option<&T>) -> Option<&T> {
        let first = self.topology.endpoints.first()?;
        if first.health == Health::Unknown {
            return None;
        }
        told(first).or_else(|| {
            let mut states = self.topology.endpoints.iter();
            states.find_map(|state| told(state).filter(|_| state.role == Role::Primary))
        })
    }

    /// Marks the endpoints that lead to another database.
    pub(super) fn judge_databases(&mut self, observation: &Observation, events: &mut Vec<Event>) {
        let in_charge = self.topology.primary.filter(|id| *id == observation.endpoint);
        let told = in_charge.and_then(|id| self.topology.get(id)).filter(|state| {
            state.role == Role::Primary && !state.foreign && state.health == Health::Up
        });
        let told = told.and_then(|state| state.database.as_ref());
        if let Some(told) = told.or_else(|| match self.database {
            None => self.of_first(|state| state.database.as_ref().filter(|_| !state.foreign)),
            Some(_) => None,
        }) {
            self.database = Some(Arc::clone(told));
        }
        let Some(ours) = &self.database else { return };
        for state in &mut self.topology.endpoints {
            let endpoint = state.id;
            let other = state.database.as_ref().filter(|its| !state.foreign && !its.is(ours));
            if other.is_some() != state.other_database {
                events.push(match other {
                    Some(other) => {
                        let (database, ours) = (other.to_string(), ours.to_string());
                        Event::OtherDatabase { endpoint, database, ours }
                    }
                    None => Event::Recovered { endpoint, from: Condition::OtherDatabase },
                });
            }
            state.other_database = other.is_some();
        }
    }

    /// Reports each endpoint whose search path differs from the primary's, once per difference.
    pub(super) fn compare_search_paths(
        &mut self,
        observation: &Observation,
        events: &mut Vec<Event>,
    ) {
        let Outcome::Answered(report) = &observation.outcome else { return };
        if let Some((_, watched)) = self.both_mut(observation.endpoint) {
            watched.search_path.clone_from(&report.search_path);
        }
        let primary = self.topology.primary.and_then(|id| self.watched(id));
        let Some(ours) = primary.and_then(|watched| watched.search_path.clone()) else { return };
        for (state, watched) in self.topology.endpoints.iter().zip(&mut self.watched) {
            let endpoint = state.id;
            let Some(its) = &watched.search_path else { continue };
            let told = watched.told_search_path.as_ref();
            if *its == ours || told.is_some_and(|(a, b)| (a, b) == (its, &ours)) {
                continue;
            }
            let (search_path, primary) = (its.to_string(), ours.to_string());
            watched.told_search_path = Some((Arc::clone(its), Arc::clone(&ours)));
            events.push(Event::SearchPathDiffers { endpoint, search_path, primary });
        }
    }

    /// Serves another system's data if ours are gone for good: a whole cluster was created anew, or
    /// restored, at the same addresses.
    ///
    /// One server that was created anew by mistake must not get the writes of a cluster that is
    /// down. So no endpoint may have shown our data for a long time. All endpoints that answer must
    /// hold the other system's data, one of them as its primary. And these must be more than half
    /// of all endpoints.
    ///
    /// Likewise, our own data from before a promotion are served if somebody has undone the promotion:
    /// the promoted server was made anew as a replica, or all servers were restored to an older state.
    /// For as long a time, *all* endpoints must answer, and follow one primary on one older timeline.
    pub(super) fn judge_replacement(&mut self, observation: &Observation, events: &mut Vec<Event>) {
        let now = observation.finished;
        let undone = self.undone();
        self.undone_since = undone.as_ref().map(|_| self.undone_since.unwrap_or(now));
        if let Some((primary, position)) = undone
            && self.undone_since.is_some_and(|since| now.since(since) >= self.policy.replaced_after)
        {
            events.push(Event::Replaced { primary });
            return self.begin_anew(position);
        }
        let is_ours = |state: &EndpointState| {
            state.health == Health::Up && state.position.is_some() && !state.foreign
        };
        if self.ours.is_none() || self.topology.endpoints.iter().any(is_ours) {
            self.ours_seen_at = now;
            return;
        }
        if now.since(self.ours_seen_at) < self.policy.replaced_after {
            return;
        }
        let Some((primary, position)) = self.successor() else { return };
        events.push(Event::Replaced { primary });
        self.begin_anew(position);
        self.judge_systems(events);
    }

    /// The only primary among the endpoints that answer, if all of these hold its system's data and
    /// they are more than half of all endpoints.
    fn successor(&self) -> Option<(EndpointId, Position)> {
        let up = |(_, state): &(EndpointId, &EndpointState)| {
            state.health == Health::Up && state.same_as.is_none()
        };
        let mut primaries =
            self.topology.iter().filter(up).filter(|(_, state)| state.role == Role::Primary);
        let (Some((id, primary)), None) = (primaries.next(), primaries.next()) else { return None };
        let ours = primary.position.as_ref().filter(|position| **position != Position::Opaque)?;
        let holds = |state: &EndpointState| {
            state.position.as_ref().is_some_and(|its| its.is_related_to(ours))
        };
        let is_one = self.topology.iter().filter(up).all(|(_, state)| holds(state));
        let count = self.topology.iter().filter(up).count();
        (is_one && count * 2 > self.topology.len()).then(|| (id, ours.clone()))
    }

    /// The only primary, if all endpoints answer and follow it on a timeline from before the newest.
    fn undone(&self) -> Option<(EndpointId, Position)> {
        let mut primaries = self.topology.iter().filter(|(_, it)| it.role == Role::Primary);
        let (Some((id, primary)), None) = (primaries.next(), primaries.next()) else { return None };
        let position = primary.position.as_ref()?;
        let timeline = position.timeline();
        let follows = |other: EndpointId, state: &EndpointState| {
            let is_there = state.health == Health::Up && !state.foreign;
            let is_level = state.position.as_ref().is_some_and(|it| it.timeline() == timeline);
            is_there && is_level && (other == id || state.replication == Replication::Running)
        };
        let all_follow = self.topology.iter().all(|(other, state)| follows(other, state));
        (timeline < self.newest_timeline && all_follow).then(|| (id, position.clone()))
    }

    /// Forgets what was known of the previous system.
    fn begin_anew(&mut self, ours: Position) {
        self.ours = Some(ours);
        self.database = None;
        self.forget_samples();
        (self.topology.ended, self.topology.ancestry) = (Arc::default(), None);
        (self.newest_timeline, self.undone_since) = (0, None);
        self.conflict = false;
        self.departed.clear();
        for (state, watched) in self.topology.endpoints.iter_mut().zip(&mut self.watched) {
            state.old_timeline = false;
            state.unproved_since = None;
            watched.begin_anew(state.position.as_ref());
        }
    }
}

/// Whether both endpoints were last seen to lead to one run of one server, and to one database
/// there. False if the servers do not report their identity.
fn leads_to_one_server(one: &EndpointState, other: &EndpointState) -> bool {
    let is_one_database = match (&one.database, &other.database) {
        (Some(one), Some(other)) => one.is(other),
        (None, None) => true,
        // One of them is a subscriber, which has different tables.
        (Some(_), None) | (None, Some(_)) => false,
    };
    is_one_database
        && one.incarnation.is_some()
        && one.incarnation == other.incarnation
        && one.info.identity.is_some()
        && one.info.identity == other.info.identity
}
