//! Endpoints that are added, removed, and drained.
//!
//! An added endpoint is like a configured one that was never probed: it joins by what its probes
//! show, and until then it gets nothing.
//!
//! A removed endpoint takes along everything that only it has shown. What it has shown of the
//! *data* stays: the samples of a removed primary prove what they proved before, and the next
//! primary is compared with them. If the primary in charge is removed, there is no primary until
//! another endpoint claims to be one. Rejected: guessing the next primary, or starting afresh with
//! the next endpoint that claims. A second server on a timeline with the same number would then be
//! mistaken for the first. The price: a primary that is removed, restarted and added again may be
//! mistaken for another server, and replicas then prove nothing until they are seen to follow it.
//! To keep a primary idle for a while, drain it instead of removing it.
//!
//! A *drained* endpoint gets no new statements, and nothing else changes. A drained primary stays
//! the primary and is still sampled, so replicas continue to be proved.

use std::sync::Arc;

use super::{TopologyReducer, watched::Watched};
use crate::{
    Endpoint, EndpointId, EndpointSet, EndpointState, Event, MAX_ENDPOINTS,
    topology::{Groups, Places, Topology},
};

impl Topology {
    /// Updates everything that is derived from the list of endpoints.
    fn rearrange(&mut self) {
        self.places = Places::of(&self.endpoints);
        self.groups = Arc::new(Groups::of(&self.endpoints));
        self.note_replicas_in_use();
    }
}

impl TopologyReducer {
    /// The number that the next endpoint can get: the least unused number whose place is free and
    /// not in `busy`. At a `busy` place, something of a removed endpoint still runs. `None` if
    /// there is no such number.
    #[must_use]
    pub fn vacancy(&self, busy: EndpointSet) -> Option<EndpointId> {
        let taken = self.topology.all().or(busy);
        let numbers = std::iter::successors(self.topology.next, |id| id.next());
        numbers.take(MAX_ENDPOINTS).find(|id| !taken.contains(*id))
    }

    /// Adds an endpoint with a number from [`vacancy`](Self::vacancy). If the number was given away
    /// in the meantime, returns `None` and changes nothing.
    pub fn add(&mut self, id: EndpointId, endpoint: Endpoint) -> Option<Event> {
        let is_new = self.topology.next.is_some_and(|next| next <= id);
        if !is_new || self.topology.all().contains(id) {
            return None;
        }
        let name = endpoint.name().to_owned();
        self.topology.next = id.next();
        self.topology.endpoints.push(EndpointState::new(id, endpoint));
        self.watched.push(Watched { came_later: true, ..Watched::default() });
        self.topology.rearrange();
        Some(Event::Added { endpoint: id, name })
    }

    /// Removes an endpoint and returns what that changed: nothing if there is no such endpoint.
    pub fn remove(&mut self, id: EndpointId) -> Vec<Event> {
        let Some(index) = self.topology.index(id) else { return Vec::new() };
        let state = self.topology.endpoints.remove(index);
        self.watched.remove(index);
        self.topology.rearrange();
        let name = state.endpoint.name().to_owned();
        let mut events = vec![Event::Removed { endpoint: id, name }];
        // Judges again the endpoints that it represented or stood in the way of.
        self.judge_servers(&mut events);
        self.note_timelines();
        self.weigh_claims();
        self.note_timelines();
        self.elect(&mut events);
        self.doubt_until_sampled();
        self.tell_fenced(&mut events);
        self.judge_histories();
        self.judge_timelines(id, &mut events);
        self.follow_shown();
        self.prove();
        self.judge_lag(&mut events);
        self.topology.note_replicas_in_use();
        events
    }

    /// Begins or ends the draining of an endpoint. `None` if nothing changes, or if there is no
    /// such endpoint.
    pub fn set_draining(&mut self, id: EndpointId, draining: bool) -> Option<Event> {
        let (state, _) = self.both_mut(id)?;
        if std::mem::replace(&mut state.draining, draining) == draining {
            return None;
        }
        let name = state.endpoint.name().to_owned();
        self.topology.note_replicas_in_use();
        Some(match draining {
            true => Event::Draining { endpoint: id, name },
            false => Event::Undrained { endpoint: id, name },
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        Access, Consistency, Incarnation, Lsn, Moment, Observation, Outcome, Plan, Position,
        ReadRequest, Replication, Report, Role, Server, Session, WriteClock,
    };

    fn reducer(endpoints: usize) -> TopologyReducer {
        let endpoint = |n: usize| Endpoint::new(format!("endpoint-{n}"), "");
        TopologyReducer::new(Topology::new((0..endpoints).map(endpoint).collect()))
    }

    fn added(reducer: &mut TopologyReducer, busy: EndpointSet) -> EndpointId {
        let id = reducer.vacancy(busy).unwrap();
        assert!(reducer.add(id, Endpoint::new("again", "")).is_some());
        id
    }

    /// An answer of `id`, always about the same data.
    fn answer(reducer: &mut TopologyReducer, id: EndpointId, role: Role, clock: &WriteClock) {
        let lsn = Lsn::from_bytes(100);
        let replication = match role {
            Role::Replica => Replication::Running,
            Role::Primary | Role::Unknown => Replication::NotApplicable,
        };
        let position = Some(Position::Wal { system: 1, timeline: 1, lsn });
        let run = if role == Role::Primary { "primary" } else { "replica" };
        let report = Report { position, replication, ..Report::new(role, Incarnation::new(run)) };
        reducer.apply(&Observation {
            endpoint: id,
            started: Moment::from_origin(Duration::from_secs(1)),
            finished: Moment::from_origin(Duration::from_secs(1)),
            stamp: clock.now(),
            outcome: Outcome::Answered(report),
        });
    }

    #[test]
    fn numbers_are_never_used_again_and_places_are() {
        let mut reducer = reducer(2);
        let (mut numbers, mut places) = (Vec::new(), EndpointSet::EMPTY);
        for _ in 0..500 {
            let id = added(&mut reducer, EndpointSet::EMPTY);
            assert!(numbers.last().is_none_or(|last| *last < id), "{id} after {numbers:?}");
            numbers.push(id);
            places.insert(id);
            assert_eq!(reducer.topology().get(id).map(|state| state.id), Some(id));
            assert_eq!(reducer.remove(id).len(), 1);
            assert_eq!(reducer.topology().get(id), None);
        }
        assert_eq!(reducer.topology().len(), 2);
        assert_eq!(places.len(), MAX_ENDPOINTS - 2, "the places of members are left alone");
    }

    #[test]
    fn there_is_no_vacancy_beyond_64_endpoints_and_one_after_the_first_that_goes() {
        let mut reducer = reducer(MAX_ENDPOINTS);
        assert_eq!(reducer.vacancy(EndpointSet::EMPTY), None);
        let gone = EndpointId::from_index(7).unwrap();
        reducer.remove(gone);
        let id = reducer.vacancy(EndpointSet::EMPTY).unwrap();
        assert_eq!(id.place(), 7);
        assert_ne!(id, gone);
        assert_eq!(reducer.vacancy(EndpointSet::from_iter([gone])), None, "something runs there");
    }

    #[test]
    fn a_number_that_was_given_away_is_refused() {
        let mut reducer = reducer(1);
        let id = added(&mut reducer, EndpointSet::EMPTY);
        assert_eq!(reducer.add(id, Endpoint::new("twice", "")), None);
        reducer.remove(id);
        assert_eq!(reducer.add(id, Endpoint::new("again", "")), None);
        assert_eq!(reducer.topology().len(), 1);
    }

    #[test]
    fn a_set_made_before_an_endpoint_was_added_does_not_contain_it_at_an_old_place() {
        let (clock, mut reducer) = (WriteClock::default(), reducer(2));
        let old = EndpointId::from_index(1).unwrap();
        answer(&mut reducer, EndpointId::FIRST, Role::Primary, &clock);
        answer(&mut reducer, old, Role::Replica, &clock);
        let now = Moment::from_origin(Duration::from_secs(2));
        let request = ReadRequest::new(Access::Read, Consistency::Eventual, now)
            .among(reducer.topology().all())
            .within(reducer.topology().horizon());
        reducer.remove(old);
        // Every other place is busy, so the new endpoint gets the old place.
        let busy = EndpointSet::ALL.without(EndpointSet::from_iter([old]));
        let id = added(&mut reducer, busy);
        assert_eq!(id.place(), old.place());
        answer(&mut reducer, id, Role::Replica, &clock);
        assert!(Plan::new(reducer.topology(), &request).replicas().is_empty());
        let anew = request.within(reducer.topology().horizon());
        assert!(Plan::new(reducer.topology(), &anew).replicas().contains(id));
    }

    #[test]
    fn what_a_session_saw_on_a_removed_endpoint_is_not_expected_of_the_next_one_at_its_place() {
        let (clock, mut reducer) = (WriteClock::default(), reducer(2));
        let old = EndpointId::from_index(1).unwrap();
        answer(&mut reducer, EndpointId::FIRST, Role::Primary, &clock);
        answer(&mut reducer, old, Role::Replica, &clock);
        let server = |reducer: &TopologyReducer, id: EndpointId| Server {
            endpoint: id,
            run: reducer.topology().get(id).unwrap().run,
        };
        let session = Session::own();
        session.saw(server(&reducer, old), &session.view(), true, &clock);
        assert!(session.view().has_seen_only(server(&reducer, old)));
        reducer.remove(old);
        let id = added(&mut reducer, EndpointSet::ALL.without(EndpointSet::from_iter([old])));
        // It is the same run of the same server. Even so, the endpoint must prove that it is not
        // older.
        answer(&mut reducer, id, Role::Replica, &clock);
        let new = server(&reducer, id);
        assert!(!session.view().has_seen_only(new));
        assert_eq!(session.view().needs(new), session.view().seen_stamp());
        // A token says the same: a position that contains what was seen, and no server.
        let export = session.view().export(reducer.topology()).unwrap();
        assert_eq!((export.stamp, export.server), (session.view().seen_stamp(), None));
    }

    #[test]
    fn a_write_before_its_primary_was_removed_is_still_waited_for() {
        let (clock, mut reducer) = (WriteClock::default(), reducer(2));
        let replica = EndpointId::from_index(1).unwrap();
        answer(&mut reducer, EndpointId::FIRST, Role::Primary, &clock);
        answer(&mut reducer, replica, Role::Replica, &clock);
        let session = Session::own();
        session.wrote_anything(&clock);
        reducer.remove(EndpointId::FIRST);
        let now = Moment::from_origin(Duration::from_secs(2));
        let request = ReadRequest::new(Access::Read, Consistency::ReadYourWrites, now)
            .with_session(session.view());
        let plan = Plan::new(reducer.topology(), &request);
        assert!(plan.replicas().is_empty() && plan.primary().is_none());
        assert_eq!(plan.awaited(), Some(session.view().written()));
    }
}
